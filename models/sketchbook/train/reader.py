"""The reader: a small convolutional network that says what a picture shows. The scorer asks it; nothing is trained against it.

It learns from rendered scenes, and from the same scenes blurred, noisy and through the autoencoder, so that it judges what a
picture shows and not how it was made. It leaves this folder as OpenVINO IR, so that the project's tests can ask it without torch.
"""

import json
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from device import autocast
from scenes import COLOURS, MOODS, NAMES, PLACES, TIMES, Scene
from training import Steps, learning_rate
from vae import to_tensor

# What it reads, in the order of its answers. Left and right are the outermost subjects; "none": there is no second one.
READS = {
    "count": ["1", "2", "3"],
    "left_object": NAMES,
    "left_colour": list(COLOURS),
    "left_mood": MOODS,
    "right_object": [*NAMES, "none"],
    "right_colour": [*COLOURS, "none"],
    "right_mood": [*MOODS, "none"],
    "place": PLACES,
    "time": TIMES,
}
SIZES = [len(values) for values in READS.values()]


class Reader(nn.Module):
    """f32 [n, 3, 256, 256] in -1..1 to f32 [n, sum(SIZES)]: the scores of every class, property after property."""

    def __init__(self):
        super().__init__()
        channels = [3, 24, 48, 64, 96, 160]
        layers = []
        for before, after in zip(channels, channels[1:]):
            layers += [nn.Conv2d(before, after, 3, 2, 1), nn.BatchNorm2d(after), nn.ReLU()]
        self.features = nn.Sequential(nn.AvgPool2d(2), *layers)
        self.scores = nn.Linear(160 * 16, sum(SIZES))

    def forward(self, pictures):
        return self.scores(self.features(pictures).flatten(1))


def truth(scene: Scene) -> list[int]:
    left, right = scene.subjects[0], scene.subjects[-1]
    second = (right.object, right.colour, right.mood) if len(scene.subjects) > 1 else ("none",) * 3
    values = (str(len(scene.subjects)), left.object, left.colour, left.mood, *second, scene.place, scene.time)
    return [known.index(v) for v, known in zip(values, READS.values(), strict=True)]


def _worn(x: torch.Tensor, vae, draw: torch.Generator) -> torch.Tensor:
    chance = torch.rand(3, generator=draw)
    if chance[0] < 0.2:
        # A few of them: the autoencoder costs far more than the reader.
        with torch.no_grad(), autocast():
            through = vae.decode(vae.encode(x[:8]).latent_dist.mode(), return_dict=False)[0].float().clamp(-1, 1)
        x = torch.cat([through, x[8:]])
    if chance[1] < 0.4:
        x = x + torch.randn(x.shape, generator=draw) * 0.06
    return functional.avg_pool2d(x, 3, 1, 1) if chance[2] < 0.3 else x


def train_reader(folder: Path, pictures: np.ndarray, scenes: list[Scene], vae, settings, seed: int) -> Reader:
    done, held_out = folder / "reader.pt", 1000
    torch.manual_seed(seed)
    reader = Reader()
    if done.exists():
        reader.load_state_dict(torch.load(done))
        return reader.eval()
    truths = torch.tensor([truth(scene) for scene in scenes])
    optimizer = torch.optim.AdamW(reader.parameters(), lr=settings.rate, weight_decay=0.02)
    steps = Steps("reader", folder, settings.steps, seed, {"model": reader, "optimizer": optimizer})
    vae.eval()
    for step in steps:
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, settings.steps, settings.rate, warm_up=30, hold=0.3)
        draw = steps.generator(step)
        chosen = torch.randint(0, len(pictures) - held_out, (settings.batch,), generator=draw)
        with autocast():
            scores = reader(_worn(to_tensor(pictures[chosen.cpu().numpy()]), vae, draw)).float()
        loss = sum(
            functional.cross_entropy(part, truths[chosen, i], label_smoothing=0.02) for i, part in enumerate(scores.split(SIZES, 1))
        )
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        steps.tell(loss=loss.item())
    reader.eval()
    seen = read(reader, pictures[-held_out:])
    for i, name in enumerate(READS):
        print(f"reader: rendered pictures it has not seen, {name}: {(seen[:, i] == truths[-held_out:, i]).float().mean().item():.4f}")
    torch.save(reader.state_dict(), done)
    return reader


@torch.no_grad()
def read(reader: Reader, pictures: np.ndarray) -> torch.Tensor:
    """The classes read, int64 [n, properties]."""
    scores = torch.cat([reader(to_tensor(pictures[i : i + 50])) for i in range(0, len(pictures), 50)])
    return torch.stack([part.argmax(1) for part in scores.split(SIZES, 1)], 1)


def export_reader(reader: Reader, file: Path):
    """As OpenVINO IR in f16, with the names of what it reads beside it."""
    import openvino

    model = openvino.convert_model(reader, example_input=torch.zeros(1, 3, 256, 256), input=[1, 3, 256, 256])
    model.inputs[0].get_tensor().set_names({"picture"})
    model.outputs[0].get_tensor().set_names({"scores"})
    openvino.save_model(model, file, compress_to_fp16=True)
    properties = [{"name": name, "classes": classes} for name, classes in READS.items()]
    file.with_suffix(".json").write_text(json.dumps(properties, indent=1) + "\n")
