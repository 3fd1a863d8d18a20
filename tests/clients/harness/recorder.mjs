// Stands between the clients and the server, passes everything on as it comes, and remembers it: what a client sent and what it was
// answered is what there is to know of a test that failed.

import http from 'node:http';
import { once } from 'node:events';

/** Longest part of a body that is remembered. */
const BODY_LEN_MAX = 600;
/** Exchanges that are remembered. */
const EXCHANGES_MAX = 2000;
/** How often somebody who waits for an exchange looks. */
const LOOK_EVERY_MS = 20;

/** Headers that belong to one connection and not to the message. */
const PER_CONNECTION = ['connection', 'keep-alive'];

export class Recorder {
    #server;
    #target;
    #exchanges = [];

    /** Listens on loopback, for the server at `target`, a port. */
    static async open(target) {
        const recorder = new Recorder();
        recorder.#target = target;
        recorder.#server = http.createServer((request, response) => recorder.#pass(request, response));
        recorder.#server.listen(0, '127.0.0.1');
        await once(recorder.#server, 'listening');
        return recorder;
    }

    get url() {
        return `http://127.0.0.1:${this.#server.address().port}`;
    }

    close() {
        this.#server.closeAllConnections();
        this.#server.close();
    }

    /** A place in the record, for `since`. */
    mark() {
        return this.#exchanges.length;
    }

    /** What was exchanged from a mark on. */
    since(mark) {
        return this.#exchanges.slice(mark);
    }

    /** Waits until something was exchanged, from a mark on, that `wanted` is true of. */
    async until(mark, wanted, limit_ms = 15_000) {
        const end = Date.now() + limit_ms;
        while (Date.now() < end) {
            const found = this.since(mark).find(wanted);
            if (found) return found;
            await new Promise((resolve) => setTimeout(resolve, LOOK_EVERY_MS));
        }
        throw new Error(`no such exchange within ${limit_ms} ms`);
    }

    /** The same for somebody to read. */
    story(mark) {
        const lines = this.since(mark).map((exchange) => {
            const { method, url, auth, sent, status, answered } = exchange;
            return `  > ${method} ${url}  [${auth}] ${sent.text()}\n  < ${status ?? 'nothing'} ${answered.text()}`;
        });
        return lines.length > 0 ? `what was sent and answered:\n${lines.join('\n')}` : 'nothing was sent';
    }

    #pass(request, response) {
        const auth = request.headers.authorization?.split(' ')[0] ?? 'no authorization';
        const exchange = {
            method: request.method,
            url: request.url,
            auth,
            sent: new Excerpt(),
            status: undefined,
            answered: new Excerpt(),
        };
        if (this.#exchanges.length < EXCHANGES_MAX) this.#exchanges.push(exchange);
        const { method, url: path } = request;
        const onward = http.request({ host: '127.0.0.1', port: this.#target, method, path, headers: kept(request.headers), agent: false });
        request.on('data', (bytes) => exchange.sent.add(bytes));
        request.pipe(onward);
        onward.on('response', (answer) => {
            exchange.status = answer.statusCode;
            answer.on('data', (bytes) => exchange.answered.add(bytes));
            // A reset there is one here.
            answer.on('error', () => response.destroy());
            response.writeHead(answer.statusCode, answer.statusMessage, kept(answer.headers));
            response.flushHeaders();
            answer.pipe(response);
        });
        onward.on('error', () => response.destroy());
        response.on('close', () => onward.destroy());
    }
}

/** The beginning of a body. */
class Excerpt {
    #bytes = Buffer.alloc(0);
    #len = 0;

    add(bytes) {
        this.#len += bytes.length;
        if (this.#bytes.length < BODY_LEN_MAX) this.#bytes = Buffer.concat([this.#bytes, bytes]).subarray(0, BODY_LEN_MAX);
    }

    text() {
        const more = this.#len > this.#bytes.length ? `… (${this.#len} bytes)` : '';
        return this.#bytes.toString().replaceAll(/[^\x20-\x7e]+/g, ' ') + more;
    }
}

function kept(headers) {
    return Object.fromEntries(Object.entries(headers).filter(([name]) => !PER_CONNECTION.includes(name)));
}
