"""The numbers of the training: how many scenes, how many steps, how fast."""

from dataclasses import dataclass, field


@dataclass
class Vae:
    steps: int = 3600
    rate: float = 1e-3
    crop: int = 96
    crop_batch: int = 6
    whole_batch: int = 2
    # From this share of the steps on, whole pictures in place of crops.
    whole_from: float = 0.84


@dataclass
class Tiny:
    steps: int = 4000
    rate: float = 2e-3
    batch: int = 4
    scenes: int = 6000
    # Deviation of what is added to latents, whose own is 1.
    noise: float = 0.03


@dataclass
class Text:
    steps: int = 1200
    rate: float = 1.5e-3
    batch: int = 160


@dataclass
class Teacher:
    steps: int
    rate: float
    batch: int = 64
    # Bounds the weight of nearly clean latents, where only fine detail is left to learn.
    snr_cap: float = 3.0
    # How slowly the averaged weights, which ship, follow.
    decay: float = 0.998
    look_every: int = 500


@dataclass
class Student:
    steps: int = 420
    rate: float = 6e-4
    batch: int = 32
    guidance: float = 3.0
    decay: float = 0.98
    look_every: int = 120


@dataclass
class Reader:
    steps: int = 1200
    rate: float = 3e-3
    batch: int = 64


@dataclass
class Recipe:
    seed: int = 1
    scenes: int = 28_000
    # Of these scenes the latents are made at full size too.
    full_size_scenes: int = 16_000
    captions_each: int = 4
    vae: Vae = field(default_factory=Vae)
    tiny: Tiny = field(default_factory=Tiny)
    text: Text = field(default_factory=Text)
    half_size: Teacher = field(default_factory=lambda: Teacher(steps=3000, rate=1.2e-3))
    full_size: Teacher = field(default_factory=lambda: Teacher(steps=2800, rate=8e-4, batch=32, snr_cap=4.0, look_every=400))
    student: Student = field(default_factory=Student)
    reader: Reader = field(default_factory=Reader)


def recipe_for(device: str) -> Recipe:
    """What two cores do in hours, or what one GPU does in minutes: there a step of eight times as many pictures is no slower."""
    if device == "cpu":
        return Recipe()
    return Recipe(
        scenes=48_000,
        full_size_scenes=48_000,
        half_size=Teacher(steps=1000, rate=1.2e-3, batch=256, look_every=500),
        full_size=Teacher(steps=3700, rate=1e-3, batch=256, snr_cap=6.0, decay=0.999, look_every=1000),
        student=Student(steps=3300, rate=6e-4, batch=256, decay=0.99, look_every=1000),
    )
