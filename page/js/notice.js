// Errors in words, on one card: what has happened, and a way on. `data-kind` says which.

import { byId, leave, make, say } from "./dom.js";
import { plural } from "./words.js";

const card = byId("notice");
/** Lets go of what the card on show waits for, where it does. */
let letGo = null;
/** Where the focus goes that was on the card. */
const onward = () => [byId("cancel"), byId("go"), byId("theme")];

/** Takes the card away. Who waits for its answer gets none. */
export function clear() {
  letGo?.();
  leave(card, ...onward());
  card.hidden = true;
  card.replaceChildren();
  delete card.dataset.kind;
}

function open(kind, title, text, ...more) {
  letGo?.();
  leave(card, ...onward());
  card.dataset.kind = kind;
  const words = make("div", { class: "words" }, make("strong", {}, title), text ? make("p", { dir: "auto" }, text) : "");
  card.replaceChildren(words, ...more);
  card.hidden = false;
}

const close = (then = clear) => make("button", { type: "button", class: "quiet round dismiss", "aria-label": "Dismiss", click: then }, "×");

/** Says something and lets it be dismissed; `actions` are [label, what to do]. A hint takes no card away that waits. */
export function tell(kind, title, text, ...actions) {
  if (kind === "hint" && letGo) return say(title);
  const buttons = actions.map(([label, act], index) =>
    make(
      "button",
      {
        type: "button",
        class: index === 0 ? "primary small" : "quiet small",
        click: () => {
          clear();
          act();
        },
      },
      label,
    ),
  );
  open(kind, title, text, buttons.length > 0 ? make("div", { class: "actions" }, ...buttons) : "", close());
}

/**
 * Counts seconds down and resolves with true when they are over, or false when trying again was stopped.
 * The count itself is not read aloud every second.
 */
export function countdown(kind, title, text, seconds, signal) {
  return answered(signal, false, (end) => {
    const left = make("span", { class: "count", "aria-live": "off" });
    let rest = Math.ceil(seconds);
    const show = () => (left.textContent = `Trying again in ${plural(rest, "second")}`);
    const stop = make("button", { type: "button", class: "quiet small", click: () => end(false) }, "Stop trying");
    const now = make("button", { type: "button", class: "quiet small", click: () => end(true) }, "Try now");
    open(kind, title, text, make("div", { class: "actions" }, left, now, stop));
    show();
    const timer = setInterval(() => {
      rest -= 1;
      if (rest > 0) show();
      else end(true);
    }, 1000);
    return () => clearInterval(timer);
  });
}

/** Asks for the key; resolves with it, or with null when it is not given. */
export function askForKey(text, signal) {
  return answered(signal, null, (end) => {
    const input = make("input", { id: "api-key", type: "password", autocomplete: "off", required: true });
    const submit = (event) => {
      event.preventDefault();
      const key = input.value.trim();
      // What a header cannot carry is no key.
      if (/^[!-~]+$/.test(key)) end(key);
      else input.focus();
    };
    const use = make("button", { type: "submit", class: "primary small" }, "Use key");
    const form = make("form", { class: "actions", submit }, make("label", { for: "api-key" }, "API key"), input, use);
    open("key", "This server asks for a key.", text, form, close(() => end(null)));
    input.focus();
    return () => {};
  });
}

/** Opens a card and waits for its answer; `none` is that of a card that is replaced or cleared. */
function answered(signal, none, show) {
  return new Promise((resolve) => {
    let tidy = () => {};
    const settle = (answer) => {
      letGo = null;
      signal?.removeEventListener("abort", aborted);
      tidy();
      resolve(answer);
    };
    const end = (answer) => {
      settle(answer);
      clear();
    };
    const aborted = () => end(none);
    tidy = show(end);
    letGo = () => settle(none);
    signal?.addEventListener("abort", aborted);
  });
}
