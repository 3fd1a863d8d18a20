// Processes that the tests start: run to their end, or kept running; none outlives the tests.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { stripVTControlCharacters } from 'node:util';

const ROOT = dirname(dirname(dirname(dirname(fileURLToPath(import.meta.url)))));
/** Where the programs are that were built. */
export const PROGRAMS = join(process.env.CARGO_TARGET_DIR ?? join(ROOT, 'target'), 'debug');
/** Longest time for a command that is to end by itself. */
export const COMMAND_LIMIT_MS = 60_000;
/** Longest orderly end. */
const STOP_LIMIT_MS = 10_000;
/** How often somebody who waits for words looks. */
const LOOK_EVERY_MS = 20;

const running = new Set();
process.on('exit', () => running.forEach((child) => child.kill('SIGKILL')));
for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => process.exit(1));

/** A program that was started, and everything it has said so far. */
export class Program {
    #child;
    #ended;
    /** Everything on both outputs, as it came, without colours. */
    text = '';
    code = undefined;

    constructor(path, args, { env, cwd, input = '' } = {}) {
        this.#child = spawn(path, args, { env, cwd, stdio: 'pipe' });
        running.add(this.#child);
        for (const stream of [this.#child.stdout, this.#child.stderr]) {
            stream.setEncoding('utf8');
            stream.on('data', (text) => (this.text += stripVTControlCharacters(text)));
        }
        // Who reads nothing may have ended before everything was written.
        this.#child.stdin.on('error', () => {});
        this.#child.stdin.end(input);
        this.#ended = once(this.#child, 'close').then(([code, signal]) => {
            running.delete(this.#child);
            this.code = code ?? signal;
        });
    }

    get hasEnded() {
        return this.code !== undefined;
    }

    /** Waits for its end. One that takes too long is killed, and its code is that signal. */
    async end(limit_ms = COMMAND_LIMIT_MS) {
        const timer = setTimeout(() => this.#child.kill('SIGKILL'), limit_ms);
        await this.#ended;
        clearTimeout(timer);
        return this;
    }

    /** Asks it to end, and waits. */
    async stop() {
        if (!this.hasEnded) this.#child.kill('SIGTERM');
        return this.end(STOP_LIMIT_MS);
    }

    /** Waits until it has said something. */
    async says(words, limit_ms = 20_000) {
        const end = Date.now() + limit_ms;
        while (!this.text.includes(words)) {
            if (this.hasEnded || Date.now() > end) throw new Error(`it did not say ${JSON.stringify(words)}, but:\n${this.text}`);
            await new Promise((resolve) => setTimeout(resolve, LOOK_EVERY_MS));
        }
    }
}

/** Everything but what the server or a client would take for a setting. */
export function plainEnvironment(more = {}) {
    const own = Object.entries(process.env).filter(([name]) => !/^(HOLDFAST|PARTICLE|NODE|NPM|.*_PROXY$)/i.test(name));
    return { ...Object.fromEntries(own), NO_PROXY: '127.0.0.1,localhost', ...more };
}
