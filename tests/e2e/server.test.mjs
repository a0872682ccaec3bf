// The server goes and comes, under the open page.

import assert from 'node:assert/strict';

import { scene } from './scene.mjs';
import { CACTUS, ENDLESS } from './service.mjs';

const { test } = scene({ 'server.grace_seconds': 20 });

const QUICK = { width: 128, height: 128, steps: 4, count: 1 };
/** What the browser itself says of a server that is away. */
const AWAY = [/^request failed: /, /^console error: .*net::ERR_/];
/** The server that is back knows nothing of the job. */
const UNKNOWN = [/^answer 404: GET \/v1\/jobs\//, /^console error: .* 404 /];
/** It shuts down, or loads its model. */
const BUSY = [/^answer 503: /, /^console error: .* 503 /];

test('a server that is stopped is told of, and found again', { expects: [...AWAY, ...BUSY] }, async ({ studio, service }) => {
  await studio.fill({ prompt: CACTUS, ...QUICK });
  await service.stop();
  await studio.draw.click();
  await studio.told('offline');
  assert.equal(await studio.prompt.inputValue(), CACTUS, 'the prompt stays');
  await service.start();
  await studio.quiet();
  // Whether it has tried again by itself or waits for the click, a picture is at most one click away.
  if ((await studio.state()) === 'idle' || (await studio.state()) === 'failed') await studio.draw.click();
  await studio.finished();
});

test('a server that is killed in the middle is told of, and the page goes on', { expects: [...AWAY, ...BUSY, ...UNKNOWN] }, async ({ studio, service }) => {
  await studio.start({ prompt: CACTUS, ...ENDLESS });
  await studio.is('drawing');
  await service.kill();
  await studio.told('offline');
  await service.start();
  // The job died with the server, which is asked for it once more: nobody has to press anything.
  await studio.is('drawing');
  await studio.quiet();
  assert.equal(await service.accepted(), 1, 'once');
  await studio.cancel.click();
  await studio.told('cancelled');
  await studio.drawn(QUICK);
});

test('a server that shuts down is told of, and the next one draws', { expects: [...BUSY, ...AWAY] }, async ({ studio, service }) => {
  const last = await service.job(ENDLESS);
  await studio.fill({ prompt: CACTUS, ...QUICK });
  service.signal('SIGTERM');
  await service.drains();
  await studio.draw.click();
  await studio.told('draining');
  await service.take(last);
  await service.ended();
  await service.start();
  await studio.quiet();
  if ((await studio.state()) === 'idle' || (await studio.state()) === 'failed') await studio.draw.click();
  await studio.finished();
});

test('a page that is opened before the server stops can be used after it is back', { expects: [...AWAY, ...BUSY] }, async ({ page, studio, service }) => {
  await service.stop();
  await service.start();
  await studio.drawn({ prompt: CACTUS, ...QUICK });
  await page.reload();
  await studio.is('idle', 'done');
});
