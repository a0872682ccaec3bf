"""A diffusers directory with the published shapes of PixArt-XL-2-1024-MS and generated weights, in f16.

The weights mean nothing: this is for time and memory, not for pictures. T5-XXL can be cut to fewer layers.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import torch
from diffusers import AutoencoderKL, PixArtTransformer2DModel
from torch import nn
from transformers import T5Config, T5EncoderModel

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
