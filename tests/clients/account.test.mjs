// An account from its beginning to its end.

import assert from 'node:assert/strict';
import { after } from 'node:test';

import { Mailbox } from './harness/mailbox.mjs';
import { open, refused } from './harness/test.mjs';

const mailbox = await Mailbox.open();
after(() => mailbox.close());
const { site, test } = await open({ configuration: mailbox.settings, environment: mailbox.environment });
/** A refusal that is no trouble with the token: 401 would log people out. */
const REFUSED = [400, 403];

/** A person who has made their account over the API. */
async function signedUp(username) {
    const anybody = await site.stranger();
    const { body } = await anybody.program().createUser({ username, password: site.owner.password, accountInfo: { first_name: 'Nori' } });
    assert.deepEqual([body.ok, body.error], [true, undefined]);
    return site.again(username);
}

test('js: who creates an account can log in', async () => {
    const person = await signedUp('nori@example.com');
    const { body } = await person.js.getUserInfo({});
    assert.equal(body.username, 'nori@example.com');
    assert.equal(body.account_info.first_name, 'Nori');
});

test('js: an address has one account', async () => {
    const again = site.owner.js.createUser({ username: site.owner.email, password: 'something-else' });
    const error = await refused(again, REFUSED);
    assert.equal(error.body.ok, false);
    assert.ok(error.body.errors.length > 0);
});

test('js: what is said about oneself is kept', async () => {
    const person = await site.person();
    const { body } = await person.js.setUserInfo({ accountInfo: { first_name: 'Alga', company_name: 'Reef Ltd' } });
    assert.equal(body.ok, true);
    const { account_info } = (await person.js.getUserInfo({})).body;
    assert.deepEqual([account_info.first_name, account_info.company_name], ['Alga', 'Reef Ltd']);
});

test('js: the name is changed by who knows the password', async () => {
    const person = await site.person();
    await refused(person.js.changeUsername({ currentPassword: 'wrong', username: 'alaria@example.com' }), REFUSED);
    const { body } = await person.js.changeUsername({ currentPassword: person.password, username: 'alaria@example.com' });
    assert.equal(body.ok, true);
    const login = await person.js.login({ username: 'alaria@example.com', password: person.password });
    assert.match(login.body.access_token, /^[0-9a-f]{40}$/);
    await refused(person.js.login({ username: person.email, password: person.password }), 400, /invalid_grant/);
});

test('js: the password is changed by who knows it', async () => {
    const person = await site.person();
    await refused(person.js.changeUserPassword({ currentPassword: 'wrong', password: 'ebb-and-flow-8' }), REFUSED);
    const { body } = await person.js.changeUserPassword({ currentPassword: person.password, password: 'ebb-and-flow-8' });
    assert.equal(body.ok, true);
    await refused(person.js.login({ username: person.email, password: person.password }), 400, /invalid_grant/);
    const login = await person.js.login({ username: person.email, password: 'ebb-and-flow-8' });
    assert.match(login.body.access_token, /^[0-9a-f]{40}$/);
});

test('js: a new password can end all tokens', async () => {
    const person = await site.person();
    const elsewhere = await site.again(person.email);
    const change = { currentPassword: person.password, password: 'ebb-and-flow-8', invalidateTokens: true };
    assert.equal((await person.js.changeUserPassword(change)).body.ok, true);
    await refused(elsewhere.js.getUserInfo({}), 401, /invalid_token/);
});

test('js: all tokens of an account end together', async () => {
    const person = await site.person();
    const elsewhere = await site.again(person.email);
    assert.equal((await person.js.deleteActiveAccessTokens({})).body.ok, true);
    for (const each of [person, elsewhere]) await refused(each.js.getUserInfo({}), 401, /invalid_token/);
});

test('js: a forgotten password is asked for, and a mail helps to choose another', async () => {
    const person = await site.person();
    const anybody = person.program({ auth: undefined });
    const { body } = await anybody.resetPassword({ username: person.email });
    assert.equal(body.ok, true);
    const mail = await mailbox.next(person.email);
    assert.deepEqual([mail.from, mail.to], ['cloud@example.com', [person.email]]);
    const [code] = /[0-9a-f]{40}/.exec(mail.text);
    const choose = (token) => anybody.put({ uri: '/v1/user/password-reset', data: { token, password: 'ebb-and-flow-9' } });
    assert.equal((await choose(code)).body.ok, true);
    await refused(person.js.login({ username: person.email, password: person.password }), 400, /invalid_grant/);
    assert.match((await person.js.login({ username: person.email, password: 'ebb-and-flow-9' })).body.access_token, /^[0-9a-f]{40}$/);
    await refused(choose(code), 400, /not good/);
    assert.ok(!site.log().includes(code));
});

test('js: nobody learns whether there is an account', async () => {
    const anybody = site.owner.program({ auth: undefined });
    const asked = async (username) => (await anybody.resetPassword({ username })).body;
    assert.deepEqual(await asked('nobody@example.com'), await asked(site.owner.email));
    await mailbox.next(site.owner.email);
    assert.equal(mailbox.length, 0);
});

test('js: an account is deleted by who knows the password', async () => {
    const person = await site.person();
    await refused(person.js.deleteUser({ password: 'wrong' }), REFUSED);
    assert.equal((await person.js.deleteUser({ password: person.password })).body.ok, true);
    await refused(person.js.getUserInfo({}), 401, /invalid_token/);
    await refused(person.js.login({ username: person.email, password: person.password }), 400, /invalid_grant/);
});
