// Devices: list, look, name, signal, ping, remove.

import assert from 'node:assert/strict';

import { open, refused } from './harness/test.mjs';

const { site, test } = await open();
const { owner, kelp, dulse, reef, wrack } = site;
const UNKNOWN = '0'.repeat(24);
const ISO = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/;

/** Somebody new with one device, which is not online. */
async function personWithDevice(name) {
    const person = await site.person();
    const device = { ...site.spare.pop(), name };
    await site.register([device], person.email);
    return { person, device };
}

test('list shows what is online, with functions and variables, and what is not', async () => {
    const run = await owner.particle('list');
    run.succeeds(`kelp [${kelp.id}] (Boron) is online`, `reef [${reef.id}] (Photon) is online`, `wrack [${wrack.id}] (Boron) is offline`);
    run.succeeds('  Variables:', 'temperature (double)', 'count (int32)', 'place (string)');
    run.succeeds('  Functions:', 'int double (String args)', 'int length (String args)');
});

test('list shows only what is asked for', async () => {
    (await owner.particle('list', 'online')).succeeds(kelp.id, dulse.id, reef.id).withholds(wrack.id);
    (await owner.particle('list', 'offline')).succeeds(wrack.id).withholds(kelp.id);
    (await owner.particle('list', 'photon')).succeeds(reef.id).withholds(kelp.id);
    (await owner.particle('list', 'kelp')).succeeds(kelp.id).withholds(dulse.id);
    (await owner.particle('cloud', 'list', dulse.id)).succeeds('dulse').withholds(kelp.id);
});

test('list shows nothing of others', async () => {
    (await site.other.particle('list')).succeeds('foreign').withholds(kelp.id);
    (await (await site.person()).particle('list')).succeeds('No devices found.');
});

test('a device is renamed by its id and by its name', async () => {
    const byId = await owner.particle('device', 'rename', wrack.id, 'bladder');
    byId.succeeds(`Renaming device ${wrack.id}`, `Successfully renamed device ${wrack.id} to: bladder`);
    (await owner.particle('list', 'bladder')).succeeds(`bladder [${wrack.id}]`);
    (await owner.particle('cloud', 'name', 'bladder', 'wrack')).succeeds('Successfully renamed device bladder to: wrack');
    assert.equal((await owner.js.getDevice({ deviceId: wrack.id })).body.name, 'wrack');
});

test('a name may have blanks and capitals, and stays as it is', async () => {
    const name = 'Kelp of the North';
    (await owner.particle('device', 'rename', dulse.id, name)).succeeds(`to: ${name}`);
    assert.equal((await owner.js.getDevice({ deviceId: dulse.id })).body.name, name);
    (await owner.particle('call', name, 'double', '4')).succeeds('8');
    (await owner.particle('get', name, 'place')).succeeds('bench');
    const { body } = await owner.js.renameDevice({ deviceId: name, name: 'dulse' });
    assert.deepEqual([body.id, body.name], [dulse.id, 'dulse']);
});

test('a name that is taken is refused', async () => {
    (await owner.particle('device', 'rename', wrack.id, 'kelp')).fails(/name.*(in use|taken|already)/i).withholds('logged in');
});

test('a device of somebody else cannot be renamed, and is not told apart from none', async () => {
    for (const device of [site.foreign.id, UNKNOWN, 'nothing-of-that-name']) {
        (await owner.particle('device', 'rename', device, 'mine')).fails('Permission Denied').withholds('logged in');
    }
});

test('nyan lets a device signal', async () => {
    for (const device of [kelp.id, 'kelp', 'reef']) {
        (await owner.particle('nyan', device, 'on')).succeeds();
        (await owner.particle('cloud', 'nyan', device, 'off')).succeeds();
    }
});

test('nyan for a device that is offline fails', async () => {
    (await owner.particle('nyan', 'wrack', 'on')).fails("Timed out, didn't hear back from device service");
});

test('a device that is removed is gone from the list', async () => {
    const { person, device } = await personWithDevice('flotsam');
    (await person.particle('device', 'remove', 'flotsam', '--yes')).succeeds('releasing device flotsam', 'Okay!');
    (await person.particle('list')).succeeds('No devices found.').withholds(device.id);
});

test('removing a device asks first', async () => {
    const { person, device } = await personWithDevice('jetsam');
    (await person.particle('cloud', 'remove', device.id, { input: 'n\n' })).fails('Not confirmed');
    (await person.particle('cloud', 'remove', device.id, { input: 'y\n' })).succeeds('Okay!');
    assert.deepEqual((await person.js.listDevices({})).body, []);
});

test('a device of somebody else cannot be removed', async () => {
    (await owner.particle('device', 'remove', site.foreign.id, '--yes')).fails('Permission Denied').withholds('logged in');
    (await site.other.particle('list')).succeeds(site.foreign.id);
});

test('js: a device that is online is described in full', async () => {
    const { body } = await owner.js.getDevice({ deviceId: kelp.id });
    assert.deepEqual([body.id, body.name, body.connected, body.online], [kelp.id, 'kelp', true, true]);
    assert.deepEqual([body.platform_id, body.product_id, body.cellular, body.status], [13, 13, true, 'normal']);
    assert.deepEqual([...body.functions].sort(), ['double', 'length']);
    assert.deepEqual(body.variables, { count: 'int32', place: 'string', temperature: 'double' });
    for (const time of [body.last_heard, body.last_handshake_at]) assert.match(time, ISO);
    assert.equal(body.last_ip_address, '127.1.0.1');
});

test('js: a device is found by its id in capitals and by its name', async () => {
    for (const deviceId of [kelp.id.toUpperCase(), 'kelp']) {
        assert.equal((await owner.js.getDevice({ deviceId })).body.id, kelp.id);
    }
});

test('js: a device that was never online is described too', async () => {
    const { body } = await owner.js.getDevice({ deviceId: wrack.id });
    assert.deepEqual([body.connected, body.online, body.functions, body.variables], [false, false, null, null]);
});

test('js: a device that is not mine is refused with a hint', async () => {
    const { body } = await refused(owner.js.getDevice({ deviceId: site.foreign.id }), 403);
    assert.equal(body.error, 'Permission Denied');
    assert.match(body.info, /^I didn't recognize that device name or ID/);
});

test('js: renaming answers with the name', async () => {
    const { body } = await owner.js.renameDevice({ deviceId: 'wrack', name: 'wrack' });
    assert.deepEqual([body.id, body.name], [wrack.id, 'wrack']);
    assert.match(body.updated_at, ISO);
});

test('js: a device signals, and stops', async () => {
    for (const signal of [true, false]) {
        const { body } = await owner.js.signalDevice({ deviceId: kelp.id, signal });
        assert.deepEqual([body.id, body.connected, body.signaling], [kelp.id, true, signal]);
    }
});

test('js: notes are kept', async () => {
    const { body } = await owner.js.setDeviceNotes({ deviceId: kelp.id, notes: 'by the pier, 3 m deep' });
    assert.deepEqual([body.id, body.notes], [kelp.id, 'by the pier, 3 m deep']);
    assert.match(body.updated_at, ISO);
    assert.equal((await owner.js.getDevice({ deviceId: 'kelp' })).body.notes, 'by the pier, 3 m deep');
});

test('js: several things are changed at once', async () => {
    const { body } = await owner.js.updateDevice({ deviceId: wrack.id, name: 'wrack', notes: 'lost' });
    assert.deepEqual([body.id, body.name, body.notes], [wrack.id, 'wrack', 'lost']);
});

test('js: a change that changes nothing is refused', async () => {
    const { body } = await refused(owner.js.put({ uri: `/v1/devices/${kelp.id}`, data: { colour: 'green' }, auth: owner.token }), 400);
    assert.deepEqual([body.ok, body.errors], [false, [{ error: 'Nothing to do?' }]]);
});

test('js: updates can be forced', async () => {
    const data = { firmware_updates_forced: true };
    const { body } = await owner.js.put({ uri: `/v1/devices/${kelp.id}`, data, auth: owner.token });
    assert.deepEqual([body.id, body.firmware_updates_forced], [kelp.id, true]);
    assert.equal((await owner.js.getDevice({ deviceId: kelp.id })).body.firmware_updates_forced, true);
});

test('js: a ping asks the device', async () => {
    const ping = async (device) => (await owner.js.put({ uri: `/v1/devices/${device}/ping`, data: {}, auth: owner.token })).body;
    for (const device of [kelp.id, 'reef']) assert.deepEqual(await ping(device), { online: true, ok: true });
    assert.deepEqual(await ping('wrack'), { online: false, ok: true });
});

test('js: removing a device is answered with ok', async () => {
    const { person, device } = await personWithDevice('driftwood');
    assert.equal((await person.js.removeDevice({ deviceId: device.id })).body.ok, true);
    await refused(person.js.getDevice({ deviceId: device.id }), 403, /Permission Denied/);
});
