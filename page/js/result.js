// A finished picture: large, with what one does with it, where its time went, its receipt, and the request for it.

import { apiKey, base } from "./api.js";
import { byId, copyBy, make } from "./dom.js";
import { recall, remember } from "./store.js";
import { snippets } from "./snippets.js";
import { brief, sentence, times } from "./words.js";

const LANGUAGES = ["curl", "Python", "JavaScript"];
let shown = null;
let texts = {};

/** The picture that is shown, or nothing. */
export const current = () => shown;

/** Shows a picture; its own request comes with it. */
export function show(picture) {
  shown = picture;
  const { request, receipt, timings } = picture;
  const image = byId("picture");
  image.src = picture.url;
  image.alt = request.prompt;
  image.hidden = false;
  byId("empty").hidden = true;
  byId("caption").textContent = request.prompt;
  const download = byId("download");
  download.href = picture.url;
  download.download = `pixart-${request.seed}.${receipt.output_format === "jpeg" ? "jpg" : receipt.output_format}`;
  byId("timings").replaceChildren(...bar(timings, picture.waited));
  byId("receipt").replaceChildren(...rows(receipt));
  const told = byId("told");
  told.replaceChildren(...(picture.warnings ?? []).map(({ message }) => make("li", {}, sentence(message))));
  told.hidden = !picture.warnings?.length;
  texts = snippets(request, base, apiKey() !== null);
  speak(recall("language") ?? LANGUAGES[0]);
  byId("result").hidden = false;
}

/** No picture any more: as in the beginning. */
export function empty() {
  shown = null;
  byId("picture").hidden = true;
  byId("picture").removeAttribute("src");
  byId("result").hidden = true;
  byId("empty").hidden = false;
}

const STAGES = [
  ["Queue", "queue"],
  ["Text", "text"],
  ["Steps", "steps"],
  ["Decode", "decode"],
  ["File", "file"],
];

/** Where the time went, as a thin bar and in words. */
function bar(timings, waited = 0) {
  const seconds = {
    queue: waited,
    text: timings.tokenize_seconds + timings.text_encode_seconds,
    steps: timings.denoise_seconds,
    decode: timings.vae_decode_seconds,
    file: timings.png_encode_seconds,
  };
  const whole = Object.values(seconds).reduce((sum, part) => sum + part, 1e-9);
  const shares = make("div", { class: "shares", "aria-hidden": "true" });
  const words = make("ul", { class: "stages", "aria-label": "Time of each stage" });
  for (const [name, stage] of STAGES) {
    if (stage === "queue" && waited < 0.001) continue;
    const share = make("span", { class: stage });
    share.style.flexGrow = seconds[stage] / whole;
    shares.append(share);
    words.append(make("li", { class: stage }, make("b", {}, name), ` ${brief(seconds[stage])}`));
  }
  words.append(make("li", { class: "sum" }, make("b", {}, "All"), ` ${brief(timings.total_seconds + waited)}`));
  return [shares, words];
}

/** What is looked for first. */
const FIRST = ["seed", "scheduler", "steps", "guidance_scale", "decoder", "size", "drawn_size", "model", "weights", "precision", "device", "instruction_set", "threads"];

/** The receipt as the service wrote it, in words where there are any. */
function rows(receipt) {
  const names = Object.keys(receipt).sort((one, other) => place(one) - place(other));
  return names.flatMap((name) => {
    const value = receipt[name];
    const text = /size$/.test(name) ? times(String(value)) : typeof value === "boolean" ? (value ? "yes" : "no") : String(value);
    return [make("dt", {}, name.replaceAll("_", " ")), make("dd", {}, text)];
  });
}

const place = (name) => (FIRST.includes(name) ? FIRST.indexOf(name) : FIRST.length);

/** The request in this language. */
function speak(language) {
  remember("language", language);
  const known = texts[language] ? language : LANGUAGES[0];
  for (const tab of byId("languages").children) {
    const chosen = tab.textContent === known;
    tab.setAttribute("aria-selected", chosen);
    tab.tabIndex = chosen ? 0 : -1;
    if (chosen) byId("request").setAttribute("aria-labelledby", tab.id);
  }
  byId("request").firstElementChild.textContent = texts[known];
  byId("copy-request").text = texts[known];
}

const tabs = LANGUAGES.map((language) =>
  make("button", { type: "button", role: "tab", id: `tab-${language}`, "aria-controls": "request", click: () => speak(language) }, language),
);
byId("languages").replaceChildren(...tabs);
byId("languages").addEventListener("keydown", (event) => {
  const at = tabs.indexOf(document.activeElement);
  const to = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: tabs.length - 1 }[event.key];
  if (at < 0 || to === undefined) return;
  event.preventDefault();
  const tab = tabs[(to + tabs.length) % tabs.length];
  speak(tab.textContent);
  tab.focus();
});
byId("copy-request").addEventListener("click", (event) => copyBy(event.currentTarget, event.currentTarget.text));
byId("copy-seed").addEventListener("click", (event) => copyBy(event.currentTarget, shown.request.seed));
