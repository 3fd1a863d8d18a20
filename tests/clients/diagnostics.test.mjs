// Vitals of devices: asked for, and looked at later. Clients have no commands for them; programs ask by address.

import assert from 'node:assert/strict';

import { makeProductOf } from './harness/products.mjs';
import { eventually, heard, open, refused } from './harness/test.mjs';

const { site, test } = await open();
const { owner, kelp, reef, wrack } = site;
const ISO = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/;

/** The diagnostics of an account, or of a product. */
function diagnostics(person, base = '/v1') {
    const uri = (path) => `${base}/diagnostics/${path}`;
    return {
        update: (device) => person.js.post({ uri: uri(`${device}/update`), data: {}, auth: person.token }),
        last: (device) => person.js.get({ uri: uri(`${device}/last`), auth: person.token }),
        history: (device, query = '') => person.js.get({ uri: uri(device + query), auth: person.token }),
    };
}

const own = diagnostics(owner);

test('js: a device that is asked for its vitals publishes them', async () => {
    const stream = await owner.js.getEventStream({ deviceId: kelp.id, name: 'spark/device/diagnostics/update' });
    const event = await heard(
        stream,
        () => true,
        async () => {
            const { statusCode, body } = await own.update(kelp.id);
            assert.deepEqual([statusCode, body.ok], [202, true]);
        },
    );
    assert.equal(typeof JSON.parse(event.data).device, 'object');
});

test('js: the last vitals are kept', async () => {
    await own.update('reef');
    const record = await eventually(() =>
        own.last(reef.id).then(
            ({ body }) => body.diagnostics,
            () => null,
        ),
    );
    assert.equal(record.deviceID, reef.id);
    assert.match(record.updated_at, ISO);
    assert.equal(typeof record.payload.device, 'object');
});

test('js: vitals have a history with a beginning and an end', async () => {
    await own.update(kelp.id);
    await eventually(() =>
        own.last('kelp').then(
            () => true,
            () => false,
        ),
    );
    const all = (await own.history(kelp.id)).body.diagnostics;
    assert.ok(all.length >= 1);
    assert.deepEqual([all[0].deviceID, typeof all[0].payload], [kelp.id, 'object']);
    assert.deepEqual((await own.history(kelp.id, '?start_date=2001-01-01T00:00:00Z&end_date=2001-01-02T00:00:00Z')).body.diagnostics, []);
    const since = encodeURIComponent(new Date(Date.now() - 3_600_000).toISOString());
    assert.ok((await own.history(kelp.id, `?start_date=${since}`)).body.diagnostics.length >= all.length);
});

test('js: a date that is none is refused in the words of the diagnostics', async () => {
    const { body } = await refused(own.history(kelp.id, '?start_date=yesterday'), 400);
    assert.deepEqual([body.error, typeof body.description], ['bad_request', 'string']);
});

test('vitals come as a table for whoever wants one', async () => {
    await own.update(kelp.id);
    await eventually(() =>
        own.last(kelp.id).then(
            () => true,
            () => false,
        ),
    );
    const headers = { authorization: `Bearer ${owner.token}`, accept: 'text/csv' };
    const answer = await fetch(`${site.url}/v1/diagnostics/${kelp.id}`, { headers });
    assert.match(answer.headers.get('content-type'), /^text\/csv/);
    const [head, ...rows] = (await answer.text()).trim().split('\n');
    assert.ok(head.startsWith('updated_at,deviceID') && rows.length >= 1);
});

test('js: a device that is offline is not asked', async () => {
    await refused(own.update('wrack'), [400, 404, 408], /Timed out\.|offline/i);
    await refused(own.last(wrack.id), 404);
});

test('js: vitals of others are not shown', async () => {
    const foreign = diagnostics(site.other);
    for (const look of Object.values(foreign)) await refused(look(kelp.id), 403, /Permission Denied/);
});

test('js: vitals of a device of a product', async () => {
    const product = (await makeProductOf(owner, 'Vitals', reef.id)).id;
    await eventually(async () => (await owner.js.getDevice({ deviceId: reef.id })).body.connected);
    const ofProduct = diagnostics(owner, `/v1/products/${product}`);
    // What it said before it was in the product is not the product's.
    const record = await eventually(async () => {
        assert.equal((await ofProduct.update(reef.id)).statusCode, 202);
        return ofProduct.last(reef.id).then(
            ({ body }) => body.diagnostics,
            () => null,
        );
    });
    assert.equal(record.deviceID, reef.id);
    assert.ok((await ofProduct.history(reef.id)).body.diagnostics.length >= 1);
    await refused(diagnostics(site.other, `/v1/products/${product}`).last(reef.id), [403, 404]);
});
