"""The shapes of the published repositories.

A diffusers directory with those of PixArt-XL-2-1024-MS and generated weights, in f16: for time and memory, not for images. And
the names and shapes of the tensors, which `pixart synthesize --like` is compared with.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import torch
from diffusers import AutoencoderKL, PixArtTransformer2DModel
from torch import nn
from transformers import T5Config, T5EncoderModel

from storage import write_json

VAE = {
    "block_out_channels": (128, 256, 512, 512),
    "layers_per_block": 2,
    "norm_num_groups": 32,
    "latent_channels": 4,
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
}
TRANSFORMER = {
    "num_layers": 28,
    "num_attention_heads": 16,
    "attention_head_dim": 72,
    "in_channels": 4,
    "out_channels": 8,
    "caption_channels": 4096,
    "cross_attention_dim": 1152,
    "sample_size": 128,
}
TEXT_ENCODER = {
    "d_model": 4096,
    "d_kv": 64,
    "d_ff": 10240,
    "num_heads": 64,
    "vocab_size": 32128,
    "feed_forward_proj": "gated-gelu",
    "is_encoder_decoder": False,
}

# What `pixart synthesize --width 96 --layers 2 --text-layers 2` makes of them.
SMALL_VAE = VAE | {"block_out_channels": (32, 64, 128, 128)}
SMALL_TRANSFORMER = TRANSFORMER | {
    "num_layers": 2,
    "num_attention_heads": 4,
    "attention_head_dim": 24,
    "caption_channels": 320,
    "cross_attention_dim": 96,
}
SMALL_TEXT_ENCODER = TEXT_ENCODER | {"num_layers": 2, "d_model": 320, "d_ff": 800, "num_heads": 5, "vocab_size": 640}


def make_tensors(out: Path) -> None:
    """`published.json`: the tensors of each class at small width, without what is stored twice."""
    with torch.device("meta"):
        networks = {
            "text_encoder": T5EncoderModel(T5Config(**SMALL_TEXT_ENCODER)),
            "transformer": PixArtTransformer2DModel(**SMALL_TRANSFORMER, use_additional_conditions=False),
            "transformer_with_micro_conditions": PixArtTransformer2DModel(
                **SMALL_TRANSFORMER, use_additional_conditions=True
            ),
            "vae": AutoencoderKL(**SMALL_VAE),
        }
    tied = "encoder.embed_tokens.weight"  # `shared.weight` once more: safetensors holds it once
    records = [
        {"component": component, "tensor": name, "shape": list(tensor.shape)}
        for component, network in networks.items()
        for name, tensor in sorted(network.state_dict().items())
        if name != tied
    ]
    write_json(out / "published.json", records)


def make_published(directory: Path, template: Path, text_layers: int) -> None:
    """Writes the directory; tokenizer, scheduler and index come from `template`."""
    shutil.rmtree(directory, ignore_errors=True)
    shutil.copytree(template, directory, ignore=shutil.ignore_patterns("text_encoder", "transformer", "vae", "pixart.json"))
    torch.manual_seed(0)
    _save(PixArtTransformer2DModel(**TRANSFORMER), directory / "transformer")
    _save(AutoencoderKL(**VAE), directory / "vae")
    _save(T5EncoderModel(T5Config(**TEXT_ENCODER, num_layers=text_layers)), directory / "text_encoder")


def _save(network: nn.Module, directory: Path) -> None:
    network.half().save_pretrained(directory, max_shard_size="2GB")
