// The team of a product: people, and API users that may do some things and nothing else.

import assert from 'node:assert/strict';

import { openProduct } from './harness/products.mjs';
import { open, refused } from './harness/test.mjs';

const { site, test } = await open();
const { owner, other, kelp, dulse } = site;
const { product: crewed, inProduct } = await openProduct({ test }, owner, 'Crewed', kelp.id);
const product = crewed.id;
const TEAM = `/v1/products/${product}/team`;

/** A new API user with these scopes: its name, token and program. */
async function apiUser(friendly_name, ...scopes) {
    const { body } = await owner.js.post({ uri: TEAM, data: { friendly_name, scopes }, auth: owner.token });
    assert.equal(body.ok, true);
    const { username, is_programmatic, tokens } = body.created;
    assert.deepEqual([is_programmatic, tokens.length], [true, 1]);
    return { username, token: tokens[0].token, js: owner.program({ auth: tokens[0].token }) };
}

inProduct('js: the team begins with the owner', async () => {
    const { body } = await owner.js.listTeamMembers({ product });
    assert.equal(body.ok, true);
    assert.ok(body.team.some(({ username }) => username === owner.email));
});

inProduct('js: who is invited belongs to the team, and may be removed', async () => {
    const { body } = await owner.js.inviteTeamMember({ product, username: other.email });
    assert.deepEqual([body.ok, body.invited.username], [true, other.email]);
    const members = async () => (await owner.js.listTeamMembers({ product })).body.team.map(({ username }) => username);
    assert.ok((await members()).includes(other.email));
    assert.equal((await owner.js.removeTeamMember({ product, username: other.email })).body.ok, true);
    assert.ok(!(await members()).includes(other.email));
    await refused(other.js.getProduct({ product }), [403, 404]);
});

inProduct('js: an API user does what it may', async () => {
    const robot = await apiUser('Tide Robot', 'devices:list', 'devices:get', 'devices.variable:get', 'events:get');
    assert.match(robot.username, /^tide-robot\+\S+@api\.\S+$/);
    const { body } = await robot.js.listDevices({ product });
    assert.deepEqual(
        body.devices.map(({ id }) => id),
        [kelp.id],
    );
    assert.equal((await robot.js.getVariable({ product, deviceId: kelp.id, name: 'count' })).body.result, 7);
});

inProduct('js: an API user does nothing else', async () => {
    const robot = await apiUser('Reader', 'devices:list');
    const call = robot.js.callFunction({ product, deviceId: kelp.id, name: 'double', argument: '1' });
    const error = await refused(call, [400, 403]);
    assert.doesNotMatch(String(error.body.error_description), /access token/i);
    await refused(robot.js.getDevice({ deviceId: dulse.id }), [400, 403]);
    await refused(robot.js.deleteUser({ password: 'x' }), [400, 403]);
});

inProduct('js: an API user is listed with its scopes and without its token', async () => {
    const robot = await apiUser('Listed', 'devices:list');
    const { team } = (await owner.js.listTeamMembers({ product })).body;
    const [member] = team.filter(({ username }) => username === robot.username);
    assert.deepEqual([member.is_programmatic, member.scopes], [true, ['devices:list']]);
    assert.ok(!JSON.stringify(team).includes(robot.token));
});

inProduct('js: other scopes come with another token', async () => {
    const robot = await apiUser('Grows', 'devices:list');
    const uri = `${TEAM}/${encodeURIComponent(robot.username)}`;
    const { body } = await owner.js.put({
        uri,
        data: { friendly_name: 'Grows', scopes: ['devices:list', 'devices.function:call'] },
        auth: owner.token,
    });
    assert.equal(body.ok, true);
    await refused(robot.js.listDevices({ product }), 401, /invalid_token/);
    const [{ token }] = (body.updated ?? body.created).tokens;
    const { return_value } = (await owner.js.callFunction({ product, deviceId: kelp.id, name: 'double', argument: '5', auth: token })).body;
    assert.equal(return_value, 10);
});

inProduct('js: an API user that is removed can do nothing more', async () => {
    const robot = await apiUser('Leaves', 'devices:list');
    assert.equal((await owner.js.removeTeamMember({ product, username: encodeURIComponent(robot.username) })).body.ok, true);
    await refused(robot.js.listDevices({ product }), 401, /invalid_token/);
});

inProduct('js: a scope that does not exist is refused', async () => {
    const data = { friendly_name: 'Odd', scopes: ['devices:fly'] };
    await refused(owner.js.post({ uri: TEAM, data, auth: owner.token }), 400);
});

inProduct('js: nobody logs in as an API user', async () => {
    const robot = await apiUser('No Door', 'devices:list');
    await refused(owner.js.login({ username: robot.username, password: '' }), 400);
    await refused(owner.js.login({ username: robot.username, password: owner.password }), 400, /invalid_grant/);
});

inProduct('js: nobody else changes the team', async () => {
    await refused(other.js.listTeamMembers({ product }), [403, 404]);
    await refused(other.js.inviteTeamMember({ product, username: other.email }), [403, 404]);
    await refused(other.js.removeTeamMember({ product, username: owner.email }), [403, 404]);
});
