// The unmodified `openai` package of npm against a real `pixart serve`, which sdk.py has started: it passes the addresses
// in PIXART_URL and PIXART_STRICT_URL (which has the key PIXART_KEY), and the fields of a slow picture in PIXART_SLOW.
// Every check is a function with a sentence for a name.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import http from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import zlib from 'node:zlib';

import OpenAI from 'openai';
import { VERSION } from 'openai/version';

const { PIXART_URL: url, PIXART_STRICT_URL: strictUrl, PIXART_KEY: key } = process.env;
const slow = JSON.parse(process.env.PIXART_SLOW);
const endless = { ...slow, steps: 50 };
const prompt = 'A small cactus with a happy face in the Sahara desert.';

const SHORT_TIMEOUT_MS = 1000; // several of these pass while a slow picture is drawn
const RETRIES = 6;
const GONE_MS = 10_000; // within which a job must have noticed that its caller is gone

const accepted = 'pixart_jobs_accepted_total';
const cancelled = 'pixart_jobs_finished_total{outcome="cancelled"}';
const running = 'pixart_requests_running';

const connect = (options) => new OpenAI({ baseURL: `${url}/v1`, apiKey: 'none', maxRetries: 0, ...options });
const decoded = (picture) => Buffer.from(picture.b64_json, 'base64');

/** Width and height of a PNG of 8-bit RGB whose pixels are all there. */
function pngSize(data) {
  assert.equal(data.subarray(0, 8).toString('latin1'), '\x89PNG\r\n\x1a\n');
  const pixels = [];
  let size;
  for (let at = 8; at < data.length; ) {
    const length = data.readUInt32BE(at);
    const kind = data.subarray(at + 4, at + 8).toString('latin1');
    const chunk = data.subarray(at + 8, at + 8 + length);
    if (kind === 'IHDR') size = [chunk.readUInt32BE(0), chunk.readUInt32BE(4)];
    if (kind === 'IDAT') pixels.push(chunk);
    at += length + 12;
  }
  assert.equal(zlib.inflateSync(Buffer.concat(pixels)).length, size[1] * (1 + 3 * size[0]));
  return size;
}

async function metric(series) {
  const text = await (await fetch(`${url}/metrics`)).text();
  const line = text.split('\n').find((line) => line.startsWith(`${series} `));
  assert(line, series);
  return Number(line.slice(series.length));
}

async function until(holds, what, limitMs = GONE_MS) {
  const giveUp = Date.now() + limitMs;
  while (!(await holds())) {
    assert(Date.now() < giveUp, `${what}: not after ${limitMs} ms`);
    await sleep(20);
  }
}

/** Holds that a request is refused as the SDK's class says, with all that the SDK shows of an error. */
async function refused(request, kind, code, param, type = 'invalid_request_error') {
  const error = await request.then(
    () => assert.fail(`${kind.name} was expected`),
    (error) => error,
  );
  assert.equal(error.constructor, kind, String(error));
  assert.deepEqual([error.code, error.param, error.type], [code, param, type]);
  assert(error.requestID && error.requestID === error.headers.get('x-request-id'));
}

async function collect(stream) {
  const events = [];
  for await (const event of stream) events.push(event);
  return events;
}

const checks = {
  async one_picture_is_a_png_of_the_size_asked_for() {
    const answer = await connect().images.generate({ model: 'gpt-image-1', prompt, size: '192x128' });
    assert.deepEqual(pngSize(decoded(answer.data[0])), [192, 128]);
    assert(Math.abs(answer.created - Date.now() / 1000) < 60);
    assert(answer._request_id);
  },

  async n_pictures_have_seeds_in_a_row_and_the_same_seed_draws_the_same_bytes() {
    const both = (await connect().images.generate({ prompt, n: 2, seed: 43 })).data;
    assert.deepEqual(both.map((picture) => picture.seed), [43, 44]);
    const alone = (await connect().images.generate({ prompt, seed: 44, steps: 4 })).data[0];
    assert(decoded(alone).equals(decoded(both[1])) && !decoded(alone).equals(decoded(both[0])));
  },

  async a_picture_by_url_can_be_fetched() {
    const [picture] = (await connect().images.generate({ prompt, response_format: 'url' })).data;
    const file = await fetch(picture.url);
    assert.equal(file.headers.get('content-type'), 'image/png');
    assert.deepEqual(pngSize(Buffer.from(await file.arrayBuffer())), [256, 256]);
  },

  async a_stream_has_previews_from_0_and_then_the_picture() {
    const stream = await connect().images.generate({ prompt, stream: true, partial_images: 2, seed: 43 });
    const events = await collect(stream);
    assert.deepEqual(
      events.map((event) => [event.type, event.partial_image_index]),
      [
        ['image_generation.partial_image', 0],
        ['image_generation.partial_image', 1],
        ['image_generation.completed', undefined],
      ],
    );
    for (const event of events) assert.deepEqual(pngSize(decoded(event)), [256, 256]);
    const plain = await connect().images.generate({ prompt, seed: 43 });
    assert(decoded(events[2]).equals(decoded(plain.data[0])));
    assert(events[2].usage.total_tokens > 0);
  },

  async the_model_is_listed_and_known_by_its_aliases() {
    const models = await collect(await connect().models.list());
    assert.equal(models.length, 1);
    for (const name of [models[0].id, 'gpt-image-1']) {
      assert.equal((await connect().models.retrieve(name)).id, models[0].id);
      assert.equal((await connect().images.generate({ model: name, prompt })).model, models[0].id);
    }
  },

  async raw_answers_have_the_headers_of_the_contract() {
    const request = connect().images.generate({ prompt }, { headers: { 'x-request-id': 'mine-2' } });
    const { data, response } = await request.withResponse();
    assert.equal(response.headers.get('x-request-id'), 'mine-2');
    assert.equal(response.headers.get('x-job-id'), data.id);
    assert.match(response.headers.get('server-timing'), /denoise;dur=/);
  },

  async errors_have_the_class_of_their_status_and_say_code_param_and_type() {
    const client = connect();
    const draw = (fields) => client.images.generate({ prompt, ...fields });
    const bare = client.post('/images/generations', { body: ['no object'] });
    await refused(bare, OpenAI.BadRequestError, 'invalid_request', null);
    await refused(draw({ size: '100x100' }), OpenAI.UnprocessableEntityError, 'invalid_value', 'size');
    await refused(draw({ seed: 1, rng_seed: 1 }), OpenAI.UnprocessableEntityError, 'conflicting_fields', 'rng_seed');
    await refused(draw({ model: 'nobody-s' }), OpenAI.NotFoundError, 'model_not_found', 'model');
    await refused(client.models.retrieve('nobody-s'), OpenAI.NotFoundError, 'model_not_found', 'model');
    const stranger = connect({ baseURL: `${strictUrl}/v1`, apiKey: 'a-key-that-nobody-has' });
    const knock = stranger.images.generate({ prompt });
    await refused(knock, OpenAI.AuthenticationError, 'invalid_api_key', null, 'authentication_error');
  },

  async a_full_queue_is_a_rate_limit_error_and_retries_get_through_it() {
    const friend = connect({ baseURL: `${strictUrl}/v1`, apiKey: key });
    const stream = await friend.images.generate({ prompt, ...slow, stream: true });
    const hasty = friend.images.generate({ prompt });
    await refused(hasty, OpenAI.RateLimitError, 'queue_full', null, 'rate_limit_error');
    const patient = friend.images.generate({ prompt }, { maxRetries: RETRIES });
    await collect(stream);
    assert.equal((await patient).data.length, 1);
  },

  async an_error_in_mid_stream_is_thrown() {
    const request = connect().images.generate({ prompt, ...slow, stream: true });
    const { data: stream, response } = await request.withResponse();
    await fetch(`${url}/v1/jobs/${response.headers.get('x-job-id')}`, { method: 'DELETE' });
    await assert.rejects(collect(stream), (error) => error instanceof OpenAI.APIError && error.code === 'job_cancelled');
  },

  // The service counts on the retry count and, where it is told, on the time-out; this package tells the time-out in
  // whole seconds, and only one that was given with the request.
  async the_headers_of_the_sdk_are_those_that_the_service_counts_on() {
    const heard = [];
    const deaf = http.createServer((request, response) => {
      heard.push(request.headers);
      request.resume();
      const answer = () => response.setHeader('content-type', 'application/json').end('{"created":0,"data":[]}');
      setTimeout(answer, heard.length === 1 ? 2 * SHORT_TIMEOUT_MS : 0);
    });
    await new Promise((listening) => deaf.listen(0, '127.0.0.1', listening));
    const baseURL = `http://127.0.0.1:${deaf.address().port}/v1`;
    await connect({ baseURL, timeout: SHORT_TIMEOUT_MS, maxRetries: 1 }).images.generate({ prompt });
    await connect({ baseURL }).images.generate({ prompt });
    await connect({ baseURL }).images.generate({ prompt }, { timeout: 1500 });
    deaf.close();
    deaf.closeAllConnections();
    assert.deepEqual(
      heard.map((headers) => [headers['x-stainless-retry-count'], headers['x-stainless-timeout']]),
      [['0', undefined], ['1', undefined], ['0', undefined], ['0', '1']],
    );
    for (const headers of heard) {
      assert.equal(headers['x-stainless-lang'], 'js');
      assert(!('x-stainless-read-timeout' in headers) && !('idempotency-key' in headers));
    }
  },

  async a_slow_picture_is_drawn_once_although_the_request_s_time_out_is_short() {
    const before = await metric(accepted);
    const options = { timeout: SHORT_TIMEOUT_MS, maxRetries: RETRIES };
    const answer = await connect().images.generate({ prompt, ...slow, seed: 21 }, options);
    assert.deepEqual(pngSize(decoded(answer.data[0])), [512, 512]);
    assert.equal(await metric(accepted), before + 1);
  },

  async the_same_where_the_time_out_is_the_client_s_and_the_service_is_not_told() {
    const before = await metric(accepted);
    const client = connect({ timeout: SHORT_TIMEOUT_MS, maxRetries: RETRIES });
    const answer = await client.images.generate({ prompt, ...slow, seed: 22 });
    assert.deepEqual(pngSize(decoded(answer.data[0])), [512, 512]);
    assert.equal(await metric(accepted), before + 1);
  },

  async a_client_that_is_killed_takes_its_job_with_it() {
    const before = await metric(cancelled);
    const child = spawn(process.execPath, [fileURLToPath(import.meta.url), 'draw'], { stdio: 'inherit' });
    await until(async () => (await metric(running)) === 1, 'the picture is drawn', 60_000);
    child.kill('SIGKILL');
    await until(async () => (await metric(cancelled)) === before + 1, 'the job is cancelled');
  },

  async a_stream_that_is_left_takes_its_job_with_it() {
    const before = await metric(cancelled);
    const stream = await connect().images.generate({ prompt, ...endless, stream: true, partial_images: 3 });
    for await (const event of stream) {
      assert.equal(event.partial_image_index, 0);
      break;
    }
    await until(async () => (await metric(cancelled)) === before + 1, 'the job is cancelled');
  },
};

async function main() {
  const counts = { ok: 0, failed: 0 };
  for (const [name, check] of Object.entries(checks)) {
    const began = Date.now();
    let result = 'ok';
    try {
      await check();
      counts.ok += 1;
    } catch (error) {
      counts.failed += 1;
      result = `FAILED: ${error.stack}`;
    }
    console.log(`npm: ${name.replaceAll('_', ' ')} (${((Date.now() - began) / 1000).toFixed(1)} s) … ${result}`);
  }
  console.log(`npm: openai ${VERSION}: ${counts.ok} passed, ${counts.failed} failed`);
  return counts.failed === 0 ? 0 : 1;
}

if (process.argv[2] === 'draw') {
  // To be killed by the check that has started it.
  await connect().images.generate({ prompt, ...endless });
} else {
  process.exitCode = await main();
}
