"""Draws with diffusers, from a checkpoint as it ships: what `pixart generate` is compared with, and the contact sheets.

`python models/sketchbook/train/draw.py models/sketchbook FOLDER` draws the scorer's captions as 0.png, 1.png, … with those
numbers as seeds, as the scorer itself does through `pixart generate`.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderTiny, PixArtAlphaPipeline
from PIL import Image

from drawing import PICTURE

CAPTIONS = Path(__file__).parent.parent / "score" / "captions.jsonl"


class Painter:
    """A checkpoint in diffusers' own pipeline, f32. A student draws in four steps, a teacher in twenty with guidance."""

    def __init__(self, checkpoint: Path, tiny: bool = False):
        """`tiny`: with the decoder of the tiny autoencoder."""
        self.pipeline = PixArtAlphaPipeline.from_pretrained(checkpoint, torch_dtype=torch.float32)
        if tiny:
            self.pipeline.vae = AutoencoderTiny.from_pretrained(checkpoint / "tiny_vae", torch_dtype=torch.float32)
        self.pipeline.set_progress_bar_config(disable=True)
        few = type(self.pipeline.scheduler).__name__ == "LCMScheduler"
        self.steps, self.guidance = (4, 0.0) if few else (20, 4.5)

    def draw(self, prompt: str, seed: int, negative: str = "") -> np.ndarray:
        """uint8 [256, 256, 3]."""
        picture = self.pipeline(
            prompt, negative_prompt=negative, num_inference_steps=self.steps, guidance_scale=self.guidance,
            height=PICTURE, width=PICTURE, use_resolution_binning=False, generator=torch.Generator().manual_seed(seed),
        ).images[0]  # fmt: skip
        return np.asarray(picture)

    def draw_all(self, prompts: list[str], seed: int) -> np.ndarray:
        """uint8 [n, 256, 256, 3], all with one seed."""
        return np.stack([self.draw(prompt, seed) for prompt in prompts])


def main():
    parser = argparse.ArgumentParser(prog="draw", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("folder", type=Path, help="where the pictures go; those that are there are not drawn again")
    parser.add_argument("--captions", type=Path, default=CAPTIONS, help="one JSON object a line, with a \"caption\"")
    parser.add_argument("--limit", type=int, help="only the first captions")
    parser.add_argument("--negative", default="", help="the negative prompt; without effect on a student")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    captions = [json.loads(line)["caption"] for line in options.captions.read_text().splitlines()][: options.limit]
    painter = Painter(options.checkpoint)
    for seed, caption in enumerate(captions):
        file = options.folder / f"{seed}.png"
        if not file.exists():
            Image.fromarray(painter.draw(caption, seed, options.negative)).save(file)
        print(f"\r{seed + 1} of {len(captions)}", end="", flush=True)
    print()


if __name__ == "__main__":
    main()
