// HTTP without a client: what a test sends is what leaves, and what comes can be seen piece by piece.

import { once } from 'node:events';
import net from 'node:net';

/** Longest wait for bytes. */
const BYTES_LIMIT_MS = 20_000;

/** Asks without a client's ways. Answers with status and content type, and the body as `text` and, if it is that, as `json`. */
export async function ask(site, method, path, { token, body, headers = {} } = {}) {
    const auth = token ? { authorization: `Bearer ${token}` } : {};
    const answer = await fetch(`http://127.0.0.1:${site.port}${path}`, {
        method,
        body,
        headers: { ...auth, ...headers },
        redirect: 'manual',
    });
    const text = await answer.text();
    return { status: answer.status, type: answer.headers.get('content-type') ?? '', text, json: parsed(text) };
}

/** The same with a JSON body. */
export function askJson(site, method, path, token, data) {
    return ask(site, method, path, { token, body: JSON.stringify(data), headers: { 'content-type': 'application/json' } });
}

/** The same with a form as its body. */
export function askForm(site, method, path, token, fields) {
    return ask(site, method, path, { token, body: new URLSearchParams(fields) });
}

function parsed(text) {
    try {
        return JSON.parse(text);
    } catch {
        return undefined;
    }
}

/** A connection to the server itself that shows each piece of bytes as it came, and when. */
export class Wire {
    #socket;
    #begun = Date.now();
    /** `{ at_ms, text }` */
    pieces = [];

    static async open(site) {
        const wire = new Wire();
        wire.#socket = net.connect(site.port, '127.0.0.1');
        wire.#socket.setNoDelay(true);
        wire.#socket.on('data', (bytes) => wire.pieces.push({ at_ms: Date.now() - wire.#begun, text: bytes.toString() }));
        await once(wire.#socket, 'connect');
        return wire;
    }

    /** Sends a request without a body. */
    send(method, path, headers) {
        const lines = Object.entries({ Host: 'test', ...headers }).map(([name, value]) => `${name}: ${value}\r\n`);
        this.#socket.write(`${method} ${path} HTTP/1.1\r\n${lines.join('')}\r\n`);
    }

    get text() {
        return this.pieces.map(({ text }) => text).join('');
    }

    /** Waits for the first piece that has this in it, from a piece on. */
    async piece(words, from = 0, limit_ms = BYTES_LIMIT_MS) {
        const end = Date.now() + limit_ms;
        for (;;) {
            const found = this.pieces.slice(from).find(({ text }) => text.includes(words));
            if (found) return found;
            if (Date.now() > end) throw new Error(`${JSON.stringify(words)} did not come, but:\n${this.text}`);
            await new Promise((resolve) => setTimeout(resolve, 10));
        }
    }

    close() {
        this.#socket.destroy();
    }
}
