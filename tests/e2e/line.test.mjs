// Beside the queue: a place in it, a reload, a closed tab, and a queue that has no place left.

import assert from 'node:assert/strict';

import { scene } from './scene.mjs';
import { CACTUS, ENDLESS, until } from './service.mjs';

/** One may wait beside the one that is drawn. */
const { test } = scene({ 'queue.capacity': 1 });

const QUICK = { width: 128, height: 128, steps: 4, count: 1 };
const FULL = [/^answer 429: POST/, /^console error: .* 429 /];

test('the second in the queue sees its place, and is drawn when the first has left', async ({ open, studio }) => {
  await studio.start({ prompt: CACTUS, ...ENDLESS });
  await studio.is('drawing');
  const second = (await open()).studio;
  await second.start({ prompt: 'a big red rocket', ...QUICK });
  await second.is('waiting');
  await second.place.waitFor();
  assert.match(await second.place.innerText(), /^1 before you/);
  await studio.cancel.click();
  await second.finished();
  assert.equal(await second.picture.getAttribute('alt'), 'a big red rocket');
});

test('who waits can leave the queue', async ({ studio, service }) => {
  await service.job(ENDLESS);
  const before = await service.finished('cancelled');
  await studio.start({ prompt: CACTUS, ...QUICK });
  await studio.is('waiting');
  await studio.cancel.click();
  await studio.told('cancelled');
  await until(async () => (await service.finished('cancelled')) === before + 1, 'the job has left');
});

test('a reload finds the running job again', async ({ page, studio, service }) => {
  const before = await service.accepted();
  const cancelled = await service.finished('cancelled');
  await studio.start({ prompt: CACTUS, ...(await service.slow(3)) });
  await studio.is('drawing');
  await studio.preview.waitFor();
  await page.reload();
  await studio.is('drawing');
  await studio.progress.waitFor();
  await until(async () => Number(await studio.bar.getAttribute('aria-valuenow')) > 0, 'the steps are known');
  await studio.finished();
  assert.equal(await studio.picture.getAttribute('alt'), CACTUS);
  assert.equal(await service.accepted(), before + 1, 'nothing was asked for twice');
  assert.equal(await service.finished('cancelled'), cancelled, 'nothing was cancelled');
});

test('a reload finds a waiting job again', async ({ page, studio, service }) => {
  const other = await service.job(ENDLESS);
  await studio.start({ prompt: CACTUS, ...QUICK });
  await studio.is('waiting');
  await page.reload();
  await studio.is('waiting');
  assert.match(await studio.place.innerText(), /^1 before you/);
  await service.take(other);
  await studio.finished();
});

test('closing the tab cancels', async ({ page, studio, service }) => {
  const before = await service.finished('cancelled');
  await studio.start({ prompt: CACTUS, ...ENDLESS });
  await studio.is('drawing');
  await page.close({ runBeforeUnload: true });
  await until(async () => (await service.finished('cancelled')) === before + 1, 'the job is cancelled');
});

test('a full queue is told with the seconds, and tried again until there is a place', { expects: FULL }, async ({ studio, service }) => {
  await service.job(await service.slow(3));
  await service.job(QUICK);
  await studio.start({ prompt: CACTUS, ...QUICK });
  assert.match(await studio.told('full'), /\b\d+ s/);
  await studio.finished();
  await studio.quiet();
});

test('the trying can be stopped', { expects: FULL }, async ({ page, studio, service }) => {
  const first = await service.job(ENDLESS);
  const second = await service.job(QUICK);
  await studio.start({ prompt: CACTUS, ...QUICK });
  await studio.told('full');
  await studio.stopTrying.click();
  await studio.quiet();
  await studio.is('idle', 'failed');
  const asked = [];
  page.on('request', (request) => request.method() === 'POST' && !request.url().endsWith('/estimate') && asked.push(request.url()));
  await service.take(first);
  await service.take(second);
  await service.idle();
  assert.equal(await studio.prompt.inputValue(), CACTUS);
  await studio.drawn({});
  assert.equal(asked.length, 1, `only the second click asks: ${asked}`);
});
