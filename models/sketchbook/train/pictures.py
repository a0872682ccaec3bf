"""Renders the scenes that everything is trained on, once, into a folder: pictures as one uint8 array, scenes as JSON lines."""

import json
from dataclasses import asdict
from multiprocessing import Pool
from pathlib import Path
from random import Random

import numpy as np

from drawing import PICTURE, render
from scenes import Scene, Subject, sample_scene

BATCH = 250


def scene_of(seed: int, index: int) -> tuple[Scene, Random]:
    """The scene number `index`, and the generator that goes on to draw it."""
    rng = Random(f"{seed}/{index}")
    return sample_scene(rng), rng


def _render_batch(job):
    seed, first, last = job
    scenes = [scene_of(seed, i) for i in range(first, last)]
    return first, [asdict(scene) for scene, _ in scenes], np.stack([render(scene, rng) for scene, rng in scenes])


def render_all(folder: Path, count: int, seed: int, processes: int):
    """Writes `pictures.npy` (uint8 [count, 256, 256, 3]) and `scenes.jsonl`; does nothing where both are there."""
    done = folder / "scenes.jsonl"
    if done.exists():
        return
    pictures = np.lib.format.open_memmap(folder / "pictures.npy", "w+", np.uint8, (count, PICTURE, PICTURE, 3))
    scenes = [None] * count
    jobs = [(seed, i, min(i + BATCH, count)) for i in range(0, count, BATCH)]
    with Pool(processes) as pool:
        for n, (first, batch, drawn) in enumerate(pool.imap_unordered(_render_batch, jobs)):
            pictures[first : first + len(batch)] = drawn
            scenes[first : first + len(batch)] = batch
            print(f"\rrendering: {(n + 1) * BATCH} of {count}", end="", flush=True)
    print()
    pictures.flush()
    part = done.with_suffix(".part")
    part.write_text("".join(json.dumps(scene) + "\n" for scene in scenes))
    part.rename(done)


def load_pictures(folder: Path) -> np.ndarray:
    return np.load(folder / "pictures.npy", mmap_mode="r")


def load_scenes(folder: Path) -> list[Scene]:
    lines = (folder / "scenes.jsonl").read_text().splitlines()
    raw = map(json.loads, lines)
    return [Scene(tuple(Subject(**s) for s in scene["subjects"]), scene["place"], scene["time"]) for scene in raw]
