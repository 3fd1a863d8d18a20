// The older line of the command line tool, which speaks HTTP in its own way for logins, lists, variables, webhooks and keys.

import assert from 'node:assert/strict';
import { generateKeyPairSync } from 'node:crypto';

import { application } from './harness/firmware.mjs';
import { open, refused } from './harness/test.mjs';

const { site, test } = await open();
const { owner, kelp, reef, wrack } = site;
const TARGET = 'https://hooks.example.com/tide';
const TOKEN = /\b[0-9a-f]{40}\b/;

test('older: login sends a stale header along and works', async () => {
    const guest = await site.stranger();
    const mark = site.recorder.mark();
    (await guest.older('login', '-u', guest.email, '-p', guest.password)).succeeds('Successfully completed login!');
    const [login] = site.recorder.since(mark);
    assert.deepEqual([login.url, login.auth], ['/oauth/token', 'Bearer'], 'this is what makes it older');
    assert.match((await guest.settings()).access_token, TOKEN);
});

test('older: login with a wrong password', async () => {
    const guest = await site.stranger();
    (await guest.older('login', '-u', guest.email, '-p', 'wrong')).fails('trouble with logging in');
});

test('older: whoami', async () => {
    (await owner.older('whoami')).succeeds(owner.email);
});

test('older: logout ends the token', async () => {
    const guest = await site.person();
    (await guest.older('logout')).succeeds(/logged out/);
    await refused(guest.js.getUserInfo({}), 401, /invalid_token/);
});

test('older: list', async () => {
    const run = await owner.older('list');
    run.succeeds(`kelp [${kelp.id}] (Boron) is online`, `reef [${reef.id}] (Photon) is online`, `wrack [${wrack.id}] (Boron) is offline`);
    run.succeeds('temperature (double)', 'int double (String args)');
});

test('older: list with a token that was revoked', async () => {
    const guest = await site.person();
    await guest.js.deleteCurrentAccessToken({});
    (await guest.older('list')).fails(/log ?in|invalid/i);
});

test('older: call', async () => {
    assert.equal((await owner.older('call', kelp.id, 'double', '21')).succeeds().text.trim(), '42');
    assert.equal((await owner.older('call', 'reef', 'length')).succeeds().text.trim(), '0');
    (await owner.older('call', 'kelp', 'nope', 'x')).fails('Function `nope` not found');
});

test('older: get', async () => {
    for (const device of [kelp.id, 'reef']) {
        assert.equal((await owner.older('get', device, 'temperature')).succeeds().text.trim(), '21.5');
    }
    (await owner.older('get', 'kelp', 'nope')).fails(/Variable not found/);
});

test('older: variable list', async () => {
    (await owner.older('variable', 'list')).succeeds(`kelp [${kelp.id}] (Boron) is online`, 'place (string)');
});

test('older: publish calls events private', async () => {
    (await owner.older('publish', 'tide', 'high')).succeeds('Published private event: tide');
});

test('older: subscribe', async () => {
    const run = await owner.older('subscribe', 'fleet', '--max', '1');
    run.succeeds('Subscribing to "fleet" from my devices', '"name":"fleet/count"', '1 event(s) received. Exiting...');
});

test('older: device rename', async () => {
    (await owner.older('device', 'rename', wrack.id, 'Wrack 2')).succeeds(`Successfully renamed device ${wrack.id} to: Wrack 2`);
    (await owner.older('cloud', 'name', 'Wrack 2', 'wrack')).succeeds('Successfully renamed device Wrack 2 to: wrack');
    (await owner.older('device', 'rename', site.foreign.id, 'mine')).fails('Permission Denied');
});

test('older: nyan', async () => {
    (await owner.older('nyan', 'kelp', 'on')).succeeds();
    (await owner.older('nyan', kelp.id, 'off')).succeeds();
});

test('older: device add and remove', async () => {
    const guest = await site.person();
    const device = site.spare.pop();
    await site.register([device]);
    (await guest.older('device', 'add', device.id)).succeeds(`Successfully claimed device ${device.id}`);
    (await guest.older('list')).succeeds(device.id);
    (await guest.older('device', 'remove', device.id, '--yes')).succeeds('Okay!');
    (await guest.older('list')).withholds(device.id);
});

test('older: webhook create, list and delete', async () => {
    const guest = await site.person();
    (await guest.older('webhook', 'create', 'tide', TARGET)).succeeds('Successfully created webhook with ID');
    const [{ id }] = (await guest.js.listWebhooks({})).body;
    const list = await guest.older('webhook', 'list');
    list.succeeds('Found 1 hooks registered', `Hook ID ${id} is watching for "tide"`, `and sending to: ${TARGET}`);
    (await guest.older('webhook', 'delete', id)).succeeds('Successfully deleted webhook!');
    (await guest.older('webhook', 'list')).succeeds('Found 0 hooks registered');
});

test('older: webhook create for one device', async () => {
    const guest = await site.person();
    (await guest.older('webhook', 'create', 'tide', TARGET, kelp.id)).succeeds('Successfully created webhook with ID');
    (await guest.older('webhook', 'list')).succeeds(`for device ${kelp.id}`);
});

test('older: keys send', async () => {
    const id = 'e00fce68fedcba9800000099';
    const key = generateKeyPairSync('ec', { namedCurve: 'prime256v1' }).publicKey.export({ type: 'spki', format: 'pem' });
    const file = await owner.file('older.pub.pem', key);
    await site.holdfast(['device', 'pair', '--for', owner.email]);
    (await owner.older('keys', 'send', id, file)).succeeds('submitting public key succeeded!');
});

test('older: cloud flash', async () => {
    const file = await owner.file('older.bin', application());
    (await owner.older('cloud', 'flash', kelp.id, file)).fails().withholds('Flash success!');
});

test('older: token create and revoke', async () => {
    const run = (await owner.older('token', 'create', { input: `${owner.password}\n` })).succeeds(TOKEN);
    const auth = TOKEN.exec(run.text)[0];
    const program = owner.program({ auth });
    assert.equal((await program.getUserInfo({})).body.username, owner.email);
    (await owner.older('token', 'revoke', auth)).succeeds('Successfully revoked all provided tokens');
    await refused(program.getUserInfo({}), 401, /invalid_token/);
});
