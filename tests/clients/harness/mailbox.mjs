// A mail server that keeps what it is given: STARTTLS with a certificate of its own, and nobody sends who has not logged in.

import { execFile } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';

import { directory } from './clients.mjs';

const USER = 'holdfast';
const PASSWORD = 'sea-wrack-3';
const NEWS_LIMIT_MS = 20_000;
const LOOK_EVERY_MS = 20;

export class Mailbox {
    #dir;
    #server;
    #mails = [];

    static async open() {
        const box = new Mailbox();
        box.#dir = await mkdtemp(join(tmpdir(), 'holdfast-mail-'));
        await box.#start();
        return box;
    }

    /** What the cloud's configuration says of it. */
    get settings() {
        const server = `localhost:${this.#server.server.address().port}`;
        const lines = { server, security: 'starttls', user: USER, password_file: this.#path('password'), from: 'Holdfast <cloud@example.com>' };
        return `[mail]\n${Object.entries(lines)
            .map(([key, value]) => `${key} = ${JSON.stringify(value)}\n`)
            .join('')}`;
    }

    /** What the cloud's environment says, so that it trusts the certificate. */
    get environment() {
        return { SSL_CERT_FILE: this.#path('certificate.pem') };
    }

    /** The next mail to somebody: `{ from, to, text }`. */
    async next(to) {
        const end = Date.now() + NEWS_LIMIT_MS;
        while (Date.now() < end) {
            const index = this.#mails.findIndex((mail) => mail.to.includes(to));
            if (index >= 0) return this.#mails.splice(index, 1)[0];
            await new Promise((resolve) => setTimeout(resolve, LOOK_EVERY_MS));
        }
        throw new Error(`no mail for ${to}`);
    }

    /** How many have come that nobody took. */
    get length() {
        return this.#mails.length;
    }

    async close() {
        await new Promise((resolve) => this.#server.close(resolve));
        await rm(this.#dir, { recursive: true, force: true });
    }

    async #start() {
        const [certificate, key] = [this.#path('certificate.pem'), this.#path('key.pem')];
        const subject = ['-subj', '/CN=localhost', '-addext', 'subjectAltName=DNS:localhost'];
        const files = ['-keyout', key, '-out', certificate];
        await promisify(execFile)('openssl', ['req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-days', '2', ...subject, ...files]);
        await writeFile(this.#path('password'), `${PASSWORD}\n`, { mode: 0o600 });
        const { SMTPServer } = createRequire(join(await directory('current'), 'package.json'))('smtp-server');
        this.#server = new SMTPServer({
            cert: await readFile(certificate),
            key: await readFile(key),
            onAuth: ({ username, password }, session, done) => {
                const isKnown = session.secure && username === USER && password === PASSWORD;
                done(isKnown ? null : new Error('who are you?'), { user: username });
            },
            onData: (stream, session, done) => this.#take(stream, session.envelope, done),
        });
        this.#server.on('error', () => {});
        this.#server.listen(0, '127.0.0.1');
        await once(this.#server.server, 'listening');
    }

    async #take(stream, envelope, done) {
        const chunks = [];
        for await (const chunk of stream) chunks.push(chunk);
        const addresses = envelope.rcptTo.map(({ address }) => address);
        this.#mails.push({ from: envelope.mailFrom.address, to: addresses, text: Buffer.concat(chunks).toString() });
        done();
    }

    #path(name) {
        return join(this.#dir, name);
    }
}
