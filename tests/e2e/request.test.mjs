// A prompt is text, whatever stands in it: on the page, and in the commands that are copied from it, which are really run.

import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdtemp, readFile, readdir, rm, writeFile } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { promisify } from 'node:util';

import { png } from './picture.mjs';
import { scene } from './scene.mjs';
import { CACTUS, until } from './service.mjs';

const { test } = scene();
const run = promisify(execFile);

const CLIPBOARD = { context: { permissions: ['clipboard-read', 'clipboard-write'] } };
const MOST_CHARACTERS = 4096; // limits.max_prompt_chars

/** All that shells, JSON, Python, JavaScript and HTML take for their own. */
const HOSTILE = [
  `it's "quoted" \\"twice\\" $(touch pwned) \`touch pwned\` \${HOME} $HOME %s %22 !! ; touch pwned & # \\`,
  `''' """ \\n \\u0041 \\x41 {{braces}} */ // --> ]]> </script><script>globalThis.pwned = 1</script>`,
  'EOF',
  `<img src=x onerror="globalThis.pwned = 1"> &amp; &lt;b&gt; <b>bold</b>`,
  `🌵 👩‍👩‍👧 שלום עולם \u202Eright to left\u202C مرحبا \u2028 \u00A0 end`,
].join('\n');

const LANGUAGES = [
  ['curl', 'request.sh', 'sh'],
  ['Python', 'request.py', 'python3'],
  ['JavaScript', 'request.mjs', process.execPath],
];

/** Runs a copied request in an empty folder. Returns the one file that it leaves. */
async function ran(text, file, program) {
  const folder = await mkdtemp(path.join(os.tmpdir(), 'pixart-e2e-'));
  try {
    await writeFile(path.join(folder, file), text);
    const { stdout } = await run(program, [file], { cwd: folder, timeout: 60_000, encoding: 'buffer', maxBuffer: 1 << 24 });
    const made = (await readdir(folder)).filter((name) => name !== file);
    assert(made.length <= 1, `one picture, and nothing beside it: ${made}`);
    return made.length === 1 ? await readFile(path.join(folder, made[0])) : stdout;
  } finally {
    await rm(folder, { recursive: true });
  }
}

async function copied(studio, language) {
  await studio.page.evaluate(() => navigator.clipboard.writeText(''));
  await studio.role('tab', language).click();
  await studio.copyRequest.click();
  await until(async () => (await studio.clipboard()) !== '', `the request as ${language} is on the clipboard`);
  return studio.clipboard();
}

for (const [what, fields] of [
  ['a plain prompt', { prompt: CACTUS }],
  ['a hostile prompt', { prompt: HOSTILE }],
  ['a hostile prompt of full length', { prompt: [...HOSTILE.repeat(20)].slice(0, MOST_CHARACTERS).join('') }],
  ['a hostile negative prompt and all fields', { prompt: CACTUS, guidance: 4.5, negative: HOSTILE, steps: 3, seed: 44, width: 192, height: 128 }],
]) {
  test(`${what}: the copied curl, Python and JavaScript draw the very picture`, CLIPBOARD, async ({ page, studio }) => {
    const { bytes } = await studio.drawn(fields);
    png(bytes);
    for (const [language, file, program] of LANGUAGES) {
      const again = await ran(await copied(studio, language), file, program);
      assert(again.equals(bytes), `${language} draws the same bytes`);
    }
    assert.equal(await page.evaluate(() => globalThis.pwned), undefined);
  });
}

test('a JPEG is asked for as a JPEG', CLIPBOARD, async ({ studio }) => {
  const { bytes } = await studio.drawn({ prompt: CACTUS, format: 'JPEG' });
  for (const [language, file, program] of LANGUAGES) {
    const again = await ran(await copied(studio, language), file, program);
    assert(again.equals(bytes), `${language} draws the same bytes`);
  }
});

test('a prompt of HTML is text wherever it is shown', async ({ page, studio }) => {
  const prompt = `${HOSTILE} ${'<b>and so on</b> '.repeat(60)}`.trim();
  await studio.prompt.fill(prompt);
  await until(async () => (await studio.warnings.innerText()).includes('b>'), 'the warning quotes what is cut off');
  const harmless = async () => {
    assert.equal(await page.evaluate(() => globalThis.pwned), undefined, 'nothing of it runs');
    const made = page.locator('b, script').filter({ hasText: /bold|and so on|pwned/ }).or(page.locator('img[src=x]'));
    assert.equal(await made.count(), 0, 'nothing of it becomes an element');
  };
  await harmless();
  await studio.drawn({});
  assert.equal(await studio.picture.getAttribute('alt'), prompt);
  for (const [language] of LANGUAGES) {
    await studio.role('tab', language).click();
    assert((await page.getByRole('tabpanel').innerText()).includes('globalThis.pwned = 1'), language);
  }
  await studio.unfold('Receipt');
  await harmless();
  await page.reload();
  await studio.is('idle', 'done');
  await studio.kept.first().waitFor();
  await harmless();
});

test('a prompt of ten thousand characters is refused in words, and can be shortened', {
  expects: [/^answer 422: /, /^console error: .* 422 /],
}, async ({ studio, service }) => {
  const before = await service.accepted();
  const long = [...HOSTILE.repeat(40)].slice(0, 10_000).join('');
  await studio.prompt.fill(long);
  assert((await studio.prompt.inputValue()).length >= 10_000, 'nothing is cut off in silence');
  await studio.draw.click();
  assert.match(await studio.told('invalid'), /4[,. ]?096|characters/);
  assert.equal(await service.accepted(), before);
  await studio.drawn({ prompt: CACTUS });
  await studio.quiet();
});
