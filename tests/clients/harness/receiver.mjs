// A receiver of hooks: it keeps what it is sent, and answers each path as it is told.

import http from 'node:http';
import { once } from 'node:events';

import { eventually } from './test.mjs';

/** Longest wait for a request. */
const REQUEST_LIMIT_MS = 20_000;

export class Receiver {
    #server;
    #received = [];
    #answers = new Map();

    /** Listens on loopback. */
    static async open() {
        const receiver = new Receiver();
        receiver.#server = http.createServer((request, response) => receiver.#take(request, response));
        receiver.#server.listen(0, '127.0.0.1');
        await once(receiver.#server, 'listening');
        return receiver;
    }

    /** Where a path is. */
    url(path) {
        return `http://127.0.0.1:${this.#server.address().port}${path}`;
    }

    /** Answers this path so from now on. What was told nothing is answered with success and no word. */
    answer(path, body, { status = 200, type = 'text/plain' } = {}) {
        this.#answers.set(path, { body, status, type });
    }

    /** The requests to a path that nobody took. */
    all(path) {
        return this.#received.filter((received) => received.path === path);
    }

    /** Takes the next request to a path: `{ method, query, headers, text, form, json }`. */
    async next(path) {
        const found = await eventually(async () => this.all(path)[0], REQUEST_LIMIT_MS);
        this.#received.splice(this.#received.indexOf(found), 1);
        return found;
    }

    close() {
        this.#server.closeAllConnections();
        this.#server.close();
    }

    async #take(request, response) {
        const chunks = [];
        for await (const chunk of request) chunks.push(chunk);
        const { pathname, searchParams } = new URL(request.url, 'http://receiver');
        const text = Buffer.concat(chunks).toString();
        const { method, headers } = request;
        this.#received.push({
            path: pathname,
            method,
            headers,
            text,
            query: Object.fromEntries(searchParams),
            form: Object.fromEntries(new URLSearchParams(text)),
            json: parsed(text),
        });
        const { body, status, type } = this.#answers.get(pathname) ?? { body: '', status: 200, type: 'text/plain' };
        response.writeHead(status, { 'content-type': type }).end(body);
    }
}

function parsed(text) {
    try {
        return JSON.parse(text);
    } catch {
        return undefined;
    }
}
