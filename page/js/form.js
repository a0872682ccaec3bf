// The form: built from what the service can do, read as a request, filled from one.

import { byId, make } from "./dom.js";
import * as shapes from "./shapes.js";
import { recall, remember } from "./store.js";
import { plural, times } from "./words.js";

/** The steps of the notebook's slider, which a scheduler that recommends fewer is shown with too. */
const USUAL_MOST_STEPS = 20;
const LARGEST_SEED = 2n ** 64n - 1n;
/** Seconds that a job goes on after the page has gone: longer than a reload takes. */
const ABANDON_AFTER_SECONDS = 15;

let capabilities;
/** Whether the seed in the field has been drawn with: then an unlocked one is rolled anew. */
let spent = false;
let changed = () => {};

const field = Object.fromEntries(
  ["prompt", "negative", "width", "height", "steps", "guidance", "seed", "count", "format", "scheduler", "decoder"].map((id) => [id, byId(id)]),
);

/** Builds the form, and fills in what a reload has left. `whenChanged` is called for every other request. */
export function build(facts, whenChanged) {
  // Before anything is filled in, which would be kept in its place.
  const draft = recall("draft");
  capabilities = facts;
  const { decoders, defaults, limits, model, output_formats: formats, schedulers, sizes } = facts;
  byId("model").textContent = [model.name, model.weights, model.device].join(" · ");
  shapes.show(shapes.offered(facts), takeSize);
  byId("other-sizes").hidden = sizes.fixed !== null;
  const step = sizes.fixed || defaults.resolution_binning ? 1 : limits.size_multiple_px;
  for (const side of [field.width, field.height]) Object.assign(side, { step, min: step, max: limits.max_side_px });
  byId("size-hint").textContent = `${step > 1 ? `Multiples of ${step}` : "Any"}, at most ${limits.max_side_px} a side.${memoryHint(limits)} This model draws best at ${times(defaults.size)}.`;
  field.scheduler.replaceChildren(...schedulers.map(({ name }) => make("option", { value: name }, name === "lcm" ? "LCM" : name === "dpmsolver++" ? "DPM++" : name)));
  byId("scheduler-field").hidden = schedulers.length < 2;
  field.decoder.replaceChildren(...decoders.map((name) => make("option", { value: name }, name === "full" ? "Full" : "Tiny")));
  byId("decoder-field").hidden = decoders.length < 2;
  field.format.replaceChildren(...formats.map(({ name }) => make("option", { value: name }, name === "webp" ? "WebP" : name.toUpperCase())));
  field.count.max = limits.max_images;
  changed = () => {};
  reset();
  roll();
  try {
    if (draft) fill(draft, { keep: true });
  } catch {
    // Not of this page's making: what could be taken over is.
  }
  setLock(draft?.locked === true);
  changed = whenChanged;
  byId("controls").disabled = false;
  byId("go").disabled = false;
}

function reset() {
  const { defaults } = capabilities;
  field.scheduler.value = defaults.scheduler;
  field.format.value = defaults.output_format;
  field.decoder.value = defaults.decoder;
  suitScheduler();
  takeSize(capabilities.sizes.fixed ?? defaults.size);
}

const memoryHint = ({ max_square_px: most, max_side_px: longest }) => (most && most < longest ? ` Memory suffices for ${times(`${most}x${most}`)}.` : "");

const scheduler = () => capabilities.schedulers.find(({ name }) => name === field.scheduler.value) ?? capabilities.schedulers[0];

/** Bounds and defaults of the chosen scheduler. */
function suitScheduler() {
  const { recommended_steps: recommended, max_steps: most, default_steps: steps, default_guidance_scale: guidance } = scheduler();
  field.steps.min = Math.min(recommended.min, most);
  field.steps.max = Math.min(Math.max(recommended.max, USUAL_MOST_STEPS), most);
  field.steps.value = steps;
  field.guidance.value = guidance;
  showValues();
}

function showValues() {
  const guidance = Number(field.guidance.value);
  byId("steps-value").textContent = field.steps.value;
  byId("guidance-value").textContent = guidance <= 1 ? "off" : String(guidance);
  field.guidance.setAttribute("aria-valuetext", guidance <= 1 ? `${guidance}, off` : String(guidance));
  field.negative.disabled = guidance <= 1;
  byId("negative-hint").textContent = guidance <= 1 ? "No effect at guidance 1 or below" : "";
}

function takeSize(size) {
  [field.width.value, field.height.value] = shapes.sides(size);
  shapes.mark(size);
  note();
}

function roll() {
  const [number] = crypto.getRandomValues(new Uint32Array(1));
  field.seed.value = number;
  spent = false;
  note();
}

const isLocked = () => byId("lock").getAttribute("aria-pressed") === "true";

function setLock(locked) {
  const button = byId("lock");
  button.setAttribute("aria-pressed", locked);
  button.title = locked ? "Lock seed: locked, every picture gets this one" : "Lock seed: unlocked, every picture gets a new one";
  note();
}

/** Something is different: keep it for a reload, and tell. */
function note() {
  if (!capabilities) return;
  for (const input of Object.values(field)) input.removeAttribute("aria-invalid");
  remember("draft", { ...read(), negative_prompt: field.negative.value, locked: isLocked(), spent });
  changed();
}

/** The request as it stands. The seed is text. */
export function read() {
  const guidance = Number(field.guidance.value);
  const negative = field.negative.value.trim();
  return {
    prompt: field.prompt.value,
    ...(guidance > 1 && negative ? { negative_prompt: negative } : {}),
    size: `${field.width.value || 0}x${field.height.value || 0}`,
    num_inference_steps: Number(field.steps.value),
    guidance_scale: guidance,
    n: Number(field.count.value || 1),
    scheduler: field.scheduler.value,
    ...(capabilities.decoders.length > 1 ? { decoder: field.decoder.value } : {}),
    output_format: field.format.value,
    seed: field.seed.value.trim(),
  };
}

/** What is to be drawn: an unlocked seed that was drawn with makes place for a new one. */
export function request() {
  if (!isLocked() && spent) roll();
  if (field.seed.value.trim() === "" && !field.seed.validity.badInput) roll();
  return read();
}

/** The seed in the field has been drawn with. */
export function spend() {
  spent = true;
  note();
}

/** The request as `POST /v1/jobs` takes it from a page that may be closed. */
export const asJob = (request) => ({ ...request, partial_images: capabilities.partial_images.max, abandon_after_seconds: ABANDON_AFTER_SECONDS });

/** What is wrong with it, with the field: what the service would refuse anyway. Nothing, mostly. */
export function problem({ prompt, negative_prompt: negative = "", size, n, seed }) {
  const { limits, defaults } = capabilities;
  if (!prompt.trim()) return { field: field.prompt, text: "The prompt is empty: say in a few words what to draw." };
  for (const [name, text, where] of [
    ["prompt", prompt, field.prompt],
    ["negative prompt", negative, field.negative],
  ]) {
    const length = [...text].length;
    if (length > limits.max_prompt_chars) {
      return { field: where, text: `The ${name} has ${plural(length, "character")}, and ${limits.max_prompt_chars.toLocaleString("en")} is the most: shorten it.` };
    }
  }
  if (!/^\d+$/.test(seed) || BigInt(seed) > LARGEST_SEED) return { field: field.seed, text: "The seed must be a whole number from 0 to 18446744073709551615." };
  if (!Number.isInteger(n) || n < 1 || n > limits.max_images) return { field: field.count, text: `Pictures: 1 to ${limits.max_images} at once.` };
  const multiple = defaults.resolution_binning ? 1 : limits.size_multiple_px;
  const bad = shapes.sides(size).findIndex((side) => !Number.isInteger(side) || side < 1 || side > limits.max_side_px || side % multiple !== 0);
  if (bad >= 0) {
    const where = [field.width, field.height][bad];
    const rule = multiple > 1 ? `a multiple of ${multiple}` : "a whole number";
    return { field: where, text: `The ${bad === 0 ? "width" : "height"} must be ${rule}, from ${multiple} to ${limits.max_side_px}.` };
  }
  return null;
}

/** Marks a field as what is wrong, until something is changed. */
export const blame = (input) => input.setAttribute("aria-invalid", "true");

/** Goes to the field that a refusal is about. */
export function focusOn(where) {
  const names = { negative_prompt: "negative", size: "width", num_inference_steps: "steps", guidance_scale: "guidance", n: "count", output_format: "format" };
  const target = typeof where === "string" ? (field[names[where] ?? where] ?? field.prompt) : where;
  if (target === field.width || target === field.height) byId("other-sizes").open = true;
  blame(target);
  target.focus();
}

/** Takes over what an earlier request asked for; what it leaves open stays. `keep` is for a reload: nothing was changed. */
export function fill(request, { keep = false } = {}) {
  const set = (input, value) => {
    if (value !== undefined && value !== null) input.value = value;
  };
  if (request.scheduler !== field.scheduler.value && capabilities.schedulers.some(({ name }) => name === request.scheduler)) {
    field.scheduler.value = request.scheduler;
    suitScheduler();
  }
  if (capabilities.decoders.includes(request.decoder)) field.decoder.value = request.decoder;
  set(field.prompt, request.prompt);
  set(field.steps, request.num_inference_steps);
  set(field.guidance, request.guidance_scale);
  set(field.negative, request.negative_prompt);
  set(field.count, request.n);
  set(field.seed, request.seed);
  if (capabilities.output_formats.some(({ name }) => name === request.output_format)) field.format.value = request.output_format;
  showValues();
  spent = keep ? (request.spent ?? false) : false;
  if (request.size && !capabilities.sizes.fixed) takeSize(request.size);
  else note();
}

byId("steps").addEventListener("input", showValues);
byId("guidance").addEventListener("input", showValues);
byId("scheduler").addEventListener("change", suitScheduler);
byId("roll").addEventListener("click", roll);
byId("lock").addEventListener("click", () => setLock(!isLocked()));
byId("seed").addEventListener("input", () => {
  // Who types a seed wants it.
  spent = false;
  setLock(true);
});
for (const side of [field.width, field.height]) {
  side.addEventListener("input", () => shapes.mark(`${field.width.value}x${field.height.value}`));
}
byId("controls").addEventListener("input", note);
byId("controls").addEventListener("change", note);
