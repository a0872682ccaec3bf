"""Images of checkpoints that `pixart synthesize --like` makes, one for each full published repository, drawn by diffusers.

The checkpoints are not kept: every machine makes the same bytes of them, and a case has the SHA-256 of each file of weights.
"""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path

from cases import Case, draw, load_pipeline
from storage import sha256, write_tensors

FLAGS = {"--width": "96", "--layers": "2", "--text-layers": "2", "--seed": "0"}
OWNER = "PixArt-alpha"

PUBLISHED_CASES = (
    Case(
        "published-alpha-1024",
        f"{OWNER}/PixArt-XL-2-1024-MS",
        "A small cactus with a happy face in the Sahara desert.",
        "dpmsolver++", num_inference_steps=4, guidance_scale=4.5, seed=11, width=128, height=96,
        negative_prompt="a house, night",
    ),
    Case(
        "published-alpha-512",
        f"{OWNER}/PixArt-XL-2-512x512",
        "a big red boat on the sea",
        "dpmsolver++", num_inference_steps=5, guidance_scale=3.0, seed=12, width=96, height=128,
    ),
    Case(
        "published-alpha-256",
        f"{OWNER}/PixArt-XL-2-256x256",
        "a blue rocket in space",
        "dpmsolver++", num_inference_steps=4, guidance_scale=4.5, seed=13, width=112, height=80,
        negative_prompt="snow",
    ),
    Case(
        "published-alpha-sam-256",
        f"{OWNER}/PixArt-XL-2-SAM-256x256",
        "three green trees in the forest",
        "dpmsolver++", num_inference_steps=3, guidance_scale=2.0, seed=14, width=128, height=128,
        use_resolution_binning=True, captured="final",
    ),
    Case(
        "published-alpha-lcm-1024",
        f"{OWNER}/PixArt-LCM-XL-2-1024-MS",
        "A yellow star in the night sky",
        "lcm", num_inference_steps=4, guidance_scale=0.0, seed=15, width=128, height=128,
    ),
    Case(
        "published-sigma-1024",
        f"{OWNER}/PixArt-Sigma-XL-2-1024-MS",
        "a small orange cat in the snow",
        "dpmsolver++", num_inference_steps=4, guidance_scale=4.5, seed=16, width=96, height=96,
        negative_prompt="blurry",
    ),
)  # fmt: skip


def synthesize(pixart: Path, repository: str, output: Path) -> Path:
    """Makes a small checkpoint like a published repository, and returns its folder."""
    flags = [part for flag in FLAGS.items() for part in flag]
    command = [pixart, "synthesize", "--like", repository, "--output", output, "--quiet", *flags]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return output


def make_cases(out: Path, pixart: Path) -> None:
    """`cases/published-*.safetensors`: every full repository, drawn by diffusers in f32 on the CPU."""
    for case in PUBLISHED_CASES:
        with tempfile.TemporaryDirectory() as scratch:
            folder = synthesize(pixart, case.checkpoint, Path(scratch) / "made")
            with load_pipeline(case, folder=folder) as pipeline:
                tensors = draw(pipeline, case)
            write_tensors(out / f"cases/{case.name}.safetensors", tensors, parameters(case, folder))


def parameters(case: Case, folder: Path) -> dict[str, str]:
    """The case as the metadata of its file, with what its checkpoint is made of."""
    files = sorted(folder.glob("*/*.safetensors"))
    sums = {f"sha256 {path.relative_to(folder).as_posix()}": sha256(path.read_bytes()) for path in files}
    of_case = case.parameters()
    del of_case["tokenizer"]  # its own
    return of_case | sums
