"""Trains the tiny autoencoder: what TAESD is to Stable Diffusion's, a decoder of plain convolutions for the same latents.

It is taught on the latents that the diffusion is taught on, and the pictures that they were made from. Its encoder is of no use
here; it is taught beside, so that diffusers opens a whole `AutoencoderTiny`.
"""

import math
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderTiny
from torch.nn import functional

from device import autocast
from training import Average, Steps, learning_rate
from vae import to_pictures, to_tensor

CHANNELS = (16, 16, 16, 16)


def new_tiny() -> AutoencoderTiny:
    return AutoencoderTiny(
        encoder_block_out_channels=CHANNELS,
        decoder_block_out_channels=CHANNELS,
        num_encoder_blocks=(1, 1, 1, 1),
        num_decoder_blocks=(3, 3, 2, 1),
        latent_channels=4,
        scaling_factor=1.0,
    )


def losses(tiny: AutoencoderTiny, x: torch.Tensor, z: torch.Tensor, noise: torch.Tensor):
    with autocast():
        y = tiny.decoder(z + noise).float()
        encoded = tiny.encoder(x).float()
    error = y - x
    gradient = error.diff(dim=2).abs().mean() + error.diff(dim=3).abs().mean()
    squared, latents = (error**2).mean(), functional.mse_loss(encoded, z)
    return error.abs().mean() + 0.5 * gradient + 0.5 * squared + 0.1 * latents, squared, latents


def train_tiny(folder: Path, pictures: np.ndarray, latents: torch.Tensor, settings, seed: int) -> AutoencoderTiny:
    """`latents` f16 [n, 4, 32, 32], as the diffusion sees them, of the first n pictures."""
    done = folder / "tiny.pt"
    torch.manual_seed(seed)
    tiny = new_tiny().to(memory_format=torch.channels_last)
    if done.exists():
        tiny.load_state_dict(torch.load(done))
        return tiny
    optimizer = torch.optim.AdamW(tiny.parameters(), lr=settings.rate, betas=(0.9, 0.98), weight_decay=1e-4, foreach=True)
    average = Average(tiny, 0.998)
    steps = Steps("tiny", folder, settings.steps, seed, {"model": tiny, "optimizer": optimizer, "average": average})
    count = min(settings.scenes, len(latents))
    for step in steps:
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, settings.steps, settings.rate, hold=0.3)
        chosen = np.sort(np.random.default_rng((seed, step)).integers(0, count, settings.batch))
        x = to_tensor(pictures[chosen]).contiguous(memory_format=torch.channels_last)
        z = latents[torch.from_numpy(chosen).to(latents.device)].to(x.device).float()
        # What the transformer predicts is never quite a latent of a picture.
        noise = settings.noise * torch.randn(z.shape, generator=steps.generator(step))
        loss, squared, error = losses(tiny, x, z, noise)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(tiny.parameters(), 1.0)
        optimizer.step()
        average.update()
        steps.tell(loss=loss.item(), psnr=10 * math.log10(4 / squared.item()), latents=error.item())
    average.swap()
    torch.save(tiny.state_dict(), done)
    return tiny


@torch.no_grad()
def decode(tiny: AutoencoderTiny, latents: torch.Tensor) -> np.ndarray:
    """uint8 [n, h, w, 3]."""
    tiny.eval()
    return to_pictures(tiny.decode(latents, return_dict=False)[0])
