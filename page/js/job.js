// One drawing from its request to its last picture: asked for as a job, followed by its events, found again after a reload.
//
// The job is asked to end when nobody follows it for a while: so closing the tab stops it, and a reload does not. Its
// request goes with a key of its own, so that asking twice, after a lost answer or a reload, is asking once.

import { Failure, body, call, json, patience, told } from "./api.js";
import { events } from "./events.js";
import { asJob } from "./form.js";
import { recall, remember } from "./store.js";

/** Pauses before a lost stream is looked for again, in seconds; one that has told something counts anew. */
const PAUSES = [0.3, 1, 2, 3];

const pause = (seconds, signal) =>
  new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, seconds * 1000);
    signal.addEventListener("abort", () => {
      clearTimeout(timer);
      reject(signal.reason);
    });
  });

/** What a reload left behind: the request of a job that may still be drawn, or nothing. */
export function leftBehind() {
  const job = recall("job");
  const { key, since, request } = job ?? {};
  if (typeof key === "string" && Number.isFinite(since) && typeof request?.prompt === "string" && /^\d+$/.test(request.seed)) return job;
  forget();
  return undefined;
}

export const forget = () => remember("job", null);

/** Begins with a request; nothing is sent before `ask`. */
export function begin(request) {
  const key = [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  const job = { key, id: null, since: Date.now(), request };
  remember("job", job);
  return job;
}

/** Asks for the job, or for what has become of it. */
export async function ask(job, signal) {
  const answer = await json("v1/jobs", {
    method: "POST",
    body: body(asJob(job.request)),
    headers: { "idempotency-key": job.key },
    signal,
  });
  if (typeof answer.id !== "string") throw new Failure("broken", "The server's answer is not one that this page understands.");
  job.id = answer.id;
  remember("job", job);
}

/** Takes it back. If the server cannot hear it, it will miss us. */
export async function takeBack(job) {
  forget();
  if (job.id) await call(`v1/jobs/${job.id}`, { method: "DELETE", signal: patience() }).catch(() => {});
}

/**
 * Follows it to its end. `see` has a function for each event: queued, started, step, preview, picture, lost. Returns the
 * summary of the whole. A stream that breaks off is looked for again; so many times in a row, then it is a failure.
 */
export async function follow(job, see, signal) {
  const got = new Set();
  const heard = new Set();
  let lost = 0;
  for (;;) {
    try {
      for await (const { name, data } of events(`v1/jobs/${job.id}/events?response_format=b64_json`, signal)) {
        if (name === "completed") return data;
        // A stream that is taken up again repeats where the job stands: that alone is no news.
        const news = [name, data.position, data.image_index, data.step].join();
        if (!heard.has(news)) lost = 0;
        heard.add(news);
        if (name === "error") throw ended(data);
        if (name === "image") take(job, data, got, see);
        else if (name === "partial_image") see.preview?.(data);
        else see[name]?.(data);
      }
      throw new Failure("broken", "The server's answer breaks off in the middle.");
    } catch (failure) {
      if (signal.aborted) throw signal.reason;
      const isOver = failure.isEnd || ["key", "refused", "invalid", "draining"].includes(failure.kind);
      if (isOver || lost >= PAUSES.length) throw failure instanceof Failure ? failure : broken();
      see.lost?.();
      await pause(PAUSES[lost], signal);
      // A silence has taken its time already.
      lost += failure.code === "silence" ? 2 : 1;
    }
  }
}

const broken = () => new Failure("broken", "The connection to the server breaks off again and again.");

function ended({ error }) {
  const failure = told(error ?? { code: null, message: "The server gives no reason." });
  failure.isEnd = true;
  return failure;
}

/** A picture has arrived: it is in its event, because a server that shuts down could not be asked for it any more. */
function take(job, { image_index: index, b64_json: base64, timings, receipt }, got, see) {
  if (got.has(index)) return;
  got.add(index);
  const bytes = Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
  const blob = new Blob([bytes], { type: `image/${receipt.output_format}` });
  // Seeds beyond 53 bits do not survive JSON in JavaScript: this one is counted from the request's.
  const seed = String(BigInt.asUintN(64, BigInt(job.request.seed) + BigInt(index)));
  const request = { ...job.request, seed, n: 1 };
  // By the key: the same request, asked for again, is another job and the same picture.
  see.picture({ id: `${job.key}-${index}`, index, blob, request, timings, receipt: { ...receipt, seed }, created: Date.now() });
}
