// Takes the pictures of the page that README shows: its main states, on a desktop and on a phone, light and dark.
//
// They go to docs/images/page-*.webp, at two dots a pixel and each small enough to be read over a slow line. Seeds are
// fixed, so that what they show changes with the page and the model alone.

import { mkdir, writeFile } from 'node:fs/promises';
import path from 'node:path';

import { Breaker, eventwise } from './breaker.mjs';
import { DESKTOP, PHONE, launch } from './scene.mjs';
import { CACTUS, ENDLESS, ROOT, Service } from './service.mjs';
import { Studio } from './studio.mjs';

const FOLDER = path.join(ROOT, 'docs/images');
const MOST_BYTES = 200_000;
const QUALITIES = [0.92, 0.85, 0.75, 0.6];
const SEED = 41;
const OTHERS = ['a big red rocket flying in outer space', 'a white sailboat on the ocean at sunset', 'a green tree in winter'];

const SHOTS = [
  ['idle', 'desktop', 'light'],
  ['drawing', 'desktop', 'dark'],
  ['done', 'desktop', 'light'],
  ['done', 'desktop', 'dark'],
  ['compare', 'desktop', 'light'],
  ['failed', 'desktop', 'light'],
  ['idle', 'phone', 'dark'],
  ['drawing', 'phone', 'light'],
  ['done', 'phone', 'light'],
  ['compare', 'phone', 'dark'],
];

/** Lets events through up to the preview number `count`, and holds the rest back: the page stands still in mid-picture. */
const upToPreview = (count, response) => {
  let previews = 0;
  const each = (event) => {
    if (previews >= count) return;
    if (/^event: partial_image/m.test(event)) previews += 1;
    response.write(event);
  };
  return eventwise(each, response, { open: true });
};

/** Brings a fresh page into a state. */
const states = {
  async idle({ studio }) {
    await studio.fill({ prompt: CACTUS });
    await studio.estimate.getByText(/second|\d/).waitFor();
  },
  async drawing({ studio, front }) {
    await studio.drawn({ prompt: OTHERS[0], seed: SEED });
    front.breaks = (request, response, pass) =>
      /\/events$/.test(request.url) || request.url === '/v1/images' ? pass(upToPreview(3, response)) : pass();
    await studio.start({ prompt: CACTUS, steps: 8 });
    await studio.is('drawing');
    await studio.preview.and(studio.page.getByAltText(/[3-9]$/)).waitFor();
  },
  async done({ studio }) {
    for (const prompt of [...OTHERS, CACTUS]) await studio.drawn({ prompt, seed: SEED });
  },
  async compare({ studio }) {
    await studio.drawn({ prompt: CACTUS, seed: SEED, steps: 2 });
    await studio.drawn({ steps: 8 });
    await studio.compareFirstTwo();
  },
  async failed({ studio, service }) {
    await studio.drawn({ prompt: OTHERS[1], seed: SEED });
    const other = await service.job({ ...ENDLESS, count: 2 });
    await studio.start({ prompt: CACTUS });
    await studio.told('full');
    return () => service.take(other);
  },
};

/** As WebP, in the best quality that is small enough. The browser itself encodes it. */
async function compressed(page, png) {
  for (const quality of QUALITIES) {
    const base64 = await page.evaluate(
      async ([base64, quality]) => {
        const bytes = Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
        const image = await createImageBitmap(new Blob([bytes], { type: 'image/png' }));
        const canvas = new OffscreenCanvas(image.width, image.height);
        canvas.getContext('2d').drawImage(image, 0, 0);
        const blob = await canvas.convertToBlob({ type: 'image/webp', quality });
        const webp = new Uint8Array(await blob.arrayBuffer());
        return btoa(Array.from(webp, (byte) => String.fromCharCode(byte)).join(''));
      },
      [png.toString('base64'), quality],
    );
    const webp = Buffer.from(base64, 'base64');
    if (webp.length <= MOST_BYTES || quality === QUALITIES.at(-1)) return webp;
  }
}

const service = await Service.start({ 'queue.capacity': 0 });
const front = await Breaker.before(service);
const browser = await launch();
try {
  await mkdir(FOLDER, { recursive: true });
  const encoder = await browser.newPage();
  for (const [state, device, colorScheme] of SHOTS) {
    const handheld = device === 'phone' ? { viewport: PHONE, isMobile: true, hasTouch: true } : { viewport: DESKTOP };
    const context = await browser.newContext({ ...handheld, colorScheme, deviceScaleFactor: 2, reducedMotion: 'reduce' });
    const page = await context.newPage();
    page.on('response', (response) => {
      const job = response.headers()['x-job-id'];
      if (job) service.know(job);
    });
    const studio = new Studio(page, front.url);
    await studio.visit();
    const after = await states[state]({ studio, service, front });
    // As people have it before them: what has just come about is in sight, and nothing has the focus.
    await page.evaluate(() => document.activeElement?.blur());
    if (device === 'desktop') await page.evaluate(() => scrollTo(0, 0));
    const webp = await compressed(encoder, await page.screenshot());
    const name = `page-${state}-${device}-${colorScheme}.webp`;
    await writeFile(path.join(FOLDER, name), webp);
    console.log(`${name}: ${Math.round(webp.length / 1000)} KB`);
    front.breaks = undefined;
    await after?.();
    await context.close();
    await service.clear();
  }
} finally {
  await browser.close();
  await front.close();
  await service.stop();
}
