// A server of one's own in a temporary directory on loopback, with simulated devices on it, and people who use it.
//
// The load tester plays the devices that are online: `kelp` and `dulse` on UDP, `reef` on TCP. They have the functions `double` and
// `length` and the variables `temperature` (21.5), `count` (7) and `place` (bench), and publish `fleet/count` once a second.

import assert from 'node:assert/strict';
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { existsSync, rmSync } from 'node:fs';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import net from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { Person } from './person.mjs';
import { PROGRAMS, Program, plainEnvironment } from './processes.mjs';
import { Recorder } from './recorder.mjs';

/** Longest start, of the server and then of its devices. */
const READY_LIMIT_MS = 60_000;
const LOOK_EVERY_MS = 50;
/** Devices whose keys are made: on UDP the first two are online, on TCP the first. */
const KEYS = { udp: 12, tcp: 3 };
const ONLINE = { udp: 2, tcp: 1 };
/** Receivers of hooks are on this machine. */
const HOOKS = { HOLDFAST_WEBHOOKS_ALLOW: '127.0.0.0/8' };
/** As long as the devices play at most, should nobody stop them. */
const PLAY_S = 3600;

export const PLATFORM = { udp: 13, tcp: 6 };
export const OWNER = 'kai@example.com';
export const OTHER = 'robin@example.com';
export const PASSWORD = 'tide-pool-7';

export class Site {
    #dir;
    #config;
    #ports;
    #programs = [];
    #people = 0;
    #special;

    /** Starts everything, and waits until the devices are online. The server may have more in its configuration, and in its environment. */
    static async open({ configuration = '', environment = {} } = {}) {
        const site = new Site();
        site.#special = { configuration, environment };
        try {
            await site.#start();
        } catch (error) {
            const log = site.log();
            await site.close();
            throw new Error(`the site did not start: ${error.message}\n${log}`, { cause: error });
        }
        return site;
    }

    /** Where clients find the server: the recorder's address. */
    get url() {
        return this.recorder.url;
    }

    /** Where the server itself is. */
    get port() {
        return this.#ports.http;
    }

    /** What the server has logged. */
    log() {
        return this.#programs
            .map((program) => program.text)
            .join('')
            .slice(-4000);
    }

    async close() {
        for (const program of this.#programs.reverse()) await program.stop();
        this.recorder?.close();
        await rm(this.#dir, { recursive: true, force: true });
    }

    /** Somebody who has an account and has never used a client. */
    async stranger(email = `guest-${(this.#people += 1)}@example.com`) {
        await this.holdfast(['user', 'add', email], PASSWORD);
        return this.#person(email);
    }

    /** Somebody who has an account and is logged in. */
    async person(email) {
        const person = await this.stranger(email);
        await person.signIn();
        return person;
    }

    /** A person of an account that is there already, with a home of their own. */
    async again(email) {
        const person = await this.#person(email);
        await person.signIn();
        return person;
    }

    /** Runs a command of the server, with a line to read. */
    async holdfast(args, line = '') {
        const program = new Program(join(PROGRAMS, 'holdfast'), ['--config', this.#config, ...args], {
            env: plainEnvironment(),
            input: `${line}\n`,
        });
        await program.end();
        assert.equal(program.code, 0, `holdfast ${args.join(' ')}: ${program.text}`);
        return program.text;
    }

    /** Registers devices: `[{ id, key, name, tcp }]`. Nobody owns them if no owner is given. */
    async register(devices, owner) {
        const file = join(this.#dir, 'devices.csv');
        const lines = devices.map(({ id, key, name, tcp }) => [id, key, name ?? '', tcp ? PLATFORM.tcp : PLATFORM.udp].join(','));
        await writeFile(file, ['device_id,public_key,name,platform_id', ...lines, ''].join('\n'));
        await this.holdfast(['device', 'import', file, ...(owner ? ['--owner', owner] : ['--unowned'])]);
    }

    async #start() {
        this.#dir = await mkdtemp(join(tmpdir(), 'holdfast-clients-'));
        // Whoever is interrupted does not come to `close`.
        process.on('exit', () => rmSync(this.#dir, { recursive: true, force: true }));
        this.#ports = await freePorts();
        this.#config = join(this.#dir, 'holdfast.toml');
        await writeFile(this.#config, configuration(this.#dir, this.#ports) + this.#special.configuration);
        const keys = await this.#makeKeys();
        this.#play('holdfast', ['--config', this.#config, 'serve'], { ...HOOKS, ...this.#special.environment });
        await this.#until('the server is not ready', async () => (await fetch(`http://127.0.0.1:${this.#ports.admin}/ready`)).ok);
        this.recorder = await Recorder.open(this.#ports.http);
        this.owner = await this.person(OWNER);
        this.other = await this.person(OTHER);
        await this.#populate(keys);
        this.#play('holdfast-load', this.#fleet());
        const online = ONLINE.udp + ONLINE.tcp;
        await this.#until('the devices are not online', async () => {
            const { body } = await this.owner.js.listDevices({});
            return body.filter((device) => device.connected && device.functions?.length && device.variables).length === online;
        });
    }

    /** The list of all devices with their public keys: `[{ id, key, tcp }]`. */
    async #makeKeys() {
        const list = join(this.#dir, 'keys.csv');
        const made = new Program(join(PROGRAMS, 'holdfast-load'), ['keys', ...counts(KEYS), '--out', list], { env: plainEnvironment() });
        await made.end();
        assert.equal(made.code, 0, made.text);
        for (const transport of ['udp', 'tcp']) {
            await this.holdfast(['keys', 'export', '--protocol', transport, '--format', 'der', '--out', this.#serverKey(transport)]);
        }
        const lines = (await readFile(list, 'utf8')).trim().split('\n').slice(1);
        return lines.map((line, number) => ({ id: line.split(',')[0], key: line.split(',')[1], tcp: number >= KEYS.udp }));
    }

    /** Who has which device. `wrack` and `foreign` were never online; nobody has registered those in `spare`. */
    async #populate(keys) {
        const udp = keys.filter((device) => !device.tcp);
        const tcp = keys.filter((device) => device.tcp);
        this.kelp = { ...udp[0], name: 'kelp' };
        this.dulse = { ...udp[1], name: 'dulse' };
        this.reef = { ...tcp[0], name: 'reef' };
        this.wrack = { ...udp[2], name: 'wrack' };
        this.foreign = { ...udp[3], name: 'foreign' };
        this.spare = [...tcp.slice(1), ...udp.slice(4)];
        await this.register([this.kelp, this.dulse, this.reef, this.wrack], OWNER);
        await this.register([this.foreign], OTHER);
    }

    #fleet() {
        const { udp, tcp } = this.#ports;
        const server = ['--server', `127.0.0.1:${udp}`, '--server-key', this.#serverKey('udp')];
        const tcpServer = ['--tcp-server', `127.0.0.1:${tcp}`, '--tcp-server-key', this.#serverKey('tcp')];
        return ['fleet', ...counts(ONLINE), ...server, ...tcpServer, '--every', '1', '--for', String(PLAY_S), '--no-audit'];
    }

    #serverKey(transport) {
        return join(this.#dir, `server-${transport}.der`);
    }

    #play(name, args, environment) {
        const path = join(PROGRAMS, name);
        assert.ok(existsSync(path), `there is no ${path}: cargo build --workspace --bins`);
        this.#programs.push(new Program(path, args, { env: plainEnvironment(environment), cwd: this.#dir }));
    }

    async #person(email) {
        return Person.moveIn(await mkdtemp(join(this.#dir, 'home-')), this, email, PASSWORD);
    }

    async #until(complaint, isDone) {
        const end = Date.now() + READY_LIMIT_MS;
        while (!(await isDone().catch(() => false))) {
            const dead = this.#programs.find((program) => program.hasEnded);
            if (dead || Date.now() > end) throw new Error(complaint);
            await new Promise((resolve) => setTimeout(resolve, LOOK_EVERY_MS));
        }
    }
}

function counts({ udp, tcp }) {
    return ['--devices', String(udp), '--tcp-devices', String(tcp)];
}

function configuration(dir, { udp, tcp, http, admin }) {
    const listens = Object.entries({ udp, tcp, http, admin }).map(([name, port]) => `[${name}]\nlisten = "127.0.0.1:${port}"\n`);
    const rest = '[accounts]\nsign_up = "open"\n\n[calls]\ntimeout_s = 5\n\n[log]\nfilter = "warn"\n';
    return `data_dir = ${JSON.stringify(join(dir, 'data'))}\n\n${listens.join('\n')}\n${rest}`;
}

/** Loopback ports that were free a moment ago. */
async function freePorts() {
    const datagrams = createSocket('udp4').bind(0, '127.0.0.1');
    const streams = [1, 2, 3].map(() => net.createServer().listen(0, '127.0.0.1'));
    const sockets = [datagrams, ...streams];
    await Promise.all(sockets.map((socket) => once(socket, 'listening')));
    const [udp, tcp, http, admin] = sockets.map((socket) => socket.address().port);
    await Promise.all(sockets.map((socket) => new Promise((resolve) => socket.close(resolve))));
    return { udp, tcp, http, admin };
}
