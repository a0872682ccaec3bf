// Prompts to begin with: the OpenVINO notebook's for published models, and sketchbook's own.

import { byId, make } from "./dom.js";

/** Captions and seeds of the notebook's demo (openvino_notebooks, notebooks/pixart/gradio_helper.py). */
const NOTEBOOK = [
  { prompt: "A small cactus with a happy face in the Sahara desert.", seed: "42" },
  { prompt: "an astronaut sitting in a diner, eating fries, cinematic, analog film", seed: "42" },
  {
    prompt:
      "Pirate ship trapped in a cosmic maelstrom nebula, rendered in cosmic beach whirlpool engine, volumetric lighting, spectacular, ambient lights, light pollution, cinematic atmosphere, art nouveau style, illustration art artwork by SenseiJaye, intricate detail.",
    seed: "0",
  },
  { prompt: "professional portrait photo of an anthropomorphic cat wearing fancy gentleman hat and jacket walking in autumn forest.", seed: "0" },
];

const SKETCHBOOK = [
  { prompt: "A small cactus with a happy face in the Sahara desert.", seed: "41" },
  { prompt: "A sad robot next to a yellow house", seed: "42" },
  { prompt: "Two red boats on the sea at sunset", seed: "40" },
  { prompt: "A big red rocket flying in outer space", seed: "44" },
  { prompt: "A purple mushroom in the dark forest", seed: "45" },
  { prompt: "A yellow taxi in New York at night", seed: "44" },
];

/** Those that the loaded model can draw. */
const fitting = (model) => (/sketchbook/i.test(model) ? SKETCHBOOK : NOTEBOOK);

/** Shows them; `take` is given the one that is chosen. */
export function show(model, take) {
  const items = fitting(model).map((example) => {
    const button = make("button", { type: "button", title: example.prompt, click: () => take(example) }, make("span", {}, example.prompt));
    return make("li", {}, button);
  });
  byId("examples").replaceChildren(...items);
}
