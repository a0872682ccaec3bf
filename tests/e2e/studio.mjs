// The page as its users know it: by roles, names and the states that it tells. No test knows its insides.

import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';

/** Fields of the form by the names that they have there; those that are hidden in 'Other sizes' among them. */
const NUMBERS = { steps: 'Steps', guidance: 'Guidance', seed: 'Seed', count: 'Pictures', width: 'Width', height: 'Height' };

export class Studio {
  constructor(page, url) {
    this.page = page;
    this.url = url;
    const role = (kind, name, within = page) => within.getByRole(kind, { name, exact: true });
    const told = (name) => page.getByTestId(name);
    this.role = role;

    this.form = role('form', 'Draw a picture');
    this.prompt = role('textbox', 'Prompt');
    this.negative = role('textbox', 'Negative prompt');
    this.format = role('combobox', 'Format');
    this.decoder = role('combobox', 'Decoder');
    this.shapes = role('radiogroup', 'Shape');
    this.lock = role('button', 'Lock seed');
    this.die = role('button', 'Roll the die');
    this.draw = role('button', 'Draw');
    this.examples = role('region', 'Examples').getByRole('button');
    this.estimate = told('estimate');
    this.warnings = told('warnings');
    this.theme = page.getByRole('button', { name: /^Theme/ });

    this.progress = role('region', 'Progress');
    this.bar = this.progress.getByRole('progressbar');
    this.place = told('place');
    this.elapsed = told('elapsed');
    this.remaining = told('remaining');
    this.preview = told('preview');
    this.cancel = role('button', 'Cancel');

    this.picture = told('picture');
    this.download = role('link', 'Download');
    this.copySeed = role('button', 'Copy seed');
    this.again = role('button', 'Again');
    this.vary = role('button', 'Vary');
    this.timings = told('timings');
    // Says for a moment that it has copied, as the button above it may, too.
    this.copyRequest = page.getByRole('button', { name: /^(Copy request|Copied)$/ }).last();

    this.strip = role('region', "This session's pictures");
    this.kept = this.strip.getByRole('button', { name: / \(seed \d+\)$/ });
    this.compare = role('region', 'Compare');
    this.reveal = role('slider', 'Reveal');

    this.notice = told('notice');
    this.stopTrying = role('button', 'Stop trying');
    this.key = page.getByLabel('API key', { exact: true });
    this.useKey = role('button', 'Use key');
  }

  /** Opens the page, and waits until it can be used. */
  async visit() {
    await this.page.goto(this.url);
    await this.is('idle');
  }

  /** Waits until the page says that it is in one of these states. */
  async is(...states) {
    const selector = states.map((state) => `html[data-state="${state}"]`).join(', ');
    await this.page.locator(selector).waitFor({ state: 'attached' });
  }

  async state() {
    return this.page.locator('html').getAttribute('data-state');
  }

  /** One of the number fields: a spinbutton, or a slider where the form has none of that name. */
  field(name) {
    const label = NUMBERS[name];
    return this.role('spinbutton', label).or(this.role('slider', label)).first();
  }

  /** Fills the form. `seed` locks it, as people do who want that very seed. */
  async fill({ prompt, negative, format, decoder, ...numbers }) {
    if (prompt !== undefined) await this.prompt.fill(prompt);
    for (const [name, value] of Object.entries(numbers)) {
      if (name === 'width') await this.unfold('Other sizes');
      await this.field(name).fill(String(value));
    }
    if (numbers.seed !== undefined && (await this.lock.getAttribute('aria-pressed')) === 'false') await this.lock.click();
    if (negative !== undefined) await this.negative.fill(negative);
    if (format !== undefined) await this.format.selectOption({ label: format });
    if (decoder !== undefined) await this.decoder.selectOption({ label: decoder });
  }

  /** Fills the form and draws. */
  async start(fields) {
    await this.fill(fields);
    await this.draw.click();
  }

  /** Fills the form, draws, and waits for the picture. Returns the file that the page would save. */
  async drawn(fields) {
    const before = await this.picture.getAttribute('src', { timeout: 100 }).catch(() => null);
    await this.start(fields);
    return this.finished(before);
  }

  /** Waits for a picture that is not `before`. Returns the file that the page would save. */
  async finished(before = null) {
    await this.is('done');
    await this.page.waitForFunction(
      ([selector, before]) => {
        const picture = document.querySelector(selector);
        return picture?.src && picture.src !== before && picture.complete && picture.naturalWidth > 0;
      },
      ['[data-testid=picture]', before],
    );
    return this.saved();
  }

  /** The file behind the link to download, with the name that it is given. */
  async saved() {
    const download = this.page.waitForEvent('download');
    await this.download.click();
    const file = await download;
    return { name: file.suggestedFilename(), bytes: await readFile(await file.path()) };
  }

  async unfold(name) {
    const details = this.page.locator('details').filter({ has: this.page.locator('summary', { hasText: name }) });
    if (!(await details.evaluate((element) => element.open))) await details.locator('summary').click();
    return details;
  }

  /** What the page tells in an alert of this kind. */
  async told(kind) {
    const notice = this.page.locator(`[data-testid=notice][data-kind="${kind}"]`);
    await notice.waitFor();
    assert.equal(await notice.getAttribute('role'), 'alert');
    const words = (await notice.innerText()).trim();
    assert(words.length > 0, `the notice '${kind}' says nothing`);
    return words;
  }

  /** Waits until no notice is to be seen. */
  async quiet() {
    await this.notice.waitFor({ state: 'hidden' });
  }

  /** Lays the two newest pictures of the strip side by side. */
  async compareFirstTwo() {
    await this.kept.first().click();
    await this.strip.getByRole('button', { name: /^Compare with/ }).nth(1).click();
    await this.compare.waitFor();
  }

  /** What lies on the clipboard; the context must have been granted it. */
  async clipboard() {
    return this.page.evaluate(() => navigator.clipboard.readText());
  }
}
