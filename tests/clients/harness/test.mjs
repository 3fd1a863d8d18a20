// A file of tests: one site for all of them, and with each failure what was sent and answered.

import assert from 'node:assert/strict';
import { after, test as nodeTest } from 'node:test';

import { Site } from './site.mjs';

/** Longest time for one test: one that takes longer hangs. */
const TEST_LIMIT_MS = 180_000;
/** Longest wait for an event. Devices publish once a second. */
const EVENT_LIMIT_MS = 15_000;

/** Opens a site for the tests of a file, as `Site.open` does, and closes it after them. `test(name, what)` is a test on it. */
export async function open(special) {
    const site = await Site.open(special);
    after(() => site.close());
    const test = (name, what) => nodeTest(name, { timeout: TEST_LIMIT_MS }, () => told(site, what));
    return { site, test };
}

async function told(site, what) {
    const mark = site.recorder.mark();
    try {
        await what();
    } catch (error) {
        const story = [error.message, site.recorder.story(mark), site.log()].filter((part) => part).join('\n\n');
        throw Object.assign(new Error(story), { stack: `${story}\n${places(error)}` });
    }
}

/** Where it happened, without what it says. */
function places(error) {
    return (error.stack ?? '')
        .split('\n')
        .filter((line) => /^ +at /.test(line))
        .join('\n');
}

/** Waits for a refusal by particle-api-js, with this status or one of these, and with these words if some are given. */
export async function refused(promise, status, words) {
    const error = await promise.then(
        ({ statusCode, body }) => assert.fail(`a refusal was wanted; the answer was ${statusCode} ${JSON.stringify(body)}`),
        (reason) => reason,
    );
    const { response, ...body } = error.body ?? {};
    const answer = `${error.message} ${JSON.stringify(body)}`;
    assert.ok([status].flat().includes(error.statusCode), `${status} was wanted: ${answer}`);
    if (words) assert.match(answer, words);
    return error;
}

/** The first event of an open stream that `wanted` is true of, after `act` was done. The stream is closed. */
export async function heard(stream, wanted, act = async () => {}) {
    let timer;
    const event = new Promise((resolve, reject) => {
        stream.on('event', (one) => wanted(one) && resolve(one));
        timer = setTimeout(() => reject(new Error('no such event came')), EVENT_LIMIT_MS);
    });
    try {
        await act();
        return await event;
    } finally {
        clearTimeout(timer);
        close(stream);
    }
}

/** Ends a stream that particle-api-js has opened. It would come back by itself. */
export function close(stream) {
    stream.abort();
    stream.stopIdleTimeout();
}

/** Waits until `look` returns something, and says what. */
export async function eventually(look, limit_ms = EVENT_LIMIT_MS) {
    const end = Date.now() + limit_ms;
    for (;;) {
        const found = await look();
        if (found || Date.now() > end) {
            assert.ok(found, `not within ${limit_ms} ms`);
            return found;
        }
        await new Promise((resolve) => setTimeout(resolve, 100));
    }
}
