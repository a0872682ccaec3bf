"""What every stage of the training shares: steps that can be stopped and taken up again, learning rates, averaged weights."""

import math
import os
import time
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch

from device import generator


class Steps:
    """Counts a stage's steps, saves its state now and then, goes on where an earlier run stopped, and tells how far it is.

    `state` maps names to whatever has `state_dict` and `load_state_dict`. All randomness of a stage comes from the generator
    that `generator(step)` gives, so that a stage which was interrupted draws what an uninterrupted one would have drawn.
    """

    def __init__(self, name: str, folder: Path, total: int, seed: int, state: dict, save_every: int = 200):
        self.name, self.total, self.seed, self.state, self.save_every = name, total, seed, state, save_every
        self.file = folder / f"{name}.state.pt"
        self.figures: list[dict] = []

    def generator(self, step: int) -> torch.Generator:
        return generator(self.seed * 1_000_003 + step)

    def __iter__(self):
        first = 0
        if self.file.exists():
            saved = torch.load(self.file, weights_only=False)
            first = saved["step"]
            for name, part in self.state.items():
                part.load_state_dict(saved[name])
            print(f"{self.name}: going on at step {first} of {self.total}", flush=True)
        start = time.time()
        for step in range(first, self.total):
            yield step
            done = step + 1
            if done % self.save_every == 0 or done == self.total:
                self.save(done)
            if done % 50 == 0 or done == self.total:
                seconds = (time.time() - start) / (done - first)
                told = " ".join(f"{k} {np.nanmean([float(f[k]) for f in self.figures]):.4f}" for k in self.figures[0]) if self.figures else ""
                left = (self.total - done) * seconds / 60
                print(f"{self.name}: {done}/{self.total}, {seconds:.3f} s a step, {left:.0f} min left; {told}", flush=True)
                self.figures.clear()

    def tell(self, **figures: float | torch.Tensor):
        """Figures of this step, told as means later: a tensor is not waited for until then, so that a GPU is never idle."""
        self.figures.append({name: f.detach() if isinstance(f, torch.Tensor) else f for name, f in figures.items()})

    def save(self, step: int):
        part = self.file.with_suffix(".part")
        torch.save({"step": step, **{name: thing.state_dict() for name, thing in self.state.items()}}, part)
        os.replace(part, self.file)


def learning_rate(step: int, total: int, peak: float, warm_up: int = 60, hold: float = 0.4) -> float:
    """Rises over `warm_up` steps, stays for the share `hold` of all steps, then falls as a cosine to a fiftieth."""
    share = step / total
    fall = 1.0 if share < hold else 0.5 * (1 + math.cos(math.pi * (share - hold) / (1 - hold)))
    return peak * min(1.0, (step + 1) / warm_up) * max(0.02, fall)


def fit(name: str, model: torch.nn.Module, folder: Path, settings, seed: int, losses):
    """Trains `model` by AdamW, its rate risen, held and fallen; it has the averaged weights afterwards, which lie in the folder too.

    `losses(step, generator)` gives the loss of a step and the figures that are told of it.
    """
    optimizer = torch.optim.AdamW(model.parameters(), lr=settings.rate, betas=(0.9, 0.98), weight_decay=1e-4, foreach=True)
    average = Average(model, 0.998)
    steps = Steps(name, folder, settings.steps, seed, {"model": model, "optimizer": optimizer, "average": average})
    for step in steps:
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, settings.steps, settings.rate, hold=0.3)
        loss, figures = losses(step, steps.generator(step))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        average.update()
        steps.tell(loss=loss.item(), **figures)
    average.swap()
    torch.save(model.state_dict(), folder / f"{name}.pt")


def mean_where(chosen: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """The mean of the chosen values; NaN where none is."""
    return torch.where(chosen, values, torch.nan).nanmean()


class Average:
    """Exponential moving average of a model's weights, slow at the end and quick at the start."""

    def __init__(self, model: torch.nn.Module, decay: float):
        self.model, self.decay, self.count = model, decay, 0
        self.weights = [p.detach().clone() for p in model.parameters()]

    @torch.no_grad()
    def update(self):
        self.count += 1
        keep = min(self.decay, (self.count + 1) / (self.count + 12))
        torch._foreach_lerp_(self.weights, list(self.model.parameters()), 1 - keep)

    @torch.no_grad()
    def swap(self):
        """Exchanges the model's weights with the averaged ones."""
        for p, w in zip(self.model.parameters(), self.weights, strict=True):
            kept = p.clone()
            p.copy_(w)
            w.copy_(kept)

    @contextmanager
    def in_place(self):
        """The model has the averaged weights while this lasts."""
        self.swap()
        yield
        self.swap()

    def state_dict(self):
        return {"weights": self.weights, "count": self.count}

    def load_state_dict(self, state):
        self.weights, self.count = state["weights"], state["count"]
