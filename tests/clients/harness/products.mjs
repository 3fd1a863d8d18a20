// Products for tests to work with.

import assert from 'node:assert/strict';

import { eventually } from './test.mjs';

/** A new product of a person, as the server describes it. */
export async function makeProduct(person, name, platform_id = 13) {
    const product = { name, description: 'made by a test', platform_id, settings: { location: { opt_in: false } } };
    const { body } = await person.js.post({ uri: '/v1/user/products', data: { product }, auth: person.token });
    return body.product;
}

/** The same with devices in it, by their ids. */
export async function makeProductOf(person, name, ...devices) {
    const product = await makeProduct(person, name);
    for (const deviceId of devices) await person.js.addDeviceToProduct({ product: product.id, deviceId });
    return product;
}

/** Makes a product with devices for the tests of a file, if that can be made, and a way to write tests in it. */
export async function openProduct({ test }, person, name, ...devices) {
    const product = await makeProductOf(person, name, ...devices).catch((error) => ({ error }));
    const inProduct = (sentence, what) =>
        test(sentence, async () => {
            assert.ok(!product.error, `the product with its devices: ${product.error?.message}`);
            // A device that has changed its product may have to come back.
            await eventually(async () => (await person.js.getDevice({ deviceId: devices[0] })).body.connected);
            await what();
        });
    return { product, inProduct };
}
