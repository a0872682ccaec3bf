"""Tiny diffusers checkpoints with odd sizes of everything, their weights drawn from a seeded generator.

They exist so that no test passes by the accident that a width is a power of two, that two widths are equal, or that
a file has the layout of the one checkpoint it was written against. Their pictures mean nothing, but neither are they
flat: every part of each network contributes.

None of them has a tokenizer: they use that of `models/sketchbook`.
"""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import torch
from diffusers import AutoencoderKL, DPMSolverMultistepScheduler, LCMScheduler, PixArtTransformer2DModel
from torch import nn
from transformers import T5Config, T5EncoderModel

VOCAB_SIZE = 750  # the sketchbook tokenizer has 489 pieces

# Scheduler settings of PixArt-LCM-XL-2-1024-MS and of PixArt-XL-2-1024-MS; the latter's file predates several keys.
LCM_OPTIONS = {"beta_start": 0.0001, "beta_end": 0.02, "beta_schedule": "linear", "original_inference_steps": 50}
DPM_OPTIONS = {
    "algorithm_type": "dpmsolver++",
    "beta_end": 0.02,
    "beta_schedule": "linear",
    "beta_start": 0.0001,
    "lower_order_final": True,
    "solver_order": 2,
    "solver_type": "midpoint",
    "timestep_spacing": "linspace",
}
KEYS_NEWER_THAN_PUBLISHED = {
    "scheduler": (
        "final_sigmas_type flow_shift rescale_betas_zero_snr time_shift_type use_beta_sigmas use_dynamic_shifting "
        "use_exponential_sigmas use_flow_sigmas"
    ).split(),
    "transformer": ["interpolation_scale", "use_additional_conditions"],
    "vae": "latents_mean latents_std mid_block_add_attention shift_factor use_post_quant_conv use_quant_conv".split(),
}
KEYS_OF_TRANSFORMER_2D_MODEL = {
    "double_self_attention": False,
    "num_vector_embeds": None,
    "only_cross_attention": False,
    "use_linear_projection": False,
}


def make_checkpoints(out: Path) -> None:
    """`checkpoints/<name>/`: the three tiny checkpoints as diffusers saves them."""
    for name, make in {"tiny-alpha": _alpha, "tiny-alpha-plain": _alpha_plain, "tiny-sigma": _sigma}.items():
        directory = out / "checkpoints" / name
        shutil.rmtree(directory, ignore_errors=True)
        make(directory)


def _alpha(directory: Path) -> None:
    """A 1024-px PixArt-α: micro-conditions by default, three VAE levels (a factor of 4), f32 in single files."""
    generator = torch.Generator("cpu").manual_seed(20_251)
    transformer = PixArtTransformer2DModel(
        sample_size=128,
        num_layers=3,
        num_attention_heads=2,
        attention_head_dim=12,
        cross_attention_dim=24,
        caption_channels=20,
    )
    text_encoder = _t5(d_model=20, num_heads=3, d_kv=8, d_ff=28, num_layers=2)
    vae = _vae(channels=(8, 12, 12), layers_per_block=2, norm_num_groups=4, scaling_factor=0.18215)
    _draw_weights(generator, transformer, text_encoder, vae)
    transformer.save_pretrained(directory / "transformer")
    text_encoder.save_pretrained(directory / "text_encoder")
    vae.save_pretrained(directory / "vae")
    LCMScheduler(**LCM_OPTIONS).save_pretrained(directory / "scheduler")
    _write_model_index(directory, "PixArtAlphaPipeline", "LCMScheduler", "PixArtTransformer2DModel")


def _alpha_plain(directory: Path) -> None:
    """A PixArt-α without micro-conditions, in files as of 2023: f16, sharded, old class and keys."""
    generator = torch.Generator("cpu").manual_seed(20_252)
    transformer = PixArtTransformer2DModel(
        sample_size=24,
        num_layers=2,
        num_attention_heads=3,
        attention_head_dim=20,
        cross_attention_dim=60,
        caption_channels=36,
    )
    text_encoder = _t5(
        d_model=36,
        num_heads=2,
        d_kv=10,
        d_ff=44,
        num_layers=3,
        relative_attention_num_buckets=16,
        relative_attention_max_distance=64,
        tie_word_embeddings=False,
        is_encoder_decoder=True,
    )
    vae = _vae(channels=(6, 8, 10, 14), layers_per_block=1, norm_num_groups=2, scaling_factor=0.18215)
    _draw_weights(generator, transformer, text_encoder, vae)
    transformer.half().save_pretrained(directory / "transformer", max_shard_size="150KB")
    text_encoder.half().save_pretrained(directory / "text_encoder", max_shard_size="60KB")
    vae.half().save_pretrained(directory / "vae")
    DPMSolverMultistepScheduler(**DPM_OPTIONS).save_pretrained(directory / "scheduler")
    _write_model_index(directory, "PixArtAlphaPipeline", "DPMSolverMultistepScheduler", "Transformer2DModel")

    _rewrite_config(
        directory / "transformer/config.json", "transformer", KEYS_OF_TRANSFORMER_2D_MODEL, "Transformer2DModel"
    )
    _rewrite_config(directory / "vae/config.json", "vae")
    _rewrite_config(directory / "scheduler/scheduler_config.json", "scheduler")


def _sigma(directory: Path) -> None:
    """A 256-px PixArt-Σ: 300 tokens, odd head widths, no convolution before the VAE, bf16 in shards."""
    generator = torch.Generator("cpu").manual_seed(20_253)
    transformer = PixArtTransformer2DModel(
        sample_size=32,
        num_layers=2,
        num_attention_heads=4,
        attention_head_dim=9,
        cross_attention_dim=36,
        caption_channels=22,
        interpolation_scale=1,
        use_additional_conditions=False,
    )
    text_encoder = _t5(
        d_model=22,
        num_heads=5,
        d_kv=7,
        d_ff=30,
        num_layers=2,
        relative_attention_num_buckets=8,
        relative_attention_max_distance=20,
    )
    vae = _vae(
        channels=(6, 6, 12, 9),
        layers_per_block=2,
        norm_num_groups=3,
        scaling_factor=0.13025,
        use_quant_conv=False,
        use_post_quant_conv=False,
    )
    _draw_weights(generator, transformer, text_encoder, vae)
    transformer.bfloat16().save_pretrained(directory / "transformer", max_shard_size="80KB")
    text_encoder.bfloat16().save_pretrained(directory / "text_encoder", max_shard_size="20KB")
    vae.bfloat16().save_pretrained(directory / "vae", max_shard_size="60KB")
    DPMSolverMultistepScheduler(**DPM_OPTIONS).save_pretrained(directory / "scheduler")
    _write_model_index(directory, "PixArtSigmaPipeline", "DPMSolverMultistepScheduler", "PixArtTransformer2DModel")


def _t5(**options: object) -> T5EncoderModel:
    config = T5Config(
        vocab_size=VOCAB_SIZE, feed_forward_proj="gated-gelu", dropout_rate=0.0, use_cache=False, **options
    )
    return T5EncoderModel(config).eval()


def _vae(channels: tuple[int, ...], **options: object) -> AutoencoderKL:
    levels = len(channels)
    return AutoencoderKL(
        block_out_channels=channels,
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        latent_channels=4,
        sample_size=64,
        **options,
    ).eval()


# ------------------------------------------------------------------------------------------------------- weights

# Gains and standard deviations by a piece of the parameter's name; the first match counts. Attention logits must
# spread, because a uniform softmax would hide a wrong mask or bias, so queries get more than 1.
GAINS = (
    ("attn1.to_q", 2.0),
    ("attn2.to_q", 2.0),
    ("embedder.linear_2", 0.3),
    ("adaln_single.linear", 0.6),
    ("decoder.conv_out", 0.55),
    ("pos_embed.proj", 2.5),
    ("attn1.to_out", 0.6),
    ("attn2.to_out", 1.2),
    ("ff.net.2", 0.6),
)
SPREADS = (
    ("scale_shift_table", 0.3),
    ("relative_attention_bias", 1.0),
    ("shared", 1.0),
)
FIT_BATCH = 256


def draw_parameters(generator: torch.Generator, network: nn.Module) -> None:
    """Overwrites every parameter: matrices keep the variance of what passes, norms and biases are not trivial."""
    for name, parameter in network.named_parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator) * _spread(name, parameter, network.config)
        if parameter.ndim == 1 and not name.endswith("bias"):
            parameter.data += 1.0  # a norm's scale


def _spread(name: str, parameter: torch.Tensor, config) -> float:
    """The standard deviation to draw one parameter with."""
    for piece, spread in SPREADS:
        if piece in name:
            return spread
    if parameter.ndim == 1:
        return 0.2
    gain = next((gain for piece, gain in GAINS if piece in name), 1.0)
    if "SelfAttention.q." in name:
        gain = 1.5 / math.sqrt(config.d_kv)  # T5 does not scale its logits: the width is folded into the queries
    return gain / math.sqrt(parameter[0].numel())


def _draw_weights(generator: torch.Generator, transformer: nn.Module, text_encoder: nn.Module, vae: nn.Module) -> None:
    for network in (transformer, text_encoder, vae):
        draw_parameters(generator, network)
    _predict_the_input(transformer, generator)


@torch.no_grad()
def _predict_the_input(transformer: PixArtTransformer2DModel, generator: torch.Generator) -> None:
    """Fits the output layer's first half by least squares to return the network's own noisy input.

    With a wholly random prediction the latents would grow several hundredfold over the steps, and next to them the
    position embedding, the modulation and the text would no longer matter. What the fit cannot explain is just what
    these contribute. The second half, the learned sigma, stays random.
    """
    patch, channels = transformer.config.patch_size, transformer.config.in_channels
    latents = torch.randn((FIT_BATCH, channels, 10, 14), generator=generator)
    size_conditions = {
        "resolution": torch.tensor([[80.0, 112.0]]).expand(FIT_BATCH, 2),
        "aspect_ratio": torch.tensor([[80 / 112]]).expand(FIT_BATCH, 1),
    }
    features: list[torch.Tensor] = []
    hook = transformer.proj_out.register_forward_pre_hook(lambda _, inputs: features.append(inputs[0].flatten(0, 1)))
    transformer.eval()(
        latents,
        encoder_hidden_states=torch.randn((FIT_BATCH, 11, transformer.config.caption_channels), generator=generator),
        timestep=torch.randint(0, 1000, (FIT_BATCH,), generator=generator),
        added_cond_kwargs=size_conditions,
    )
    hook.remove()

    # Targets in the order of the output layer: [image and token, (row, column, channel)].
    patches = latents.unfold(2, patch, patch).unfold(3, patch, patch)  # [image, channel, y, x, row, column]
    targets = patches.permute(0, 2, 3, 4, 5, 1).flatten(3).flatten(0, 2)
    inputs = torch.cat([features[0], torch.ones(len(features[0]), 1)], dim=1)
    solution = torch.linalg.lstsq(inputs.double(), targets.double()).solution.float()  # [inner + 1, outputs]
    solution = solution.T.unflatten(0, (patch, patch, channels))
    transformer.proj_out.weight.unflatten(0, (patch, patch, -1))[:, :, :channels] = solution[..., :-1]
    transformer.proj_out.bias.unflatten(0, (patch, patch, -1))[:, :, :channels] = solution[..., -1]


# --------------------------------------------------------------------------------------------------------- files


def _write_model_index(directory: Path, pipeline: str, scheduler: str, transformer: str) -> None:
    index = {
        "_class_name": pipeline,
        "_diffusers_version": "0.42.1" if transformer != "Transformer2DModel" else "0.22.0.dev0",
        "scheduler": ["diffusers", scheduler],
        "text_encoder": ["transformers", "T5EncoderModel"],
        "tokenizer": ["transformers", "T5Tokenizer"],
        "transformer": ["diffusers", transformer],
        "vae": ["diffusers", "AutoencoderKL"],
    }
    (directory / "model_index.json").write_text(json.dumps(index, indent=2) + "\n")


def _rewrite_config(
    path: Path, part: str, additions: dict[str, object] | None = None, class_name: str | None = None
) -> None:
    """Turns a config of today into one of diffusers 0.22: without the newer keys, with the ones dropped since."""
    config = json.loads(path.read_text()) | (additions or {})
    for key in KEYS_NEWER_THAN_PUBLISHED[part]:
        config.pop(key, None)
    config["_class_name"] = class_name or config["_class_name"]
    config["_diffusers_version"] = "0.22.0.dev0"
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
