// Hooks that the real clients make are carried out: what a receiver is sent, and what clients hear of its answer.

import assert from 'node:assert/strict';
import { after } from 'node:test';

import { openProduct } from './harness/products.mjs';
import { Receiver } from './harness/receiver.mjs';
import { eventually, heard, open, refused } from './harness/test.mjs';

const { site, test } = await open();
const { owner, kelp, dulse, reef } = site;
const receiver = await Receiver.open();
after(() => receiver.close());
const ID = /[0-9a-f]{24}/;
const ISO = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/;
/** Longer than an event takes to a receiver. */
const QUIET_MS = 1_500;

/** The first event of a stream of this person's whose name begins so, after `act` was done. */
async function answered(person, name, act) {
    return heard(await person.js.getEventStream({ deviceId: 'mine', name }), () => true, act);
}

/** Types `particle subscribe`, and returns when the stream is open. */
async function subscribe(person, ...args) {
    const mark = site.recorder.mark();
    const running = person.begin('subscribe', ...args);
    await site.recorder.until(mark, ({ url, status }) => /\/events(\/|\?|$)/.test(url) && status === 200);
    return running;
}

function pause(span_ms) {
    return new Promise((resolve) => setTimeout(resolve, span_ms));
}

for (const line of ['particle', 'older']) {
    test(`${line}: webhook create from arguments sends, and subscribe prints the answer`, async () => {
        const guest = await site.person();
        receiver.answer(`/${line}`, 'high water at noon');
        (await guest[line]('webhook', 'create', 'tide', receiver.url(`/${line}`))).succeeds(ID);
        const running = await subscribe(guest, 'hook-response/tide', '--max', '1');
        (await guest[line]('publish', 'tide/high', '2.4')).succeeds('Published');
        const { method, headers, form } = await receiver.next(`/${line}`);
        assert.deepEqual([method, headers['content-type']], ['POST', 'application/x-www-form-urlencoded']);
        assert.match(headers['user-agent'], /^Holdfast\//);
        const { published_at, ...fields } = form;
        assert.deepEqual(fields, { event: 'tide/high', data: '2.4', coreid: 'api' });
        assert.match(published_at, ISO);
        await running.end();
        const [event] = running.text
            .split('\n')
            .filter((text) => text.startsWith('{'))
            .map((text) => JSON.parse(text));
        assert.deepEqual([event.name, event.data, event.coreid], ['hook-response/tide/high/0', 'high water at noon', 'particle-internal']);
    });

    test(`${line}: webhook create from a file sends what the file says`, async () => {
        const guest = await site.person();
        const settings = {
            eventName: 'tide',
            url: receiver.url('/{{place}}'),
            requestType: 'PUT',
            json: { level: '{{level}}', '{{{PARTICLE_EVENT_NAME}}}': '{{{PARTICLE_EVENT_VALUE}}}' },
            headers: { 'X-Reef': '{{place}}' },
            query: { q: '1' },
            auth: { username: 'u', password: 'p' },
            responseTemplate: 'is {{level.0}}',
            responseTopic: 'answer/{{place}}',
            noDefaults: true,
            rejectUnauthorized: false,
        };
        receiver.answer(`/quay-${line}`, '{"level":[2.4]}', { type: 'application/json' });
        const file = await guest.file('hook.json', JSON.stringify(settings));
        (await guest[line]('webhook', 'create', file)).succeeds(ID);
        const data = JSON.stringify({ level: 2.4, place: `quay-${line}` });
        const event = await answered(guest, 'answer', () => guest.js.publishEvent({ name: 'tide', data }));
        const { method, headers, query, json } = await receiver.next(`/quay-${line}`);
        assert.deepEqual([method, query, json], ['PUT', { q: '1' }, { level: '2.4', tide: data }]);
        assert.deepEqual(
            [headers['x-reef'], headers.authorization, headers.accept],
            [`quay-${line}`, `Basic ${btoa('u:p')}`, 'application/json'],
        );
        assert.deepEqual([event.name, event.data], [`answer/quay-${line}/0`, 'is 2.4']);
    });

    test(`${line}: webhook create for one device, and delete`, async () => {
        const path = `/one-${line}`;
        const run = (await owner[line]('webhook', 'create', 'fleet/count', receiver.url(path), kelp.id)).succeeds(ID);
        for (let count = 0; count < 2; count += 1) {
            const { form } = await receiver.next(path);
            assert.deepEqual([form.event, form.coreid], ['fleet/count', kelp.id]);
            assert.match(form.data, new RegExp(`^${kelp.id} `));
        }
        (await owner[line]('webhook', 'list')).succeeds(`for device ${kelp.id}`);
        const id = ID.exec(/with ID (.*)/.exec(run.text)[1])[0];
        (await owner[line]('webhook', 'delete', id)).succeeds();
        await pause(QUIET_MS);
        const before = receiver.all(path).length;
        await pause(QUIET_MS);
        assert.equal(receiver.all(path).length, before, 'nothing more comes');
    });
}

test('webhook POST and GET ask as they say', async () => {
    const guest = await site.person();
    (await guest.particle('webhook', 'POST', 'tide', receiver.url('/post'))).succeeds(ID);
    (await guest.particle('webhook', 'GET', 'tide', receiver.url('/get'))).succeeds(ID);
    await guest.js.publishEvent({ name: 'tide', data: 'low water' });
    const post = await receiver.next('/post');
    const get = await receiver.next('/get');
    assert.deepEqual([post.method, post.form.data, post.query], ['POST', 'low water', {}]);
    assert.deepEqual([get.method, get.query.data, get.text], ['GET', 'low water', '']);
});

test('integration create, enable and disable', async () => {
    const guest = await site.person();
    (await guest.particle('integration', 'create', 'tide', receiver.url('/enabled'))).succeeds(ID);
    await guest.js.publishEvent({ name: 'tide', data: '1' });
    assert.equal((await receiver.next('/enabled')).form.data, '1');
    const [hook] = (await guest.js.listIntegrations({})).body;
    const settings = { integration_type: 'Webhook', url: hook.url, disabled: true };
    await guest.js.editIntegration({ integrationId: hook.id, event: 'tide', settings });
    await guest.js.publishEvent({ name: 'tide', data: '2' });
    await guest.js.editIntegration({ integrationId: hook.id, event: 'tide', settings: { ...settings, disabled: false } });
    await guest.js.publishEvent({ name: 'tide', data: '3' });
    assert.equal((await receiver.next('/enabled')).form.data, '3');
});

test('js: createWebhook sends, and its events are heard', async () => {
    const guest = await site.person();
    receiver.answer('/js', '{"a":"b"}', { type: 'application/json' });
    const hook = { method: 'PUT', auth: { user: 'u', pass: 'p' }, form: { n: '{{{PARTICLE_EVENT_VALUE}}}' }, responseTemplate: '<{{a}}>' };
    const { body } = await guest.js.createWebhook({ event: 'tide', url: receiver.url('/js'), hook });
    const names = [];
    const stream = await guest.js.getEventStream({ deviceId: 'mine' });
    const event = await heard(
        stream,
        ({ name }) => names.push(name) && name.startsWith('hook-response/'),
        () => guest.js.publishEvent({ name: 'tide', data: '2.4' }),
    );
    assert.deepEqual([event.name, event.data, event.ttl], ['hook-response/tide/0', '<b>', 60]);
    assert.ok(names.includes('hook-sent/tide'), names.join(' '));
    const { method, headers, form } = await receiver.next('/js');
    assert.deepEqual([method, headers.authorization, form.n, form.data], ['PUT', `Basic ${btoa('u:p')}`, '2.4', '2.4']);
    assert.ok(headers['webhook-id'].endsWith(`_${body.id}`) && headers['webhook-signature'].startsWith('v1a,'), headers['webhook-signature']);
    assert.equal((await guest.js.deleteWebhook({ hookId: body.id })).body.ok, true);
    await guest.js.publishEvent({ name: 'tide', data: 'after' });
    await pause(QUIET_MS);
    assert.deepEqual(receiver.all('/js'), []);
});

test('js: an integration sends where it was edited to', async () => {
    const guest = await site.person();
    const settings = { integration_type: 'Webhook', url: receiver.url('/first'), requestType: 'POST', json: { v: '{{PARTICLE_EVENT_VALUE}}' } };
    const { id } = (await guest.js.createIntegration({ event: 'tide', settings })).body;
    await guest.js.publishEvent({ name: 'tide', data: '1' });
    assert.equal((await receiver.next('/first')).json.v, '1');
    const edited = { integration_type: 'Webhook', url: receiver.url('/second'), requestType: 'POST' };
    await guest.js.editIntegration({ integrationId: id, event: 'ebb', settings: edited });
    await guest.js.publishEvent({ name: 'tide', data: '2' });
    await guest.js.publishEvent({ name: 'ebb', data: '3' });
    const { form, json } = await receiver.next('/second');
    assert.deepEqual([form.event, form.data, json], ['ebb', '3', undefined], 'what is not said again is gone');
    assert.deepEqual([receiver.all('/first'), receiver.all('/second')], [[], []]);
});

test('js: an error is heard, and shown with the hook', async () => {
    const guest = await site.person();
    receiver.answer('/failing', 'no', { status: 503 });
    const { id } = (await guest.js.createWebhook({ event: 'tide', url: receiver.url('/failing') })).body;
    const event = await answered(guest, 'hook-error', () => guest.js.publishEvent({ name: 'tide', data: 'x' }));
    assert.deepEqual([event.name, event.data], ['hook-error/tide/0', 'error status 503 from 127.0.0.1']);
    const shown = await eventually(async () => {
        const { integration } = (await guest.js.get({ uri: `/v1/integrations/${id}`, auth: guest.token })).body;
        return integration.errors.length > 0 && integration;
    });
    assert.ok(Array.isArray(shown.logs) && Array.isArray(shown.counters));
});

test('js: an integration is tried', async () => {
    receiver.answer('/tried', 'noted');
    const { id } = (await owner.js.createWebhook({ event: 'tried', url: receiver.url('/tried') })).body;
    const attempt = (data) => owner.js.post({ uri: `/v1/integrations/${id}/test`, data, auth: owner.token });
    const passed = await attempt({ data: '2.4', device_id: kelp.id });
    assert.deepEqual([passed.statusCode, passed.body.pass, passed.body.data], [200, true, 'noted']);
    const { form } = await receiver.next('/tried');
    assert.deepEqual([form.event, form.data, form.coreid], ['tried', '2.4', kelp.id]);
    receiver.answer('/tried', 'broken', { status: 500 });
    const failed = await attempt({});
    assert.deepEqual([failed.statusCode, failed.body.pass, typeof failed.body.error], [200, false, 'string']);
    await refused(site.other.js.post({ uri: `/v1/integrations/${id}/test`, data: {}, auth: site.other.token }), 404, /Webhook not found/);
});

const { product, inProduct } = await openProduct({ test }, owner, 'Tide gauges', dulse.id);

inProduct('a hook of a product sends for its devices, and answers are heard in its stream', async () => {
    receiver.answer('/product', 'noted');
    const run = await owner.particle('webhook', 'create', 'fleet/count', receiver.url('/product'), '--product', product.id);
    run.succeeds(ID);
    const name = `${dulse.id}/hook-response`;
    const event = await heard(await owner.js.getEventStream({ product: product.id, name }), () => true);
    assert.deepEqual([event.name, event.data, event.coreid], [`${name}/fleet/count/0`, 'noted', 'particle-internal']);
    const { form } = await receiver.next('/product');
    assert.equal(form.coreid, dulse.id);
    await pause(QUIET_MS);
    const others = receiver.all('/product').filter((received) => [kelp.id, reef.id].includes(received.form.coreid));
    assert.deepEqual(others, [], 'devices outside are none of its business');
});
