// Two pictures under one slider: the left one on top, uncovered as far as the slider says.

import { byId } from "./dom.js";
import { times } from "./words.js";

/** What is said of each: where the two differ, else the seed. */
const SAYS = [
  ["model", (value) => value],
  ["weights", (value) => value],
  ["seed", (value) => `seed ${value}`],
  ["steps", (value) => `${value} steps`],
  ["guidance_scale", (value) => `guidance ${value}`],
  ["scheduler", (value) => value],
  ["decoder", (value) => `${value} decoder`],
  ["instruction_set", (value) => value ?? "another device"],
  ["threads", (value) => (value === undefined ? "another device" : `${value} threads`)],
  ["size", (value) => times(value)],
];

/** Opens with these two. */
export function open(left, right) {
  for (const [side, picture] of [
    ["left", left],
    ["right", right],
  ]) {
    byId(side).src = picture.url;
    byId(side).alt = `${side === "left" ? "Left" : "Right"}: ${picture.request.prompt}`;
  }
  const differing = SAYS.filter(([name]) => String(left.receipt[name]) !== String(right.receipt[name]));
  const rows = differing.length > 0 ? differing : SAYS.filter(([name]) => name === "seed");
  const says = ({ receipt }) => rows.map(([name, say]) => say(receipt[name])).join(" · ");
  const samePrompt = left.request.prompt === right.request.prompt;
  byId("left-says").textContent = (samePrompt ? "" : `${left.request.prompt} · `) + says(left);
  byId("right-says").textContent = (samePrompt ? "" : `${right.request.prompt} · `) + says(right);
  byId("compare").hidden = false;
  byId("reveal").value = 50;
  reveal();
}

export const isOpen = () => !byId("compare").hidden;

export function close() {
  byId("compare").hidden = true;
}

function reveal() {
  const part = Number(byId("reveal").value);
  byId("left").style.clipPath = `inset(0 ${100 - part}% 0 0)`;
  byId("edge").style.insetInlineStart = `${part}%`;
  byId("reveal").setAttribute("aria-valuetext", `${part} % of the left picture`);
}

byId("reveal").addEventListener("input", reveal);

const frame = byId("pair-frame");
const drag = (event) => {
  const { left, width } = frame.getBoundingClientRect();
  byId("reveal").value = Math.round((100 * (event.clientX - left)) / width);
  reveal();
};
frame.addEventListener("pointerdown", (event) => {
  frame.setPointerCapture(event.pointerId);
  drag(event);
});
frame.addEventListener("pointermove", (event) => {
  if (frame.hasPointerCapture(event.pointerId)) drag(event);
});
