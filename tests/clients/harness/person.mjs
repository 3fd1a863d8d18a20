// Somebody with an account and a home directory: what they type, and what their programs call.

import assert from 'node:assert/strict';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

import { node, particle, particleApi } from './clients.mjs';
import { Program, plainEnvironment } from './processes.mjs';

const Particle = await particleApi();
const NODE = await node();
const SCRIPTS = { current: await particle('current'), older: await particle('older') };

export class Person {
    /** particle-api-js with this person's token, if they are logged in. */
    js;
    token;

    /** Gives them an empty home that knows where the server is. */
    static async moveIn(home, site, email, password) {
        const person = Object.assign(new Person(), { home, site, email, password });
        await mkdir(join(home, 'work'));
        await mkdir(join(home, '.particle'));
        await person.#settle({ apiUrl: site.url });
        person.js = person.program();
        return person;
    }

    /** Logs them in, as `particle login` leaves things. */
    async signIn() {
        // Past the recorder: this is no part of any test.
        const door = this.program({ baseUrl: `http://127.0.0.1:${this.site.port}` });
        const { body } = await door.login({ username: this.email, password: this.password });
        this.token = body.access_token;
        this.js = this.program();
        await this.#settle({ apiUrl: this.site.url, access_token: this.token, username: this.email });
    }

    /** A program of theirs, with particle-api-js. */
    program(options = {}) {
        return new Particle({ baseUrl: this.site.url, auth: this.token, ...options });
    }

    /** Types `particle …`, and waits for its end. The last argument may be an object with `input`, what is typed after. */
    particle(...args) {
        return this.#run('current', args);
    }

    /** The same with the older line of the command line tool. */
    older(...args) {
        return this.#run('older', args);
    }

    /** Types `particle …` and lets it run. */
    begin(...args) {
        return this.#program('current', args);
    }

    /** What the tool keeps of this person: the active settings. */
    async settings() {
        return JSON.parse(await readFile(this.#settingsFile, 'utf8'));
    }

    /** Writes a file into the directory they work in, and says its name. */
    async file(name, content) {
        await writeFile(join(this.home, 'work', name), content);
        return name;
    }

    async #run(line, args) {
        const program = await this.#program(line, args).end();
        return new Ended(`particle ${args.filter((arg) => typeof arg === 'string').join(' ')}`, program);
    }

    #program(line, args) {
        const { input } = args.find((arg) => typeof arg === 'object') ?? {};
        const words = args.filter((arg) => typeof arg !== 'object').map(String);
        const env = plainEnvironment({ HOME: this.home, PARTICLE_DISABLE_UPDATE: '1' });
        return new Program(NODE, [SCRIPTS[line], ...words], { env, cwd: join(this.home, 'work'), input });
    }

    async #settle(settings) {
        await writeFile(this.#settingsFile, JSON.stringify(settings));
    }

    get #settingsFile() {
        return join(this.home, '.particle', 'particle.config.json');
    }
}

/** A command that has ended, and what it said. */
class Ended {
    constructor(command, { code, text }) {
        Object.assign(this, { command, code, text });
    }

    /** It succeeded and said all this: texts or patterns. */
    succeeds(...words) {
        return this.#check(this.code === 0, 'success', words);
    }

    /** It failed and said all this. */
    fails(...words) {
        return this.#check(typeof this.code === 'number' && this.code !== 0, 'failure', words);
    }

    /** It said all this, and how it ended does not matter. */
    says(...words) {
        return this.#check(true, 'anything', words);
    }

    /** It did not say that. */
    withholds(...words) {
        for (const word of words) assert.ok(!said(this.text, word), this.#story(`not to read ${word}`));
        return this;
    }

    #check(isAsWanted, wanted, words) {
        assert.ok(isAsWanted, this.#story(wanted));
        for (const word of words) assert.ok(said(this.text, word), this.#story(`to read ${word}`));
        return this;
    }

    #story(wanted) {
        return `$ ${this.command}\n${this.text.trimEnd()}\n(ended with ${this.code}; wanted was ${wanted})`;
    }
}

function said(text, word) {
    return typeof word === 'string' ? text.includes(word) : word.test(text);
}
