// Access tokens, and the OAuth clients that get some by themselves.

import assert from 'node:assert/strict';

import { makeProduct } from './harness/products.mjs';
import { open, refused } from './harness/test.mjs';

const { site, test } = await open();
const TOKEN = /\b[0-9a-f]{40}\b/;

/** Types `particle token create`, and the password when it is asked for. */
function createToken(person, ...options) {
    return person.particle('token', 'create', ...options, { input: `${person.password}\n` });
}

/** How long the token is good that a command has told, in seconds. */
function told_s(run) {
    return (new Date(/expires on (.*)/.exec(run.text)[1]) - Date.now()) / 1000;
}

function basic(user, password) {
    return { authorization: `Basic ${Buffer.from(`${user}:${password}`).toString('base64')}` };
}

test('token create asks for the password and tells a token that works', async () => {
    const run = (await createToken(site.owner)).succeeds('New access token expires on', TOKEN);
    const program = site.owner.program({ auth: TOKEN.exec(run.text)[0] });
    assert.equal((await program.getUserInfo({})).body.username, site.owner.email);
});

test('token create with a lifetime', async () => {
    const run = (await createToken(site.owner, '--expires-in', '3600')).succeeds(TOKEN);
    assert.ok(Math.abs(told_s(run) - 3600) < 120, run.text);
});

test('token create without an end', async () => {
    const run = (await createToken(site.owner, '--never-expires')).succeeds('New access token never expires', TOKEN);
    const auth = TOKEN.exec(run.text)[0];
    const { body } = await site.owner.js.get({ uri: '/v1/access_tokens/current', auth });
    assert.equal(body.expires_at, null);
});

test('token create with a wrong password', async () => {
    const run = await site.owner.particle('token', 'create', { input: 'wrong\n' });
    run.fails('User credentials are invalid').withholds(TOKEN);
});

test('token revoke ends a token', async () => {
    const { token, js } = await site.again(site.owner.email);
    (await site.owner.particle('token', 'revoke', token)).succeeds('Successfully revoked all provided tokens');
    await refused(js.getUserInfo({}), 401, /invalid_token/);
});

test('token revoke of something that is no token says so', async () => {
    (await site.owner.particle('token', 'revoke', 'f'.repeat(40))).says('Failed to revoke').withholds('Successfully');
});

test('token revoke wants to be sure before it ends its own token', async () => {
    const guest = await site.person();
    (await guest.particle('token', 'revoke', guest.token)).says('use --force to delete it').withholds('Successfully');
    (await guest.particle('token', 'revoke', guest.token, '--force')).succeeds('**forcing**', 'Successfully revoked all provided tokens');
    await refused(guest.js.getUserInfo({}), 401, /invalid_token/);
});

test('js: who knows a token may end it without any other proof', async () => {
    const guest = await site.person();
    assert.equal((await guest.program({ auth: undefined }).deleteAccessToken({ token: guest.token })).body.ok, true);
    await refused(guest.js.getUserInfo({}), 401, /invalid_token/);
});

test('js: a program may end its own token', async () => {
    const guest = await site.person();
    assert.equal((await guest.js.deleteCurrentAccessToken({})).body.ok, true);
    await refused(guest.js.getUserInfo({}), 401, /invalid_token/);
});

test('js: the current token is described', async () => {
    const { body } = await site.owner.js.get({ uri: '/v1/access_tokens/current', auth: site.owner.token });
    assert.ok(new Date(body.expires_at) > new Date());
    assert.deepEqual([body.client, body.client_id], ['particle-api', 'particle-api']);
    assert.deepEqual([Array.isArray(body.scopes), body.orgs], [true, []]);
});

test('tokens are listed for who gives the password', async () => {
    const list = (user, password) => fetch(`${site.url}/v1/access_tokens`, { headers: basic(user, password) });
    const tokens = await (await list(site.owner.email, site.owner.password)).json();
    assert.ok(Array.isArray(tokens) && tokens.length > 0);
    for (const token of tokens) {
        assert.deepEqual([typeof token.token, typeof token.client, 'expires_at' in token], ['string', 'string', true]);
    }
    const wrong = await list(site.owner.email, 'wrong');
    assert.deepEqual([wrong.status, await wrong.json()], [401, { ok: false, errors: ['Bad password'] }]);
    const unknown = await list('nobody@example.com', 'wrong');
    assert.deepEqual([unknown.status, await unknown.json()], [400, { ok: false, errors: ['Unknown user'] }]);
});

test('a token is revoked with the password as well', async () => {
    const guest = await site.person();
    const revoke = (password) =>
        fetch(`${site.url}/v1/access_tokens/${guest.token}`, { method: 'DELETE', headers: basic(guest.email, password) });
    assert.equal((await revoke('wrong')).status, 401);
    const answer = await revoke(guest.password);
    assert.deepEqual([answer.status, await answer.json()], [200, { ok: true }]);
});

test('a refresh token is changed for a new token', async () => {
    const { body } = await site.owner.js.login({ username: site.owner.email, password: site.owner.password });
    const form = { grant_type: 'refresh_token', refresh_token: body.refresh_token, client_id: 'particle', client_secret: 'particle' };
    const answer = await fetch(`${site.url}/oauth/token`, { method: 'POST', body: new URLSearchParams(form) });
    assert.equal(answer.status, 200);
    const fresh = await answer.json();
    assert.deepEqual([fresh.token_type, typeof fresh.expires_in], ['bearer', 'number']);
    const program = site.owner.program({ auth: fresh.access_token });
    assert.equal((await program.getUserInfo({})).body.username, site.owner.email);
});

test('js: OAuth clients are created, listed, renamed and removed', async () => {
    const { js } = site.owner;
    const { ok, client } = (await js.createOAuthClient({ name: 'Tide Table', type: 'installed' })).body;
    assert.equal(ok, true);
    assert.match(client.id, /^tide-table-\d+$/);
    assert.deepEqual([client.name, client.type, typeof client.secret], ['Tide Table', 'installed', 'string']);
    const listed = async () => (await js.listOAuthClients({})).body;
    const [seen] = (await listed()).clients.filter(({ id }) => id === client.id);
    assert.deepEqual([(await listed()).ok, seen.name, seen.type, seen.secret], [true, 'Tide Table', 'installed', undefined]);
    await js.updateOAuthClient({ clientId: client.id, name: 'Tide Chart' });
    assert.ok((await listed()).clients.some(({ id, name }) => id === client.id && name === 'Tide Chart'));
    assert.equal((await js.deleteOAuthClient({ clientId: client.id })).statusCode, 204);
    assert.ok((await listed()).clients.every(({ id }) => id !== client.id));
});

test('js: an OAuth client for the web says where it goes back to', async () => {
    const wish = { name: 'Shop', type: 'web', redirect_uri: 'https://shop.example.com/back' };
    const { client } = (await site.owner.js.createOAuthClient(wish)).body;
    assert.deepEqual([client.type, client.redirect_uri], ['web', wish.redirect_uri]);
});

test('js: an OAuth client gets a token for its owner', async () => {
    const { client } = (await site.owner.js.createOAuthClient({ name: 'Robot', type: 'installed', scope: '*:*' })).body;
    const robot = site.owner.program({ auth: undefined, clientId: client.id, clientSecret: client.secret });
    const { body } = await robot.loginAsClientOwner();
    assert.match(body.access_token, /^[0-9a-f]{40}$/);
    assert.ok((await robot.listDevices({ auth: body.access_token })).body.length > 0);
    const liar = site.owner.program({ auth: undefined, clientId: client.id, clientSecret: 'made-up' });
    await refused(liar.loginAsClientOwner(), [400, 401], /invalid_client/);
});

test('js: a product has OAuth clients of its own', async () => {
    const product = (await makeProduct(site.owner, 'Clients of a product')).id;
    const { client } = (await site.owner.js.createOAuthClient({ name: 'App', type: 'installed', product })).body;
    const { clients } = (await site.owner.js.listOAuthClients({ product })).body;
    assert.deepEqual(
        clients.map(({ id }) => id),
        [client.id],
    );
    const { clients: own } = (await site.owner.js.listOAuthClients({})).body;
    assert.ok(own.every(({ id }) => id !== client.id));
    await site.owner.js.updateOAuthClient({ product, clientId: client.id, name: 'App 2' });
    assert.equal((await site.owner.js.deleteOAuthClient({ product, clientId: client.id })).statusCode, 204);
});
