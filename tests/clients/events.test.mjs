// Events are published and heard.

import assert from 'node:assert/strict';

import { close, heard, open, refused } from './harness/test.mjs';

const { site, test } = await open();
const { owner, kelp, reef } = site;
const ISO = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/;
/** Longer than particle-api-js waits for a byte. */
const SILENCE_MS = 19_000;

/** Types `particle subscribe …`, and returns when the stream is open. */
async function subscribe(...args) {
    const mark = site.recorder.mark();
    const running = owner.begin('subscribe', ...args);
    await running.says('Subscribing to');
    await site.recorder.until(mark, ({ url, status }) => /\/events(\/|\?|$)/.test(url) && status === 200);
    return running;
}

/** The events that the tool has printed. */
function printed(program) {
    return program.text
        .split('\n')
        .filter((line) => line.startsWith('{'))
        .map((line) => JSON.parse(line));
}

function publish(name, data) {
    return owner.js.publishEvent({ name, data });
}

test('publish is heard', async () => {
    const stream = await owner.js.getEventStream({ deviceId: 'mine', name: 'tide' });
    const event = await heard(
        stream,
        () => true,
        async () => {
            (await owner.particle('publish', 'tide', 'high water')).succeeds('Published event: tide');
        },
    );
    assert.deepEqual([event.name, event.data, event.ttl, event.coreid], ['tide', 'high water', 60, 'api']);
    assert.match(event.published_at, ISO);
});

test('publish without data carries none', async () => {
    const stream = await owner.js.getEventStream({ deviceId: 'mine', name: 'slack' });
    const event = await heard(
        stream,
        () => true,
        async () => {
            (await owner.particle('publish', 'slack')).succeeds('Published event: slack');
        },
    );
    assert.equal(event.data ?? '', '');
});

test('publish of a name that is too long fails', async () => {
    (await owner.particle('publish', 'x'.repeat(65), '1')).fails(/name/i).withholds('Published event', 'logged in');
});

test('subscribe prints what devices publish and ends after so many', async () => {
    const run = await owner.particle('subscribe', '--max', '2');
    run.succeeds(
        'Subscribing to all events from my devices',
        'This command will exit after receiving 2 event(s)...',
        '2 event(s) received. Exiting...',
    );
    assert.equal(printed(run).length, 2);
});

test('subscribe to a name with a slash', async () => {
    const run = (await owner.particle('subscribe', 'fleet/count', '--max', '1')).succeeds('Subscribing to "fleet/count" from my devices');
    const [event] = printed(run);
    assert.equal(event.name, 'fleet/count');
    assert.match(event.data, new RegExp(`^${event.coreid} `));
});

test('subscribe to a name with a blank', async () => {
    const running = await subscribe('tide/low water', '--max', '1');
    await publish('tide/low', 'not this');
    await publish('tide/low water mark', 'this');
    const [event] = printed((await running.end()).code === 0 ? running : assert.fail(running.text));
    assert.deepEqual([event.name, event.data], ['tide/low water mark', 'this']);
});

test('subscribe to a name in letters of any language', async () => {
    const running = await subscribe('marée', '--max', '1');
    await publish('marée/été', '潮 🌊');
    await running.end();
    assert.deepEqual(
        printed(running).map(({ name, data }) => [name, data]),
        [['marée/été', '潮 🌊']],
    );
});

test('subscribe to one device, by its id and by its name', async () => {
    for (const device of [kelp.id, 'kelp']) {
        const run = await owner.particle('subscribe', 'fleet', '--device', device, '--max', '2');
        run.succeeds(`Subscribing to "fleet" from device ${device}'s stream`);
        assert.deepEqual(
            printed(run).map(({ coreid }) => coreid),
            [kelp.id, kelp.id],
        );
    }
});

test('subscribe to a device of somebody else', async () => {
    const run = await owner.particle('subscribe', '--device', site.foreign.id, '--max', '1');
    run.fails(/Permission Denied|403/).withholds('logged in');
});

test('subscribe until something comes', async () => {
    const running = await subscribe('tide', '--until', 'low');
    await publish('tide', 'falling');
    await publish('tide', 'low');
    await running.end();
    assert.match(running.text, /Matching event received\. Exiting\.\.\./);
    assert.deepEqual(
        printed(running).map(({ data }) => data),
        ['falling', 'low'],
    );
});

test('subscribe with a token that was revoked', async () => {
    const guest = await site.person();
    await guest.js.deleteCurrentAccessToken({});
    (await guest.particle('subscribe', '--max', '1')).fails("You're not logged in. Run `particle login`");
});

test('js: a stream without events stays open', async () => {
    const stream = await owner.js.getEventStream({ deviceId: 'mine', name: 'silence' });
    const ends = [];
    stream.on('disconnect', () => ends.push('disconnect'));
    await new Promise((resolve) => setTimeout(resolve, SILENCE_MS));
    close(stream);
    assert.deepEqual(ends, []);
});

test('js: a stream of everything, of one device, and by prefix', async () => {
    const streams = {
        mine: { deviceId: 'mine' },
        device: { deviceId: reef.id },
        named: { deviceId: 'reef', name: 'fleet/' },
        prefix: { name: 'fleet' },
    };
    for (const [kind, wish] of Object.entries(streams)) {
        const event = await heard(await owner.js.getEventStream(wish), ({ coreid }) => coreid === reef.id);
        assert.deepEqual([kind, event.name, event.ttl], [kind, 'fleet/count', 60]);
    }
});

test('js: the stream of everything there is wants a prefix', async () => {
    const error = await owner.js.getEventStream({}).then(
        (stream) => close(stream),
        (reason) => reason,
    );
    assert.equal(error?.statusCode, 400);
    assert.equal(error.body.error, 'event prefix filter is required');
});

test('js: nobody hears what others publish', async () => {
    const stream = await site.other.js.getEventStream({ deviceId: 'mine' });
    const event = await heard(
        stream,
        ({ name }) => name.startsWith('whose'),
        async () => {
            await publish('whose/theirs', '1');
            await site.other.js.publishEvent({ name: 'whose/mine', data: '2' });
        },
    );
    assert.deepEqual([event.name, event.data], ['whose/mine', '2']);
});

test('js: an event may be called private, or not', async () => {
    for (const isPrivate of [true, false, undefined]) {
        const { body } = await owner.js.publishEvent({ name: 'tide', data: 'x', isPrivate });
        assert.equal(body.ok, true);
    }
});

test('js: binary data goes in and comes out as a data URL', async () => {
    const stream = await owner.js.getEventStream({ deviceId: 'mine', name: 'picture' });
    const data = `data:application/octet-stream;base64,${Buffer.from([0, 255, 10, 13]).toString('base64')}`;
    const event = await heard(
        stream,
        () => true,
        () => publish('picture', data),
    );
    assert.equal(event.data, data);
});

test('js: an event without a name is refused', async () => {
    await refused(publish('', 'x'), 400, /name/i);
});
