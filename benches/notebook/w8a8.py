"""Holds a transformer that `pixart quantize` made against NNCF's own W8A8 of the same weights: the time of a step, by turns.

    w8a8.py --original MODEL/transformer.xml --ours QUANTISED/transformer.xml --work FOLDER [--latents 128] [--pairs 3] [--json FILE]

NNCF quantises the original IR (`nncf.quantize`, model type transformer, its defaults, statistics of random inputs of 32x32
latents: times do not depend on ranges) and leaves it in the work folder. All three are compiled for one static shape with the
same properties and run by turns with the same inputs. Ratios are the original's time by that of each.

The environment needs requirements.txt and nncf, as `tests/nncf/requirements.txt` pins it.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path

import numpy as np
import openvino as ov

TOKENS = 16


def inputs(model: ov.Model, latents: int, seed: int) -> dict[str, np.ndarray]:
    """Random inputs of one picture without guidance."""
    rng = np.random.default_rng(seed)
    shapes = {
        "hidden_states": (1, 4, latents, latents),
        "encoder_hidden_states": (1, TOKENS, 4096),
        "encoder_attention_mask": (1, TOKENS),
        "resolution": (1, 2),
        "aspect_ratio": (1, 1),
        "timestep": (1,),
    }
    found = {}
    for port in model.inputs:
        name = port.any_name
        if name == "timestep":
            found[name] = np.array([999 - 250 * (seed % 4)], np.int64)
        elif name == "encoder_attention_mask":
            found[name] = np.ones(shapes[name], np.float32)
        elif name == "resolution":
            found[name] = np.full(shapes[name], 8.0 * latents, np.float32)
        elif name == "aspect_ratio":
            found[name] = np.ones(shapes[name], np.float32)
        else:
            found[name] = rng.standard_normal(shapes[name]).astype(np.float32)
    return found


def quantised(original: Path, target: Path) -> Path:
    """NNCF's W8A8 of the original, made where it is missing."""
    if target.exists():
        return target
    import nncf

    model = ov.Core().read_model(original)
    samples = [inputs(model, 32, seed) for seed in range(4)]
    begun = time.monotonic()
    made = nncf.quantize(model, nncf.Dataset(samples), model_type=nncf.ModelType.TRANSFORMER, subset_size=len(samples))
    print(f"nncf.quantize: {time.monotonic() - begun:.0f} s", flush=True)
    ov.save_model(made, target, compress_to_fp16=True)
    return target


class Network:
    """One compiled network, for one shape."""

    def __init__(self, core: ov.Core, xml: Path, latents: int) -> None:
        model = core.read_model(xml)
        self.inputs = inputs(model, latents, 0)
        model.reshape({name: list(value.shape) for name, value in self.inputs.items()})
        self.request = core.compile_model(model, "CPU").create_infer_request()
        self.request.infer(self.inputs)
        self.seconds: list[float] = []

    def run(self) -> None:
        begun = time.monotonic()
        self.request.infer(self.inputs)
        self.seconds.append(time.monotonic() - begun)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--original", type=Path, required=True)
    parser.add_argument("--ours", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--latents", type=int, default=128, help="latents a side: 128 for 1024 px")
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    theirs = quantised(options.original, options.work / "nncf-w8a8.xml")
    core = ov.Core()
    paths = {"original": options.original, "ours": options.ours, "nncf": theirs}
    networks = {name: Network(core, path, options.latents) for name, path in paths.items()}
    for turn in range(options.pairs):
        names = list(networks)
        for name in names[turn % 3 :] + names[: turn % 3]:
            networks[name].run()
    told = {"bytes": {name: path.with_suffix(".bin").stat().st_size for name, path in paths.items()}}
    for name, network in networks.items():
        ratios = [one / other for one, other in zip(networks["original"].seconds, network.seconds, strict=True)]
        told[name] = {"seconds": network.seconds, "times_faster": ratios}
        print(f"{name}: {statistics.median(network.seconds):.2f} s, {' '.join(f'{ratio:.2f}' for ratio in ratios)} times as fast")
    pairs = [one / other for one, other in zip(networks["nncf"].seconds, networks["ours"].seconds, strict=True)]
    told["nncf_by_ours"] = pairs
    print(f"nncf's time by ours: {' '.join(f'{pair:.3f}' for pair in pairs)}")
    if options.json:
        options.json.write_text(json.dumps(told, indent=2) + "\n")


if __name__ == "__main__":
    main()
