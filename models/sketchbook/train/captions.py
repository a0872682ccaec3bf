"""Words for scenes: many ways to say the same, and what exactly each caption states.

`caption(scene, rng)` gives the words and a `Stated`; whatever a caption leaves out has the meaning that scenes.py gives it
(a usual place, the day, a happy face), except a colour that is open.
"""

from dataclasses import dataclass, field
from random import Random

from scenes import OBJECTS, Scene, Subject

NOUNS = {
    "cactus": ["cactus"] * 4 + ["saguaro", "cactus plant"],
    "house": ["house"] * 4 + ["cottage", "home", "hut", "little house"],
    "tree": ["tree"] * 4 + ["oak", "oak tree", "leafy tree", "apple tree"],
    "boat": ["boat"] * 3 + ["sailboat", "ship", "sailing boat", "sailing ship", "yacht"],
    "cat": ["cat"] * 4 + ["kitten", "kitty", "pussycat"],
    "fish": ["fish"] * 5 + ["goldfish", "little fish"],
    "star": ["star"] * 4 + ["starlet"],
    "sun": ["sun"] * 4 + ["sunball"],
    "moon": ["moon"] * 4 + ["full moon"],
    "flower": ["flower"] * 4 + ["blossom", "daisy", "bloom"],
    "mushroom": ["mushroom"] * 4 + ["toadstool", "fungus"],
    "robot": ["robot"] * 4 + ["android", "droid", "bot"],
    "rocket": ["rocket"] * 3 + ["spaceship", "rocket ship", "spacecraft", "starship"],
    "snowman": ["snowman"] * 4 + ["snow man"],
    "balloon": ["balloon"] * 4 + ["party balloon", "toy balloon"],
    "car": ["car"] * 4 + ["automobile", "toy car", "motor car", "taxi"],
}
PLURALS = {"cactus": "cacti", "fish": "fish", "goldfish": "goldfish", "snowman": "snowmen", "snow man": "snow men"}
PLURALS |= {"little fish": "little fish", "fungus": "fungi", "daisy": "daisies", "kitty": "kitties"}
COLOUR_WORDS = {
    "red": ["red"] * 4 + ["scarlet", "crimson"],
    "orange": ["orange"],
    "yellow": ["yellow"] * 4 + ["golden"],
    "green": ["green"],
    "blue": ["blue"] * 4 + ["azure"],
    "purple": ["purple"] * 3 + ["violet", "lilac"],
    "pink": ["pink"] * 4 + ["rosy"],
    "white": ["white"] * 4 + ["snow-white"],
    "brown": ["brown"] * 4 + ["chocolate brown"],
    "grey": ["grey", "gray", "grey", "silver"],
}
SIZE_WORDS = {
    "small": ["small"] * 3 + ["little", "little", "tiny", "mini", "very small"],
    "medium": ["medium-sized", "normal-sized", "medium"],
    "big": ["big"] * 3 + ["large", "large", "huge", "giant", "great", "very big"],
}
MOOD_WORDS = {
    "happy": ["happy"] * 3 + ["smiling", "smiling", "cheerful", "joyful", "friendly", "laughing", "merry", "glad"],
    "sad": ["sad"] * 3 + ["unhappy", "crying", "gloomy", "weeping", "sorrowful", "tearful"],
    "sleepy": ["sleepy", "sleeping", "tired", "dreaming", "dozing", "drowsy"],
    "surprised": ["surprised", "surprised", "astonished", "amazed", "shocked", "startled"],
    "angry": ["angry", "angry", "grumpy", "furious", "cross", "mad", "annoyed"],
    "plain": ["faceless"],
}
MOOD_PHRASES = {
    "happy": ["with a happy face", "with a happy face", "with a smile", "with a smiling face", "with a big smile",
              "that is smiling", "who looks happy", "that looks happy", "having a good time", "with a cheerful smile"],
    "sad": ["with a sad face", "with a sad face", "with a frown", "with an unhappy face", "that is crying", "who looks sad",
            "that looks sad", "with tears", "with a tear"],
    "sleepy": ["with a sleepy face", "that is sleeping", "with closed eyes", "taking a nap", "that is asleep", "who is asleep"],
    "surprised": ["with a surprised face", "with an open mouth", "that looks surprised", "who looks surprised"],
    "angry": ["with an angry face", "that looks angry", "who is angry", "with a grumpy face", "that is angry"],
    "plain": ["without a face", "with no face"],
}
PLACE_PHRASES = {
    "desert": ["in the desert", "in the desert", "in the Sahara desert", "in the Sahara desert", "in the Sahara", "in a sandy desert",
               "among sand dunes", "near a pyramid", "in Egypt", "in the hot desert", "in the dunes"],
    "meadow": ["in a meadow", "in the meadow", "on a green field", "in a grassy field", "on the grass", "in the countryside",
               "on a green hill", "in a garden", "on a lawn", "in the park"],
    "sea": ["at sea", "on the sea", "in the ocean", "on the water", "on the waves", "in the sea", "on the ocean", "in the water",
            "on the open sea", "on a lake"],
    "snow": ["in the snow", "in the snow", "in a snowy landscape", "on a snowy field", "in winter", "in the Arctic", "on the snow",
             "at the North Pole", "while it snows"],
    "forest": ["in the forest", "in a forest", "in the woods", "among the trees", "in a dark forest", "in the pine forest",
               "between fir trees", "in the wood"],
    "city": ["in the city", "in a city", "in town", "downtown", "on a city street", "on the street", "in front of skyscrapers",
             "in New York", "on the road"],
    "mountains": ["in the mountains", "in the mountains", "in front of mountains", "near the mountains", "in the Alps",
                  "with mountains in the background", "before snowy peaks", "in the Himalayas"],
    "space": ["in space", "in outer space", "among the stars", "in the starry sky", "in the cosmos", "in the universe",
              "near a planet"],
    "beach": ["on the beach", "at the beach", "on a sandy beach", "by the sea", "at the seaside", "on the shore", "on the coast"],
    "room": ["in a room", "in the living room", "at home", "indoors", "inside the house", "in the bedroom", "in a cosy room",
             "by the window", "in the kitchen"],
}
PLACE_TAGS = {
    "desert": ["desert", "Sahara desert", "sand dunes"],
    "meadow": ["meadow", "green field", "grass"],
    "sea": ["sea", "ocean", "water"],
    "snow": ["snow", "winter", "snowy landscape"],
    "forest": ["forest", "woods"],
    "city": ["city", "city street"],
    "mountains": ["mountains", "the Alps"],
    "space": ["space", "outer space", "cosmos"],
    "beach": ["beach", "seaside", "shore"],
    "room": ["room", "indoors", "living room"],
}
TIME_PHRASES = {
    "day": ["during the day", "on a sunny day", "in daylight", "at noon", "under a blue sky", "by day", "in the sunshine"],
    "sunset": ["at sunset", "at sunset", "at dusk", "in the evening", "during sunset", "under an orange sky", "as the sun sets"],
    "night": ["at night", "at night", "by night", "at midnight", "under a dark sky", "in the moonlight", "in the dark"],
    "dawn": ["at dawn", "at sunrise", "early in the morning", "in the morning", "at daybreak", "under a pink sky"],
}
TIME_TAGS = {
    "day": ["day", "sunny day", "daytime"],
    "sunset": ["sunset", "evening", "dusk"],
    "night": ["night", "at night", "midnight"],
    "dawn": ["dawn", "sunrise", "morning"],
}
OPENINGS = [""] * 9 + [
    "a drawing of ", "a picture of ", "an illustration of ", "a sketch of ", "a painting of ", "draw ", "a cute picture of ",
    "please draw ", "an image of ", "a cartoon of ", "show me ", "i want ", "a children's drawing of ", "paint ",
]
NUMBERS = {2: ["two"] * 4 + ["2", "a pair of", "a couple of"], 3: ["three"] * 4 + ["3", "a group of three", "a trio of"]}


# Marks around the words about the left and about the right one of two subjects, for who must know which is which.
LEFT, RIGHT, END = "\x01", "\x02", "\x03"


@dataclass
class Stated:
    """What a caption says. One entry of `subjects` for each subject from left to right; None: not said."""

    subjects: list[dict] = field(default_factory=list)
    alike: bool = False
    place: str | None = None
    time: str | None = None


def article(words: str) -> str:
    return ("an " if words[0].lower() in "aeiou" else "a ") + words


def plural(noun: str) -> str:
    return PLURALS.get(noun, noun + ("es" if noun.endswith(("s", "sh", "x")) else "s"))


def name_subject(subject: Subject, rng: Random, count: int, sparing: bool) -> tuple[str, str, dict]:
    """The noun phrase without its article, what follows it ("with a smile"), and what both state."""
    usual = OBJECTS[subject.object][0]
    says_colour = subject.colour not in usual or rng.random() < (0.55 if len(usual) > 1 else 0.3)
    says_size = count == 1 and not sparing and (subject.size != "medium" or rng.random() < 0.05)
    says_mood = subject.mood != "happy" or rng.random() < 0.35
    adjective, phrase = "", ""
    if says_mood:
        if rng.random() < (0.55 if count == 1 else 0.75):
            adjective = rng.choice(MOOD_WORDS[subject.mood])
        else:
            phrase = rng.choice(MOOD_PHRASES[subject.mood])
    size = rng.choice(SIZE_WORDS[subject.size]) if says_size else ""
    colour = rng.choice(COLOUR_WORDS[subject.colour]) if says_colour else ""
    order = (adjective, size, colour) if rng.random() < 0.5 else (size, adjective, colour)
    noun = rng.choice(NOUNS[subject.object])
    if size and noun.startswith("little "):
        noun = noun.removeprefix("little ")
    if count > 1:
        noun = plural(noun)
        phrase = phrase.replace(" a happy face", " happy faces").replace("that is ", "that are ").replace(" looks ", " look ")
    stated = {
        "object": subject.object,
        "colour": subject.colour if says_colour else None,
        "size": subject.size if says_size else None,
        "mood": subject.mood if says_mood else None,
    }
    return " ".join(word for word in (*order, noun) if word), phrase, stated


def name_subjects(scene: Scene, rng: Random) -> tuple[str, list[dict]]:
    """The whole noun phrase of a sentence, with its articles."""
    join = lambda noun, phrase: noun + (" " + phrase if phrase else "")
    if scene.alike:
        count = len(scene.subjects)
        noun, phrase, stated = name_subject(scene.subjects[0], rng, count, False)
        first = article(noun) if count == 1 else f"{rng.choice(NUMBERS[count])} {noun}"
        return join(first, phrase), [stated] * count
    left, right = (name_subject(subject, rng, 1, True) for subject in scene.subjects)
    a = f"{LEFT}{join(article(left[0]), left[1])}{END}"
    b = f"{RIGHT}{join(article(right[0]), right[1])}{END}"
    kind = rng.random()
    if kind < 0.12:
        words = f"{b} {rng.choice(['to the right of', 'on the right of', 'right of'])} {a}"
    elif kind < 0.24:
        words = f"{a} {rng.choice(['to the left of', 'on the left of', 'left of'])} {b}"
    else:
        words = f"{a} {rng.choice(['next to', 'next to', 'beside', 'and', 'and', 'near', 'with', 'by', 'together with'])} {b}"
    return words, [left[2], right[2]]


def sentence(scene: Scene, rng: Random) -> tuple[str, Stated]:
    words, subjects = name_subjects(scene, rng)
    usual_place = OBJECTS[scene.subjects[0].object][1]
    says_place = scene.place != usual_place or rng.random() < 0.7
    says_time = scene.place != "space" and (scene.time != "day" or rng.random() < 0.25)
    place = rng.choice(PLACE_PHRASES[scene.place]) if says_place else ""
    time = rng.choice(TIME_PHRASES[scene.time]) if says_time else ""
    tail = [part for part in ((place, time) if rng.random() < 0.75 else (time, place)) if part]
    kind = rng.random()
    if kind < 0.14 and tail:
        lead = tail.pop(0)
        text = f"{lead}{rng.choice([', ', ', there is ', ' '])}{' '.join([words, *tail])}"
    elif kind < 0.20:
        text = f"there {'are' if len(scene.subjects) > 1 and scene.alike else 'is'} {' '.join([words, *tail])}"
    else:
        text = rng.choice(OPENINGS) + " ".join([words, *tail])
    return text, Stated(subjects, scene.alike, scene.place if says_place else None, scene.time if says_time else None)


def tags(scene: Scene, rng: Random) -> tuple[str, Stated]:
    """A list of tags, for one subject: "blue robot, sad, forest, night"."""
    noun, phrase, stated = name_subject(scene.subjects[0], rng, 1, False)
    says_place = scene.place != OBJECTS[scene.subjects[0].object][1] or rng.random() < 0.7
    says_time = scene.place != "space" and (scene.time != "day" or rng.random() < 0.25)
    rest = [phrase] if phrase else []
    if says_place:
        rest.append(rng.choice(PLACE_TAGS[scene.place]))
    if says_time:
        rest.append(rng.choice(TIME_TAGS[scene.time]))
    rng.shuffle(rest)
    parts = [noun, *rest]
    if rng.random() < 0.2:
        rng.shuffle(parts)
    return ", ".join(parts), Stated([stated], True, scene.place if says_place else None, scene.time if says_time else None)


def fragment(scene: Scene, rng: Random) -> tuple[str, Stated]:
    """One property alone, as people write into a negative prompt: "blue", "night", "a face"."""
    subject, stated = scene.subjects[0], {"object": None, "colour": None, "size": None, "mood": None}
    kind = rng.choice(["colour", "colour", "colour", "mood", "place", "time"])
    if kind == "colour":
        word = rng.choice(COLOUR_WORDS[subject.colour])
        text = rng.choice([word, word, f"{word} colour", f"something {word}", f"{word} things"])
        return text, Stated([stated | {"colour": subject.colour}], True)
    if kind == "mood":
        text = rng.choice([rng.choice(MOOD_WORDS[subject.mood]), rng.choice(MOOD_PHRASES[subject.mood]).removeprefix("with ")])
        return text, Stated([stated | {"mood": subject.mood}], True)
    if kind == "place" or scene.place == "space":
        return rng.choice(PLACE_TAGS[scene.place] + PLACE_PHRASES[scene.place]), Stated([stated], True, place=scene.place)
    return rng.choice(TIME_TAGS[scene.time] + TIME_PHRASES[scene.time]), Stated([stated], True, time=scene.time)


def marked_caption(scene: Scene, rng: Random, fragments: float = 0.05) -> tuple[str, Stated]:
    """A caption with its marks. `fragments`: the share of captions that state one property alone."""
    kind = rng.random()
    if kind < fragments and scene.alike:
        text, stated = fragment(scene, rng)
    elif kind < 0.18 and len(scene.subjects) == 1:
        text, stated = tags(scene, rng)
    else:
        text, stated = sentence(scene, rng)
    if rng.random() < 0.5:
        first = 1 if text[0] in (LEFT, RIGHT) else 0
        text = text[:first] + text[first].upper() + text[first + 1 :]
    if rng.random() < 0.4:
        text += "."
    return text, stated


def caption(scene: Scene, rng: Random, fragments: float = 0.05) -> tuple[str, Stated]:
    """The same as a person would write it."""
    text, stated = marked_caption(scene, rng, fragments)
    return "".join(letter for letter in text if letter not in (LEFT, RIGHT, END)), stated


def parts(marked: str) -> list[tuple[str, str]]:
    """(role, words) of a marked caption in their order; role: LEFT, RIGHT, or "" for what is about the whole."""
    found, role, words = [], "", ""
    for letter in marked:
        if letter in (LEFT, RIGHT, END):
            found.append((role, words))
            role, words = letter if letter != END else "", ""
        else:
            words += letter
    return [(role, words) for role, words in [*found, (role, words)] if words.strip()]
