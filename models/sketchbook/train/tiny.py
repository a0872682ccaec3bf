"""Trains the tiny autoencoder: what TAESD is to Stable Diffusion's, a decoder of plain convolutions for the same latents.

It is taught on the latents that the diffusion is taught on, and the pictures that they were made from. Its encoder is of no use
here; it is taught beside, so that diffusers opens a whole `AutoencoderTiny`.
"""

from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderTiny
from torch.nn import functional

from device import autocast
from training import fit
from vae import picture_loss, psnr, to_tensor

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
    loss, squared = picture_loss(y - x)
    latents = functional.mse_loss(encoded, z)
    return loss + 0.1 * latents, squared, latents


def train_tiny(folder: Path, pictures: np.ndarray, latents: torch.Tensor, settings, seed: int) -> AutoencoderTiny:
    """`latents` f16 [n, 4, 32, 32], as the diffusion sees them, of the first n pictures."""
    done = folder / "tiny.pt"
    torch.manual_seed(seed)
    tiny = new_tiny().to(memory_format=torch.channels_last)
    if done.exists():
        tiny.load_state_dict(torch.load(done))
        return tiny
    count = min(settings.scenes, len(latents))

    def step_losses(step: int, generator: torch.Generator):
        chosen = np.sort(np.random.default_rng((seed, step)).integers(0, count, settings.batch))
        x = to_tensor(pictures[chosen]).contiguous(memory_format=torch.channels_last)
        z = latents[torch.from_numpy(chosen).to(latents.device)].to(x.device).float()
        # What the transformer predicts is never quite a latent of a picture.
        noise = settings.noise * torch.randn(z.shape, generator=generator)
        loss, squared, error = losses(tiny, x, z, noise)
        return loss, {"psnr": psnr(squared), "latents": error.item()}

    fit("tiny", tiny, folder, settings, seed, step_losses)
    return tiny
