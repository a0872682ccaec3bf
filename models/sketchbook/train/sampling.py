"""Pictures while training goes on, by the quick forward: DDIM with guidance for a teacher, LCM's four steps for a student.

For looking and for quick figures only; what is reported is drawn by diffusers and by pixart.
"""

import numpy as np
import torch

from device import generator, here
from student import FOUR_STEPS
from text import embed, token_ids
from transformer import Forward, cumulative_alphas
from vae import SCALING_FACTOR, to_pictures


@torch.no_grad()
def sample(forward: Forward, vae, tokenizer, encoder, prompts: list[str], guidance: float | None, seed: int, steps: int = 16) -> np.ndarray:
    """uint8 [n, h, w, 3]. `guidance` None: a student's four steps."""
    # So few pictures are drawn sooner than a block is compiled for their number.
    forward = Forward(forward.model, forward.side, compiled=False)
    alphas, count = cumulative_alphas(), len(prompts)
    ids = here(token_ids(tokenizer, prompts + [""] * count)).long()
    words, mask = embed(encoder, ids).bfloat16(), ids != 0
    draw = generator(seed)
    x = torch.randn(count, 4, forward.side, forward.side, generator=draw)
    times = list(FOUR_STEPS) if guidance is None else [int(t) for t in np.linspace(999, 0, steps + 1)[:-1]]
    for t, following in zip(times, [*times[1:], None], strict=True):
        if guidance is None:
            noise = forward(x, words[:count], mask[:count], torch.full((count,), t))
        else:
            said, unsaid = forward(torch.cat([x, x]), words, mask, torch.full((2 * count,), t)).chunk(2)
            noise = unsaid + guidance * (said - unsaid)
        clean = (x - (1 - alphas[t]).sqrt() * noise) / alphas[t].sqrt()
        if t > 700:
            clean = clean.clamp(-4, 4)
            noise = (x - alphas[t].sqrt() * clean) / (1 - alphas[t]).sqrt()
        if following is None:
            x = clean
        else:
            fresh = torch.randn(x.shape, generator=draw) if guidance is None else noise
            x = alphas[following].sqrt() * clean + (1 - alphas[following]).sqrt() * fresh
    vae.eval()
    pictures = torch.cat([vae.decode(part / SCALING_FACTOR, return_dict=False)[0] for part in x.split(8)])
    return to_pictures(pictures)
