// What is seen while a picture is drawn: the place in the queue, steps, seconds, the preview.

import { byId, enter } from "./dom.js";
import { duration, plural } from "./words.js";

let job;
let clock;
/** When all will be there, by prediction. */
let due = null;
let step = 0;
let steps = 1;
let image = 0;

/** Shows the panel for this job. */
export function show(of, { asking = "Asking the server" } = {}) {
  job = of;
  due = null;
  image = 0;
  byId("progress").hidden = false;
  set(0, job.request.num_inference_steps);
  byId("place").textContent = asking;
  clearInterval(clock);
  clock = setInterval(tick, 250);
  tick();
  enter("waiting");
}

export function hide() {
  clearInterval(clock);
  byId("progress").hidden = true;
  byId("preview").hidden = true;
  document.title = "pixart";
}

/** What the events of a job change here. */
export const see = {
  queued({ position, predicted_seconds: left }) {
    byId("place").textContent = `${position.toLocaleString("en")} before you`;
    document.title = `${position} before you · pixart`;
    predict(left);
  },
  started({ predicted_seconds: left }) {
    begun();
    predict(left);
  },
  step({ image_index: index, step: done, steps: all, predicted_seconds: left }) {
    begun(index);
    set(done, all);
    predict(left);
  },
  preview({ b64_json: data, output_format: format, image_index: index }) {
    begun(index);
    const preview = byId("preview");
    preview.src = `data:image/${format};base64,${data}`;
    preview.alt = `Preview of step ${step + 1}`;
    preview.hidden = false;
  },
  lost() {
    byId("place").textContent = "Looking for the server again";
  },
};

function begun(index = image) {
  const { n } = job.request;
  enter("drawing");
  image = index;
  byId("place").textContent = n > 1 ? `Drawing picture ${index + 1} of ${n}` : "Drawing";
}

function set(done, all) {
  step = done;
  steps = all;
  const { n } = job.request;
  const track = byId("track");
  track.setAttribute("aria-valuemax", steps);
  track.setAttribute("aria-valuenow", step);
  track.setAttribute("aria-valuetext", `step ${step} of ${steps}`);
  byId("fill").style.inlineSize = `${(100 * (image + step / steps)) / n}%`;
  byId("step").textContent = step > 0 ? `Step ${step} of ${steps}` : plural(steps, "step");
  if (step > 0) document.title = `${step}/${steps} · pixart`;
}

function predict(left) {
  due = left === null || left === undefined ? null : performance.now() + left * 1000;
  tick();
}

function tick() {
  byId("elapsed").textContent = `${Math.max(0, (Date.now() - job.since) / 1000).toFixed(1)} s`;
  const left = due === null ? null : (due - performance.now()) / 1000;
  byId("remaining").textContent = left === null ? "" : left < 0.95 ? "nearly there" : `about ${duration(Math.round(left))} left`;
}

/** Waits for another try: nothing is drawn. */
export function idle(text) {
  byId("place").textContent = text;
  byId("remaining").textContent = "";
  due = null;
  enter("waiting");
}

/** How far it has come, for a notice on its cancelling. */
export const howFar = () => (step > 0 ? `It was at step ${step} of ${steps}.` : "Nothing had been drawn yet.");
