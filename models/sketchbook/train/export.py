"""Writes checkpoints as diffusers does: f16 safetensors, configuration, tokenizer, scheduler."""

import json
import shutil
from pathlib import Path

from diffusers import DPMSolverMultistepScheduler, LCMScheduler

NOISE = {"num_train_timesteps": 1000, "beta_start": 1e-4, "beta_end": 0.02, "beta_schedule": "linear", "prediction_type": "epsilon"}
SCHEDULERS = {
    "DPMSolverMultistepScheduler": lambda: DPMSolverMultistepScheduler(
        **NOISE, algorithm_type="dpmsolver++", solver_order=2, solver_type="midpoint", lower_order_final=True
    ),
    "LCMScheduler": lambda: LCMScheduler(
        **NOISE, original_inference_steps=50, clip_sample=False, set_alpha_to_one=True, timestep_spacing="leading", timestep_scaling=10.0
    ),
}
TOKENIZER = {
    "tokenizer_class": "T5Tokenizer", "model_max_length": 120, "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>",
    "extra_ids": 0, "additional_special_tokens": [], "legacy": True, "clean_up_tokenization_spaces": True, "sp_model_kwargs": {},
}  # fmt: skip
SPECIAL_TOKENS = {"eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}
INDEX = {
    "_class_name": "PixArtAlphaPipeline",
    "text_encoder": ["transformers", "T5EncoderModel"],
    "tokenizer": ["transformers", "T5Tokenizer"],
    "transformer": ["diffusers", "PixArtTransformer2DModel"],
    "vae": ["diffusers", "AutoencoderKL"],
}


def forget_origin(config: Path):
    """An autoencoder that was opened and not trained tells the folder that it came from: nobody else has that."""
    told = json.loads(config.read_text())
    told.pop("_name_or_path", None)
    config.write_text(json.dumps(told, indent=2) + "\n")


def export(folder: Path, transformer, scheduler: str, shared: dict):
    """`shared`: text_encoder, vae, tiny_vae, the tokenizer's spiece.model; the same for teacher and student."""
    folder.mkdir(parents=True, exist_ok=True)
    transformer.half().save_pretrained(folder / "transformer", safe_serialization=True)
    shared["vae"].half().save_pretrained(folder / "vae", safe_serialization=True)
    shared["tiny_vae"].half().save_pretrained(folder / "tiny_vae", safe_serialization=True)
    for autoencoder in ("vae", "tiny_vae"):
        forget_origin(folder / autoencoder / "config.json")
    shared["text_encoder"].half().save_pretrained(folder / "text_encoder", safe_serialization=True)
    SCHEDULERS[scheduler]().save_pretrained(folder / "scheduler")
    tokenizer = folder / "tokenizer"
    tokenizer.mkdir(exist_ok=True)
    shutil.copyfile(shared["spiece"], tokenizer / "spiece.model")
    (tokenizer / "tokenizer_config.json").write_text(json.dumps(TOKENIZER, indent=1) + "\n")
    (tokenizer / "special_tokens_map.json").write_text(json.dumps(SPECIAL_TOKENS, indent=1) + "\n")
    (folder / "model_index.json").write_text(json.dumps(INDEX | {"scheduler": ["diffusers", scheduler]}, indent=1) + "\n")
