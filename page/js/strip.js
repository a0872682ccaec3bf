// The strip of pictures under the large one: shown again by a click, compared by their button or the key C, taken out by
// theirs or Delete. For the keyboard the pictures are one stop, with arrows between them.

import * as album from "./album.js";
import { byId, leave, make, say } from "./dom.js";

/** How long a press of Clear waits for the second one. */
const SURE_MS = 4000;

let pictures = [];
let acts = { show() {}, compare() {}, cleared() {} };

/** What the browser has kept. `show` and `compare` are told of a choice, `cleared` when none is left. */
export async function load(whatToDo) {
  acts = whatToDo;
  const kept = await album.all();
  const known = new Set(pictures.map(({ id }) => id));
  const found = kept.filter(({ id, blob }) => !known.has(id) && blob instanceof Blob).map(withUrl);
  pictures = [...pictures, ...found];
  byId("thumbs").append(...found.map(item));
  draw();
}

const withUrl = (picture) => ({ ...picture, url: URL.createObjectURL(picture.blob) });

/** Adds a new one in front; returns it as it is shown. */
export function add(fresh) {
  const known = pictures.find(({ id }) => id === fresh.id);
  if (known) return known;
  const picture = withUrl(fresh);
  pictures = [picture, ...pictures];
  byId("thumbs").prepend(item(picture));
  draw();
  return picture;
}

/** Keeps a picture as it is now, unless it was taken out; those that have to leave for it leave the strip too. */
export function keep(picture) {
  if (pictures.includes(picture)) album.keep(picture).then((gone) => gone.forEach(drop));
}

export const all = () => pictures;

/** One leaves the strip, unless it is looked at: then it stays as long as the page. */
function drop(id) {
  const at = pictures.findIndex((one) => one.id === id);
  if (at < 0 || id === marked) return;
  const [picture] = pictures.splice(at, 1);
  const gone = byId("thumbs").children[at];
  leave(gone, thumb(at + 1), thumb(at - 1), byId("prompt"));
  gone.remove();
  URL.revokeObjectURL(picture.url);
  draw();
}

let marked = null;

/** Marks the one that is shown. */
export function mark(id) {
  marked = id;
  for (const button of thumbs()) button.setAttribute("aria-pressed", button.dataset.id === id);
  stopAt(thumbs().find((button) => button.dataset.id === id) ?? thumb(0));
}

const thumbs = () => [...byId("thumbs").querySelectorAll(".thumb")];
const thumb = (at) => thumbs()[at];

/** Where Tab leads to in the strip. */
function stopAt(button) {
  for (const one of thumbs()) one.tabIndex = one === button ? 0 : -1;
}

function draw() {
  byId("strip").hidden = pictures.length === 0;
  for (const button of byId("thumbs").querySelectorAll(".mini")) button.setAttribute("aria-disabled", held);
  mark(marked);
}

let held = false;

/** While something is drawn, nothing can be compared. */
export function hold(is) {
  held = is;
  draw();
}

function item(picture) {
  const { prompt, seed } = picture.request;
  const compare = () => acts.compare(picture);
  const keys = (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const all = thumbs();
    const at = all.indexOf(event.currentTarget);
    const to = { ArrowRight: at + 1, ArrowDown: at + 1, ArrowLeft: at - 1, ArrowUp: at - 1, Home: 0, End: all.length - 1 }[event.key];
    if (event.key === "c" || event.key === "C") compare();
    else if (event.key === "Delete") remove(picture);
    else if (all[to]) {
      event.preventDefault();
      all[to].focus();
    }
  };
  const title = `${prompt} (seed ${seed})`;
  const show = { type: "button", class: "thumb", "data-id": picture.id, title, "aria-label": title, "aria-describedby": "strip-keys" };
  const small = { type: "button", tabindex: -1 };
  return make(
    "li",
    {},
    make(
      "button",
      { ...show, click: () => acts.show(picture), keydown: keys, focus: (event) => stopAt(event.currentTarget) },
      make("img", { src: picture.url, alt: "", loading: "lazy" }),
    ),
    make("button", { ...small, class: "mini", "aria-label": `Compare with seed ${seed}`, click: compare }, "Compare"),
    make("button", { ...small, class: "remove", title: "Remove", "aria-label": `Remove seed ${seed}`, click: () => remove(picture) }, "×"),
  );
}

function remove(picture) {
  const at = pictures.indexOf(picture);
  album.forget(picture.id);
  if (picture.id === marked) {
    const next = pictures[at + 1] ?? pictures[at - 1];
    if (next) acts.show(next);
    else acts.cleared();
    marked = next?.id ?? null;
  }
  drop(picture.id);
}

const clear = byId("clear");
let sure;

function calm() {
  clearTimeout(sure);
  sure = undefined;
  clear.textContent = "Clear";
}

clear.addEventListener("click", () => {
  if (!sure) {
    clear.textContent = "Clear all?";
    say("Press once more to clear all pictures");
    sure = setTimeout(calm, SURE_MS);
    return;
  }
  calm();
  album.clear();
  leave(byId("strip"), byId("prompt"));
  for (const { url } of pictures) URL.revokeObjectURL(url);
  pictures = [];
  byId("thumbs").replaceChildren();
  marked = null;
  draw();
  acts.cleared();
});
