// For everybody: by keyboard alone, on a phone, in the dark, without motion, and with a screen reader as far as axe knows.

import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';

import { seedOf } from './picture.mjs';
import { DESKTOP, PHONE, scene } from './scene.mjs';
import { CACTUS, ENDLESS, until } from './service.mjs';

const { test } = scene({ 'queue.capacity': 0 });

const QUICK = { width: 128, height: 128, steps: 4, count: 1 };
const FULL = [/^answer 429: POST/, /^console error: .* 429 /];
const HANDHELD = { viewport: PHONE, deviceScaleFactor: 2, isMobile: true, hasTouch: true };

/** All that can be pressed, typed into or moved, and is to be seen now. */
const CONTROLS = 'a[href], button, input, select, textarea, summary, [tabindex="0"]';

/** Brings the page into each of its states in turn, and looks at each. */
async function everyState({ studio, service }, look) {
  await look('idle');
  await studio.start({ prompt: CACTUS, ...ENDLESS });
  await studio.is('drawing');
  await studio.preview.waitFor();
  await look('drawing');
  await studio.cancel.click();
  await studio.told('cancelled');
  await look('cancelled');
  await service.idle();
  await studio.drawn({ prompt: CACTUS, ...QUICK, seed: 43 });
  await studio.unfold('Receipt');
  await look('done');
  await studio.drawn({ seed: 44 });
  await studio.compareFirstTwo();
  await look('compare');
  const other = await service.job({ ...ENDLESS });
  await studio.draw.click();
  await studio.told('full');
  await look('full');
  await studio.stopTrying.click();
  await service.take(other);
}

/** What axe finds serious or critical, one line each. */
async function axe(page) {
  const { violations, passes } = await page.evaluate(() => globalThis.axe.run(document, { resultTypes: ['violations'] }));
  assert(passes.length > 10, 'axe has looked');
  return violations
    .filter(({ impact }) => impact === 'serious' || impact === 'critical')
    .flatMap(({ id, help, nodes }) => nodes.map((node) => `${id}: ${help}: ${node.html} ${node.any[0]?.message ?? ''}`));
}

test('axe finds nothing serious in any state, light and dark, desktop and phone', { expects: FULL, blank: true }, async ({ page, studio, service, context }) => {
  const source = createRequire(import.meta.url).resolve('axe-core/axe.min.js');
  await context.addInitScript({ content: await readFile(source, 'utf8') });
  await studio.visit();
  const found = [];
  await everyState({ studio, service }, async (state) => {
    for (const [size, viewport] of Object.entries({ desktop: DESKTOP, phone: PHONE })) {
      await page.setViewportSize(viewport);
      for (const colorScheme of ['light', 'dark']) {
        await page.emulateMedia({ colorScheme });
        await settled(page);
        found.push(...(await axe(page)).map((what) => `${state}, ${size}, ${colorScheme}: ${what}`));
      }
    }
    await page.setViewportSize(DESKTOP);
    await page.emulateMedia({ colorScheme: 'light' });
  });
  assert.deepEqual(found, []);
});

/** Waits until no transition is under way that ends: a colour in between is nobody's. */
async function settled(page) {
  await page.waitForFunction(() =>
    document.getAnimations().every((animation) => animation.playState !== 'running' || animation.effect.getTiming().iterations === Infinity),
  );
}

test('a phone needs no scrolling sideways, and all of it is within a thumb\'s reach', { expects: FULL, context: HANDHELD }, async ({ page, studio, service }) => {
  await everyState({ studio, service }, async (state) => {
    const wide = await page.evaluate(() => document.documentElement.scrollWidth);
    assert(wide <= PHONE.width, `${state}: ${wide} px wide`);
    const lost = await page.evaluate((controls) => {
      const name = (element) => `${element.tagName} ${element.getAttribute('aria-label') ?? element.innerText ?? ''} ${element.name ?? ''}`.trim();
      return [...document.querySelectorAll(controls)]
        .filter((element) => element.checkVisibility({ visibilityProperty: true, opacityProperty: false }) && !element.disabled)
        .filter((element) => {
          // A field that is hidden in favour of its label is pressed there.
          element.focus({ preventScroll: true }); // some are only there for who has come to them
          const target = element.labels?.[0]?.contains(element) ? element.labels[0] : element;
          target.scrollIntoView({ block: 'center', inline: 'nearest', behavior: 'instant' });
          const box = target.getBoundingClientRect();
          const hit = document.elementFromPoint(box.x + box.width / 2, box.y + box.height / 2);
          const inside = box.left >= -1 && box.right <= innerWidth + 1;
          const large = box.width >= 24 && box.height >= 24;
          const strip = element.closest('[aria-label="This session\'s pictures"]'); // it scrolls by itself
          return !hit || !(target.contains(hit) || hit.contains(target) || element.labels?.[0]?.contains(hit)) || !large || !(inside || strip);
        })
        .map(name);
    }, CONTROLS);
    assert.deepEqual(lost, [], `${state}: covered, cut off, or smaller than 24 px`);
  });
});

/** 0 for black, 1 for white: what the page lies on. */
const brightness = (page) =>
  page.evaluate(() => {
    const canvas = document.createElement('canvas').getContext('2d');
    for (const element of [document.documentElement, document.body]) {
      canvas.fillStyle = getComputedStyle(element).backgroundColor;
      canvas.fillRect(0, 0, 1, 1);
    }
    const [red, green, blue] = canvas.getImageData(0, 0, 1, 1).data;
    return (red + green + blue) / 765;
  });

test('the page is dark where the system is, and the button overrules it for good', async ({ page, studio }) => {
  assert((await brightness(page)) > 0.8, 'light');
  await page.emulateMedia({ colorScheme: 'dark' });
  await until(async () => (await brightness(page)) < 0.25, 'the page follows the system into the dark');
  await page.emulateMedia({ colorScheme: 'light' });
  await until(async () => (await brightness(page)) > 0.8, 'and back');
  const dark = async () => {
    await settled(page);
    return (await brightness(page)) < 0.25;
  };
  for (let presses = 0; presses < 3 && !(await dark()); presses += 1) await studio.theme.click();
  assert(await dark(), 'one of its three positions is dark');
  await page.reload();
  await studio.is('idle');
  assert(await dark(), 'it is remembered');
});

test('nothing moves where motion is not wanted', { context: { reducedMotion: 'reduce' } }, async ({ page, studio, service }) => {
  const moving = () =>
    page.evaluate(() =>
      document
        .getAnimations()
        .filter((animation) => animation.playState === 'running' && animation.effect.getComputedTiming().duration > 1)
        .map((animation) => `${animation.animationName ?? animation.transitionProperty} of ${animation.effect.target?.outerHTML.slice(0, 80)}`),
    );
  assert.deepEqual(await moving(), []);
  await studio.start({ prompt: CACTUS, ...ENDLESS });
  await studio.is('drawing');
  await studio.preview.waitFor();
  assert.deepEqual(await moving(), []);
  await studio.cancel.click();
  await service.idle();
  await studio.drawn(QUICK);
  assert.deepEqual(await moving(), []);
});

/** Presses Tab until `target` has the focus. */
async function tabTo(page, target, what) {
  for (let presses = 0; presses < 80; presses += 1) {
    await page.keyboard.press('Tab');
    if (await target.evaluate((element) => element === document.activeElement)) return;
  }
  assert.fail(`Tab does not lead to ${what}`);
}

test('from the first key to the saved picture without a mouse', async ({ page, studio }) => {
  await tabTo(page, studio.prompt, 'the prompt');
  await page.keyboard.type(CACTUS);
  await tabTo(page, studio.field('steps'), 'the steps');
  await page.keyboard.press('ArrowUp');
  const steps = await studio.field('steps').inputValue();
  assert.equal(steps, '5');
  await tabTo(page, studio.field('seed'), 'the seed');
  await page.keyboard.press('ControlOrMeta+A');
  await page.keyboard.type('43');
  await tabTo(page, studio.draw, 'the button to draw');
  await page.keyboard.press('Enter');
  await studio.is('done');
  await studio.picture.waitFor();
  await tabTo(page, studio.download, 'the link to download');
  const download = page.waitForEvent('download');
  await page.keyboard.press('Enter');
  const bytes = await readFile(await (await download).path());
  assert.equal(seedOf(bytes), 43);
});

test('a shape is chosen by the arrows, and a picture is cancelled by key', async ({ page, studio }) => {
  const shape = studio.shapes.getByRole('radio', { checked: true });
  await tabTo(page, shape.first(), 'the shapes');
  const before = await shape.first().evaluate((radio) => radio.value);
  await page.keyboard.press('ArrowRight');
  assert.notEqual(await shape.first().evaluate((radio) => radio.value), before);
  await studio.fill({ prompt: CACTUS, ...ENDLESS });
  await studio.prompt.press('ControlOrMeta+Enter');
  await studio.is('drawing');
  if (!(await studio.cancel.evaluate((button) => button === document.activeElement))) await tabTo(page, studio.cancel, 'Cancel');
  await page.keyboard.press('Enter');
  await studio.told('cancelled');
});

test('the focus can be seen wherever it is', async ({ page, studio }) => {
  await studio.drawn({ prompt: CACTUS, ...QUICK });
  await page.keyboard.press('Tab'); // from here on, the focus is shown
  const unseen = await page.evaluate((controls) => {
    const look = (element) =>
      [element, element.labels?.[0], element.parentElement, element.nextElementSibling]
        .filter(Boolean)
        .map((element) => {
          const { outlineStyle, outlineWidth, outlineColor, boxShadow, borderColor, backgroundColor } = getComputedStyle(element);
          return [outlineStyle, outlineWidth, outlineColor, boxShadow, borderColor, backgroundColor].join(' ');
        })
        .join('\n');
    const unseen = [];
    for (const element of document.querySelectorAll(controls)) {
      if (!element.checkVisibility({ visibilityProperty: true }) || element.disabled) continue;
      document.activeElement?.blur();
      const before = look(element);
      element.focus();
      if (document.activeElement === element && look(element) === before) unseen.push(element.outerHTML.slice(0, 120));
    }
    return unseen;
  }, CONTROLS);
  assert.deepEqual(unseen, []);
});

test('what happens is said to those who do not see it', async ({ page, studio }) => {
  await studio.drawn({ prompt: CACTUS, ...QUICK });
  const spoken = await page.locator('[aria-live=polite], [role=status]').allInnerTexts();
  assert(spoken.some((words) => /drawn|done|ready|finished/i.test(words)), `a live region tells of the picture: ${JSON.stringify(spoken)}`);
});
