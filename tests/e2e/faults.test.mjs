// What comes back is no answer of ours: the page says so, and there is a way on.

import assert from 'node:assert/strict';

import { Breaker, cutAfter, empty, hangUp, html, upToHalfOf, without } from './breaker.mjs';
import { scene } from './scene.mjs';
import { CACTUS } from './service.mjs';

const { test } = scene({}, (service) => Breaker.before(service));

const QUICK = { width: 128, height: 128, steps: 4, count: 1 };
const BROKEN = { expects: [/^request failed: /, /^console error: .*net::ERR_/, /^answer 50\d: /, /^console error: .* 50\d /] };

const isDrawing = (request) => request.method === 'POST' && ['/v1/jobs', '/v1/images'].includes(request.url);
const isStream = (request) => /\/events(\?|$)/.test(request.url) || (request.method === 'POST' && request.url === '/v1/images');

/** The page tells what it met, keeps what was typed, and draws as soon as the server is itself again. */
async function tellsAndGoesOn(page, studio, front) {
  await studio.page.locator('[data-testid=notice][data-kind="broken"], [data-testid=notice][data-kind="offline"]').waitFor();
  assert.match(await studio.notice.innerText(), /\w+ \w+/, 'in words');
  assert.equal(await page.evaluate(() => globalThis.pwned), undefined, 'and runs nothing of it');
  assert.equal(await page.getByRole('heading', { name: 'hotel' }).count(), 0);
  front.breaks = undefined;
  await studio.is('idle', 'failed', 'done');
  assert.equal(await studio.prompt.inputValue(), CACTUS, 'the prompt stays');
  await studio.drawn(QUICK);
  await studio.quiet();
}

for (const [what, answer] of [
  ['HTML that says all is well', html(200)],
  ['HTML that says it is a bad gateway', html(502)],
  ['nothing', hangUp],
  ['an empty answer', empty],
]) {
  test(`a server that answers ${what} is told of, and the next request draws`, BROKEN, async ({ page, studio, front }) => {
    await studio.fill({ prompt: CACTUS, ...QUICK });
    front.breaks = (request, response, pass) => (isDrawing(request) ? answer(response) : pass());
    await studio.draw.click();
    await tellsAndGoesOn(page, studio, front);
  });
}

test('half a stream is taken up again where the server still draws', BROKEN, async ({ studio, service, front }) => {
  const before = await service.accepted();
  let cut = 0;
  front.breaks = (request, response, pass) => {
    if (isStream(request) && cut < 1) {
      cut += 1;
      pass(cutAfter(600, response));
    } else pass();
  };
  await studio.start({ prompt: CACTUS, ...(await service.slow()) });
  await studio.finished();
  assert.equal(cut, 1);
  assert.equal(await service.accepted(), before + 1, 'nothing is drawn twice');
});

test('half a stream, time and again, is told of, and the next request draws', BROKEN, async ({ page, studio, front }) => {
  // Room for an event or two, never for the last one.
  front.breaks = (request, response, pass) => (isStream(request) ? pass(cutAfter(200, response)) : pass());
  await studio.start({ prompt: CACTUS, ...QUICK });
  await tellsAndGoesOn(page, studio, front);
});

test('a stream that never says that it is over is told of, and the picture is shown', BROKEN, async ({ page, studio, front }) => {
  front.breaks = (request, response, pass) => (isStream(request) ? pass(without(/^event: completed/m, response)) : pass());
  await studio.start({ prompt: CACTUS, ...QUICK });
  await tellsAndGoesOn(page, studio, front);
  assert.equal(await studio.kept.count(), 2, 'the picture that did arrive is kept');
});

test('a stream of nonsense is told of, and the next request draws', BROKEN, async ({ page, studio, front }) => {
  front.breaks = (request, response, pass) => {
    if (!isStream(request)) return pass();
    response.writeHead(200, { 'content-type': 'text/event-stream' });
    response.end('event: step\ndata: {"image_index":0,"step":\n\nevent: completed\ndata: <b>no</b>\n\n');
  };
  await studio.start({ prompt: CACTUS, ...QUICK });
  await tellsAndGoesOn(page, studio, front);
});

test('a server that never answers can be left', BROKEN, async ({ studio, front }) => {
  await studio.fill({ prompt: CACTUS, ...QUICK });
  front.breaks = (request, response, pass) => (isDrawing(request) ? undefined : pass());
  await studio.draw.click();
  await studio.is('waiting', 'drawing');
  await studio.cancel.click();
  front.breaks = undefined;
  await studio.is('idle', 'failed');
  await studio.drawn(QUICK);
});

test('half a picture is told of, and the next request draws', BROKEN, async ({ page, studio, front }) => {
  // It comes in its event, or by an address of its own.
  front.breaks = (request, response, pass) => {
    if (isStream(request)) pass(upToHalfOf(/^event: image$/m, response));
    else if (/\/images\/\d+$/.test(request.url)) pass(cutAfter(2000, response));
    else pass();
  };
  await studio.start({ prompt: CACTUS, ...QUICK });
  await tellsAndGoesOn(page, studio, front);
});

test('a page whose server tells nothing of itself says so, and recovers', { ...BROKEN, blank: true }, async ({ page, studio, front }) => {
  front.breaks = (request, response, pass) => (request.url.startsWith('/v1/') ? html(200)(response) : pass());
  await page.goto(studio.url);
  await page.locator('[data-testid=notice][data-kind="broken"], [data-testid=notice][data-kind="offline"]').waitFor();
  front.breaks = undefined;
  await page.getByRole('button', { name: 'Try again' }).click();
  await studio.is('idle');
  await studio.quiet();
  await studio.drawn({ prompt: CACTUS });
});
