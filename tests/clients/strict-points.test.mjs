// The points in which clients are strict, each as it looks on the wire. Where a client shows one, another file has a test of that as well.

import assert from 'node:assert/strict';
import http from 'node:http';
import { once } from 'node:events';

import { application } from './harness/firmware.mjs';
import { open } from './harness/test.mjs';
import { Wire, ask, askForm, askJson } from './harness/wire.mjs';

const { site, test } = await open();
const { owner, kelp, dulse, reef, wrack, foreign } = site;
const { token } = owner;
const TARGET = 'https://hooks.example.com/tide';

function isJson(answer) {
    assert.match(answer.type, /^application\/json/, `${answer.status} ${answer.text}`);
    assert.notEqual(answer.json, undefined, answer.text);
}

/** A multipart body as clients stream one from a disk: chunked, without a length. */
async function upload(path, parts) {
    const boundary = '--------reef';
    const { port } = new URL(site.url);
    const headers = {
        authorization: `Bearer ${token}`,
        'content-type': `multipart/form-data;boundary=${boundary}`,
        'transfer-encoding': 'chunked',
    };
    const request = http.request({ host: '127.0.0.1', port, method: 'PUT', path, headers });
    for (const { name, filename, type, content } of parts) {
        const file = filename ? `; filename="${filename}"\r\nContent-Type: ${type}` : '';
        request.write(`--${boundary}\r\nContent-Disposition: form-data; name="${name}"${file}\r\n\r\n`);
        request.write(content);
        request.write('\r\n');
    }
    request.end(`--${boundary}--\r\n`);
    const [answer] = await once(request, 'response');
    const chunks = [];
    for await (const chunk of answer) chunks.push(chunk);
    return { status: answer.statusCode, json: JSON.parse(Buffer.concat(chunks)) };
}

test('point 1: refusals are JSON', async () => {
    const refusals = [
        [404, await ask(site, 'GET', '/v1/no/such/route', { token })],
        [404, await ask(site, 'GET', '/')],
        [405, await ask(site, 'PATCH', '/v1/devices', { token })],
        [400, await ask(site, 'GET', '/v1/devices')],
        [401, await ask(site, 'GET', '/v1/devices', { token: '0'.repeat(40) })],
        [403, await ask(site, 'GET', '/v1/devices/nobody', { token })],
        [404, await ask(site, 'GET', '/v1/devices/kelp/nope', { token })],
        [400, await ask(site, 'POST', '/v1/devices/events', { token, body: '{', headers: { 'content-type': 'application/json' } })],
        [400, await ask(site, 'GET', '/v1/devices/%ff/x', { token })],
        [400, await askForm(site, 'POST', '/oauth/token', undefined, { grant_type: 'password', username: 'a', password: 'b' })],
    ];
    for (const [status, answer] of refusals) {
        assert.equal(answer.status, status, answer.text);
        isJson(answer);
        assert.ok(answer.json.error || answer.json.errors, answer.text);
    }
    const wire = await Wire.open(site);
    const headers = { Authorization: `Bearer ${token}`, 'Content-Type': 'application/json', 'Content-Length': 1 << 26 };
    wire.send('POST', '/v1/devices/events', headers);
    await wire.piece('}');
    assert.match(wire.text, /^HTTP\/1\.1 413 /);
    assert.ok(JSON.parse(/\{.*\}/.exec(wire.text)[0]).error, wire.text);
    wire.close();
});

test('point 1: success is JSON, or 204 without a body', async () => {
    const successes = [
        await ask(site, 'GET', '/v1/user', { token }),
        await ask(site, 'GET', '/v1/devices', { token }),
        await ask(site, 'GET', `/v1/devices/${kelp.id}`, { token }),
        await askJson(site, 'PUT', `/v1/devices/${kelp.id}`, token, { name: 'kelp' }),
        await askJson(site, 'PUT', '/v1/devices/kelp/ping', token, {}),
        await askJson(site, 'POST', '/v1/devices/kelp/double', token, { args: '1' }),
        await ask(site, 'GET', '/v1/devices/kelp/count', { token }),
        await askJson(site, 'POST', '/v1/devices/events', token, { name: 'tide' }),
        await askJson(site, 'POST', '/v1/device_claims', token, {}),
        await ask(site, 'GET', '/v1/webhooks', { token }),
        await ask(site, 'GET', '/v1/integrations', { token }),
        await ask(site, 'GET', '/v1/clients', { token }),
        await ask(site, 'GET', '/v1/products', { token }),
        await ask(site, 'GET', '/v1/device-os/versions?platform_id=13', { token }),
        await ask(site, 'GET', '/v1/build_targets'),
    ];
    for (const answer of successes) {
        assert.ok(answer.status >= 200 && answer.status < 300, `${answer.status} ${answer.text}`);
        if (answer.status === 204) assert.equal(answer.text, '');
        else isJson(answer);
    }
});

test('point 2: only trouble with a token is a 401 or speaks of access tokens', async () => {
    for (const [status, error, answer] of [
        [400, 'invalid_request', await ask(site, 'GET', '/v1/user')],
        [401, 'invalid_token', await ask(site, 'GET', '/v1/user', { token: 'f'.repeat(40) })],
        [401, 'invalid_token', await ask(site, 'GET', '/v1/devices/events', { token: 'f'.repeat(40) })],
    ]) {
        assert.deepEqual([answer.status, answer.json.error], [status, error]);
        assert.match(answer.json.error_description, /access token/);
    }
    const { json: reader } = await askJson(site, 'POST', '/v1/clients', token, { name: 'Point 2', type: 'installed' });
    for (const answer of [
        await ask(site, 'GET', `/v1/devices/${foreign.id}`, { token }),
        await askJson(site, 'PUT', `/v1/devices/${foreign.id}`, token, { name: 'x' }),
        await ask(site, 'DELETE', `/v1/devices/${foreign.id}`, { token }),
        await askJson(site, 'POST', '/v1/devices', token, { id: foreign.id }),
        await askJson(site, 'POST', `/v1/provisioning/${foreign.id}`, token, { deviceID: foreign.id, publicKey: 'none', algorithm: 'ecc' }),
        await askJson(site, 'POST', '/v1/devices/kelp/nope', token, {}),
        await askJson(site, 'PUT', '/v1/user', token, { password: 'x', current_password: 'wrong' }),
        await askForm(site, 'POST', '/oauth/token', undefined, { grant_type: 'password', username: owner.email, password: 'wrong' }),
        await askForm(site, 'POST', '/oauth/token', undefined, {
            grant_type: 'client_credentials',
            client_id: reader?.client?.id ?? 'none',
            client_secret: 'wrong',
        }),
    ]) {
        assert.ok(answer.status >= 400, answer.text);
        assert.notEqual([answer.status, answer.json.error].join(), '401,invalid_token', answer.text);
        assert.doesNotMatch(String(answer.json.error_description), /access token/i);
        if (answer.status === 401) assert.equal(answer.json.error, 'invalid_client', answer.text);
    }
});

test('point 3: the list of devices is a bare array, and each says who it is and whether it is connected', async () => {
    const { json } = await ask(site, 'GET', '/v1/devices', { token });
    assert.ok(Array.isArray(json));
    assert.deepEqual(json.map(({ id }) => id).sort(), [kelp, dulse, reef, wrack].map(({ id }) => id).sort());
    for (const device of json) {
        assert.deepEqual([typeof device.connected, device.online, typeof device.product_id], ['boolean', device.connected, 'number']);
    }
    const times = json.map((device) => device.last_handshake_at ?? '');
    assert.deepEqual(times, [...times].sort().reverse(), 'the latest handshake comes first');
});

test('point 4: a device that is owned is always described, and at once', async () => {
    for (const { id } of [kelp, reef, wrack]) {
        const begun = Date.now();
        const { status, json } = await ask(site, 'GET', `/v1/devices/${id}`, { token });
        assert.deepEqual([status, json.id], [200, id]);
        assert.ok(Date.now() - begun < 2_000);
    }
});

test('point 5: names serve on every route of a device', async () => {
    for (const name of ['kelp', kelp.id, kelp.id.toUpperCase()]) {
        const answers = [
            await ask(site, 'GET', `/v1/devices/${name}`, { token }),
            await ask(site, 'GET', `/v1/devices/${name}/count`, { token }),
            await askForm(site, 'POST', `/v1/devices/${name}/double`, token, { arg: '1' }),
            await askForm(site, 'PUT', `/v1/devices/${name}`, token, { signal: '1' }),
            await askForm(site, 'PUT', `/v1/devices/${name}/ping`, token, {}),
            await ask(site, 'GET', `/v1/diagnostics/${name}`, { token }),
        ];
        assert.deepEqual(
            answers.map(({ status }) => status),
            [200, 200, 200, 200, 200, 200],
            answers.map(({ text }) => text).join('\n'),
        );
        const wire = await Wire.open(site);
        wire.send('GET', `/v1/devices/${name}/events`, { Authorization: `Bearer ${token}` });
        await wire.piece(':ok');
        wire.close();
    }
});

test('point 5: an unknown device is refused with 403 and a hint', async () => {
    const routes = ['GET ', 'PUT ', 'DELETE ', 'GET /count', 'POST /double', 'PUT /ping', 'GET /events', 'GET /events/x'];
    for (const [method, path] of routes.map((route) => route.split(' '))) {
        for (const name of ['nobody', '0'.repeat(24), foreign.id, 'foreign']) {
            const { status, json } = await ask(site, method, `/v1/devices/${name}${path}`, { token });
            assert.deepEqual([status, json?.error], [403, 'Permission Denied'], `${method} ${name}${path}`);
            assert.match(json.info, /^I didn't recognize that device name or ID/);
        }
    }
});

test('point 6: a call takes its argument under each of its names', async () => {
    const path = '/v1/devices/kelp/length';
    for (const [expected, answer] of [
        [4, await askJson(site, 'POST', path, token, { args: 'four' })],
        [4, await askJson(site, 'POST', path, token, { arg: 'four' })],
        [4, await askForm(site, 'POST', path, token, { args: 'four' })],
        [4, await askForm(site, 'POST', path, token, { arg: 'four' })],
        [4, await askForm(site, 'POST', path, token, { params: 'four' })],
        [0, await askJson(site, 'POST', path, token, {})],
        [0, await ask(site, 'POST', path, { token })],
    ]) {
        assert.deepEqual([answer.status, answer.json.return_value], [200, expected], answer.text);
    }
    assert.equal((await askForm(site, 'POST', path, token, { arg: 'four', format: 'raw' })).text, '4');
    assert.equal((await askForm(site, 'POST', `${path}?format=raw`, token, { arg: 'four' })).text, '4');
});

test('point 6: only a function that is missing is a 404', async () => {
    const call = async (device, name) => (await askForm(site, 'POST', `/v1/devices/${device}/${name}`, token, { arg: '1' })).status;
    assert.equal(await call('kelp', 'nope'), 404);
    assert.ok([400, 408].includes(await call('wrack', 'double')));
    assert.equal(await call('nobody', 'double'), 403);
    assert.equal(await call('kelp', 'x'.repeat(100)), 404);
});

test('point 7: a variable comes with a result and the device it is from', async () => {
    for (const [name, value] of [
        ['temperature', 21.5],
        ['count', 7],
        ['place', 'bench'],
    ]) {
        const { json } = await ask(site, 'GET', `/v1/devices/reef/${name}`, { token });
        assert.deepEqual([json.result, json.coreInfo.deviceID], [value, reef.id]);
        assert.equal((await ask(site, 'GET', `/v1/devices/reef/${name}?format=raw`, { token })).text, String(value));
    }
});

test('point 8: a binary may come in pieces with a path as its name, and is refused in words', async () => {
    const file = { name: 'file', filename: '/home/kai/build/app.bin', type: 'application/octet-stream', content: application() };
    for (const device of ['kelp', 'wrack']) {
        const { status, json } = await upload(`/v1/devices/${device}`, [file, { name: 'latest', content: 'true' }]);
        assert.equal(status, 501, JSON.stringify(json));
        assert.match(json.error, /over the air/, 'what is not done has no status of success, and says so');
    }
});

test('point 9: hooks answer older clients with ok, under the older address', async () => {
    const made = await askJson(site, 'POST', '/v1/webhooks', token, { event: 'older', url: TARGET });
    assert.deepEqual([made.status, made.json.ok], [201, true], made.text);
    for (const path of ['/v1/webhooks', '/v1/webhooks/', `/v1/webhooks/?access_token=${token}`]) {
        const { json } = await ask(site, 'GET', path, { token: path.includes('?') ? undefined : token });
        assert.ok(Array.isArray(json) && json.some(({ id }) => id === made.json.id), path);
    }
    const gone = await ask(site, 'DELETE', `/v1/webhooks/${made.json.id}?access_token=${token}`);
    assert.deepEqual([gone.status, gone.json.ok], [200, true]);
});

test('point 9: renaming repeats the very name', async () => {
    for (const name of ['Wrack & Ruin', 'wrack']) {
        const { json } = await askForm(site, 'PUT', `/v1/devices/${wrack.id}`, token, { name });
        assert.equal(json.name, name);
    }
});

test('point 9: a token may stand in the query or in the body', async () => {
    assert.equal((await ask(site, 'GET', `/v1/devices?access_token=${token}`)).status, 200);
    const query = await askForm(site, 'POST', `/v1/devices/kelp/length?access_token=${token}`, undefined, { arg: 'abc' });
    assert.equal(query.json.return_value, 3);
    const form = await askForm(site, 'POST', '/v1/devices/kelp/length', undefined, { access_token: token, arg: 'abc' });
    assert.equal(form.json.return_value, 3);
    const json = await askJson(site, 'POST', '/v1/devices/kelp/length', undefined, { access_token: token, arg: 'abc' });
    assert.equal(json.json.return_value, 3);
    assert.equal((await askForm(site, 'PUT', '/v1/devices/kelp', undefined, { access_token: token, signal: '0' })).status, 200);
    const wire = await Wire.open(site);
    wire.send('GET', `/v1/devices/events?access_token=${token}`, {});
    await wire.piece(':ok');
    wire.close();
});

test('point 10: hooks say what they are and how they ask, and know a device under each spelling', async () => {
    for (const [spelling, path] of [
        ['deviceid', 'integrations'],
        ['deviceID', 'integrations'],
        ['deviceId', 'webhooks'],
    ]) {
        const { json } = await askJson(site, 'POST', `/v1/${path}`, token, { event: spelling, url: TARGET, [spelling]: kelp.id });
        const hooks = (await ask(site, 'GET', '/v1/integrations', { token })).json;
        const [hook] = hooks.filter(({ id }) => id === json.id);
        assert.deepEqual([hook.integration_type, hook.requestType, hook.deviceID], ['Webhook', 'POST', kelp.id]);
    }
    const { status, json } = await askForm(site, 'POST', '/v1/webhooks', token, { event: 'form', url: TARGET, requestType: 'get' });
    assert.deepEqual([status, json.requestType], [201, 'GET']);
});

test('point 11: a token is revoked without an authorization', async () => {
    const guest = await site.person();
    const { status, json } = await ask(site, 'DELETE', `/v1/access_tokens/${guest.token}`);
    assert.deepEqual([status, json.ok], [200, true]);
    assert.equal((await ask(site, 'GET', '/v1/user', { token: guest.token })).status, 401);
});

test('point 12: the clients that come with the tools are known', async () => {
    const login = { grant_type: 'password', username: owner.email, password: owner.password };
    for (const [client_id, client_secret] of [
        ['particle', 'particle'],
        ['particle-api', 'particle-api'],
        ['particle-cli', 'particle-cli'],
        ['CLI2', 'client_secret_here'],
        ['user', 'client_secret_here'],
    ]) {
        const { status, json } = await askForm(site, 'POST', '/oauth/token', undefined, { ...login, client_id, client_secret });
        assert.deepEqual([status, typeof json.access_token], [200, 'string'], client_id);
        const headers = { authorization: `Basic ${Buffer.from(`${client_id}:${client_secret}`).toString('base64')}` };
        assert.equal((await ask(site, 'POST', '/oauth/token', { headers, body: new URLSearchParams(login) })).status, 200);
    }
    const liar = await askForm(site, 'POST', '/oauth/token', undefined, { ...login, client_id: 'particle', client_secret: 'made-up' });
    assert.equal(liar.json.error, 'invalid_client');
});

test('point 12: a login does not look at bearer tokens', async () => {
    const login = {
        grant_type: 'password',
        username: owner.email,
        password: owner.password,
        client_id: 'CLI2',
        client_secret: 'client_secret_here',
    };
    for (const stale of ['null', 'f'.repeat(40)]) {
        const { status } = await askForm(site, 'POST', '/oauth/token', stale, login);
        assert.equal(status, 200);
    }
});

test('point 13: a stream says ok at once and is not to be held back', async () => {
    const wire = await Wire.open(site);
    wire.send('GET', '/v1/devices/events/silence?nonce=353.644408', { Authorization: `Bearer ${token}` });
    const first = await wire.piece(':ok\n\n');
    assert.ok(first.at_ms < 2_000, `${first.at_ms} ms`);
    const head = wire.text.split('\r\n\r\n')[0].toLowerCase();
    assert.match(head, /^http\/1\.1 200 ok/);
    for (const line of ['content-type: text/event-stream', 'cache-control: no-cache', 'x-accel-buffering: no'])
        assert.ok(head.includes(line), head);
    assert.ok(!head.includes('content-encoding'), head);
    wire.close();
});

test('point 13: an event is one piece: its name, its data, and a blank line', async () => {
    const wire = await Wire.open(site);
    wire.send('GET', '/v1/devices/events/shape', { Authorization: `Bearer ${token}` });
    await wire.piece(':ok');
    await askJson(site, 'POST', '/v1/devices/events', token, { name: 'shape/round', data: 'é 潮 🌊 "quoted"\nnext' });
    const { text } = await wire.piece('event: shape/round');
    const lines = /event: shape\/round\n((?:id: [^\n]*\n)?)data: ([^\n]*)\n\n/.exec(text);
    assert.ok(lines, JSON.stringify(text));
    assert.match(lines[2], /^[\x20-\x7e]*$/, 'no character can be torn in two');
    const data = JSON.parse(lines[2]);
    assert.deepEqual([data.data, data.ttl, data.coreid], ['é 潮 🌊 "quoted"\nnext', 60, 'api']);
    assert.equal(data.name, undefined);
    wire.close();
});

test('point 13: silence is broken by a newline before ten seconds are over', async () => {
    const wire = await Wire.open(site);
    wire.send('GET', '/v1/devices/events/silence', { Authorization: `Bearer ${token}` });
    const opened = await wire.piece(':ok');
    const from = wire.pieces.length;
    const beats = [await wire.piece('\n', from), await wire.piece('\n', from + 1)];
    assert.ok(beats[0].at_ms - opened.at_ms <= 10_200 && beats[1].at_ms - beats[0].at_ms <= 10_200, JSON.stringify(wire.pieces));
    wire.close();
});

test('point 13: a prefix may be percent-encoded, or have slashes', async () => {
    for (const path of ['/v1/devices/events/temp%2Fkit%20chen', '/v1/devices/events/temp/kit%20chen', '/v1/events/temp%2Fkit']) {
        const wire = await Wire.open(site);
        wire.send('GET', path, { Authorization: `Bearer ${token}` });
        await wire.piece(':ok');
        await askJson(site, 'POST', '/v1/devices/events', token, { name: 'temp/other', data: 'not this' });
        await askJson(site, 'POST', '/v1/devices/events', token, { name: 'temp/kit chen', data: 'this' });
        await wire.piece('event: temp/kit chen');
        assert.ok(!wire.text.includes('temp/other'), path);
        wire.close();
    }
});

test('point 14: no seconds is for ever', async () => {
    const login = {
        grant_type: 'password',
        username: owner.email,
        password: owner.password,
        client_id: 'particle',
        client_secret: 'particle',
        expires_in: '0',
    };
    const { json } = await askForm(site, 'POST', '/oauth/token', undefined, login);
    assert.equal(json.expires_in, 0);
    const current = await ask(site, 'GET', '/v1/access_tokens/current', { token: json.access_token });
    assert.equal(current.json.expires_at, null);
});

test('point 15: slashes too many do no harm', async () => {
    for (const path of ['//v1/user', '/v1//user', '/v1/user/', '//v1/devices//kelp/', '/v1/devices/', `/v1/user/?access_token=${token}`]) {
        assert.equal((await ask(site, 'GET', path, { token })).status, 200, path);
    }
});

test('point 16: who has no products and no organizations has empty lists', async () => {
    const guest = await site.person();
    for (const [path, name] of [
        ['/v1/orgs', 'organizations'],
        ['/v1/user/products', 'products'],
        ['/v1/products', 'products'],
    ]) {
        const { status, json } = await ask(site, 'GET', path, { token: guest.token });
        assert.deepEqual([status, json], [200, { [name]: [] }]);
    }
});
