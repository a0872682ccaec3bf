// What drawing would take: seconds, the queue, memory, what is cut or moved. Asked when the form has rested a moment.

import { body, json } from "./api.js";
import { byId, make, say } from "./dom.js";
import * as form from "./form.js";
import { duration, gigabytes, sentence } from "./words.js";

const REST_MS = 300;
let timer;
let asking;
let asked = "";
let said = "";

/** The form has changed: ask again soon. */
export function later() {
  clearTimeout(timer);
  timer = setTimeout(now, REST_MS);
}

/** Drawing begins: what was to be asked would count the drawing itself among those before it. */
export function hold() {
  clearTimeout(timer);
  asking?.abort();
}

/** Asks, unless it is what was asked last. `afresh` asks all the same: the queue is another one. */
export async function now({ afresh = false } = {}) {
  clearTimeout(timer);
  const request = form.read();
  if (!request.prompt.trim()) {
    asked = "";
    asking?.abort();
    return show("");
  }
  const problem = form.problem(request);
  if (problem) {
    asked = "";
    asking?.abort();
    form.blame(problem.field);
    return show("", [problem.text]);
  }
  // The seed changes neither time nor warnings.
  const text = body({ ...request, seed: undefined });
  if (text === asked && !afresh) return;
  asked = text;
  asking?.abort();
  const mine = (asking = new AbortController());
  try {
    const estimate = await json("v1/images/estimate", { method: "POST", body: text, signal: mine.signal });
    if (mine === asking) tell(estimate);
  } catch (failure) {
    if (mine.signal.aborted) return;
    asked = "";
    // Drawing says it loudly; here a line is enough.
    const isAboutRequest = ["invalid", "refused"].includes(failure.kind);
    show(isAboutRequest ? "" : sentence(failure.message), isAboutRequest ? [sentence(failure.message)] : []);
  }
}

// Memory is named only where much of it is taken.
const MUCH = 0.5;

function tell({ predicted_seconds: drawing, wait_seconds: wait, memory, tokens, warnings }) {
  const time = drawing === null ? "Nothing was drawn yet: how long it takes is not known" : `Takes ${drawing < 0.95 ? "" : "about "}${duration(drawing)}`;
  const room = memory && memory.needed_bytes > MUCH * memory.limit_bytes ? ` Needs ${gigabytes(memory.needed_bytes)} of ${gigabytes(memory.limit_bytes)} GB of memory.` : "";
  show(`${time}${wait >= 0.5 ? `, after ${duration(wait)} of waiting` : ""}.${room}`, warnings.map(({ message }) => sentence(message)));
  byId("tokens").textContent = `${tokens.prompt.read} of ${tokens.prompt.limit} tokens`;
}

function show(line, warnings = []) {
  byId("estimate").textContent = line;
  if (!line) byId("tokens").textContent = "";
  const list = byId("warnings");
  // Said once, not with every key.
  const words = warnings.join(" ");
  if (words && words !== said) say(words);
  said = words;
  list.hidden = warnings.length === 0;
  list.replaceChildren(...warnings.map((text) => make("li", {}, text)));
}
