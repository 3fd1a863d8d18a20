// Functions are called and variables are read, on devices of both kinds.

import assert from 'node:assert/strict';

import { open, refused } from './harness/test.mjs';

const { site, test } = await open();
const { owner, kelp, dulse, reef } = site;

test('call prints what the function returns', async () => {
    assert.equal((await owner.particle('call', kelp.id, 'double', '21')).succeeds().text.trim(), '42');
    assert.equal((await owner.particle('function', 'call', 'reef', 'length', 'tide')).succeeds().text.trim(), '4');
    assert.equal((await owner.particle('call', 'kelp', 'double', '--', '-7')).succeeds().text.trim(), '-14');
});

test('call without an argument passes an empty one', async () => {
    assert.equal((await owner.particle('call', 'kelp', 'length')).succeeds().text.trim(), '0');
});

test('call passes blanks and letters of any language', async () => {
    // Bytes are counted: é and the wave have two and four.
    assert.equal((await owner.particle('call', 'kelp', 'length', 'é 🌊')).succeeds().text.trim(), '7');
});

test('call of a function that the device does not have', async () => {
    (await owner.particle('call', 'kelp', 'nope', 'x')).fails('Function call failed: Function `nope` not found');
});

test('call to a device that is offline', async () => {
    (await owner.particle('call', 'wrack', 'double', '1')).fails('Timed out.').withholds('not found', 'logged in');
});

test('call to a device of somebody else', async () => {
    (await owner.particle('call', site.foreign.id, 'double', '1')).fails('Permission Denied').withholds('not found', 'logged in');
});

test('function list shows the functions of what is online', async () => {
    const run = (await owner.particle('function', 'list')).succeeds('polling server to see what devices are online');
    run.succeeds(`kelp [${kelp.id}] (Boron) is online`, '  Functions:', 'int double (String args)', 'wrack').withholds('Variables:');
});

test('get prints what the variable holds', async () => {
    for (const [variable, value] of [
        ['temperature', '21.5'],
        ['count', '7'],
        ['place', 'bench'],
    ]) {
        assert.equal((await owner.particle('get', kelp.id, variable)).succeeds().text.trim(), value);
        assert.equal((await owner.particle('variable', 'get', 'reef', variable)).succeeds().text.trim(), value);
    }
});

test('variable get tells the time', async () => {
    (await owner.particle('variable', 'get', 'kelp', 'count', '--time')).succeeds(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\S*, 7$/m);
});

test('variable get from all devices that have it', async () => {
    const run = await owner.particle('variable', 'get', 'all', 'count');
    run.succeeds(...[kelp, dulse, reef].map(({ id }) => `${id}, 7`)).withholds(site.wrack.id);
});

test('variable list shows the variables of what is online', async () => {
    const run = (await owner.particle('variable', 'list')).succeeds('polling server to see what devices are online');
    run.succeeds(`reef [${reef.id}] (Photon) is online`, '  Variables:', 'temperature (double)').withholds('Functions:');
});

test('variable monitor reads again and again', async () => {
    const mark = site.recorder.mark();
    const monitor = owner.begin('variable', 'monitor', 'kelp', 'count', '--delay', '500');
    await monitor.says('Hit CTRL-C to stop!');
    await monitor.says('7\n7\n7\n');
    await monitor.stop();
    const reads = site.recorder.since(mark).filter(({ url, status }) => url === '/v1/devices/kelp/count' && status === 200);
    assert.ok(reads.length >= 3);
});

test('get of a variable that the device does not have', async () => {
    (await owner.particle('get', 'kelp', 'nope')).fails('Error: Variable not found', 'Some variables could not be read');
});

test('get from a device that is offline', async () => {
    (await owner.particle('get', 'wrack', 'count')).fails('Error: Timed out.', 'Some variables could not be read').withholds('logged in');
});

test('get from a device of somebody else', async () => {
    (await owner.particle('get', site.foreign.id, 'count')).fails('Error: Permission Denied').withholds('logged in');
});

test('js: a call is answered with the device and the value', async () => {
    const { body } = await owner.js.callFunction({ deviceId: 'kelp', name: 'double', argument: '8' });
    assert.deepEqual([body.id, body.name, body.connected, body.return_value], [kelp.id, 'kelp', true, 16]);
    assert.equal((await owner.js.callFunction({ deviceId: reef.id, name: 'length' })).body.return_value, 0);
});

test('js: a call to a function that is missing is the only 404', async () => {
    const call = (deviceId, name) => owner.js.callFunction({ deviceId, name, argument: '1' });
    await refused(call('kelp', 'nope'), 404, /Function nope not found/);
    await refused(call('wrack', 'double'), [400, 408], /Timed out\./);
    await refused(call(site.foreign.id, 'double'), 403, /Permission Denied/);
});

test('js: a variable comes with its type and its device', async () => {
    const { body } = await owner.js.getVariable({ deviceId: kelp.id, name: 'temperature' });
    assert.deepEqual([body.cmd, body.name, body.result], ['VarReturn', 'temperature', 21.5]);
    assert.deepEqual([body.coreInfo.deviceID, body.coreInfo.name, body.coreInfo.connected], [kelp.id, 'kelp', true]);
    assert.equal((await owner.js.getVariable({ deviceId: 'reef', name: 'place' })).body.result, 'bench');
    assert.equal((await owner.js.getVariable({ deviceId: 'reef', name: 'count' })).body.result, 7);
});

test('js: a variable that cannot be read', async () => {
    const read = (deviceId, name) => owner.js.getVariable({ deviceId, name });
    await refused(read('kelp', 'nope'), 404, /Variable not found/);
    await refused(read('wrack', 'count'), 408, /Timed out\./);
    await refused(read(site.foreign.id, 'count'), 403, /Permission Denied/);
});
