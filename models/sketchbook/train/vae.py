"""Trains the autoencoder: a picture of 256×256 to latents f32 [4, 32, 32] and back.

Crops first (they are cheap, and most of a scene is flat), whole pictures at the end, because the group norms see other
statistics there. Latents of all scenes are then made once; their mean and spread are folded into the convolutions around
them, so that `latents * scaling_factor` has mean 0 and deviation 1 in each channel, as the diffusion expects.
"""

import math
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from torch.nn import functional

from device import autocast, here
from training import fit

SCALING_FACTOR = 0.18215
CHANNELS = (16, 32, 64, 64)


def new_vae() -> AutoencoderKL:
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=CHANNELS,
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=8,
        sample_size=256,
        scaling_factor=SCALING_FACTOR,
    )


def to_tensor(pictures: np.ndarray) -> torch.Tensor:
    """uint8 [n, h, w, 3] to f32 [n, 3, h, w] in -1..1."""
    return here(pictures).permute(0, 3, 1, 2).float() / 127.5 - 1


def to_pictures(x: torch.Tensor) -> np.ndarray:
    """f32 [n, 3, h, w] in -1..1 to uint8 [n, h, w, 3]."""
    return ((x.float().clamp(-1, 1) + 1) * 127.5).round().byte().permute(0, 2, 3, 1).cpu().numpy()


def halved(x: torch.Tensor) -> torch.Tensor:
    return functional.avg_pool2d(x, 2)


def batch_of(pictures: np.ndarray, share: float, settings, rng: np.random.Generator) -> torch.Tensor:
    """Crops around the middle, where the subjects are; towards the end whole pictures. A third of them at half size."""
    if share > settings.whole_from:
        x = to_tensor(pictures[np.sort(rng.integers(0, len(pictures), settings.whole_batch))])
        return halved(x) if rng.random() < 0.25 else x
    side, half = settings.crop, rng.random() < 0.3
    span = side * 2 if half else side
    crops = []
    for i in rng.integers(0, len(pictures), settings.crop_batch):
        free = pictures.shape[1] - span
        top = int(np.clip(rng.normal(0.60, 0.30) * free, 0, free))
        left = int(np.clip(rng.normal(0.5, 0.30) * free, 0, free))
        crop = pictures[i, top : top + span, left : left + span]
        crops.append(crop[:, ::-1] if rng.random() < 0.5 else crop)
    x = to_tensor(np.stack(crops))
    return halved(x) if half else x


def picture_loss(error: torch.Tensor):
    """What a decoded picture is judged by, and the mean of its squared errors."""
    gradient = error.diff(dim=2).abs().mean() + error.diff(dim=3).abs().mean()
    squared = (error**2).mean()
    return error.abs().mean() + 0.5 * gradient + 0.5 * squared, squared


def psnr(squared: torch.Tensor) -> float:
    """In dB, of values from -1 to 1."""
    return 10 * math.log10(4 / squared.item())


def losses(vae, x: torch.Tensor, noise: torch.Generator):
    with autocast():
        mean, log_variance = vae.quant_conv(vae.encoder(x)).float().chunk(2, 1)
        log_variance = log_variance.clamp(-14, 4)
        z = mean + torch.exp(0.5 * log_variance) * torch.randn(mean.shape, generator=noise)
        y = vae.decoder(vae.post_quant_conv(z)).float()
    loss, squared = picture_loss(y - x)
    scaled = mean * SCALING_FACTOR
    kl = 0.5 * (scaled**2 + (log_variance.exp() * SCALING_FACTOR**2) - 1 - log_variance - 2 * math.log(SCALING_FACTOR)).mean()
    return loss + 2e-4 * kl, squared, kl


def train_vae(folder: Path, pictures: np.ndarray, settings, seed: int, start: AutoencoderKL | None) -> AutoencoderKL:
    """`start`: an autoencoder to go on from, in place of random weights."""
    done = folder / "vae.pt"
    vae = new_vae()
    if done.exists():
        vae.load_state_dict(torch.load(done))
        return vae
    torch.manual_seed(seed)
    if start is not None:
        vae.load_state_dict(start.state_dict())

    def step_losses(step: int, noise: torch.Generator):
        x = batch_of(pictures, step / settings.steps, settings, np.random.default_rng((seed, step)))
        loss, squared, kl = losses(vae, x, noise)
        return loss, {"psnr": psnr(squared), "kl": kl.item()}

    fit("vae", vae, folder, settings, seed, step_losses)
    return vae


@torch.no_grad()
def encode(vae: AutoencoderKL, pictures: np.ndarray, half: bool, told: str, batch: int = 16) -> torch.Tensor:
    """Latent means, unscaled: f32 [n, 4, 32, 32], or [n, 4, 16, 16] of pictures at half size."""
    vae.eval()
    encoded = []
    for i in range(0, len(pictures), batch):
        x = to_tensor(pictures[i : i + batch])
        with autocast():
            encoded.append(vae.quant_conv(vae.encoder(halved(x) if half else x))[:, :4].float())
        if i % (batch * 50) == 0:
            print(f"\r{told}: {i} of {len(pictures)}", end="", flush=True)
    print()
    return torch.cat(encoded)


@torch.no_grad()
def reconstruct(vae: AutoencoderKL, pictures: np.ndarray) -> np.ndarray:
    """uint8 [n, h, w, 3]: the pictures encoded and decoded."""
    vae.eval()
    return to_pictures(vae.decode(vae.encode(to_tensor(pictures)).latent_dist.mode(), return_dict=False)[0])


@torch.no_grad()
def fold(vae: AutoencoderKL, latents: torch.Tensor):
    """Changes the convolutions around the latents so that the mean of each channel becomes 0 and its deviation 1 / scaling."""
    mean, deviation = latents.mean((0, 2, 3)), latents.std((0, 2, 3))
    factor = 1 / (deviation * SCALING_FACTOR)
    inner, outer = vae.quant_conv, vae.post_quant_conv
    inner.weight[:4] *= factor[:, None, None, None]
    inner.bias[:4] = (inner.bias[:4] - mean) * factor
    inner.bias[4:] += 2 * torch.log(factor)
    outer.bias += outer.weight[:, :, 0, 0] @ mean
    outer.weight /= factor[None, :, None, None]
    return mean, deviation
