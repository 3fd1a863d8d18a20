// Webhooks and integrations, which are the same thing under two names: kept, listed, changed and removed. What they send is in
// webhooks-sent.test.mjs.

import assert from 'node:assert/strict';

import { makeProduct } from './harness/products.mjs';
import { open, refused } from './harness/test.mjs';

const { site, test } = await open();
const { owner, kelp } = site;
const TARGET = 'https://hooks.example.com/tide';
const ID = /[0-9a-f]{24}/;
const ISO = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/;

/** Types a command that makes a hook, and says its id. */
async function create(person, ...args) {
    const run = (await person.particle(...args)).succeeds(/Successfully created webhook with ID [0-9a-f]{24}/);
    return ID.exec(/with ID (.*)/.exec(run.text)[1])[0];
}

test('webhook create, list and delete', async () => {
    const guest = await site.person();
    const id = await create(guest, 'webhook', 'create', 'tide', TARGET);
    const list = await guest.particle('webhook', 'list');
    list.succeeds(
        'Found 1 integrations registered',
        `Integration ID ${id} is watching for "tide"`,
        'type: Webhook',
        `and sending to: ${TARGET}`,
    );
    list.succeeds(/created at \d{4}-\d\d-\d\dT/);
    (await guest.particle('webhook', 'delete', id)).succeeds();
    (await guest.particle('webhook', 'list')).succeeds('Found 0 integrations registered');
});

test('integration create, list and delete are the same', async () => {
    const guest = await site.person();
    const id = await create(guest, 'integration', 'create', 'tide', TARGET);
    (await guest.particle('integration', 'list')).succeeds('Found 1 integrations registered', id, 'type: Webhook');
    (await guest.particle('webhook', 'list')).succeeds(id);
    (await guest.particle('integration', 'delete', id)).succeeds();
    (await guest.particle('integration', 'list')).succeeds('Found 0 integrations registered');
});

test('webhook create for one device', async () => {
    const guest = await site.person();
    await create(guest, 'webhook', 'create', 'tide', TARGET, kelp.id);
    (await guest.particle('webhook', 'list')).succeeds(`for device ${kelp.id}`);
});

test('webhook POST and GET say how to ask', async () => {
    const guest = await site.person();
    await create(guest, 'webhook', 'POST', 'tide', TARGET);
    await create(guest, 'webhook', 'GET', 'wind', TARGET);
    const hooks = (await guest.js.listIntegrations({})).body;
    assert.deepEqual(hooks.map(({ event, requestType }) => [event, requestType]).sort(), [
        ['tide', 'POST'],
        ['wind', 'GET'],
    ]);
});

test('webhook create with settings from a file', async () => {
    const guest = await site.person();
    const settings = {
        event: 'tide',
        url: TARGET,
        requestType: 'PUT',
        json: { level: '{{{PARTICLE_EVENT_VALUE}}}' },
        headers: { 'X-Reef': '1' },
        query: { q: '1' },
        auth: { username: 'u', password: 'p' },
        responseTemplate: '{{level}}',
        responseTopic: 'answer',
        errorResponseTopic: 'trouble',
        noDefaults: true,
        rejectUnauthorized: false,
        deviceID: kelp.id,
    };
    const file = await guest.file('hook.json', JSON.stringify(settings));
    const id = await create(guest, 'webhook', 'create', file);
    const { body } = await guest.js.get({ uri: `/v1/integrations/${id}`, auth: guest.token });
    for (const [name, value] of Object.entries(settings)) {
        if (!['auth', 'deviceID'].includes(name)) assert.deepEqual(body.integration[name], value, name);
    }
    assert.equal(body.integration.deviceID, kelp.id);
});

test('webhook create with settings that exclude each other fails', async () => {
    const settings = { url: TARGET, json: { a: '1' }, form: { b: '2' } };
    const file = await owner.file('both.json', JSON.stringify({ event: 'tide', ...settings }));
    (await owner.particle('webhook', 'create', file)).fails().withholds('Successfully', 'logged in');
    await refused(owner.js.createIntegration({ event: 'tide', settings }), 400, /json|form|body/);
});

test('webhook create with an address that is none fails', async () => {
    (await owner.particle('webhook', 'create', 'tide', 'nonsense')).fails(/url/i).withholds('Successfully', 'logged in');
});

test('webhook delete all asks first', async () => {
    const guest = await site.person();
    for (const event of ['tide', 'wind']) await create(guest, 'webhook', 'create', event, TARGET);
    (await guest.particle('webhook', 'delete', 'all', { input: 'n\n' })).succeeds();
    assert.equal((await guest.js.listWebhooks({})).body.length, 2);
    (await guest.particle('webhook', 'delete', 'all', { input: 'y\n' })).succeeds('Found 2 integrations registered');
    assert.deepEqual((await guest.js.listWebhooks({})).body, []);
});

test('webhook delete of something that is not there fails', async () => {
    (await owner.particle('webhook', 'delete', 'f'.repeat(24))).fails('Webhook not found').withholds('logged in');
});

test('webhooks of a product are apart', async () => {
    const product = (await makeProduct(owner, 'Hooks')).id;
    const id = await create(owner, 'webhook', 'create', 'tide', TARGET, '--product', product);
    (await owner.particle('webhook', 'list', '--product', product)).succeeds('Found 1 integrations registered', id);
    (await owner.particle('webhook', 'list')).withholds(id);
    (await owner.particle('webhook', 'delete', id)).fails('Webhook not found');
    (await owner.particle('integration', 'delete', id, '--product', product)).succeeds();
    (await owner.particle('integration', 'list', '--product', product)).succeeds('Found 0 integrations registered');
});

test('nobody sees or deletes hooks of others', async () => {
    const id = await create(owner, 'webhook', 'create', 'tide', TARGET);
    (await site.other.particle('webhook', 'list')).withholds(id);
    (await site.other.particle('webhook', 'delete', id)).fails('Webhook not found');
    (await owner.particle('webhook', 'list')).succeeds(id);
});

test('js: a webhook is made, listed and deleted', async () => {
    const guest = await site.person();
    const hook = {
        method: 'PUT',
        auth: { user: 'u', pass: 'p' },
        json: { a: '1' },
        responseTemplate: '{{a}}',
        responseEvent: 'r',
        errorResponseEvent: 'er',
    };
    const { statusCode, body } = await guest.js.createWebhook({ event: 'tide', url: TARGET, device: kelp.id, hook });
    assert.equal(statusCode, 201);
    assert.deepEqual([body.ok, body.event, body.url, body.requestType, body.integration_type], [true, 'tide', TARGET, 'PUT', 'Webhook']);
    assert.match(body.id, ID);
    assert.match(body.created_at, ISO);
    assert.ok(body.hookUrl.endsWith(`/v1/webhooks/${body.id}`), body.hookUrl);
    const [listed] = (await guest.js.listWebhooks({})).body;
    assert.deepEqual([listed.id, listed.integration_type, listed.deviceID], [body.id, 'Webhook', kelp.id]);
    assert.equal((await guest.js.deleteWebhook({ hookId: body.id })).body.ok, true);
    assert.deepEqual((await guest.js.listWebhooks({})).body, []);
});

test('js: a webhook is described in full', async () => {
    const { id } = (await owner.js.createWebhook({ event: 'tide', url: TARGET })).body;
    const describe = async (kind) => (await owner.js.get({ uri: `/v1/${kind}s/${id}`, auth: owner.token })).body[kind];
    for (const kind of ['webhook', 'integration']) {
        const hook = await describe(kind);
        assert.deepEqual(
            [hook.id, hook.event, hook.url, hook.requestType, hook.noDefaults, hook.rejectUnauthorized],
            [id, 'tide', TARGET, 'POST', false, true],
        );
        for (const list of [hook.logs, hook.errors, hook.counters]) assert.ok(Array.isArray(list));
    }
});

test('js: an integration is made, replaced, listed and deleted', async () => {
    const guest = await site.person();
    const settings = { integration_type: 'Webhook', url: TARGET, requestType: 'POST', headers: { 'X-Reef': '1' } };
    const { body } = await guest.js.createIntegration({ event: 'tide', settings, deviceId: kelp.id });
    assert.deepEqual([body.event, body.deviceID ?? body.integration?.deviceID], ['tide', kelp.id]);
    const edited = await guest.js.editIntegration({
        integrationId: body.id,
        event: 'wind',
        settings: { integration_type: 'Webhook', url: `${TARGET}/2` },
    });
    const { integration } = edited.body;
    assert.deepEqual([integration.id, integration.event, integration.url], [body.id, 'wind', `${TARGET}/2`]);
    assert.deepEqual([integration.headers ?? null, integration.deviceID ?? null], [null, null], 'what is not said again is gone');
    assert.deepEqual(
        (await guest.js.listIntegrations({})).body.map(({ event }) => event),
        ['wind'],
    );
    assert.equal((await guest.js.deleteIntegration({ integrationId: body.id })).statusCode, 200);
});

test('js: integrations of a product', async () => {
    const product = (await makeProduct(owner, 'Integrations')).id;
    const { id } = (await owner.js.createIntegration({ product, event: 'tide', settings: { integration_type: 'Webhook', url: TARGET } }))
        .body;
    assert.deepEqual(
        (await owner.js.listIntegrations({ product })).body.map((hook) => hook.id),
        [id],
    );
    assert.deepEqual(
        (await owner.js.listWebhooks({ product })).body.map((hook) => hook.id),
        [id],
    );
    await refused(site.other.js.listIntegrations({ product }), [403, 404]);
    assert.equal((await owner.js.deleteIntegration({ product, integrationId: id })).statusCode, 200);
});

test('js: a webhook without an event or an address is refused', async () => {
    await refused(owner.js.createWebhook({ event: '', url: TARGET }), 400, /event/i);
    await refused(owner.js.createIntegration({ event: 'tide', settings: { integration_type: 'Webhook' } }), 400, /url/i);
});

test('js: a webhook that is not there', async () => {
    await refused(owner.js.deleteWebhook({ hookId: 'f'.repeat(24) }), 404, /Webhook not found/);
    await refused(owner.js.editIntegration({ integrationId: 'f'.repeat(24), event: 'e', settings: { url: TARGET } }), 404);
});
