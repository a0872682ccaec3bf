// One test file's scene: a real service, a real headless Chromium, and for each test a fresh profile with one tab or more.
//
// Whatever a tab complains of fails its test: errors and warnings of the console, exceptions, answers of 400 and above,
// requests that fail, and requests that leave the page's origin. What a test provokes it names in `expects`, as patterns.

import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { after, before, test } from 'node:test';

import { chromium } from 'playwright-core';

import { Service } from './service.mjs';
import { Studio } from './studio.mjs';

const CHROMIUM = process.env.PIXART_E2E_CHROMIUM ?? '/usr/bin/chromium';
const FLAGS = [
  '--no-sandbox', // root in a container has none
  '--disable-gpu',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
];
const WAIT_MS = 30_000; // longer than anything that a test waits for, on a machine that does other things too
const TEST_MS = 120_000;

export const DESKTOP = { width: 1280, height: 800 };
export const PHONE = { width: 390, height: 844 };

/** Starts the browser of a file. It goes with the process, at the latest. */
export async function launch() {
  assert(existsSync(CHROMIUM), `${CHROMIUM} is not there: install Debian's chromium, or name one in PIXART_E2E_CHROMIUM`);
  return chromium.launch({ executablePath: CHROMIUM, args: FLAGS });
}

/** What goes wrong in one tab, in words. */
export class Complaints {
  #heard = [];

  constructor(page, origin) {
    const hear = (what) => this.#heard.push(what);
    page.on('console', (message) => {
      const kind = message.type();
      if (kind === 'error' || kind === 'warning') {
        hear(`console ${kind}: ${message.text()} (${message.location().url})`);
      }
    });
    page.on('pageerror', (error) => hear(`exception: ${error.stack ?? error}`));
    page.on('crash', () => hear('the tab crashed'));
    page.on('request', (request) => {
      const url = new URL(request.url());
      if (!['blob:', 'data:'].includes(url.protocol) && url.origin !== origin()) hear(`leaves the origin: ${url}`);
    });
    page.on('response', (response) => {
      const request = response.request();
      if (response.status() >= 400) hear(`answer ${response.status()}: ${request.method()} ${new URL(response.url()).pathname}`);
    });
    page.on('requestfailed', (request) => {
      const why = request.failure()?.errorText;
      // The page's own doing: it takes back a request that it does not need any more.
      if (why === 'net::ERR_ABORTED') return;
      hear(`request failed: ${request.method()} ${new URL(request.url()).pathname}: ${why}`);
    });
  }

  /** Those that no pattern of `expected` knows. */
  beside(expected) {
    return this.#heard.filter((what) => !expected.some((pattern) => pattern.test(what)));
  }
}

/**
 * The scene of one file. `settings` are the service's; `front`, where given, stands between it and the browser: an object
 * with a `url` and `close()`, made by `front(service)`.
 */
export function scene(settings = {}, front = undefined) {
  const set = {};

  before(async () => {
    set.service = await Service.start(settings);
    set.front = await front?.(set.service);
    set.browser = await launch();
  });
  after(async () => {
    await set.browser?.close();
    await set.front?.close();
    await set.service?.stop();
  });

  /**
   * A test with a tab at the page: `{ page, studio, service, front, context, open }`, where `open()` gives a second tab of
   * the same profile. `options.context` is Playwright's, `options.expects` what the tabs may complain of, `options.blank`
   * leaves the tab empty.
   */
  const play = (name, options, body) => {
    test(name, { timeout: TEST_MS }, async () => {
      const { service, front } = set;
      const origin = () => (front ?? service).url;
      const context = await set.browser.newContext({ viewport: DESKTOP, colorScheme: 'light', ...options.context });
      context.setDefaultTimeout(WAIT_MS);
      const complaints = [];
      const open = async ({ blank = false } = {}) => {
        const page = await context.newPage();
        complaints.push(new Complaints(page, origin));
        page.on('response', (response) => {
          const job = response.headers()['x-job-id'];
          if (job) service.know(job);
        });
        const studio = new Studio(page, origin());
        if (!blank) await studio.visit();
        return { page, studio };
      };
      let failure;
      try {
        const { page, studio } = await open({ blank: options.blank });
        await body({ page, studio, service, front, context, open });
      } catch (error) {
        failure = error;
      }
      const unexpected = complaints.flatMap((heard) => heard.beside(options.expects ?? []));
      await context.close();
      await service.clear();
      if (failure && unexpected.length > 0) {
        throw new Error(`${failure.message}\nThe tab had complained:\n${unexpected.join('\n')}`, { cause: failure });
      }
      if (failure) throw failure;
      assert.deepEqual(unexpected, [], 'the tab complains of nothing');
    });
  };

  return {
    test: (name, ...rest) => (rest.length === 1 ? play(name, {}, rest[0]) : play(name, ...rest)),
  };
}
