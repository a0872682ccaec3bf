// What a person would trip over: a stream that hangs, a card that is gone too early, a focus that is nowhere, a picture that comes back.

import assert from 'node:assert/strict';

import { Breaker } from './breaker.mjs';
import { scene } from './scene.mjs';
import { CACTUS, ENDLESS, until } from './service.mjs';

const { test } = scene({ 'queue.capacity': 0 }, (service) => Breaker.before(service));

const QUICK = { width: 128, height: 128, steps: 4, count: 1 };
const FULL = [/^answer 429: POST/, /^console error: .* 429 /];
const isStream = (request) => /\/events(\?|$)/.test(request.url);

/** The name of what has the focus. */
const focused = (page) =>
  page.evaluate(() => document.activeElement.getAttribute('aria-label') ?? document.activeElement.innerText ?? document.activeElement.tagName);

test('a stream that says nothing ends in words, and its job is taken back', { expects: [/^request failed: /] }, async ({ page, studio, service, front }) => {
  const before = await service.finished('cancelled');
  await page.clock.install();
  await studio.fill({ prompt: CACTUS, ...ENDLESS });
  front.breaks = (request, response, pass) => (isStream(request) ? undefined : pass());
  await studio.draw.click();
  await until(async () => {
    await page.clock.fastForward(10_000);
    return (await studio.state()) === 'failed';
  }, 'the page stops to listen');
  assert.match(await studio.told('broken'), /silent/);
  front.breaks = undefined;
  await until(async () => (await service.finished('cancelled')) === before + 1, 'nobody waits for the job any more');
});

test('Compare does not give up a drawing that waits for its place', { expects: FULL }, async ({ studio, service }) => {
  await studio.drawn({ prompt: CACTUS, ...QUICK });
  await studio.drawn({});
  const other = await service.job(ENDLESS);
  await studio.draw.click();
  await studio.told('full');
  await studio.strip.getByRole('button', { name: /^Compare with/ }).first().click({ force: true }); // it says that it is disabled
  await studio.kept.first().press('c');
  await studio.told('full');
  await service.take(other);
  await service.idle();
  await studio.role('button', 'Try now').click();
  await studio.finished(await studio.picture.getAttribute('src'));
});

test('nothing can be drawn before the page knows its server', { blank: true }, async ({ page, studio, front }) => {
  front.breaks = (request, response, pass) => (request.url.startsWith('/v1/') ? undefined : pass());
  await page.goto(studio.url);
  assert(await studio.draw.isDisabled());
  front.breaks = undefined;
});

test('what was cleared or removed while something is drawn does not come back', async ({ page, studio, service }) => {
  await studio.drawn({ prompt: 'a big red rocket', ...QUICK });
  await studio.drawn({ prompt: 'a white cat' });
  await studio.strip.getByRole('button', { name: /^Remove/ }).first().click();
  assert.equal(await studio.kept.count(), 1);
  const slow = await service.slow(1);
  await studio.start({ prompt: CACTUS, ...slow, count: 2 });
  await until(async () => (await studio.kept.count()) === 2, 'the first of two is there');
  await studio.role('button', 'Clear').click();
  assert.equal(await studio.kept.count(), 2, 'it asks once more');
  await studio.role('button', 'Clear all?').click();
  await studio.finished();
  assert.equal(await studio.kept.count(), 1, 'the second of the two');
  await page.reload();
  await studio.is('idle', 'done');
  await studio.kept.first().waitFor();
  assert.equal(await studio.kept.count(), 1);
});

test('the focus is never lost: it goes on to what takes the place', async ({ page, studio, service }) => {
  await studio.drawn({ prompt: CACTUS, ...QUICK });
  await studio.fill(ENDLESS);
  await studio.draw.press('Enter');
  await studio.is('drawing');
  await studio.cancel.press('Enter');
  await studio.is('idle', 'done');
  assert.equal(await focused(page), 'Draw', 'after Cancel');
  await studio.page.getByRole('button', { name: 'Dismiss' }).press('Enter');
  assert.equal(await focused(page), 'Draw', 'after a notice');
  const before = await studio.picture.getAttribute('src');
  await service.idle();
  await studio.vary.press('Enter');
  await studio.finished(before);
  assert.equal(await focused(page), 'Download', 'after the drawing');
  await studio.compareFirstTwo();
  await until(() => studio.reveal.evaluate((slider) => slider === document.activeElement), 'the slider has the focus');
  await page.keyboard.press('Escape');
  assert.match(await focused(page), / \(seed \d+\)$/, 'after comparing');
  const first = await focused(page);
  await page.keyboard.press('ArrowRight');
  const second = await focused(page);
  assert.notEqual(second, first);
  await page.keyboard.press('Delete');
  assert.equal(await focused(page), first, 'after removing');
});

test('a tab whose store was tampered with begins anew', async ({ page, studio }) => {
  await page.evaluate(() => {
    sessionStorage.setItem('job', '{"key": 1, "request": {}}');
    sessionStorage.setItem('draft', '{"size": 4}');
  });
  await page.reload();
  await studio.is('idle');
  await studio.drawn({ prompt: CACTUS, ...QUICK });
});
