// Logging in and out, and pointing the command line tool to this server.

import assert from 'node:assert/strict';

import { open, refused } from './harness/test.mjs';

const { site, test } = await open();
const NINETY_DAYS_S = 7_776_000;

test('login with a name and a password keeps a token', async () => {
    const guest = await site.stranger();
    (await guest.particle('login', '-u', guest.email, '-p', guest.password)).succeeds('Successfully completed login!');
    const settings = await guest.settings();
    assert.match(settings.access_token, /^[0-9a-f]{40}$/);
    assert.equal(settings.username, guest.email);
    const left_s = (new Date(settings.access_token_expires_at) - Date.now()) / 1000;
    assert.ok(Math.abs(left_s - NINETY_DAYS_S) < 300, `${left_s} s are left`);
});

test('login with a wrong password says so', async () => {
    const guest = await site.stranger();
    (await guest.particle('login', '-u', guest.email, '-p', 'wrong')).fails('User credentials are invalid', 'trouble with logging in');
});

test('login with a name that nobody has says the same', async () => {
    const guest = await site.stranger();
    (await guest.particle('login', '-u', 'nobody@example.com', '-p', 'wrong')).fails('User credentials are invalid');
});

test('login with a token finds out whose it is', async () => {
    const guest = await site.stranger();
    const { token } = await site.again(guest.email);
    (await guest.particle('login', '--token', token)).succeeds('Successfully completed login!');
    const settings = await guest.settings();
    assert.deepEqual([settings.access_token, settings.username], [token, guest.email]);
});

test('login with a token that was made up fails', async () => {
    const guest = await site.stranger();
    (await guest.particle('login', '--token', '0'.repeat(40))).fails('The access token provided is invalid.');
});

test('whoami names the account', async () => {
    const guest = await site.person();
    (await guest.particle('whoami')).succeeds(`> ${guest.email}`);
});

test('who is not logged in is told to log in', async () => {
    const guest = await site.stranger();
    for (const command of ['whoami', 'list']) (await guest.particle(command)).fails("You're not logged in. Run `particle login`");
});

test('a token that was revoked logs the tool out', async () => {
    const guest = await site.person();
    await guest.js.deleteAccessToken({ token: guest.token });
    (await guest.particle('list')).fails("You're not logged in. Run `particle login`");
    assert.equal((await guest.settings()).access_token ?? null, null);
});

test('logout ends the token', async () => {
    const guest = await site.person();
    (await guest.particle('logout')).succeeds(`You have been logged out from ${guest.email}`);
    assert.equal((await guest.settings()).access_token ?? null, null);
    await refused(guest.js.getUserInfo({}), 401, /invalid_token/);
});

test('a profile points the tool to this server', async () => {
    const guest = await site.stranger();
    (await guest.particle('profile', 'reefs')).succeeds();
    (await guest.particle('profile', 'set', 'apiUrl', site.url)).succeeds();
    (await guest.particle('profile')).succeeds('Current profile: reefs', `Using API: ${site.url}`);
    (await guest.particle('login', '-u', guest.email, '-p', guest.password)).succeeds('Successfully completed login!');
    (await guest.particle('whoami')).succeeds(guest.email);
    (await guest.particle('profile', '--list')).succeeds('reefs');
});

test('an address that ends with a slash serves as well', async () => {
    const guest = await site.stranger();
    (await guest.particle('profile', 'set', 'apiUrl', `${site.url}/`)).succeeds();
    (await guest.particle('login', '-u', guest.email, '-p', guest.password)).succeeds('Successfully completed login!');
    (await guest.particle('whoami')).succeeds(guest.email);
    (await guest.particle('list')).succeeds('No devices found.');
});

test('js: login answers with a token for ninety days', async () => {
    const guest = await site.stranger();
    const { body } = await guest.js.login({ username: guest.email, password: guest.password });
    assert.equal(body.token_type, 'bearer');
    assert.equal(body.expires_in, NINETY_DAYS_S);
    for (const token of [body.access_token, body.refresh_token]) assert.match(token, /^[0-9a-f]{40}$/);
});

test('js: login can ask for another lifetime, or for none', async () => {
    const guest = await site.stranger();
    const login = async (tokenDuration) => (await guest.js.login({ username: guest.email, password: guest.password, tokenDuration })).body;
    assert.equal((await login(3600)).expires_in, 3600);
    assert.equal((await login(0)).expires_in, 0);
});

test('js: login with a wrong password is refused in the words of OAuth', async () => {
    const guest = await site.stranger();
    const error = await refused(guest.js.login({ username: guest.email, password: 'wrong' }), 400, /invalid_grant/);
    assert.equal(error.shortErrorDescription, 'User credentials are invalid');
});

test('js: the user is described', async () => {
    const { body } = await site.owner.js.getUserInfo({});
    assert.equal(body.username, site.owner.email);
    assert.deepEqual(body.subscription_ids, []);
    assert.equal(body.mfa.enabled, false);
    assert.equal(body.wifi_device_count + body.cellular_device_count, 4);
});

test('js: a program may say what it is', async () => {
    const context = {
        tool: { name: 'kelpie', version: '1.2', components: [{ name: 'fin', version: '2' }] },
        project: { name: 'reef', depth: 3 },
    };
    const { body } = await site.owner.js.getUserInfo({ context });
    assert.equal(body.username, site.owner.email);
});
