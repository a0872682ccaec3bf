"""What a scene of sketchbook's world can hold, and how often: the vocabulary and the sampler of scenes.

A scene is one to three subjects (an object with a colour, a size and a mood) in a place at a time of day. What a caption
leaves out has a fixed meaning wherever a painter would not ask (a cactus is green, the day is bright, everybody smiles), so
that the model need not average over it; only the colours of things that come in many colours stay open.
"""

from dataclasses import dataclass
from random import Random

COLOURS = {
    "red": (222, 48, 45),
    "orange": (246, 138, 28),
    "yellow": (252, 218, 50),
    "green": (66, 168, 72),
    "blue": (50, 105, 220),
    "purple": (140, 75, 195),
    "pink": (248, 140, 188),
    "white": (246, 246, 244),
    "brown": (150, 96, 58),
    "grey": (150, 152, 162),
}
PLACES = ["desert", "meadow", "sea", "snow", "forest", "city", "mountains", "space", "beach", "room"]
TIMES = ["day", "sunset", "night", "dawn"]
SIZES = ["small", "medium", "big"]
MOODS = ["happy", "sad", "sleepy", "surprised", "angry", "plain"]

# Each object's usual colours (the first is what its name alone brings to mind; more than one: the colour is open) and place.
OBJECTS = {
    "cactus": (["green"], "desert"),
    "house": (["red", "yellow", "white", "blue"], "meadow"),
    "tree": (["green"], "meadow"),
    "boat": (["red", "blue", "white"], "sea"),
    "cat": (["orange", "grey", "white"], "meadow"),
    "fish": (["orange", "blue", "red"], "sea"),
    "star": (["yellow"], "space"),
    "sun": (["yellow"], "meadow"),
    "moon": (["white"], "space"),
    "flower": (["pink", "red", "blue", "purple"], "meadow"),
    "mushroom": (["red", "brown", "blue"], "forest"),
    "robot": (["grey", "blue", "red"], "city"),
    "rocket": (["white", "red", "blue"], "space"),
    "snowman": (["white"], "snow"),
    "balloon": (["red", "blue", "yellow"], "meadow"),
    "car": (["red", "blue", "yellow"], "city"),
}
NAMES = list(OBJECTS)
# What hangs in the air instead of standing on the ground.
FLOATING = {"star", "sun", "moon", "balloon", "rocket", "fish"}


@dataclass(frozen=True)
class Subject:
    object: str
    colour: str
    size: str
    mood: str


@dataclass(frozen=True)
class Scene:
    """`subjects` stand from left to right; `alike` tells that they are one thing counted ("two red boats")."""

    subjects: tuple[Subject, ...]
    place: str
    time: str

    @property
    def alike(self) -> bool:
        return all(subject == self.subjects[0] for subject in self.subjects)


def sample_subject(rng: Random, size: str | None = None) -> Subject:
    name = rng.choice(NAMES)
    usual = OBJECTS[name][0]
    colour = rng.choice(usual) if rng.random() < 0.45 else rng.choice(list(COLOURS))
    mood = "happy" if rng.random() < 0.55 else rng.choice(MOODS[1:])
    return Subject(name, colour, size or rng.choices(SIZES, (0.3, 0.4, 0.3))[0], mood)


def sample_scene(rng: Random) -> Scene:
    kind = rng.random()
    if kind < 0.62:
        subjects = (sample_subject(rng),)
    elif kind < 0.78:
        subjects = (sample_subject(rng, "medium"),) * rng.choice((2, 2, 3))
    else:
        subjects = (sample_subject(rng, "medium"), sample_subject(rng, "medium"))
    place = rng.choice(PLACES) if rng.random() < 0.72 else OBJECTS[subjects[0].object][1]
    time = "night" if place == "space" else rng.choices(TIMES, (0.4, 0.2, 0.25, 0.15))[0]
    return Scene(subjects, place, time)
