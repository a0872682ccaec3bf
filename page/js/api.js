// Calls of the service, and what can go wrong with them as one kind of error with a word for it.

import { recall, remember } from "./store.js";

/** Where the service is: the page's own folder, also behind a proxy that has moved it. */
export const base = new URL(".", document.baseURI).href;

/**
 * A call that failed. `kind` is what the page says about it: full, draining, loading, offline, refused, key, invalid,
 * broken; `code` is the service's own word. `retryAfter` are seconds, where trying again by itself makes sense.
 */
export class Failure extends Error {
  constructor(kind, message, { code = null, param = null, retryAfter = null } = {}) {
    super(message);
    Object.assign(this, { kind, code, param, retryAfter });
  }
}

/** How long the head of an answer, and an answer that is no stream, may take. */
const PATIENCE_MS = 30_000;

/** Follows the first that is aborted; `AbortSignal.any` is younger than some browsers. */
export function anyOf(...signals) {
  const any = new AbortController();
  for (const signal of signals) {
    if (signal.aborted) any.abort(signal.reason);
    else signal.addEventListener("abort", () => any.abort(signal.reason), { once: true, signal: any.signal });
  }
  return any.signal;
}

export const patience = (...signals) => anyOf(AbortSignal.timeout(PATIENCE_MS), ...signals);

/** Whether the page itself has stopped a call; running out of patience is another thing. */
const wasStopped = (signal) => signal?.aborted && signal.reason?.name !== "TimeoutError";

/** The key that was asked for once in this tab. */
export const apiKey = () => recall("key") ?? null;
export const useKey = (key) => remember("key", key);

const KINDS = {
  queue_full: "full",
  results_full: "full",
  too_many_connections: "full",
  draining: "draining",
  loading: "loading",
  worker_down: "loading",
  invalid_api_key: "key",
  invalid_json: "invalid",
  invalid_request: "invalid",
  invalid_value: "invalid",
  missing_field: "invalid",
  unknown_field: "invalid",
  conflicting_fields: "invalid",
  duplicate_field: "invalid",
  too_costly: "invalid",
  too_large_for_memory: "invalid",
  body_too_large: "invalid",
  body_timeout: "broken",
  deadline_exceeded: "broken",
  internal_error: "broken",
  inference_failed: "broken",
};

/** Where the service's own words speak of what this page has no control for: a deadline is its operator's here. */
const WORDS = {
  deadline_exceeded: "The picture was not there within the time that the server allows. A smaller one, or fewer steps, take less.",
  deadline_too_short: "It would not be there within the time that the server allows. Try again later, or with a smaller size or fewer steps.",
};

/** Sends a request and hands out its answer, which has a good status. */
export async function call(path, { method = "GET", body, headers = {}, signal } = {}) {
  const all = new Headers(headers);
  if (body !== undefined) all.set("content-type", "application/json");
  const key = apiKey();
  if (key) all.set("authorization", `Bearer ${key}`);
  let response;
  try {
    response = await fetch(new URL(path, base), { method, body, headers: all, signal, cache: "no-store" });
  } catch (error) {
    if (wasStopped(signal)) throw error;
    throw new Failure("offline", "The server cannot be reached.", { retryAfter: 3 });
  }
  if (!response.ok) throw await failure(response);
  return response;
}

/** The same where the answer must be JSON. */
export async function json(path, options = {}) {
  const signal = patience(...(options.signal ? [options.signal] : []));
  const response = await call(path, { ...options, signal });
  const media = response.headers.get("content-type") ?? "";
  const text = await whole(response, signal);
  if (!media.includes("json")) throw strange(media, text);
  try {
    return JSON.parse(text);
  } catch {
    throw new Failure("broken", "The server's answer breaks off in the middle.");
  }
}

async function whole(response, signal) {
  try {
    return await response.text();
  } catch (error) {
    if (wasStopped(signal)) throw error;
    throw new Failure("broken", "The server's answer breaks off in the middle.");
  }
}

/** Something that is no answer of ours, such as the page of a proxy. */
export function strange(media, text) {
  if (media.includes("html")) return new Failure("broken", "A web page came instead of an answer: a proxy may stand between this page and the server.");
  if (!text) return new Failure("broken", "The server's answer is empty.");
  return new Failure("broken", "The server's answer is not one that this page understands.");
}

/** What a service's refusal says. */
export function told(error, status = 0, retryAfter = null) {
  const kind = KINDS[error.code] ?? (status >= 500 ? "broken" : "refused");
  // Prefer the refusal's own word on when to come back; a refusal that no waiting mends has none.
  const waits = ["full", "draining", "loading"].includes(kind) ? (retryAfter ?? 3) : null;
  return new Failure(kind, WORDS[error.code] ?? error.message, { code: error.code, param: error.param, retryAfter: waits });
}

async function failure(response) {
  const text = await response.text().catch(() => "");
  const seconds = Number.parseInt(response.headers.get("retry-after") ?? "", 10);
  const retryAfter = Number.isFinite(seconds) ? Math.max(1, seconds) : null;
  try {
    const { error } = JSON.parse(text);
    if (typeof error.message === "string") return told(error, response.status, retryAfter);
  } catch {
    // Not ours: a proxy's.
  }
  if (response.status === 429) return new Failure("full", "The server asks to be left alone for a while.", { retryAfter: retryAfter ?? 5 });
  if ([502, 503, 504].includes(response.status)) {
    return new Failure("offline", "The server behind this address does not answer.", { retryAfter: retryAfter ?? 5 });
  }
  return strange(response.headers.get("content-type") ?? "", text);
}

/** A request as JSON. Seeds are whole numbers of 64 bits, which JavaScript's are not: they stay text until here. */
export function body({ seed, ...rest }) {
  const text = JSON.stringify(rest);
  return seed === undefined ? text : `${text.slice(0, -1)},"seed":${BigInt(seed)}}`;
}
