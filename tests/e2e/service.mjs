// A real `pixart serve` for the tests of the page: started on a free port with the embedded model, looked at through its
// metrics and its jobs, stopped by a signal, and started again at the same address.
//
// The binary is PIXART_E2E_BINARY. Nothing of the caller's own PIXART variables gets through, but for the runtime's place.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import path from 'node:path';
import readline from 'node:readline';
import { setTimeout as pause } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';

export const ROOT = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '../..');
export const CACTUS = 'A small cactus with a happy face in the Sahara desert.';
/** A picture that nobody waits for: minutes on any machine. Its cost is just within the limits. */
export const ENDLESS = { width: 1024, height: 1024, steps: 20, count: 9 };

const START_MS = 180_000; // the first start ever writes the embedded model's IR into the cache
const STOP_MS = 40_000; // beyond the grace period of 25 s
const WAIT_MS = 30_000;

/** Waits until `holds` is true. A failure says `what` was waited for. */
export async function until(holds, what, limitMs = WAIT_MS) {
  const giveUp = Date.now() + limitMs;
  while (!(await holds())) {
    assert(Date.now() < giveUp, `${what}: not after ${limitMs} ms`);
    await pause(20);
  }
}

export class Service {
  #process;
  #settings;
  #lines = [];
  #jobs = new Set();
  url = '';

  /** Settings are named as in config/default.toml: `await Service.start({ 'queue.capacity': 0 })`. */
  static async start(settings = {}) {
    const service = new Service();
    // What is to outlast a test costs more than one request may by default.
    service.#settings = { 'server.listen': '127.0.0.1:0', 'log.format': 'json', 'limits.max_megapixel_steps': '2000', ...settings };
    await service.start();
    return service;
  }

  /** Starts it, or starts it again where it was. It is ready when this returns, not only listening. */
  async start() {
    const inherited = Object.entries(process.env).filter(
      ([name]) => !name.startsWith('PIXART_') || name === 'PIXART__OPENVINO__LIBRARY',
    );
    const own = Object.entries(this.#settings).map(([key, value]) => [
      `PIXART__${key.toUpperCase().replace('.', '__')}`,
      String(value),
    ]);
    assert(process.env.PIXART_E2E_BINARY, 'PIXART_E2E_BINARY names no binary: run these tests with make e2e');
    this.#process = spawn(process.env.PIXART_E2E_BINARY, ['serve'], {
      cwd: ROOT,
      env: Object.fromEntries([...inherited, ...own]),
      stdio: ['ignore', 'ignore', 'pipe'],
    });
    const address = await this.#ready();
    this.#settings['server.listen'] = address;
    this.url = `http://${address}`;
  }

  async #ready() {
    const lines = readline.createInterface({ input: this.#process.stderr });
    const giveUp = setTimeout(() => this.#process.kill('SIGKILL'), START_MS);
    const ready = new Promise((resolve, reject) => {
      lines.on('line', (line) => {
        this.#lines.push(line);
        if (!line.includes('"message":"ready"')) return;
        resolve(JSON.parse(line).address);
      });
      lines.on('close', () => reject(new Error(`pixart serve was never ready:\n${this.log().slice(-2000)}`)));
    });
    return ready.finally(() => clearTimeout(giveUp));
  }

  /** All that it has logged since the tests began. */
  log() {
    return this.#lines.join('\n');
  }

  /** Sends a signal, and does not wait for what comes of it. */
  signal(name) {
    this.#process.kill(name);
  }

  #running() {
    return this.#process.exitCode === null && this.#process.signalCode === null;
  }

  async ended() {
    if (this.#running()) await once(this.#process, 'exit');
  }

  /** Ends it as an operator does. */
  async stop() {
    if (!this.#running()) return;
    this.signal('SIGTERM');
    const stuck = setTimeout(() => this.signal('SIGKILL'), STOP_MS);
    await this.ended();
    clearTimeout(stuck);
  }

  /** Ends it as a power cut does. */
  async kill() {
    this.signal('SIGKILL');
    await this.ended();
  }

  /** Waits until it takes no more requests, after SIGTERM. */
  async drains() {
    await until(async () => (await this.ask('GET', '/readyz')).status === 503, 'it takes no more');
  }

  /** Asks it something beside the page. */
  async ask(method, where, body) {
    // A connection of its own: one that was kept may be closed at that very moment.
    const headers = { 'content-type': 'application/json', connection: 'close' };
    if (this.#settings['auth.keys']) headers['x-api-key'] = this.#settings['auth.keys'];
    return fetch(this.url + where, { method, headers, body: body && JSON.stringify(body) });
  }

  /** Makes a job of somebody else, who is not the page. Returns its id. */
  async job(fields) {
    const { width, height, count = 1, ...others } = fields;
    const answer = await this.ask('POST', '/v1/jobs', { prompt: CACTUS, size: `${width}x${height}`, n: count, ...others });
    const job = await answer.json();
    assert.equal(answer.status, 202, JSON.stringify(job));
    this.know(job.id);
    return job.id;
  }

  /** The fields of a picture that takes some seconds on this machine, as the service predicts it. */
  async slow(seconds = 2) {
    let fields;
    for (const side of [384, 512, 768, 1024]) {
      for (const steps of [10, 20]) {
        fields = { width: side, height: side, steps, count: 1 };
        const asked = { prompt: CACTUS, size: `${side}x${side}`, steps };
        const { predicted_seconds: predicted } = await (await this.ask('POST', '/v1/images/estimate', asked)).json();
        if (predicted >= seconds) return fields;
      }
    }
    return fields;
  }

  /** Remembers a job, so that it can be taken back after the test. */
  know(id) {
    this.#jobs.add(id);
  }

  /** Takes a job back. */
  async take(id) {
    await this.ask('DELETE', `/v1/jobs/${id}`);
  }

  /** Takes back all that a test has left behind, and waits until nothing is drawn. */
  async clear() {
    if (!this.#running()) return;
    await Promise.all([...this.#jobs].map((id) => this.take(id)));
    this.#jobs.clear();
    await this.idle();
  }

  /** The value of one series of the metrics, written as Prometheus writes it. */
  async metric(series) {
    const text = await (await this.ask('GET', '/metrics')).text();
    const line = text.split('\n').find((line) => line.startsWith(`${series} `));
    assert(line, `${series} is no series`);
    return Number(line.slice(series.length));
  }

  /** How many jobs have ended as `outcome`. */
  async finished(outcome) {
    return this.metric(`pixart_jobs_finished_total{outcome="${outcome}"}`);
  }

  /** How many jobs were ever admitted. */
  async accepted() {
    return this.metric('pixart_jobs_accepted_total');
  }

  /** Waits until nothing is drawn and nothing waits. */
  async idle() {
    const busy = async () => (await this.metric('pixart_requests_running')) + (await this.metric('pixart_requests_waiting'));
    await until(async () => (await busy()) === 0, 'nothing is drawn any more');
  }
}
