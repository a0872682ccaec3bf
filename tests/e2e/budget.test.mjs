// What the page costs who opens it: time, bytes, and trust.

import assert from 'node:assert/strict';

import { scene } from './scene.mjs';
import { CACTUS } from './service.mjs';

const { test } = scene();

const FIRST_PAINT_MS = 300;
const MOST_BYTES = 100_000;
const VISITS = 5;

test('the first paint comes within 300 ms, from a cold cache', { blank: true }, async ({ page, studio, context }) => {
  const control = await context.newCDPSession(page);
  const paints = [];
  for (let visit = 0; visit < VISITS; visit += 1) {
    await control.send('Network.clearBrowserCache');
    await page.goto(studio.url);
    paints.push(
      await page.evaluate(
        () =>
          new Promise((resolve) => {
            new PerformanceObserver((list) => {
              const paint = list.getEntriesByName('first-contentful-paint')[0];
              if (paint) resolve(paint.startTime);
            }).observe({ type: 'paint', buffered: true });
          }),
      ),
    );
    await studio.is('idle');
  }
  paints.sort((a, b) => a - b);
  const median = paints[Math.floor(VISITS / 2)];
  console.log(`first contentful paint: ${Math.round(median)} ms, from ${paints.map(Math.round).join(', ')}`);
  assert(median < FIRST_PAINT_MS, `${median} ms`);
});

test('all that is served for the page is under 100 KB', { blank: true }, async ({ page, studio }) => {
  const sizes = new Map();
  page.on('response', async (response) => {
    const { pathname, protocol } = new URL(response.url());
    if (protocol === 'http:' && !pathname.startsWith('/v1/') && !/^\/(readyz|healthz)$/.test(pathname)) {
      sizes.set(pathname, response.body().then((body) => body.length));
    }
  });
  await studio.visit();
  await studio.drawn({ prompt: CACTUS, seed: 43 });
  await studio.drawn({ seed: 44 });
  await studio.compareFirstTwo();
  let sum = 0;
  for (const [pathname, size] of sizes) sum += await size;
  const names = [...sizes.keys()].join(' ');
  console.log(`the page: ${sum} bytes in ${sizes.size} files: ${names}`);
  assert(sizes.has('/') && sizes.size > 1, names);
  assert(sum < MOST_BYTES, `${sum} bytes`);
});

test('the page may load and call its own origin alone, and runs nothing inline', async ({ studio, service }) => {
  const answer = await fetch(service.url);
  const policy = Object.fromEntries(
    answer.headers.get('content-security-policy').split(';').map((rule) => {
      const [name, ...sources] = rule.trim().split(/\s+/);
      return [name, sources.join(' ')];
    }),
  );
  assert.equal(policy['default-src'], "'none'");
  for (const name of ['script-src', 'style-src', 'connect-src']) assert.equal(policy[name], "'self'", name);
  for (const name of ['form-action', 'base-uri', 'frame-ancestors']) assert.equal(policy[name], "'none'", name);
  assert.equal(answer.headers.get('x-content-type-options'), 'nosniff');
  assert.equal(answer.headers.get('referrer-policy'), 'no-referrer');
  const again = await fetch(service.url, { headers: { 'if-none-match': answer.headers.get('etag') } });
  assert.equal(again.status, 304);
  assert.doesNotMatch(await answer.text(), /<style|\sstyle=|<script(?![^>]*\ssrc=)|\son\w+=/i);
  await studio.drawn({ prompt: CACTUS });
});
