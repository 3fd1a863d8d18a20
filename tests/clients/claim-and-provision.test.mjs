// Devices come to an account: by their id, by a claim code, and with a key of their own.

import assert from 'node:assert/strict';
import { generateKeyPairSync } from 'node:crypto';

import { open, refused } from './harness/test.mjs';

const { site, test } = await open();
const { owner } = site;
const UNKNOWN = '0123456789abcdef01234567';

/** A device that is registered and belongs to nobody. */
async function stray() {
    const device = site.spare.pop();
    await site.register([device]);
    return device;
}

/** Public keys as PEM: of a device on UDP, and of one on TCP. */
function publicKey(kind) {
    const options = kind === 'ec' ? { namedCurve: 'prime256v1' } : { modulusLength: 1024 };
    return generateKeyPairSync(kind, options).publicKey.export({ type: 'spki', format: 'pem' });
}

/** An id that no device has. */
function newId(number) {
    return `e00fce68fedcba98000000${number.toString(16).padStart(2, '0')}`;
}

test('device add claims a device of nobody', async () => {
    const person = await site.person();
    const { id } = await stray();
    (await person.particle('device', 'add', id)).succeeds(`Claiming device ${id}`, `Successfully claimed device ${id}`);
    (await person.particle('list')).succeeds(id);
});

test('cloud claim takes an id in capitals', async () => {
    const person = await site.person();
    const { id } = await stray();
    (await person.particle('cloud', 'claim', id.toUpperCase())).succeeds('Successfully claimed device');
    assert.deepEqual(
        (await person.js.listDevices({})).body.map((device) => device.id),
        [id],
    );
});

test('a device that is already mine stays mine', async () => {
    (await owner.particle('device', 'add', site.wrack.id)).succeeds(`Successfully claimed device ${site.wrack.id}`);
    assert.equal((await owner.js.getDevice({ deviceId: site.wrack.id })).body.name, 'wrack');
});

test('a device that was removed can be claimed by somebody else', async () => {
    const [first, second] = [await site.person(), await site.person()];
    const { id } = await stray();
    (await first.particle('device', 'add', id)).succeeds();
    (await first.particle('device', 'remove', id, '--yes')).succeeds('Okay!');
    (await second.particle('device', 'add', id)).succeeds(`Successfully claimed device ${id}`);
    await refused(first.js.getDevice({ deviceId: id }), 403);
});

test('a device that does not exist cannot be claimed', async () => {
    (await owner.particle('device', 'add', UNKNOWN)).fails('Failed to claim device: device does not exist').withholds('logged in');
});

test('for a device of somebody else a transfer is offered', async () => {
    const run = await owner.particle('device', 'add', site.foreign.id, { input: 'y\n' });
    run.succeeds('That device belongs to someone else. Would you like to request a transfer?', 'Transfer requested.');
    (await site.other.particle('list')).succeeds(site.foreign.id);
});

test('nobody has to ask for a transfer', async () => {
    const run = await owner.particle('device', 'add', site.foreign.id, { input: 'n\n' });
    run.fails('Failed to claim device: You cannot claim a device owned by someone else');
});

test('js: claiming tells whose the device is now', async () => {
    const person = await site.person();
    const { id } = await stray();
    const { body } = await person.js.claimDevice({ deviceId: id });
    assert.deepEqual([body.ok, body.id, typeof body.user_id, body.connected], [true, id, 'string', false]);
});

test('js: claiming what belongs to somebody else is refused in the agreed words', async () => {
    const error = await refused(owner.js.claimDevice({ deviceId: site.foreign.id }), 403);
    assert.match(error.body.error, /belongs to someone else/);
});

test('js: asking for a transfer tells its number', async () => {
    const { body } = await owner.js.claimDevice({ deviceId: site.foreign.id, requestTransfer: true });
    assert.deepEqual([body.ok, typeof body.transfer_id], [true, 'string']);
});

test('js: a claim code is long, and comes with what is owned', async () => {
    const { body } = await owner.js.getClaimCode({});
    assert.match(body.claim_code, /^[A-Za-z0-9+/=_-]{63}$/);
    assert.deepEqual([...body.device_ids].sort(), [site.kelp, site.dulse, site.reef, site.wrack].map(({ id }) => id).sort());
});

test('keys send registers a device with its key, of either kind, while the operator lets people', async () => {
    const person = await site.person();
    await site.holdfast(['device', 'pair', '--for', person.email]);
    for (const [kind, id] of [
        ['ec', newId(1)],
        ['rsa', newId(2)],
    ]) {
        const file = await person.file(`${id}.pub.pem`, publicKey(kind));
        const run = await person.particle('keys', 'send', id, file);
        run.succeeds(`attempting to add a new public key for device ${id}`, 'submitting public key succeeded!');
        (await person.particle('device', 'add', id)).succeeds(`Successfully claimed device ${id}`);
        (await person.particle('list')).succeeds(id);
    }
});

test('keys send gives a device of mine another key', async () => {
    const file = await owner.file('new.pub.pem', publicKey('ec'));
    (await owner.particle('keys', 'send', site.wrack.id.toUpperCase(), file)).succeeds('submitting public key succeeded!');
    assert.equal((await owner.js.getDevice({ deviceId: site.wrack.id })).body.name, 'wrack');
});

test('keys send for a device of somebody else fails and logs nobody out', async () => {
    const file = await owner.file('theirs.pub.pem', publicKey('ec'));
    (await owner.particle('keys', 'send', site.foreign.id, file)).fails('Error sending public key to server').withholds('logged in');
    assert.equal((await owner.settings()).access_token, owner.token);
});

test('js: a public key is sent', async () => {
    const unknown = { deviceId: newId(3), key: publicKey('ec'), algorithm: 'ecc' };
    await refused(site.other.js.sendPublicKey(unknown), 403);
    await site.holdfast(['device', 'pair', '--for', owner.email]);
    const answer = await owner.js.sendPublicKey({ deviceId: newId(3), key: publicKey('ec'), algorithm: 'ecc' });
    assert.equal(answer.statusCode, 200);
});

test('js: what is no public key is refused', async () => {
    const key = '-----BEGIN PUBLIC KEY-----\nAA\n-----END PUBLIC KEY-----\n';
    await refused(owner.js.sendPublicKey({ deviceId: newId(4), key, algorithm: 'ecc' }), 400, /key/i);
});

test('js: the key of a device of somebody else is not changed', async () => {
    await refused(owner.js.sendPublicKey({ deviceId: site.foreign.id, key: publicKey('ec'), algorithm: 'ecc' }), 403);
});

test('js: unprotecting a device is refused in words', async () => {
    await refused(owner.js.unprotectDevice({ deviceId: site.kelp.id, action: 'prepare' }), 501, /.+/);
});
