"""The notebook's networks, run when told to: the other side of `pixart bench --component`.

`worker.py IR text_encoder|transformer|vae_decoder` compiles one network as the notebook does (`core.compile_model` with its
defaults) and runs it for each line of standard input. `worker.py IR picture --checkpoint DIR` compiles all three, puts
them into diffusers' pipeline and draws. docs/bench.md has the lines.
"""

from __future__ import annotations

import time

BEGUN = time.monotonic()

import argparse
import json
import sys
from pathlib import Path

import numpy as np
import openvino as ov

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests/golden"))

FILES = {"text_encoder": "text_encoder", "transformer": "transformer_ir", "vae_decoder": "vae_decoder"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("ir", type=Path)
    parser.add_argument("what", choices=[*FILES, "picture"])
    parser.add_argument("--checkpoint", type=Path)
    arguments = parser.parse_args()
    if arguments.what == "picture":
        draw(arguments.ir, arguments.checkpoint)
    else:
        run(arguments.ir / f"{FILES[arguments.what]}.xml")


def run(xml: Path) -> None:
    """One network."""
    begun = time.monotonic()
    compiled = ov.Core().compile_model(xml, "CPU")
    say(ready(begun, compiled))
    inputs: dict[str, np.ndarray] = {}
    for line in sys.stdin:
        order = json.loads(line)
        if order.get("inputs"):
            inputs = {name: read(**stored) for name, stored in order["inputs"].items()}
        start = time.monotonic()
        output = compiled(by_port(compiled, inputs))[0]
        seconds = time.monotonic() - start
        if order.get("output"):
            output.astype("<f4").tofile(order["output"])
        say({"seconds": seconds, "shape": list(output.shape), "memory": memory()})


def draw(ir: Path, checkpoint: Path) -> None:
    """Whole pictures through diffusers' pipeline, whose parts' times are taken apart."""
    import torch
    from diffusers import LCMScheduler, PixArtAlphaPipeline
    from notebook import TextEncoderWrapper, TransformerWrapper, VAEWrapper
    from transformers import T5Tokenizer

    begun = time.monotonic()
    core = ov.Core()
    networks = {name: core.compile_model(ir / f"{file}.xml", "CPU") for name, file in FILES.items()}

    def config(part: str) -> SimpleConfig:
        return SimpleConfig(json.loads((checkpoint / part / "config.json").read_text()))

    text_encoder = TextEncoderWrapper(networks["text_encoder"])
    transformer = TransformerWrapper(networks["transformer"], config("transformer"))
    vae = VAEWrapper(networks["vae_decoder"], config("vae"))
    pipeline = PixArtAlphaPipeline(
        tokenizer=T5Tokenizer.from_pretrained(checkpoint / "tokenizer"),
        text_encoder=text_encoder,
        transformer=transformer,
        vae=vae,
        scheduler=LCMScheduler.from_pretrained(checkpoint / "scheduler"),
    )
    pipeline.set_progress_bar_config(disable=True)
    clocks = {
        "text_encode": Clock(text_encoder, "forward"),
        "step": Clock(transformer, "forward"),
        "vae_decode": Clock(vae, "decode"),
    }
    say(ready(begun, networks["transformer"]))
    for line in sys.stdin:
        order = json.loads(line)
        for clock in clocks.values():
            clock.seconds.clear()
        start = time.monotonic()
        image = pipeline(
            order["prompt"],
            num_inference_steps=order["steps"],
            guidance_scale=0.0,
            width=order["width"],
            height=order["height"],
            use_resolution_binning=False,
            generator=torch.Generator().manual_seed(order.get("seed", 0)),
        ).images[0]
        if order.get("output"):
            image.save(order["output"])
        seconds = time.monotonic() - start
        say({
            "seconds": seconds,
            "stages": {name: clock.seconds[:] for name, clock in clocks.items()},
            "memory": memory(),
        })


class SimpleConfig(dict):
    """A configuration by attribute, as diffusers asks for it; what old files leave out has its default."""

    def __getattr__(self, name: str):
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name) from None


class Clock:
    """Times the calls of a method."""

    def __init__(self, owner: object, method: str) -> None:
        self.seconds: list[float] = []
        inner = getattr(owner, method)

        def timed(*arguments, **named):
            start = time.monotonic()
            done = inner(*arguments, **named)
            self.seconds.append(time.monotonic() - start)
            return done

        object.__setattr__(owner, method, timed)


def by_port(compiled: ov.CompiledModel, inputs: dict[str, np.ndarray]) -> dict:
    """Values by port, each of the port's type: a traced port may carry an internal name as well."""
    found = {}
    for port in compiled.inputs:
        name = next(name for name in port.get_names() if name in inputs)
        found[port] = inputs[name].astype(port.element_type.to_dtype(), copy=False)
    return found


def read(shape: list[int], type: str, file: str) -> np.ndarray:
    return np.fromfile(file, {"f32": "<f4", "i64": "<i8"}[type]).reshape(shape)


def ready(begun: float, compiled: ov.CompiledModel) -> dict:
    now = time.monotonic()
    return {
        "ready_seconds": now - BEGUN,
        "compile_seconds": now - begun,
        "precision": str(compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name()),
        "memory": memory(),
    }


def memory() -> dict | None:
    """What is there now, not a peak: peaks of the Python side are its resident high-water mark."""
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return None
    fields = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
    kib = {name: int(fields[key].split()[0]) for name, key in
           (("anonymous_bytes", "RssAnon"), ("file_backed_bytes", "RssFile"), ("resident_peak_bytes", "VmHWM"))}
    return {name: value * 1024 for name, value in kib.items()}


def say(answer: dict) -> None:
    print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
