// Firmware: kept and released for a product. What would go over the air is refused.

import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';

import { application } from './harness/firmware.mjs';
import { makeProduct, makeProductOf } from './harness/products.mjs';
import { open, refused } from './harness/test.mjs';

const { site, test } = await open();
const { owner, kelp, wrack } = site;
const ISO = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/;

/** A new product and a way to upload the firmware of a version of it. */
async function maker(name) {
    const product = (await makeProduct(owner, name)).id;
    const upload = (version, more) =>
        owner.js.uploadProductFirmware({ product, version, title: `v${version}`, file: application({ product, version }), ...more });
    return { product, upload };
}

test('flash is refused in words', async () => {
    const file = await owner.file('app.bin', application());
    for (const command of [
        ['flash', kelp.id, file, '--cloud'],
        ['flash', kelp.id, file],
        ['cloud', 'flash', 'kelp', file],
        ['cloud', 'flash', kelp.id, join(owner.home, 'work', 'app.bin')],
        ['cloud', 'flash', 'wrack', file],
    ]) {
        const run = await owner.particle(...command);
        run.fails('This server cannot update firmware over the air').withholds('Flash success!', 'logged in');
    }
});

test('flash of the application that comes with the tool is refused in words', async () => {
    const run = await owner.particle('cloud', 'flash', 'kelp', 'tinker');
    run.fails('This server cannot update firmware over the air').withholds('Flash success!');
});

test('flash to a device of somebody else fails', async () => {
    const file = await owner.file('app.bin', application());
    (await owner.particle('cloud', 'flash', site.foreign.id, file)).fails().withholds('Flash success!', 'logged in');
});

test('flash of a device of a product marks it for development, and is refused', async () => {
    const device = site.dulse;
    const product = (await makeProductOf(owner, 'Flashed', device.id)).id;
    const file = await owner.file('app.bin', application({ product, version: 1 }));
    const run = await owner.particle('cloud', 'flash', device.id, file, '--product', product);
    run.fails(`Marking device ${device.id} as a development device`).withholds('Flash success!');
    assert.equal((await owner.js.getDevice({ product, deviceId: device.id })).body.development, true);
});

test('compile for a version that nobody has lists what there is', async () => {
    await mkdir(join(owner.home, 'work', 'proj', 'src'), { recursive: true });
    await owner.file(join('proj', 'project.properties'), 'name=proj\n');
    await owner.file(join('proj', 'src', 'proj.ino'), 'void setup(){}\nvoid loop(){}\n');
    const run = await owner.particle('compile', 'boron', 'proj', '--target', '0.0.1');
    run.fails('Invalid build target version.', 'Valid targets:').withholds('TypeError');
});

test('js: flashing is refused in words', async () => {
    for (const device of [kelp, wrack]) {
        const attempt = owner.js.flashDevice({ deviceId: device.id, files: { 'app.bin': application() } });
        await refused(attempt, 501, /cannot update firmware over the air/);
    }
});

test('js: versions of Device OS are a list, however short', async () => {
    const { body } = await owner.js.listDeviceOsVersions({ platformId: 13, perPage: 5 });
    assert.ok(Array.isArray(body.versions));
    await refused(owner.js.getDeviceOsVersion({ version: '0.0.1', platformId: 13 }), 404);
});

test('js: targets of a compiler are a list, however short', async () => {
    for (const auth of [owner.token, undefined]) {
        const { body } = await owner.program({ auth }).listBuildTargets({ onlyFeatured: true });
        assert.deepEqual([Array.isArray(body.targets), typeof body.platforms, typeof body.default_versions], [true, 'object', 'object']);
    }
});

test('js: firmware of a product is uploaded and described', async () => {
    const { product, upload } = await maker('Uploads');
    const { statusCode, body } = await upload(3, { title: 'Third', description: 'with tides' });
    assert.equal(statusCode, 201);
    assert.deepEqual([body.version, body.title, body.description, body.product_id], [3, 'Third', 'with tides', product]);
    assert.deepEqual([body.size, body.product_default, body.groups], [application().length, false, []]);
    assert.equal(body.uploaded_by.username, owner.email);
    assert.match(body.uploaded_on, ISO);
    const { body: found } = await owner.js.getProductFirmware({ product, version: 3 });
    assert.deepEqual([found.version, found._id, found.title], [3, body._id, 'Third']);
});

test('js: firmware of a product is listed', async () => {
    const { product, upload } = await maker('Lists');
    for (const version of [1, 2]) await upload(version);
    const { body } = await owner.js.listProductFirmware({ product });
    assert.deepEqual(body.map(({ version }) => version).sort(), [1, 2]);
});

test('js: firmware of a product comes back as it was', async () => {
    const { product, upload } = await maker('Downloads');
    await upload(7);
    const bytes = await owner.js.downloadProductFirmware({ product, version: 7 });
    const hash = (content) => createHash('sha256').update(content).digest('hex');
    assert.equal(hash(bytes), hash(application({ product, version: 7 })));
});

test('js: firmware of a product gets another title', async () => {
    const { product, upload } = await maker('Titles');
    await upload(1);
    const { body } = await owner.js.updateProductFirmware({ product, version: 1, title: 'First', description: 'again' });
    assert.deepEqual([body.version, body.title, body.description], [1, 'First', 'again']);
});

test('js: firmware with another number inside is refused', async () => {
    const { product, upload } = await maker('Numbers');
    await refused(upload(2, { file: application({ product, version: 3 }) }), 400, /version/i);
    await refused(upload(2, { file: application({ product: product + 1, version: 2 }) }), 400, /product/i);
    await refused(upload(2, { file: Buffer.from('no firmware') }), 400);
    assert.deepEqual((await owner.js.listProductFirmware({ product })).body, []);
});

test('js: a version is uploaded once', async () => {
    const { upload } = await maker('Twice');
    await upload(1);
    await refused(upload(1), [400, 409]);
});

test('firmware may come in a part that is called binary', async () => {
    const { product } = await maker('Parts');
    const form = new FormData();
    form.append('binary', new Blob([application({ product, version: 4 })]), 'firmware.bin');
    form.append('version', '4');
    form.append('title', 'Fourth');
    form.append('mandatory', 'true');
    const headers = { authorization: `Bearer ${owner.token}` };
    const answer = await fetch(`${site.url}/v1/products/${product}/firmware`, { method: 'POST', headers, body: form });
    assert.equal(answer.status, 201);
    const body = await answer.json();
    assert.deepEqual([body.version, body.title, body.mandatory], [4, 'Fourth', true]);
});

test('js: firmware is released to everybody and to groups', async () => {
    const { product, upload } = await maker('Releases');
    for (const version of [1, 2]) await upload(version);
    const { body } = await owner.js.releaseProductFirmware({ product, version: 1, product_default: true });
    assert.deepEqual([body.version, body.product_default], [1, true]);
    assert.match(body.updated_at, ISO);
    const auth = owner.token;
    await owner.js.post({ uri: `/v1/products/${product}/groups`, data: { name: 'testers' }, auth });
    const released = await owner.js.releaseProductFirmware({ product, version: 2, groups: ['testers'], intelligent: true });
    assert.deepEqual([released.body.groups, released.body.intelligent], [['testers'], true]);
    assert.equal((await owner.js.getProductFirmware({ product, version: 1 })).body.product_default, true);
});

test('js: firmware is removed unless it was released', async () => {
    const { product, upload } = await maker('Removals');
    for (const version of [1, 2]) await upload(version);
    await owner.js.releaseProductFirmware({ product, version: 1, product_default: true });
    const remove = (version) => owner.js.delete({ uri: `/v1/products/${product}/firmware/${version}`, auth: owner.token });
    assert.equal((await remove(2)).statusCode, 204);
    await refused(remove(1), [400, 403, 409]);
    await refused(owner.js.getProductFirmware({ product, version: 2 }), 404);
});

test('js: a device is locked to a version, and let go', async () => {
    const device = { ...site.spare.pop(), name: 'locked' };
    await site.register([device], owner.email);
    const { product, upload } = await maker('Locks');
    await owner.js.addDeviceToProduct({ product, deviceId: device.id });
    await upload(5);
    const locked = await owner.js.lockDeviceProductFirmware({ product, deviceId: device.id, desiredFirmwareVersion: 5 });
    assert.deepEqual([locked.body.id, locked.body.desired_firmware_version], [device.id, 5]);
    const free = await owner.js.unlockDeviceProductFirmware({ product, deviceId: device.id });
    assert.equal(free.body.desired_firmware_version, null);
    await refused(owner.js.lockDeviceProductFirmware({ product, deviceId: device.id, desiredFirmwareVersion: 9 }), [400, 404]);
});

test('js: nobody else sees the firmware of a product', async () => {
    const { product, upload } = await maker('Secrets');
    await upload(1);
    await refused(site.other.js.listProductFirmware({ product }), [403, 404]);
    await refused(site.other.js.getProductFirmware({ product, version: 1 }), [403, 404]);
    await refused(
        site.other.js.uploadProductFirmware({ product, version: 2, title: 'x', file: application({ product, version: 2 }) }),
        [403, 404],
    );
});
