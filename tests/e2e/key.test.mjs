// A service that wants a key: the page asks for it once.

import assert from 'node:assert/strict';

import { scene } from './scene.mjs';
import { CACTUS, until } from './service.mjs';

const KEY = 'a-key-of-the-tests-of-the-page';
const { test } = scene({ 'auth.keys': KEY });

const STRANGER = [/^answer 401: /, /^console error: .* 401 /];

test('the key is asked for once, and then it draws', { expects: STRANGER, blank: true }, async ({ page, studio, open }) => {
  await page.goto(studio.url);
  await studio.told('key');
  assert.equal(await studio.key.getAttribute('type'), 'password');

  await studio.key.fill('a-key-that-nobody-ever-had');
  await studio.useKey.click();
  await until(async () => (await studio.notice.count()) > 0 && (await studio.key.isVisible()), 'a wrong key is asked for again');

  await studio.key.fill(KEY);
  await studio.useKey.click();
  await studio.quiet();
  await studio.is('idle');
  const { bytes } = await studio.drawn({ prompt: CACTUS, seed: 43 });
  assert(bytes.length > 1000);

  const refused = [];
  page.on('response', (response) => response.status() === 401 && refused.push(response.url()));
  await page.reload();
  await studio.is('idle', 'done');
  await studio.drawn({ prompt: CACTUS, seed: 44 });
  assert.deepEqual(refused, [], 'it is remembered in this tab');
  assert(!page.url().includes(KEY));
});

test('the key stands in no copied request and in no address', {
  expects: STRANGER,
  blank: true,
  context: { permissions: ['clipboard-read', 'clipboard-write'] },
}, async ({ page, studio }) => {
  const addresses = [];
  page.on('request', (request) => addresses.push(request.url()));
  await page.goto(studio.url);
  await studio.told('key');
  await studio.key.fill(KEY);
  await page.keyboard.press('Enter');
  await studio.quiet();
  await studio.drawn({ prompt: CACTUS, seed: 43 });
  for (const language of ['curl', 'Python', 'JavaScript']) {
    await studio.role('tab', language).click();
    await studio.copyRequest.click();
    await until(async () => /v1\/images/.test(await studio.clipboard()), `${language} is copied`);
    const copied = await studio.clipboard();
    assert(!copied.includes(KEY), `${language} has the key`);
    assert.match(copied, /authorization|x-api-key/i, `${language} says where the key belongs`);
  }
  assert(addresses.every((address) => !address.includes(KEY)));
});
