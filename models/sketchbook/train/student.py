"""Distils the student: four steps of the latent consistency model in place of the teacher's twenty with guidance.

Latent consistency distillation (Luo et al. 2023) with the guidance fixed and baked in: from a noisy latent the teacher, with
guidance, makes one DDIM hop of 80 timesteps; what the slowly following target model predicts there is what the student must
predict here. Timesteps are those that LCMScheduler uses with 50 original steps, the four of a four-step picture most of all.
"""

import copy
from pathlib import Path

import torch

from optimizers import begin_step, descend, optimizers
from teacher import Words
from training import Average, Steps, learning_rate, mean_where
from transformer import Forward, column, cumulative_alphas

HOP = 80
FOUR_STEPS = (999, 759, 499, 259)


def train_student(name: str, folder: Path, teacher, latents: torch.Tensor, words: Words, settings, seed: int, look=None):
    """Returns a copy of `teacher` that draws in four steps without guidance."""
    done, student = folder / f"{name}.pt", copy.deepcopy(teacher)
    if done.exists():
        student.load_state_dict(torch.load(done))
        return student
    side = latents.shape[-1]
    teacher = copy.deepcopy(teacher).requires_grad_(False)
    target = copy.deepcopy(student).requires_grad_(False)
    average, two = Average(student, settings.decay), optimizers([student], settings.rate, 0.0)
    predict, guide, follow = Forward(student, side), Forward(teacher, side), Forward(target, side)
    alphas = cumulative_alphas()
    signal, sigma = alphas.sqrt(), (1 - alphas).sqrt()
    four = torch.tensor(FOUR_STEPS)

    def clean_of(noisy, noise, t):
        """The picture that the predicted noise leaves; bounded where hardly any signal is left."""
        clean = (noisy - column(sigma[t]) * noise) / column(signal[t])
        return torch.where(column(t) > 700, clean.clamp(-4, 4), clean)

    steps = Steps(name, folder, settings.steps, seed, {"model": student, "target": target, "average": average, **two})
    for step in steps:
        begin_step(two, learning_rate(step, settings.steps, settings.rate, warm_up=30, hold=0.5))
        draw = steps.generator(step)
        chosen = torch.randint(0, len(latents), (settings.batch,), generator=draw)
        embedded, mask = words.draw(chosen, draw, dropped=0.0)
        often = four[torch.randint(0, 4, chosen.shape, generator=draw)]
        any_of = torch.randint(1, 51, chosen.shape, generator=draw) * 20 - 1
        t = torch.where(torch.rand(chosen.shape, generator=draw) < 0.45, often, any_of)
        earlier = (t - HOP).clamp(min=0)
        clean = latents[chosen].float()
        noisy = column(signal[t]) * clean + column(sigma[t]) * torch.randn(clean.shape, generator=draw)
        with torch.no_grad():
            both = torch.cat([embedded, words.empty.expand(len(t), -1, -1)]), torch.cat([mask, words.empty_mask.expand(len(t), -1)])
            with_words, without = guide(torch.cat([noisy, noisy]), *both, torch.cat([t, t])).chunk(2)
            noise = without + settings.guidance * (with_words - without)
            origin = clean_of(noisy, noise, t)
            noise = torch.where(column(t) > 700, (noisy - column(signal[t]) * origin) / column(sigma[t]), noise)
            hopped = column(signal[earlier]) * origin + column(sigma[earlier]) * noise
            goal = clean_of(hopped, follow(hopped, embedded, mask, earlier), earlier)
            goal = torch.where(column(t < HOP), origin, goal)
        guess = (noisy - column(sigma[t]) * predict(noisy, embedded, mask, t)) / column(signal[t])
        snr = alphas[t] / (1 - alphas[t])
        weight = (snr.clamp(max=1.0) * torch.where(snr < 0.05, 0.05 / snr.clamp(min=0.0012), 1.0)).clamp(max=1)
        squared = (guess - goal) ** 2
        loss = ((torch.sqrt(squared + 1e-4) - 1e-2).mean((1, 2, 3)) * weight).mean()
        descend(loss, two)
        with torch.no_grad():
            torch._foreach_lerp_(list(target.parameters()), list(student.parameters()), 0.06)
        average.update()
        each = squared.mean((1, 2, 3))
        steps.tell(loss=loss, **{f"d{hop}": mean_where(t == hop, each) for hop in FOUR_STEPS[1:]})
        if look and (step + 1) % settings.look_every == 0:
            with average.in_place():
                look(name, step + 1, predict)
    average.swap()
    torch.save(student.state_dict(), done)
    return student
