"""The way of the PixArt OpenVINO notebook: tracing the three networks, and running IR inside diffusers' pipeline.

Wrapper names, port names and file names are the notebook's. Nothing here knows `pixart`.
"""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import openvino as ov
import torch
from diffusers import DiffusionPipeline
from diffusers.models.embeddings import get_2d_sincos_pos_embed
from torch import nn

TRANSFORMER_PORTS = (
    "hidden_states",
    "timestep",
    "encoder_hidden_states",
    "encoder_attention_mask",
    "resolution",
    "aspect_ratio",
)
PROMPT_TOKENS = 120
# What faithful numbers need: f32 arithmetic, and no quantisation of activations on the fly.
FAITHFUL = {"INFERENCE_PRECISION_HINT": "f32", "DYNAMIC_QUANTIZATION_GROUP_SIZE": "0"}

# ------------------------------------------------------------------------------------------------------- tracing


class TracedTransformer(nn.Module):
    """The transformer with its micro-conditions as two inputs of their own, in the order of `TRANSFORMER_PORTS`."""

    def __init__(self, transformer: nn.Module) -> None:
        super().__init__()
        self.transformer = transformer

    def forward(
        self, hidden_states, timestep, encoder_hidden_states, encoder_attention_mask, resolution=None, aspect_ratio=None
    ):
        return self.transformer(
            hidden_states,
            timestep=timestep,
            encoder_hidden_states=encoder_hidden_states,
            encoder_attention_mask=encoder_attention_mask,
            added_cond_kwargs={"resolution": resolution, "aspect_ratio": aspect_ratio},
            return_dict=False,
        )[0]


class TracedVae(nn.Module):
    """The VAE's decoder."""

    def __init__(self, vae: nn.Module) -> None:
        super().__init__()
        self.vae = vae

    def forward(self, latents):
        return self.vae.decode(latents, return_dict=False)[0]


def trace_pipeline(pipeline: DiffusionPipeline, directory: Path, width: int, height: int, batch: int = 2) -> None:
    """Writes `text_encoder`, `transformer_ir` and `vae_decoder` in f32, the transformer frozen to one picture size.

    As in the notebook, the ports stay dynamic: batch and prompt length are free, and so is the VAE's picture size.
    """
    directory.mkdir(parents=True, exist_ok=True)
    scale = pipeline.vae_scale_factor
    trace_text_encoder(pipeline.text_encoder, directory / "text_encoder.xml")
    trace_transformer(pipeline.transformer, (height, width), scale, directory / "transformer_ir.xml", batch=batch)
    latents = torch.ones((1, pipeline.transformer.config.in_channels, height // scale, width // scale))
    trace_vae(pipeline.vae, latents, directory / "vae_decoder.xml")


def trace_text_encoder(text_encoder: nn.Module, path: Path, compress_to_fp16: bool = False) -> None:
    """Writes the text encoder as IR, traced at the padded length."""
    prompt = {
        "input_ids": torch.ones((1, PROMPT_TOKENS), dtype=torch.long),
        "attention_mask": torch.ones((1, PROMPT_TOKENS), dtype=torch.long),
    }
    _save(text_encoder, prompt, path, compress_to_fp16)


def trace_transformer(
    transformer: nn.Module,
    size: tuple[int, int],
    scale: int,
    path: Path,
    batch: int = 2,
    compress_to_fp16: bool = False,
) -> None:
    """Writes the transformer as IR, frozen to one picture size (height, width)."""
    height, width = size
    inputs = {
        "hidden_states": torch.ones((batch, transformer.config.in_channels, height // scale, width // scale)),
        "timestep": torch.full((batch,), 999),
        "encoder_hidden_states": torch.ones((batch, PROMPT_TOKENS, transformer.config.caption_channels)),
        "encoder_attention_mask": torch.ones((batch, PROMPT_TOKENS)),
    }
    if transformer.config.sample_size == 128:
        inputs["resolution"] = torch.tensor([[float(height), float(width)]] * batch)
        inputs["aspect_ratio"] = torch.tensor([[height / width]] * batch)
    _freeze_positions(transformer, height // scale, width // scale)
    _save(TracedTransformer(transformer), inputs, path, compress_to_fp16)


def trace_vae(vae: nn.Module, latents: torch.Tensor, path: Path, compress_to_fp16: bool = False) -> None:
    """Writes the VAE's decoder as IR for latents of one shape."""
    _save(TracedVae(vae), {"latents": latents}, path, compress_to_fp16)


def _freeze_positions(transformer: nn.Module, rows: int, columns: int) -> None:
    """Makes a latent size the one for which the position embedding is a stored table.

    That is what happens to a published checkpoint, traced at its own size. At any other size diffusers computes the
    embedding, and its trace would work at every size.
    """
    embedding, patch = transformer.pos_embed, transformer.config.patch_size
    embedding.height, embedding.width = rows // patch, columns // patch
    table = get_2d_sincos_pos_embed(
        transformer.inner_dim,
        (embedding.height, embedding.width),
        base_size=embedding.base_size,
        interpolation_scale=embedding.interpolation_scale,
        output_type="pt",
    )
    embedding.pos_embed = table.float()[None]


@torch.no_grad()
def _save(network: nn.Module, inputs: dict[str, torch.Tensor], path: Path, compress_to_fp16: bool = False) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", torch.jit.TracerWarning)  # dozens, each about a shape check
        model = ov.convert_model(network.eval(), example_input=inputs)
    ov.save_model(model, path, compress_to_fp16=compress_to_fp16)


# ------------------------------------------------------------------------------------------- running IR in diffusers


class _CompiledPart(nn.Module):
    """What diffusers' pipeline asks of each of its parts: to be a module on a device, with a dtype and a config."""

    def __init__(self, compiled: ov.CompiledModel, config=None) -> None:
        super().__init__()
        self.compiled = compiled
        self.config = config
        self.device = torch.device("cpu")
        self.dtype = torch.float32

    def run(self, **values: torch.Tensor) -> list[torch.Tensor]:
        """Runs the model on values by port name, each cast to its port's type: the pipeline's mask is i64, a traced
        transformer's is f32."""
        inputs = {}
        for port in self.compiled.inputs:
            # A traced port may carry an internal name as well.
            name = next(name for name in port.get_names() if name in values)
            inputs[name] = np.ascontiguousarray(values.pop(name).numpy().astype(port.element_type.to_dtype()))
        if values:
            raise ValueError(f"the model has no inputs named {sorted(values)}")
        return [torch.from_numpy(self.compiled(inputs)[0].copy())]


class TextEncoderWrapper(_CompiledPart):
    """A compiled text encoder in the place of transformers' own."""

    def forward(self, input_ids, attention_mask):
        return self.run(input_ids=input_ids, attention_mask=attention_mask)


class TransformerWrapper(_CompiledPart):
    """A compiled transformer in the place of diffusers' own."""

    def forward(
        self,
        hidden_states,
        timestep,
        encoder_hidden_states,
        encoder_attention_mask,
        added_cond_kwargs,
        return_dict=False,
    ):
        return self.run(
            hidden_states=hidden_states,
            timestep=timestep,
            encoder_hidden_states=encoder_hidden_states,
            encoder_attention_mask=encoder_attention_mask,
            **{name: value for name, value in added_cond_kwargs.items() if value is not None},
        )


class VAEWrapper(_CompiledPart):
    """A compiled VAE decoder in the place of diffusers' own."""

    def decode(self, latents, return_dict=False):
        return self.run(latents=latents)


def with_compiled_parts(
    pipeline: DiffusionPipeline, text_encoder: ov.CompiledModel, transformer: ov.CompiledModel, vae: ov.CompiledModel
) -> DiffusionPipeline:
    """A pipeline of the same class, tokenizer and scheduler that runs the three compiled models."""
    return type(pipeline)(
        tokenizer=pipeline.tokenizer,
        text_encoder=TextEncoderWrapper(text_encoder),
        transformer=TransformerWrapper(transformer, pipeline.transformer.config),
        vae=VAEWrapper(vae, pipeline.vae.config),
        scheduler=pipeline.scheduler,
    )
