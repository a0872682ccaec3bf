"""Trains the teacher: PixArt's transformer, to predict the noise in latents from words.

First on pictures at half size, where a step costs a quarter, then at full size, as PixArt-α itself was raised from 256 to
1024. The text encoder is frozen and its answers are kept. The loss counts more where a person looks: inside the subjects'
boxes, and most in their faces.
"""

from pathlib import Path

import numpy as np
import torch

from device import here
from drawing import focus
from scenes import Scene
from optimizers import begin_step, descend, optimizers
from text import PADDING, embed
from training import Average, Steps, learning_rate, mean_where
from transformer import Forward, column, cumulative_alphas


class Words:
    """The text encoder's answers to all captions, and to the empty one."""

    @torch.no_grad()
    def __init__(self, encoder, ids: torch.Tensor):
        self.each, flat = ids.shape[1], ids.flatten(0, 1).long()
        self.mask = flat != PADDING
        self.embedded = torch.cat([embed(encoder, flat[i : i + 512]).bfloat16() for i in range(0, len(flat), 512)])
        nothing = torch.zeros(1, ids.shape[2], dtype=torch.long)
        nothing[0, 0] = 1
        self.empty, self.empty_mask = embed(encoder, nothing).bfloat16(), nothing != PADDING

    def draw(self, scenes: torch.Tensor, generator: torch.Generator, dropped: float):
        """Embeddings bf16 and masks of one caption for each of `scenes`; the share `dropped` of them is empty."""
        rows = scenes * self.each + torch.randint(0, self.each, scenes.shape, generator=generator)
        empty = (torch.rand(len(rows), generator=generator) < dropped)[:, None]
        return torch.where(empty[..., None], self.empty, self.embedded[rows]), torch.where(empty, self.empty_mask, self.mask[rows])


def attention_maps(scenes: list[Scene], side: int) -> torch.Tensor:
    """How much the loss counts in each latent pixel: f16 [n, 1, side, side], mean 1 for each scene."""
    maps = np.ones((len(scenes), 1, side, side), np.float32)
    for row, scene in zip(maps, scenes, strict=True):
        for left, top, right, bottom, weight in focus(scene):
            x0, y0 = max(0, int(left * side)), max(0, int(top * side))
            x1, y1 = min(side, int(np.ceil(right * side))), min(side, int(np.ceil(bottom * side)))
            row[0, y0:y1, x0:x1] = np.maximum(row[0, y0:y1, x0:x1], weight)
    return here(maps / maps.mean((1, 2, 3), keepdims=True)).half()


def train_teacher(name: str, folder: Path, model, latents: torch.Tensor, words: Words, maps: torch.Tensor, settings, seed: int, look=None):
    """Trains `model` on `latents` f16 [n, 4, side, side] and leaves the averaged weights in it and in `name`.pt."""
    done = folder / f"{name}.pt"
    if done.exists():
        model.load_state_dict(torch.load(done))
        return
    alphas, forward = cumulative_alphas(), Forward(model, latents.shape[-1])
    average, two = Average(model, settings.decay), optimizers([model], settings.rate, 1e-2)
    steps = Steps(name, folder, settings.steps, seed, {"model": model, "average": average, **two})
    for step in steps:
        begin_step(two, learning_rate(step, settings.steps, settings.rate))
        draw = steps.generator(step)
        chosen = torch.randint(0, len(latents), (settings.batch,), generator=draw)
        clean = latents[chosen].float()
        embedded, mask = words.draw(chosen, draw, dropped=0.1)
        anywhere = torch.randint(0, 1000, chosen.shape, generator=draw)
        formative = torch.randint(40, 800, chosen.shape, generator=draw)
        t = torch.where(torch.rand(chosen.shape, generator=draw) < 0.2, anywhere, formative)
        alpha, noise = alphas[t], torch.randn(clean.shape, generator=draw)
        noisy = column(alpha.sqrt()) * clean + column((1 - alpha).sqrt()) * noise
        error = ((forward(noisy, embedded, mask, t) - noise) ** 2 * maps[chosen].float()).mean((1, 2, 3))
        # The error of the noise weighs as that of the picture does, times sqrt(SNR): what decides the shapes counts most.
        snr = alpha / (1 - alpha)
        loss = (error * snr.sqrt().clamp(max=settings.snr_cap) / snr).mean()
        descend(loss, two)
        average.update()
        steps.tell(loss=loss, x0_760=mean_where((t > 700) & (t < 820), error / snr), e_300=mean_where((t > 200) & (t < 400), error))
        if look and (step + 1) % settings.look_every == 0:
            with average.in_place():
                look(name, step + 1, forward)
    average.swap()
    torch.save(model.state_dict(), done)
