// Products: their devices, groups, events, and what their owner does with all these.

import assert from 'node:assert/strict';
import { generateKeyPairSync } from 'node:crypto';

import { makeProduct, openProduct } from './harness/products.mjs';
import { heard, open, refused } from './harness/test.mjs';

const { site, test } = await open();
const { owner, kelp, reef, wrack } = site;
/** With devices on UDP and on TCP that are online, and one that is not. */
const { product: reefs, inProduct } = await openProduct({ test }, owner, 'Reefs', kelp.id, reef.id, wrack.id);
const product = reefs.id;

function ask(method, path, data) {
    return owner.js[method]({ uri: `/v1/products/${product}${path}`, data, auth: owner.token });
}

test('js: a product is made, and found by its number and its slug', async () => {
    const made = await makeProduct(owner, 'Tide Gauge', 13);
    assert.deepEqual([made.name, made.platform_id, made.description], ['Tide Gauge', 13, 'made by a test']);
    assert.ok(Number.isInteger(made.id) && made.id > 1000, `${made.id} could be a platform`);
    assert.match(made.slug, /^tide-gauge/);
    for (const name of [made.id, made.slug]) {
        const { body } = await owner.js.getProduct({ product: name });
        assert.deepEqual([body.product.id, body.product.slug], [made.id, made.slug]);
    }
});

test('js: products are listed', async () => {
    const made = await makeProduct(owner, 'Listed');
    const { products } = (await owner.js.listProducts({})).body;
    assert.ok(products.some(({ id, slug }) => id === made.id && slug === made.slug));
    const { body } = await owner.js.get({ uri: '/v1/user/products', auth: owner.token });
    assert.deepEqual(
        body.products.map(({ id }) => id),
        products.map(({ id }) => id),
    );
});

test('js: a product of somebody else is not there', async () => {
    const made = await makeProduct(owner, 'Mine');
    for (const name of [made.id, made.slug, 99_999]) {
        await refused(site.other.js.getProduct({ product: name }), [403, 404], /not found|denied/i);
    }
    assert.deepEqual((await site.other.js.listProducts({})).body.products, []);
});

test('product device list of a product that is not there', async () => {
    (await owner.particle('product', 'device', 'list', '99999')).fails(/product not found/i).withholds('logged in');
});

inProduct('product device add takes a device by its id', async () => {
    const other = await makeProduct(owner, 'Empty');
    const device = site.spare.pop();
    await site.register([device], owner.email);
    const run = await owner.particle('product', 'device', 'add', other.id, device.id);
    run.succeeds('Success!', `Product ${other.id} Includes:`, device.id).withholds('Skipped');
    (await owner.particle('product', 'device', 'list', other.id)).succeeds(device.id);
});

inProduct('product device add takes a file, and says what it did not take', async () => {
    const other = await makeProduct(owner, 'From a file');
    const devices = [site.spare.pop(), site.spare.pop()];
    const file = await owner.file('ids.txt', [...devices.map(({ id }) => id), 'no-id-at-all', ''].join('\n'));
    const run = await owner.particle('product', 'device', 'add', other.id, '--file', file);
    run.succeeds('Success!', ...devices.map(({ id }) => id), 'Skipped Invalid IDs:', 'no-id-at-all');
});

inProduct('product device add of nothing that is a device fails', async () => {
    const file = await owner.file('bad.txt', 'no-id-at-all\n');
    (await owner.particle('product', 'device', 'add', product, '--file', file)).fails('Skipped Invalid IDs:', 'no-id-at-all');
});

inProduct('product device list shows the devices', async () => {
    const run = await owner.particle('product', 'device', 'list', product);
    run.succeeds(`kelp [${kelp.id}]`, `reef [${reef.id}]`, `wrack [${wrack.id}]`, `(Product ${product}) is online`, 'is offline');
    (await owner.particle('product', 'device', 'list', reefs.slug)).succeeds(kelp.id);
});

inProduct('product device list shows only what is asked for', async () => {
    (await owner.particle('product', 'device', 'list', product, '--name', 'el')).succeeds(kelp.id).withholds(reef.id);
    (await owner.particle('product', 'device', 'list', product, '--limit', '1', '--page', '3')).succeeds(/is (online|offline)/);
    (await owner.particle('product', 'device', 'list', product, '--page', '2')).succeeds().withholds(kelp.id, reef.id, wrack.id);
});

inProduct('product device list in JSON', async () => {
    const run = (await owner.particle('product', 'device', 'list', product, '--json')).succeeds();
    const { data, meta } = JSON.parse(run.text);
    assert.deepEqual(data.map(({ id }) => id).sort(), [kelp.id, reef.id, wrack.id].sort());
    assert.equal(meta.current, 1);
});

inProduct('product device list of one shows its functions and variables', async () => {
    const run = await owner.particle('product', 'device', 'list', product, kelp.id);
    run.succeeds(`kelp [${kelp.id}]`, 'is online', 'temperature (double)', 'int double (String args)');
});

inProduct('product device remove takes a device out', async () => {
    const other = await makeProduct(owner, 'Shrinking');
    const device = site.spare.pop();
    await site.register([device], owner.email);
    await owner.js.addDeviceToProduct({ product: other.id, deviceId: device.id });
    const run = await owner.particle('product', 'device', 'remove', other.id, device.id);
    run.succeeds(`Success! Removed device ${device.id} from product ${other.id}`);
    (await owner.particle('product', 'device', 'list', other.id)).withholds(device.id);
});

inProduct('call, get and nyan reach devices of a product', async () => {
    for (const { id } of [kelp, reef]) {
        assert.equal((await owner.particle('call', id, 'double', '4', '--product', product)).succeeds().text.trim(), '8');
        assert.equal((await owner.particle('variable', 'get', id, 'place', '--product', product)).succeeds().text.trim(), 'bench');
        (await owner.particle('nyan', id, 'on', '--product', product)).succeeds();
    }
    (await owner.particle('call', kelp.id, 'nope', '--product', product)).fails('Function `nope` not found');
});

inProduct('function list and variable list of a product', async () => {
    const functions = await owner.particle('function', 'list', '--product', product);
    functions.succeeds(kelp.id, 'int double (String args)');
    (await owner.particle('variable', 'list', '--product', product)).succeeds(reef.id, 'temperature (double)');
});

inProduct('subscribe and publish of a product', async () => {
    const run = await owner.particle('subscribe', 'fleet', '--product', product, '--max', '1');
    run.succeeds(`Subscribing to "fleet" from product ${product}'s stream`, '"name":"fleet/count"');
    const one = await owner.particle('subscribe', 'fleet', '--product', product, '--device', reef.id, '--max', '1');
    one.succeeds(`"coreid":"${reef.id}"`);
    const stream = await owner.js.getEventStream({ product, name: 'tide' });
    const event = await heard(
        stream,
        () => true,
        async () => {
            (await owner.particle('publish', 'tide', 'high', '--product', product)).succeeds(
                `Published event: tide to product: ${product}`,
            );
        },
    );
    assert.deepEqual([event.data, event.coreid], ['high', 'api']);
});

inProduct('js: events of a product say more', async () => {
    const stream = await owner.js.getEventStream({ product });
    const event = await heard(stream, ({ coreid }) => coreid === kelp.id);
    assert.deepEqual(
        [typeof event.userid, typeof event.version, typeof event.public, event.productID],
        ['string', 'number', 'boolean', product],
    );
});

inProduct('js: one device of a product is heard alone', async () => {
    const event = await heard(await owner.js.getEventStream({ product, deviceId: reef.id, name: 'fleet' }), () => true);
    assert.equal(event.coreid, reef.id);
});

inProduct('js: an event is published to a product', async () => {
    const stream = await owner.js.getEventStream({ product: reefs.slug, name: 'tide' });
    const event = await heard(
        stream,
        () => true,
        () => owner.js.publishEvent({ name: 'tide', data: 'low', product }),
    );
    assert.deepEqual([event.data, event.productID], ['low', product]);
});

inProduct('js: importing tells what became of each id', async () => {
    const other = await makeProduct(owner, 'Imports');
    const one = site.spare.pop().id;
    const { body } = await owner.js.addDeviceToProduct({ product: other.id, deviceId: one });
    assert.deepEqual([body.updated, body.nonmemberDeviceIds, body.invalidDeviceIds], [1, [], []]);
    const file = Buffer.from(`${one}\n${site.foreign.id}\nnonsense`);
    const { body: mixed } = await owner.js.addDeviceToProduct({ product: other.id, file });
    assert.ok(mixed.invalidDeviceIds.includes('nonsense'));
});

inProduct('js: a device of a product is described', async () => {
    const { body } = await owner.js.getDevice({ product, deviceId: kelp.id });
    assert.deepEqual([body.id, body.product_id, body.connected, body.development], [kelp.id, product, true, false]);
    assert.deepEqual([body.groups, body.desired_firmware_version, body.quarantined, body.denied], [[], null, false, false]);
    assert.equal((await owner.js.getDevice({ deviceId: kelp.id })).body.product_id, product);
});

inProduct('js: the list of devices is paged, filtered and sorted', async () => {
    const list = async (wish) => (await owner.js.listDevices({ product, ...wish })).body;
    const everything = await list({});
    assert.deepEqual([everything.devices.length, everything.meta.total_pages, Array.isArray(everything.customers)], [3, 1, true]);
    const paged = await list({ perPage: 2, page: 2 });
    assert.deepEqual([paged.devices.length, paged.meta.total_pages], [1, 2]);
    const ids = ({ devices }) => devices.map(({ id }) => id);
    assert.deepEqual(ids(await list({ deviceId: reef.id.slice(0, 6) })), [reef.id]);
    assert.deepEqual(ids(await list({ deviceName: 'elp' })), [kelp.id]);
    assert.deepEqual(ids(await list({ sortAttr: 'deviceId', sortDir: 'asc' })), [kelp.id, reef.id, wrack.id].sort());
    assert.deepEqual(ids(await list({ sortAttr: 'deviceId', sortDir: 'desc' })), [kelp.id, reef.id, wrack.id].sort().reverse());
});

inProduct('js: a page may be called perPage or per_page', async () => {
    for (const name of ['perPage', 'per_page']) {
        const { body } = await ask('get', `/devices?${name}=1`);
        assert.deepEqual([body.devices.length, body.meta.total_pages], [1, 3]);
    }
});

inProduct('js: a device of a product is renamed, noted and signals', async () => {
    const device = { product, deviceId: kelp.id };
    assert.equal((await owner.js.renameDevice({ ...device, name: 'kelp' })).body.name, 'kelp');
    assert.equal((await owner.js.setDeviceNotes({ ...device, notes: 'deep' })).body.notes, 'deep');
    assert.equal((await owner.js.signalDevice({ ...device, signal: true })).body.signaling, true);
    assert.deepEqual((await ask('put', `/devices/${kelp.id}/ping`, {})).body, { online: true, ok: true });
});

inProduct('js: a device is marked for development and back', async () => {
    for (const development of [true, false]) {
        const { body } = await owner.js.markAsDevelopmentDevice({ product, deviceId: wrack.id, development });
        assert.deepEqual([body.id, body.development, typeof body.updated_at], [wrack.id, development, 'string']);
        assert.equal((await owner.js.getDevice({ product, deviceId: wrack.id })).body.development, development);
    }
});

inProduct('js: functions and variables of a device of a product', async () => {
    const device = { product, deviceId: reef.id };
    assert.equal((await owner.js.callFunction({ ...device, name: 'length', argument: 'abc' })).body.return_value, 3);
    const { body } = await owner.js.getVariable({ ...device, name: 'count' });
    assert.deepEqual([body.result, body.coreInfo.deviceID], [7, reef.id]);
    await refused(owner.js.getVariable({ ...device, name: 'nope' }), 404, /Variable not found/);
});

inProduct('js: a device is put into groups, which come into being', async () => {
    const { body } = await ask('put', `/devices/${kelp.id}`, { groups: ['deep', 'north'] });
    assert.deepEqual([body.id, [...body.groups].sort()], [kelp.id, ['deep', 'north']]);
    assert.deepEqual(
        (await owner.js.listDevices({ product, groups: ['deep'] })).body.devices.map(({ id }) => id),
        [kelp.id],
    );
    (await owner.particle('product', 'device', 'list', product, '--groups', 'north', 'south')).succeeds(kelp.id).withholds(reef.id);
    const { groups } = (await ask('get', '/groups')).body;
    assert.deepEqual(groups.map(({ name }) => name).sort(), ['deep', 'north']);
    await ask('put', `/devices/${kelp.id}`, { groups: [] });
});

inProduct('js: many devices change their groups together', async () => {
    const change = (metadata) => ask('put', '/devices', { action: 'groups', devices: [kelp.id, reef.id], metadata });
    assert.equal((await change({ add: ['shallow'] })).body.ok, true);
    assert.deepEqual((await owner.js.listDevices({ product, groups: ['shallow'] })).body.devices.length, 2);
    assert.equal((await change({ remove: ['shallow'] })).body.ok, true);
    assert.deepEqual((await owner.js.listDevices({ product, groups: ['shallow'] })).body.devices, []);
});

inProduct('js: groups are made, described, changed and removed', async () => {
    const made = await ask('post', '/groups', { name: 'kelp-forest', description: 'dense', color: '#00aa88' });
    assert.deepEqual([made.statusCode, made.body.group.name, made.body.group.description], [201, 'kelp-forest', 'dense']);
    const { group } = (await ask('get', '/groups/kelp-forest')).body;
    assert.deepEqual([group.name, group.color, group.device_count], ['kelp-forest', '#00aa88', 0]);
    await ask('put', '/groups/kelp-forest', { description: 'thin' });
    assert.equal((await ask('get', '/groups/kelp-forest')).body.group.description, 'thin');
    assert.deepEqual(
        (await ask('get', '/groups?name=forest')).body.groups.map(({ name }) => name),
        ['kelp-forest'],
    );
    await refused(ask('post', '/groups', { name: 'No Such Name' }), 400);
    assert.equal((await ask('delete', '/groups/kelp-forest')).statusCode, 204);
    await refused(ask('get', '/groups/kelp-forest'), 404);
});

inProduct('js: a product gives out claim codes', async () => {
    const { body } = await owner.js.getClaimCode({ product });
    assert.match(body.claim_code, /^[A-Za-z0-9+/=_-]{63}$/);
    assert.ok(Array.isArray(body.device_ids));
});

inProduct('js: a device of a product loses its owner and stays', async () => {
    const other = await makeProduct(owner, 'Without owners');
    const device = site.spare.pop();
    await site.register([device], owner.email);
    await owner.js.addDeviceToProduct({ product: other.id, deviceId: device.id });
    const { statusCode } = await owner.js.removeDeviceOwner({ product: other.id, deviceId: device.id });
    assert.ok([200, 204].includes(statusCode));
    assert.equal((await owner.js.getDevice({ product: other.id, deviceId: device.id })).body.id, device.id);
    assert.ok((await owner.js.listDevices({})).body.every(({ id }) => id !== device.id));
});

inProduct('js: a device is taken out of its product', async () => {
    const other = await makeProduct(owner, 'Leaving');
    const device = site.spare.pop();
    await site.register([device], owner.email);
    await owner.js.addDeviceToProduct({ product: other.id, deviceId: device.id });
    assert.equal((await owner.js.removeDevice({ product: other.id, deviceId: device.id })).statusCode, 204);
    await refused(owner.js.getDevice({ product: other.id, deviceId: device.id }), [403, 404]);
    assert.equal((await owner.js.getDevice({ deviceId: device.id })).body.product_id, 13);
});

inProduct('keys send registers a device in a product', async () => {
    const id = 'e00fce68fedcba9800000077';
    const key = generateKeyPairSync('ec', { namedCurve: 'prime256v1' }).publicKey.export({ type: 'spki', format: 'pem' });
    const file = await owner.file('product.pub.pem', key);
    // Whoever looks after a product brings along what is on its list.
    await owner.js.addDeviceToProduct({ product, deviceId: id });
    (await owner.particle('keys', 'send', id, file, '--product_id', product)).succeeds('submitting public key succeeded!');
    (await owner.particle('product', 'device', 'list', product)).succeeds(id);
});

inProduct('nobody else reaches a product', async () => {
    const { js } = site.other;
    for (const attempt of [
        () => js.listDevices({ product }),
        () => js.getDevice({ product, deviceId: kelp.id }),
        () => js.callFunction({ product, deviceId: kelp.id, name: 'double', argument: '1' }),
        () => js.publishEvent({ product, name: 'tide', data: 'x' }),
        () => js.addDeviceToProduct({ product, deviceId: site.foreign.id }),
        () => js.getEventStream({ product }),
    ]) {
        await refused(attempt(), [403, 404]);
    }
});
