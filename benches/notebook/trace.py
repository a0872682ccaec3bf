"""Makes the notebook's IR from a diffusers directory: `trace.py CHECKPOINT OUTPUT`.

The notebook's own way: `ov.convert_model` on the three modules, T5 at 120 padded tokens, the transformer at one picture
size and a batch of two, `ov.save_model` with its default, which stores f16. One thing differs, and only so that it fits
24 GB: the notebook loads T5-XXL in f32 (19 GB before its trace); here weights that the checkpoint stores in 16 bits stay
so while they are traced. What is saved is the same: f16 constants under f32 arithmetic.

Each network is traced in a process of its own, so that the memory of one is free before the next. What is there is not
made again.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/golden"))

NETWORKS = ("text_encoder", "transformer", "vae_decoder")
FILES = {"text_encoder": "text_encoder", "transformer": "transformer_ir", "vae_decoder": "vae_decoder"}


def main() -> None:
    arguments = parse()
    if arguments.network:
        trace(arguments)
        return
    arguments.output.mkdir(parents=True, exist_ok=True)
    for network in NETWORKS:
        path = arguments.output / f"{FILES[network]}.xml"
        if path.exists():
            print(f"{path.name} is there", file=sys.stderr)
            continue
        start = time.monotonic()
        subprocess.run([sys.executable, __file__, *sys.argv[1:], "--network", network], check=True)
        print(json.dumps({"network": network, "trace_seconds": round(time.monotonic() - start, 1)}))


def trace(arguments: argparse.Namespace) -> None:
    """One network, to a name of its own until it is whole."""
    import torch
    from diffusers import AutoencoderKL, PixArtTransformer2DModel
    from notebook import trace_text_encoder, trace_transformer, trace_vae
    from transformers import T5EncoderModel

    checkpoint, network = arguments.checkpoint, arguments.network
    whole = arguments.output / f"{FILES[network]}.xml"
    path = arguments.output / f"{FILES[network]}.part.xml"
    height, width = arguments.height, arguments.width
    vae_config = json.loads((checkpoint / "vae/config.json").read_text())
    scale = 2 ** (len(vae_config["block_out_channels"]) - 1)
    if network == "text_encoder":
        # "auto" is the type that the files have.
        model = T5EncoderModel.from_pretrained(checkpoint / "text_encoder", dtype="auto")
        keep_16_bits(model)
        trace_text_encoder(model, path, compress_to_fp16=True)
    elif network == "transformer":
        model = PixArtTransformer2DModel.from_pretrained(checkpoint / "transformer", torch_dtype=torch.float32)
        trace_transformer(model, (height, width), scale, path, compress_to_fp16=True)
    else:
        model = AutoencoderKL.from_pretrained(checkpoint / "vae", torch_dtype=torch.float32)
        latents = torch.ones((1, model.config.latent_channels, height // scale, width // scale))
        trace_vae(model, latents, path, compress_to_fp16=True)
    os.replace(path.with_suffix(".bin"), whole.with_suffix(".bin"))
    os.replace(path, whole)


def keep_16_bits(model) -> None:
    """Lets a module in 16 bits be traced: OpenVINO's own patch, which computes in f32 from the stored weights."""
    import torch
    from openvino.frontend.pytorch import patch_model

    if any(parameter.dtype in (torch.float16, torch.bfloat16) for parameter in model.parameters()):
        getattr(patch_model, "__make_16bit_traceable")(model)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path, help="diffusers directory")
    parser.add_argument("output", type=Path, help="folder of the IR")
    parser.add_argument("--width", type=int, default=1024, help="pixels, the only width that the IR draws")
    parser.add_argument("--height", type=int, default=1024, help="pixels")
    parser.add_argument("--network", choices=NETWORKS, help="this one alone, in this process")
    return parser.parse_args()


if __name__ == "__main__":
    main()
