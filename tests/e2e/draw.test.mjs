// What the page is for: a caption becomes a picture, in sight and under control.

import assert from 'node:assert/strict';

import { png, seedOf } from './picture.mjs';
import { scene } from './scene.mjs';
import { CACTUS, ENDLESS, until } from './service.mjs';

const { test } = scene();

test('the cactus is drawn and shown', async ({ studio }) => {
  const { name, bytes } = await studio.drawn({ prompt: CACTUS });
  const { width, height, texts } = png(bytes);
  assert.deepEqual([width, height], [256, 256]);
  assert.equal(texts['pixart:steps'], '4');
  assert.match(name, /\.png$/);
  assert.equal(await studio.picture.getAttribute('alt'), CACTUS);
  assert(await studio.picture.isVisible());
  const shown = await studio.picture.boundingBox();
  assert(Math.min(shown.width, shown.height) >= 256, `it is shown large: ${JSON.stringify(shown)}`);
  assert.equal(await studio.kept.count(), 1, 'and it is in the strip');
});

test('the tiny decoder draws the same scene, and the receipt says so', async ({ page, studio }) => {
  const full = png((await studio.drawn({ prompt: CACTUS, seed: 41 })).bytes);
  assert.equal(full.texts['pixart:decoder'], 'full');
  const tiny = png((await studio.drawn({ decoder: 'Tiny' })).bytes);
  assert.equal(tiny.texts['pixart:decoder'], 'tiny');
  assert.equal(tiny.texts['pixart:seed'], '41');
  // What a reload finds is what was chosen.
  await page.reload();
  await studio.is('idle');
  assert.equal(await studio.decoder.inputValue(), 'tiny');
});

test('progress and a live preview appear while it is drawn', async ({ page, studio, service }) => {
  const slow = await service.slow();
  await studio.start({ prompt: CACTUS, ...slow });
  await studio.is('drawing');
  await studio.progress.waitFor();
  assert.equal(await studio.bar.getAttribute('aria-valuemax'), String(slow.steps));
  const steps = new Set();
  await until(async () => {
    steps.add(Number(await studio.bar.getAttribute('aria-valuenow')));
    return steps.size >= 3;
  }, 'the bar moves');
  assert.match(await studio.elapsed.innerText(), /\d/);
  assert.match(await studio.remaining.innerText(), /\d/);
  await studio.preview.waitFor();
  assert.match(await studio.preview.getAttribute('alt'), /^Preview of step \d+$/);
  assert(await studio.preview.evaluate((image) => image.decode().then(() => image.naturalWidth > 0)));
  await studio.finished();
  assert(await studio.progress.isHidden(), 'progress leaves with the picture');
  assert.equal(await page.title(), 'pixart', 'and with it what the title told');
});

test('a picture is cancelled in the middle, and the server draws no further', async ({ studio, service }) => {
  const before = await service.finished('cancelled');
  await studio.start({ prompt: CACTUS, ...ENDLESS });
  await studio.is('drawing');
  await studio.preview.waitFor();
  await studio.cancel.click();
  await studio.told('cancelled');
  await studio.is('idle', 'failed');
  await until(async () => (await service.finished('cancelled')) === before + 1, 'the job is cancelled');
  assert.equal(await studio.prompt.inputValue(), CACTUS, 'the prompt stays');
  await studio.drawn({ width: 128, height: 128, count: 1, steps: 4 });
});

test('an example fills the prompt', async ({ studio }) => {
  const examples = await studio.examples.all();
  assert(examples.length >= 6, `six of the model's own at least, not ${examples.length}`);
  for (const example of examples) {
    const caption = (await example.innerText()).trim();
    await example.click();
    assert.equal(await studio.prompt.inputValue(), caption);
  }
  assert(await studio.draw.isEnabled());
});

test('a shape is the size that is drawn', async ({ studio }) => {
  await studio.prompt.fill(CACTUS);
  const radios = await studio.shapes.getByRole('radio').all();
  assert(radios.length >= 3, 'square, portrait and landscape at least');
  const seen = new Set();
  for (const radio of radios) {
    const name = await radio.evaluate((radio) => radio.getAttribute('aria-label') ?? radio.labels[0].innerText);
    const [, width, height] = /(\d+)\s*×\s*(\d+)/.exec(name);
    await radio.check({ force: true }); // it may lie under its label
    const { bytes } = await studio.drawn({ steps: 2 });
    const picture = png(bytes);
    assert.deepEqual([picture.width, picture.height], [Number(width), Number(height)], name);
    seen.add(Math.sign(picture.width - picture.height));
  }
  assert.equal(seen.size, 3, 'wide, high and square');
});

test('a locked seed stays, and an open one is a new one each time', async ({ studio }) => {
  const first = await studio.drawn({ prompt: CACTUS });
  const second = await studio.drawn({});
  assert.notEqual(seedOf(first.bytes), seedOf(second.bytes));
  const third = await studio.drawn({ seed: 43 });
  assert.equal(await studio.lock.getAttribute('aria-pressed'), 'true');
  assert.equal(seedOf(third.bytes), 43);
  const fourth = await studio.drawn({});
  assert(fourth.bytes.equals(third.bytes), 'the same seed draws the same bytes');
  await studio.die.click();
  assert.notEqual(await studio.field('seed').inputValue(), '43');
});

test('again draws the same, and vary the next seed', async ({ studio }) => {
  const first = await studio.drawn({ prompt: CACTUS, seed: 43, steps: 5 });
  const next = async (button) => {
    const before = await studio.picture.getAttribute('src');
    await button.click();
    return studio.finished(before);
  };
  assert((await next(studio.again)).bytes.equals(first.bytes));
  const varied = await next(studio.vary);
  assert.equal(seedOf(varied.bytes), 44);
  assert.equal(png(varied.bytes).texts['pixart:steps'], '5');
  assert.equal(seedOf((await next(studio.vary)).bytes), 45);
});

const CLIPBOARD = { context: { permissions: ['clipboard-read', 'clipboard-write'] } };

test('the seed that was used can be copied', CLIPBOARD, async ({ studio }) => {
  const { bytes } = await studio.drawn({ prompt: CACTUS });
  await studio.copySeed.click();
  await until(async () => (await studio.clipboard()) === String(seedOf(bytes)), 'the seed is on the clipboard');
});

test('three pictures are three seeds in a row, all in the strip', async ({ studio }) => {
  await studio.drawn({ prompt: CACTUS, seed: 43, count: 3 });
  await until(async () => (await studio.kept.count()) === 3, 'three are in the strip');
  const seeds = await studio.kept.evaluateAll((buttons) => buttons.map((button) => /seed (\d+)/.exec(button.ariaLabel)[1]));
  assert.deepEqual(seeds.sort(), ['43', '44', '45']);
});

test('a format is the file that is saved', async ({ studio }) => {
  const jpeg = await studio.drawn({ prompt: CACTUS, format: 'JPEG' });
  assert.match(jpeg.name, /\.jpe?g$/);
  assert.equal(jpeg.bytes.subarray(0, 3).toString('hex'), 'ffd8ff');
  const webp = await studio.drawn({ format: 'WebP' });
  assert.match(webp.name, /\.webp$/);
  assert.equal(webp.bytes.subarray(8, 12).toString('latin1'), 'WEBP');
});

test('the time of each stage and the receipt are told', async ({ studio }) => {
  await studio.drawn({ prompt: CACTUS, seed: 43 });
  const stages = await studio.timings.innerText();
  for (const stage of [/text/i, /steps|denois/i, /decod|vae/i, /encod|png|file/i]) assert.match(stages, stage);
  assert.match(stages, /\d/);
  const receipt = await studio.unfold('Receipt');
  const words = await receipt.innerText();
  for (const word of ['43', 'lcm', '256', 'sketchbook', 'CPU']) assert(words.includes(word), `the receipt has '${word}': ${words}`);
});

test('what it will take, and what the server would warn of, stand there before anything is drawn', async ({ studio, service }) => {
  const before = await service.accepted();
  await studio.fill({ prompt: CACTUS });
  await until(async () => /second|\d s/.test(await studio.estimate.innerText()), 'the seconds are predicted');
  assert.equal((await studio.warnings.innerText()).trim(), '');
  await studio.fill({ prompt: `${CACTUS} ${'and another cactus with another face '.repeat(40)} lighthouse` });
  await until(async () => /120|cut/.test(await studio.warnings.innerText()), 'it is told that the prompt is cut');
  await studio.fill({ prompt: CACTUS });
  await until(async () => (await studio.warnings.innerText()).trim() === '', 'the warning leaves with its reason');
  assert.equal(await service.accepted(), before, 'nothing was drawn');
});

test('the negative prompt is greyed with the reason while guidance makes it void', async ({ page, studio }) => {
  assert(await studio.negative.isDisabled());
  const reason = await studio.negative.evaluate((field) =>
    field.getAttribute('aria-describedby').split(' ').map((id) => document.getElementById(id).innerText).join(' '),
  );
  assert.match(reason, /guidance/i);
  await studio.fill({ guidance: 4.5 });
  await until(() => studio.negative.isEnabled(), 'guidance opens it');
  const asked = page.waitForRequest((request) => request.method() === 'POST' && !request.url().endsWith('/estimate'));
  await studio.start({ prompt: CACTUS, negative: 'rain' });
  const body = (await asked).postDataJSON();
  assert.equal(body.negative_prompt, 'rain');
  await studio.finished();
  await studio.fill({ guidance: 0 });
  await until(() => studio.negative.isDisabled(), 'and closes it again');
});
