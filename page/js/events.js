// Server-sent events out of a fetch, which unlike EventSource can carry a key and be told apart from a page of HTML.

import { Failure, anyOf, call, strange } from "./api.js";

/** The service says something at least every 15 seconds: a stream that is silent for twice as long is lost. */
const SILENCE_MS = 32_000;

/** Yields {name, data} until the stream ends. Whether that was its proper end is for the reader to know. */
export async function* events(path, signal) {
  const silence = new AbortController();
  let timer;
  const listen = () => {
    clearTimeout(timer);
    timer = setTimeout(() => silence.abort(new Failure("broken", "The server has fallen silent.", { code: "silence" })), SILENCE_MS);
  };
  let reader;
  try {
    listen();
    const response = await call(path, { headers: { accept: "text/event-stream" }, signal: anyOf(signal, silence.signal) });
    const media = response.headers.get("content-type") ?? "";
    if (!media.startsWith("text/event-stream") || !response.body) throw strange(media, media && "text");
    reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    let unread = "";
    for (;;) {
      const { value, done } = await reader.read();
      listen();
      if (done) return;
      unread += value;
      for (let end = unread.indexOf("\n\n"); end >= 0; end = unread.indexOf("\n\n")) {
        const event = parse(unread.slice(0, end));
        unread = unread.slice(end + 2);
        if (event) yield event;
      }
    }
  } finally {
    clearTimeout(timer);
    reader?.cancel().catch(() => {});
  }
}

/** One event; nothing where it is a comment or cannot be read. */
function parse(block) {
  let name = "message";
  const data = [];
  for (const line of block.split("\n")) {
    if (line.startsWith("event:")) name = line.slice(6).trim();
    else if (line.startsWith("data:")) data.push(line.slice(5));
  }
  try {
    return { name, data: JSON.parse(data.join("\n")) };
  } catch {
    return null;
  }
}
