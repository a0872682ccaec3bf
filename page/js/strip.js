// The strip of pictures under the large one: shown again by a click, compared by their button or the key C, taken out with Delete.

import * as album from "./album.js";
import { byId, make } from "./dom.js";

let pictures = [];
let acts = { show() {}, compare() {}, cleared() {} };

/** What the browser has kept. `show` and `compare` are told of a choice, `cleared` when none is left. */
export async function load(whatToDo) {
  acts = whatToDo;
  const kept = await album.all();
  const known = new Set(pictures.map(({ id }) => id));
  pictures = [...pictures, ...kept.filter(({ id, blob }) => !known.has(id) && blob instanceof Blob).map(withUrl)];
  draw();
}

const withUrl = (picture) => ({ ...picture, url: URL.createObjectURL(picture.blob) });

/** Adds a new one in front; returns it as it is shown. */
export function add(fresh) {
  const known = pictures.find(({ id }) => id === fresh.id);
  if (known) return known;
  const picture = withUrl(fresh);
  pictures = [picture, ...pictures];
  draw();
  return picture;
}

/** Keeps a picture as it is now; those that have to leave for it leave the strip too. */
export const keep = (picture) => album.keep(picture).then(({ gone }) => gone.forEach(drop));

export const all = () => pictures;

/** One leaves the strip, unless it is looked at: then it stays as long as the page. */
function drop(id) {
  const picture = pictures.find((one) => one.id === id);
  if (!picture || id === marked) return;
  URL.revokeObjectURL(picture.url);
  pictures = pictures.filter((one) => one !== picture);
  draw();
}

let marked = null;

/** Marks the one that is shown. */
export function mark(id) {
  marked = id;
  for (const button of byId("thumbs").querySelectorAll(".thumb")) button.setAttribute("aria-pressed", button.dataset.id === id);
}

function draw() {
  const focused = document.activeElement?.dataset?.id;
  byId("strip").hidden = pictures.length === 0;
  byId("thumbs").replaceChildren(...pictures.map(item));
  mark(marked);
  if (focused) byId("thumbs").querySelector(`[data-id="${CSS.escape(focused)}"]`)?.focus();
}

function item(picture) {
  const { prompt, seed } = picture.request;
  const compare = () => acts.compare(picture);
  const keys = (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "c" || event.key === "C") compare();
    else if (event.key === "Delete") remove(picture);
  };
  const image = make("img", { src: picture.url, alt: "", loading: "lazy" });
  const title = `${prompt} (seed ${seed})`;
  return make(
    "li",
    {},
    make("button", { type: "button", class: "thumb", "data-id": picture.id, title, "aria-label": title, click: () => acts.show(picture), keydown: keys }, image),
    make("button", { type: "button", class: "mini", "aria-label": `Compare with seed ${seed}`, click: compare }, "Compare"),
  );
}

function remove(picture) {
  const at = pictures.indexOf(picture);
  album.forget(picture.id);
  if (picture.id === marked) {
    const next = pictures[at + 1] ?? pictures[at - 1];
    if (next) acts.show(next);
    else acts.cleared();
  }
  marked = picture.id === marked ? null : marked;
  drop(picture.id);
  byId("thumbs").querySelectorAll(".thumb")[Math.min(at, pictures.length - 1)]?.focus();
}

byId("clear").addEventListener("click", () => {
  album.clear();
  for (const { url } of pictures) URL.revokeObjectURL(url);
  pictures = [];
  marked = null;
  draw();
  acts.cleared();
  byId("prompt").focus();
});
