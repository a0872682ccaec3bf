"""Writes what the scorer judges by: captions from the same world with another seed, none of them a training caption.

And pictures by the renderer itself, with their captions: what they score says how far the scorer can be believed.
"""

import json
from dataclasses import replace
from pathlib import Path
from random import Random

from PIL import Image

from captions import Stated, caption
from drawing import render
from scenes import OBJECTS, Subject, sample_scene


def write_unseen(file: Path, count: int, seen: set[str], seed: int):
    """JSON lines: the caption, and what it states. Captions that name no object are left out."""
    rng, lines = Random(seed), []
    while len(lines) < count:
        text, stated = caption(sample_scene(rng), rng, fragments=0.0)
        if text.lower().rstrip(".") in seen:
            continue
        lines.append(_line(text, stated))
    file.write_text("\n".join(lines) + "\n")


def _line(text: str, stated: Stated) -> str:
    subjects = [{key: subject[key] for key in ("object", "colour", "mood")} for subject in stated.subjects]
    return json.dumps({"caption": text, "subjects": subjects, "place": stated.place, "time": stated.time})


def write_rendered(folder: Path, count: int, seed: int):
    """`captions.jsonl`, and the renderer's own picture of each: 0.png, 1.png, …"""
    folder.mkdir(parents=True, exist_ok=True)
    rng, lines = Random(seed), []
    for i in range(count):
        scene = sample_scene(rng)
        lines.append(_line(*caption(scene, rng, fragments=0.0)))
        Image.fromarray(render(scene, rng)).save(folder / f"{i}.png")
    (folder / "captions.jsonl").write_text("\n".join(lines) + "\n")


def write_calibration(file: Path, count: int, judged: list[Path], seed: int):
    """Short captions, one a line, to see the ranges of activations with: none of those that quantised models are judged by."""
    lines = [line for path in judged for line in path.read_text().splitlines()]
    seen = {json.loads(line)["caption"].lower().rstrip(".") for line in lines}
    rng, chosen = Random(seed), []
    while len(chosen) < count:
        text, _ = caption(sample_scene(rng), rng, fragments=0.0)
        key = text.lower().rstrip(".")
        if len(text) <= 60 and key not in seen:
            seen.add(key)
            chosen.append(text)
    file.write_text("\n".join(chosen) + "\n")


def write_open(file: Path, count: int, seed: int):
    """Captions that leave the colour open, of things that are often blue; what they state is "blue", so that the share of
    right colours is the share of blue things: once as it is, once with the negative prompt "blue"."""
    rng, lines = Random(seed), []
    often_blue = [name for name, (usual, _) in OBJECTS.items() if "blue" in usual]
    while len(lines) < count:
        name = rng.choice(often_blue)
        scene = replace(sample_scene(rng), subjects=(Subject(name, "blue", "medium", "happy"),))
        text, stated = caption(scene, rng, fragments=0.0)
        if stated.subjects[0]["colour"] is None:
            subject = {"object": name, "colour": "blue", "mood": None}
            lines.append(json.dumps({"caption": text, "subjects": [subject], "place": stated.place, "time": stated.time}))
    file.write_text("\n".join(lines) + "\n")
