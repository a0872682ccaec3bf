// What was drawn stays in the browser: the strip, two pictures under one slider, and what happens when there is no room left.

import assert from 'node:assert/strict';

import { scene } from './scene.mjs';
import { CACTUS, until } from './service.mjs';

const { test } = scene();

const FULL_STORE_BYTES = 3_000_000;
/** A file of some 700 KB, whatever the prompt. */
const HEAVY = { width: 704, height: 704, steps: 2, count: 1 };

const captions = (studio) => studio.kept.evaluateAll((buttons) => buttons.map((button) => button.ariaLabel));

test('the strip is there after a reload, and shows a picture again', async ({ page, studio }) => {
  await studio.drawn({ prompt: 'a big red rocket' });
  await studio.drawn({ prompt: CACTUS });
  await page.reload();
  await until(async () => (await captions(studio)).length === 2, 'both pictures are there again');
  await studio.strip.getByRole('button', { name: 'a big red rocket (seed' }).click();
  await until(async () => (await studio.picture.getAttribute('alt')) === 'a big red rocket', 'the rocket is shown large');
  assert((await studio.saved()).bytes.length > 1000, 'and can be saved');
});

test('two pictures lie under one slider', async ({ page, studio }) => {
  await studio.drawn({ prompt: CACTUS, seed: 43 });
  await studio.drawn({ prompt: CACTUS, seed: 44 });
  await studio.compareFirstTwo();
  assert.equal(await studio.compare.getByRole('img').count(), 2);
  const looks = new Set();
  for (const value of ['0', '50', '100']) {
    await studio.reveal.fill(value);
    looks.add((await studio.compare.screenshot()).toString('base64'));
  }
  assert.equal(looks.size, 3, 'the slider moves the border');
  await studio.reveal.focus();
  const before = Number(await studio.reveal.inputValue());
  await page.keyboard.press('ArrowLeft');
  assert(Number(await studio.reveal.inputValue()) < before, 'by key too');
});

test('when the store is full the oldest pictures leave first, and nothing breaks', async ({ page, studio, context }) => {
  const control = await context.newCDPSession(page);
  await control.send('Storage.overrideQuotaForOrigin', { origin: studio.url, quotaSize: FULL_STORE_BYTES });
  const drawn = [];
  for (let index = 0; index < 10; index += 1) {
    drawn.push(`picture ${index} of a cactus, a rocket and a sailboat`);
    await studio.drawn({ prompt: drawn.at(-1), ...HEAVY });
  }
  assert((await captions(studio)).length > 0);
  await page.reload();
  await until(async () => (await captions(studio)).length > 0, 'pictures are there again');
  const kept = (await captions(studio)).map((caption) => drawn.findIndex((prompt) => caption.includes(prompt)));
  assert(kept.length < drawn.length, `all ${kept.length} had room: the test fills no store`);
  const newest = drawn.map((_, index) => index).slice(-kept.length);
  assert.deepEqual([...kept].sort((a, b) => a - b), newest, 'the newest are kept');
  await studio.drawn({ prompt: CACTUS, width: 128, height: 128 });
});

test('a browser that stores nothing draws all the same', async ({ open, context }) => {
  await context.addInitScript(() => {
    const refuse = () => {
      throw new DOMException('no room', 'QuotaExceededError');
    };
    Storage.prototype.setItem = refuse;
    IDBObjectStore.prototype.put = refuse;
    IDBObjectStore.prototype.add = refuse;
  });
  const { studio } = await open();
  await studio.drawn({ prompt: CACTUS });
  await studio.theme.click();
  await studio.drawn({ prompt: 'a big red rocket' });
  assert.equal(await studio.picture.getAttribute('alt'), 'a big red rocket');
});

test('a browser that has no store at all draws all the same', async ({ open, context }) => {
  await context.addInitScript(() => {
    const refuse = () => {
      throw new DOMException('not here', 'SecurityError');
    };
    for (const name of ['localStorage', 'sessionStorage', 'indexedDB']) {
      Object.defineProperty(globalThis, name, { get: refuse });
    }
  });
  const { studio } = await open();
  await studio.drawn({ prompt: CACTUS });
  assert.equal(await studio.picture.getAttribute('alt'), CACTUS);
});

test('a store that holds nonsense is no obstacle', async ({ page, studio }) => {
  await studio.drawn({ prompt: CACTUS });
  await studio.theme.click(); // so that there is something
  await page.evaluate(() => {
    for (const store of [localStorage, sessionStorage]) {
      for (const key of Object.keys(store)) store.setItem(key, '{"half": [');
    }
  });
  await page.reload();
  await studio.is('idle', 'done');
  await studio.drawn({ prompt: 'a big red rocket' });
});
