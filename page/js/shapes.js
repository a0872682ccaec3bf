// Sizes as shapes to pick: what suits the loaded model, in its own area or among the sizes that it was trained for.

import { byId, make } from "./dom.js";
import { times } from "./words.js";

const SHAPES = [
  ["Square", 1, 1],
  ["Portrait", 3, 4],
  ["Landscape", 4, 3],
  ["Tall", 9, 16],
  ["Wide", 16, 9],
];

export const sides = (size) => size.split("x").map(Number);

/** {name, size} of the shapes that a model can draw. */
export function offered({ sizes, defaults, limits }) {
  const [width, height] = sides(sizes.fixed ?? defaults.size);
  if (sizes.fixed) return [{ name: nameOf(width / height), size: sizes.fixed }];
  const trained = sizes.bins.length > 0 && (defaults.resolution_binning || sizes.bins.includes(defaults.size));
  return SHAPES.map(([name, across, down]) => {
    const ratio = across / down;
    const size = trained ? nearest(sizes.bins, ratio) : inArea(width * height, ratio, limits);
    return { name, size };
  }).filter(({ size }, at, all) => all.findIndex((other) => other.size === size) === at);
}

function nameOf(ratio) {
  if (Math.abs(Math.log(ratio)) < 0.05) return "Square";
  return ratio < 1 ? "Portrait" : "Landscape";
}

function nearest(bins, ratio) {
  const distance = (size) => {
    const [width, height] = sides(size);
    return Math.abs(Math.log(width / height / ratio));
  };
  return bins.reduce((best, size) => (distance(size) < distance(best) ? size : best));
}

function inArea(area, ratio, { size_multiple_px: multiple, max_side_px: most }) {
  const fit = (side) => Math.min(Math.max(Math.round(side / multiple), 1) * multiple, Math.floor(most / multiple) * multiple);
  return `${fit(Math.sqrt(area * ratio))}x${fit(Math.sqrt(area / ratio))}`;
}

/** The shapes as radio buttons; `picked` is told of a choice. */
export function show(shapes, picked) {
  const tiles = shapes.map(({ name, size }) => {
    const radio = make("input", { type: "radio", name: "shape", value: size, "aria-label": `${name} ${times(size)}`, change: () => picked(size) });
    const tile = make("label", { class: "shape", title: `${name} ${times(size)}` }, radio, outline(size), make("span", { class: "hint", "aria-hidden": "true" }, name));
    return tile;
  });
  byId("shapes").replaceChildren(...tiles);
}

/** A rectangle of the same shape. */
function outline(size) {
  const [width, height] = sides(size);
  const scale = 22 / Math.max(width, height);
  const space = "http://www.w3.org/2000/svg";
  const svg = document.createElementNS(space, "svg");
  const box = document.createElementNS(space, "rect");
  const set = (element, attributes) => Object.entries(attributes).forEach(([name, value]) => element.setAttribute(name, value));
  set(svg, { viewBox: "0 0 26 26", width: 26, height: 26, "aria-hidden": "true" });
  set(box, { x: 13 - (width * scale) / 2, y: 13 - (height * scale) / 2, width: width * scale, height: height * scale, rx: 2.5 });
  svg.append(box);
  return svg;
}

/** Marks the tile of this size, or none, and says the size. */
export function mark(size) {
  byId("size-now").textContent = times(size);
  for (const radio of byId("shapes").querySelectorAll("input")) radio.checked = radio.value === size;
}
