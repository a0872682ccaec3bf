"""Whole runs of the diffusers pipelines, with everything that passes between their parts."""

from __future__ import annotations

import functools
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderTiny, DiffusionPipeline, DPMSolverMultistepScheduler, LCMScheduler
from diffusers.utils import logging as diffusers_logging
from transformers.utils import logging as transformers_logging

from notebook import trace_pipeline
from storage import write_tensors

GOLDEN = Path(__file__).resolve().parent
ROOT = GOLDEN.parent.parent
SKETCHBOOK = "models/sketchbook"
TEACHER = "models/sketchbook-teacher"
TINY_ALPHA = "tests/golden/checkpoints/tiny-alpha"
TINY_ALPHA_PLAIN = "tests/golden/checkpoints/tiny-alpha-plain"
TINY_SIGMA = "tests/golden/checkpoints/tiny-sigma"
SCHEDULERS = {"lcm": LCMScheduler, "dpmsolver++": DPMSolverMultistepScheduler}

COUNTED = (
    "one small red house by the sea",
    "two big blue boats on the water",
    "three tiny green trees in the forest",
    "four huge yellow stars in the night sky",
    "five small orange cats in the snow",
    "six big purple flowers in a meadow",
    "seven tiny white rockets in space",
    "eight huge pink cactuses in the Sahara desert",
)
LONG_PROMPT = "; ".join(f"{row}: {', '.join(COUNTED)}" for row in ("above", "in the middle", "below"))


@dataclass(frozen=True)
class Case:
    """One picture: what to draw, with which checkpoint, and how."""

    name: str
    checkpoint: str
    prompt: str
    scheduler: str
    num_inference_steps: int
    guidance_scale: float
    seed: int
    width: int
    height: int
    negative_prompt: str = ""
    use_resolution_binning: bool = False
    captured: str = "all"  # or "final": the picture and the last latents only
    decoder: str = "full"  # or "tiny": the checkpoint's tiny_vae

    def parameters(self) -> dict[str, str]:
        """The case as the metadata of its file."""
        return {
            "checkpoint": self.checkpoint,
            "tokenizer": f"{SKETCHBOOK}/tokenizer",
            "prompt": self.prompt,
            "negative_prompt": self.negative_prompt,
            "num_inference_steps": str(self.num_inference_steps),
            "guidance_scale": str(self.guidance_scale),
            "seed": str(self.seed),
            "width": str(self.width),
            "height": str(self.height),
            "scheduler": self.scheduler,
            "use_resolution_binning": str(self.use_resolution_binning).lower(),
            "clean_caption": "false",
            "num_images": "1",
            "captured": self.captured,
        } | ({"decoder": self.decoder} if self.decoder != "full" else {})


CASES = (
    Case(
        "sketchbook-lcm-cactus",
        SKETCHBOOK,
        "A small cactus with a happy face in the Sahara desert.",
        "lcm", num_inference_steps=4, guidance_scale=0.0, seed=42, width=256, height=256,
    ),
    Case(
        "sketchbook-lcm-wide",
        SKETCHBOOK,
        "A big red boat on the sea at night",
        "lcm", num_inference_steps=4, guidance_scale=0.0, seed=7, width=320, height=160,
    ),
    Case(
        "sketchbook-teacher-dpm",
        TEACHER,
        "A big orange tree in a meadow.",
        "dpmsolver++", num_inference_steps=12, guidance_scale=4.5, seed=2**32 - 1, width=256, height=256,
        negative_prompt="a house, night",
    ),
    Case(
        "sketchbook-teacher-tall",
        TEACHER,
        "a blue rocket in space",
        "dpmsolver++", num_inference_steps=12, guidance_scale=3.0, seed=2**32 + 42, width=96, height=160,
    ),
    Case(
        "sketchbook-tiny-decoder",
        SKETCHBOOK,
        "A big red boat on the sea at night",
        "lcm", num_inference_steps=4, guidance_scale=0.0, seed=7, width=256, height=160,
        captured="final", decoder="tiny",
    ),
    Case(
        "sketchbook-binned",
        SKETCHBOOK,
        "a yellow star in the night sky",
        "lcm", num_inference_steps=2, guidance_scale=0.0, seed=1, width=120, height=88,
        use_resolution_binning=True, captured="final",
    ),
    Case(
        "tiny-alpha-lcm",
        TINY_ALPHA,
        "A cat, a house and 3 stars: ünïcödé?",
        "lcm", num_inference_steps=4, guidance_scale=1.0, seed=3, width=104, height=72,
    ),
    Case(
        "tiny-alpha-dpm",
        TINY_ALPHA,
        "  A FLOWER in the snow  ",
        "dpmsolver++", num_inference_steps=6, guidance_scale=4.5, seed=4, width=72, height=88,
        negative_prompt="Blurry, low quality",
    ),
    Case(
        "tiny-alpha-plain-dpm",
        TINY_ALPHA_PLAIN,
        "a boat on the sea",
        "dpmsolver++", num_inference_steps=5, guidance_scale=2.5, seed=5, width=144, height=96,
        negative_prompt="a tree",
    ),
    Case(
        "tiny-alpha-plain-lcm",
        TINY_ALPHA_PLAIN,
        "",
        "lcm", num_inference_steps=3, guidance_scale=1.0, seed=6, width=112, height=80,
    ),
    Case(
        "tiny-sigma-dpm",
        TINY_SIGMA,
        "a small rocket over the forest",
        "dpmsolver++", num_inference_steps=6, guidance_scale=4.5, seed=8, width=200, height=120,
        use_resolution_binning=True,
    ),
    Case(
        "tiny-sigma-long",
        TINY_SIGMA,
        LONG_PROMPT,
        "dpmsolver++", num_inference_steps=4, guidance_scale=3.5, seed=9, width=96, height=128,
        negative_prompt="night",
    ),
)  # fmt: skip


# With guidance, because it is traced with a batch of two.
TRACED_CASE = Case(
    "traced-tiny-alpha",
    TINY_ALPHA,
    "a robot on the moon",
    "dpmsolver++", num_inference_steps=3, guidance_scale=3.0, seed=10, width=80, height=64,
    negative_prompt="snow",
)  # fmt: skip


def make_cases(out: Path) -> None:
    """`cases/<case>.safetensors`: every case drawn by diffusers in f32 on the CPU."""
    for case in CASES:
        with load_pipeline(case, golden=out) as pipeline:
            tensors = draw(pipeline, case)
        write_tensors(out / f"cases/{case.name}.safetensors", tensors, case.parameters())


def make_traced(out: Path) -> None:
    """`traced/` and `cases/traced-tiny-alpha.safetensors`: IR as the notebook makes it, and the picture it is for."""
    with load_pipeline(TRACED_CASE, golden=out) as pipeline:
        trace_pipeline(pipeline, out / "traced", TRACED_CASE.width, TRACED_CASE.height)
        tensors = draw(pipeline, TRACED_CASE)
    parameters = TRACED_CASE.parameters() | {"traced": "tests/golden/traced"}
    write_tensors(out / f"cases/{TRACED_CASE.name}.safetensors", tensors, parameters)


def hush() -> None:
    """Silences the libraries' progress bars, and transformers' remark that a prompt for PixArt-Σ is longer than 120."""
    diffusers_logging.disable_progress_bar()
    transformers_logging.disable_progress_bar()
    transformers_logging.set_verbosity_error()


@contextmanager
def load_pipeline(
    case: Case, golden: Path = GOLDEN, dtype: torch.dtype = torch.float32, folder: Path | None = None
) -> Iterator[DiffusionPipeline]:
    """The pipeline of a case's checkpoint, its missing parts taken from the sketchbook, with the case's scheduler.

    `golden` is where the generated checkpoints are; those that ship with the project are found by the repository. A `folder`
    is taken as it is instead.
    """
    with tempfile.TemporaryDirectory() as scratch:
        if folder is None:
            folder = assemble_checkpoint(case.checkpoint, Path(scratch), golden)
        pipeline = DiffusionPipeline.from_pretrained(folder, dtype=dtype)
        if case.decoder == "tiny":
            folder = pipeline.config._name_or_path
            pipeline.vae = AutoencoderTiny.from_pretrained(Path(folder) / "tiny_vae", torch_dtype=dtype)
        wanted = SCHEDULERS[case.scheduler]
        if not isinstance(pipeline.scheduler, wanted):
            pipeline.scheduler = wanted.from_config(pipeline.scheduler.config)
        pipeline.set_progress_bar_config(disable=True)
        yield pipeline


def assemble_checkpoint(checkpoint: str, scratch: Path, golden: Path = GOLDEN) -> Path:
    """Copies a checkpoint into `scratch` and completes it with the sketchbook's tokenizer."""
    source = ROOT / checkpoint
    if checkpoint.startswith("tests/golden/checkpoints/"):
        source = golden / "checkpoints" / source.name
    complete = scratch / source.name
    shutil.copytree(source, complete)
    if not (complete / "tokenizer").exists():
        shutil.copytree(ROOT / SKETCHBOOK / "tokenizer", complete / "tokenizer")
    return complete


def draw(pipeline: DiffusionPipeline, case: Case) -> dict[str, torch.Tensor]:
    """Runs the pipeline and returns what the case captures, under the names of the fixture files.

    `input_ids` i64 [L] and `prompt_embeds` f32 [L, D] at the prompt's true length (with `</s>`); with guidance above 1
    also `negative_input_ids` and `negative_prompt_embeds`; `latents_initial` f32 [1, 4, h, w]; for each step i
    `noise_pred.i` f32 [1 or 2, 8, h, w], the transformer's output as it comes (negative prompt first), and `latents.i`
    f32 [1, 4, h, w] after the scheduler's step; `image` u8 [H, W, 3].
    """
    recorder = _Recorder(pipeline)
    picture = pipeline(
        prompt=case.prompt,
        negative_prompt=case.negative_prompt,
        num_inference_steps=case.num_inference_steps,
        guidance_scale=case.guidance_scale,
        generator=torch.Generator("cpu").manual_seed(case.seed),
        width=case.width,
        height=case.height,
        clean_caption=False,
        use_resolution_binning=case.use_resolution_binning,
    ).images[0]
    tensors = recorder.tensors
    if case.captured == "final":
        last = f"latents.{case.num_inference_steps - 1}"
        tensors = {last: tensors[last]}
    return {**tensors, "image": torch.from_numpy(np.asarray(picture).copy())}


class _Recorder:
    """Wraps the parts of one pipeline for one run and keeps what goes through them."""

    def __init__(self, pipeline: DiffusionPipeline) -> None:
        self.tensors: dict[str, torch.Tensor] = {}
        self._prompt_names = iter(("", "negative_"))
        self._step = 0
        self._wrap(pipeline, "encode_prompt", self._keep_prompts)
        self._wrap(pipeline, "prepare_latents", self._keep_initial_latents)
        self._wrap(pipeline.scheduler, "step", self._keep_step)
        self._wrap(pipeline.transformer, "forward", self._keep_noise_pred)
        self._wrap(pipeline.text_encoder, "forward", lambda _, ids, **kwargs: self._keep_ids(ids, kwargs))

    @staticmethod
    def _wrap(owner: object, method: str, keep) -> None:
        original = getattr(owner, method)

        # `wraps` keeps the signature: the pipeline asks `step` whether it takes a generator, and without one LCM's
        # noise would come from the global generator.
        @functools.wraps(original)
        def wrapper(*args, **kwargs):
            result = original(*args, **kwargs)
            keep(result, *args, **kwargs)
            return result

        setattr(owner, method, wrapper)

    def _keep_ids(self, ids: torch.Tensor, kwargs: dict[str, torch.Tensor]) -> None:
        length = int(kwargs["attention_mask"].sum())
        self.tensors[f"{next(self._prompt_names)}input_ids"] = ids[0, :length]

    def _keep_prompts(self, result, *_, **__) -> None:
        prompt, prompt_mask, negative, negative_mask = result
        self.tensors["prompt_embeds"] = prompt[0, : int(prompt_mask.sum())]
        if negative is not None:
            self.tensors["negative_prompt_embeds"] = negative[0, : int(negative_mask.sum())]

    def _keep_initial_latents(self, latents: torch.Tensor, *_, **__) -> None:
        self.tensors["latents_initial"] = latents.clone()

    def _keep_noise_pred(self, result, *_, **__) -> None:
        self.tensors[f"noise_pred.{self._step}"] = result[0].clone()

    def _keep_step(self, result, *_, **__) -> None:
        self.tensors[f"latents.{self._step}"] = result[0].clone()
        self._step += 1
