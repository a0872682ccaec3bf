"""Holds `pixart quantize` against NNCF on the same model and the same captions: `make parity-nncf`.

The PixArt OpenVINO notebook quantises its transformer the hybrid way: 8-bit weights, and integers for what multiplies two
activations and for the convolution that cuts the picture into patches. Here both do that to sketchbook's f16 transformer;
pixart is asked for the convolution, which it leaves in floats by itself:

- the same operations must take integers,
- the sizes must be within 1 %,
- the pictures must be as near to the original's, within 1 dB in the median.

NNCF sees what diffusers' own pipeline gives the transformer for the captions that `pixart quantize` draws, with its seeds.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

import nncf
import numpy as np
import openvino as ov
import torch
from diffusers import PixArtAlphaPipeline

ROOT = Path(__file__).resolve().parents[2]
SKETCHBOOK = ROOT / "models/sketchbook"
CAPTIONS = SKETCHBOOK / "calibration.txt"
SAMPLES = 32
SIZE_WITHIN, PICTURE_WITHIN_DB = 0.01, 1.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pixart", type=Path, required=True, help="the binary")
    parser.add_argument("--work", type=Path, required=True, help="an empty folder")
    options = parser.parse_args()
    pixart, work = options.pixart, options.work

    original, ours, theirs = work / "f16", work / "ours", work / "theirs"
    run(pixart, "convert", SKETCHBOOK, "--output", original, "--quiet")
    only = ["--vae-decoder", "keep", "--text-encoder-weights", "keep"]
    calibration = ["--captions", CAPTIONS, "--samples", SAMPLES]
    # NNCF's ranges are the means of each inference's extremes.
    how = ["--transformer", "hybrid", "--range", "mean-min-max", "--in-integers", patches(pixart, original)]
    run(pixart, "quantize", original, "--output", ours, "--quiet", *how, *only, *calibration)
    shutil.copytree(original, theirs)
    ov.save_model(hybrid(original / "transformer.xml", seen_by_transformer()), theirs / "transformer.xml", compress_to_fp16=False)
    account_for(theirs, "transformer.xml", "transformer.bin")

    failed = []
    layers = {name: in_integers(folder / "transformer.xml") for name, folder in (("ours", ours), ("theirs", theirs))}
    print(f"operations on integers: {len(layers['ours'])} ours, {len(layers['theirs'])} theirs")
    for one, other in (("ours", "theirs"), ("theirs", "ours")):
        for name in sorted(layers[one] - layers[other]):
            failed.append(f"{name} takes integers in {one} alone")
    sizes = {name: (folder / "transformer.bin").stat().st_size for name, folder in (("ours", ours), ("theirs", theirs))}
    ratio = sizes["ours"] / sizes["theirs"]
    print(f"transformer.bin: {sizes['ours']} bytes ours, {sizes['theirs']} theirs, ratio {ratio:.4f}")
    if abs(ratio - 1) > SIZE_WITHIN:
        failed.append(f"the sizes differ by {100 * (ratio - 1):.1f} %")
    psnr = {}
    for name, folder in (("ours", ours), ("theirs", theirs)):
        told = work / f"{name}.json"
        run(pixart, "compare", original, folder, "--repeat", 0, "--quiet", "--json", told)
        quality = json.loads(told.read_text())["quality"]
        psnr[name] = quality["median_psnr_db"]
    print(f"median PSNR of eight pictures: {psnr['ours']:.2f} dB ours, {psnr['theirs']:.2f} dB theirs")
    if psnr["ours"] < psnr["theirs"] - PICTURE_WITHIN_DB:
        failed.append(f"our pictures are {psnr['theirs'] - psnr['ours']:.2f} dB worse")
    for complaint in failed:
        print(f"FAILED: {complaint}")
    sys.exit(1 if failed else 0)


def run(*words: object) -> None:
    subprocess.run([str(word) for word in words], check=True, stdout=subprocess.DEVNULL)


def patches(pixart: Path, model: Path) -> str:
    """The convolution that cuts latents into patches, by the name that pixart has for it."""
    words = [str(pixart), "quantize", str(model), "--operations"]
    listed = subprocess.run(words, check=True, capture_output=True, text=True).stdout
    named = (line.split("\t") for line in listed.splitlines())
    return next(name for part, name in named if part == "transformer" and name.startswith("pos_embed/"))


def seen_by_transformer() -> list[dict[str, np.ndarray]]:
    """What diffusers gives the transformer, step by step, by the names of our ports."""
    pipeline = PixArtAlphaPipeline.from_pretrained(SKETCHBOOK, torch_dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    seen = []

    def look(_module, arguments, named):
        conditions = named["added_cond_kwargs"]
        batch = len(arguments[0])
        seen.append({
            "hidden_states": arguments[0].numpy(),
            "timestep": named["timestep"].expand(batch).numpy().astype(np.int64),
            "encoder_hidden_states": named["encoder_hidden_states"].numpy(),
            "encoder_attention_mask": named["encoder_attention_mask"].numpy().astype(np.float32),
            "resolution": conditions["resolution"].numpy(),
            "aspect_ratio": conditions["aspect_ratio"].numpy(),
        })

    pipeline.transformer.register_forward_pre_hook(look, with_kwargs=True)
    captions = CAPTIONS.read_text().splitlines()[:SAMPLES]
    for seed, caption in enumerate(captions):
        pipeline(
            caption, num_inference_steps=4, guidance_scale=0.0, height=256, width=256, use_resolution_binning=False,
            output_type="latent", generator=torch.Generator().manual_seed(seed),
        )  # fmt: skip
    # Ports are found by name; what a network has no port for is not given.
    return [trimmed(inputs) for inputs in seen]


def trimmed(inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Without the padding that diffusers masks: pixart reads prompts at their true length."""
    length = int(inputs["encoder_attention_mask"].sum(1).max())
    return inputs | {name: inputs[name][:, :length] for name in ("encoder_hidden_states", "encoder_attention_mask")}


def hybrid(xml: Path, seen: list[dict[str, np.ndarray]]) -> ov.Model:
    """As the notebook does it: 8-bit weights first, then integers for what has no weights, and for convolutions."""
    model = ov.Core().read_model(xml)
    names = {name for port in model.inputs for name in port.get_names()}
    seen = [{name: value for name, value in inputs.items() if name in names} for inputs in seen]
    with_weights = [op.get_friendly_name() for op in model.get_ops() if op.get_type_name() == "MatMul" and has_weights(op)]
    compressed = nncf.compress_weights(
        model, mode=nncf.CompressWeightsMode.INT8_SYM, ignored_scope=nncf.IgnoredScope(types=["Convolution"])
    )
    return nncf.quantize(
        compressed,
        nncf.Dataset(seen),
        subset_size=len(seen),
        model_type=nncf.ModelType.TRANSFORMER,
        ignored_scope=nncf.IgnoredScope(names=with_weights),
        advanced_parameters=nncf.AdvancedQuantizationParameters(
            smooth_quant_alphas=nncf.AdvancedSmoothQuantParameters(matmul=-1, convolution=-1)
        ),
    )


def has_weights(op: ov.Node) -> bool:
    """Whether one of its inputs is a constant, converted or not."""
    for index in range(op.get_input_size()):
        node = op.input_value(index).get_node()
        while node.get_type_name() in ("Convert", "Multiply", "Reshape", "Transpose") and node.get_input_size():
            node = node.input_value(0).get_node()
        if node.get_type_name() == "Constant":
            return True
    return False


# What lies between a FakeQuantize and the operation that takes its integers.
PASSED = ("Reshape", "Transpose", "Convert", "Multiply", "Unsqueeze", "Squeeze", "Split", "VariadicSplit")


def in_integers(xml: Path) -> set[str]:
    """Names of the MatMuls and convolutions all of whose activations come from a FakeQuantize."""
    model = ov.Core().read_model(xml)

    def quantised(value: ov.Output) -> bool | None:
        """None of a constant."""
        node = value.get_node()
        while node.get_type_name() in PASSED:
            node = node.input_value(0).get_node()
        if node.get_type_name() == "Constant":
            return None
        return node.get_type_name() == "FakeQuantize"

    found = set()
    for op in model.get_ops():
        if op.get_type_name() in ("MatMul", "Convolution"):
            told = [quantised(op.input_value(index)) for index in range(2)]
            if all(answer is not False for answer in told) and any(told):
                found.add(op.get_friendly_name())
    return found


def account_for(folder: Path, *names: str) -> None:
    """Has the manifest tell length and checksum of files that were replaced."""
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text())
    for name in names:
        content = (folder / name).read_bytes()
        manifest["files"][name] = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    # It was the checksum of what the manifest said before.
    manifest.pop("sha256", None)
    path.write_text(json.dumps(manifest, indent=2) + "\n")


if __name__ == "__main__":
    main()
