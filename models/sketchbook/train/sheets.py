"""Contact sheets: pictures in a grid with their captions below."""

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

PROMPTS = [
    "A small cactus with a happy face in the Sahara desert.",
    "A sad robot next to a yellow house",
    "Two red boats on the sea at sunset",
    "A sleepy cat by the window at night",
    "A big red rocket in outer space",
    "Three pink flowers in a meadow in the morning",
    "An angry snowman on the beach",
    "A surprised blue fish in the sea",
    "A purple mushroom in the dark forest",
    "A yellow taxi in New York at night",
    "A white sailing ship and a sad moon at night",
    "A grumpy grey cat in the snow",
    "A huge green tree in the mountains at dawn",
    "A balloon over the city",
    "A happy sun in the countryside",
    "A golden star without a face among the stars",
]
# Said as people say it who have never seen a caption: most of these words are in none.
OTHER_WORDS = [
    "My grandmother's cactus beams with delight somewhere in Arizona",
    "A robot who has lost his keys, beside a lemon-yellow bungalow",
    "Two scarlet vessels racing each other across the Atlantic",
    "Ginger tomcat snoozing on the carpet after supper",
    "An enormous rocket leaving for Mars",
    "A bunch of three pink roses on the lawn at first light",
    "Frosty the snowman is fed up with the summer holidays at the seaside",
    "Have you ever seen a violet toadstool in an enchanted wood?",
]


def sheet(pictures: np.ndarray, captions: list[str], file: Path, columns: int = 4, side: int = 224):
    """Writes the grid as PNG, JPEG or WebP, by the file's name."""
    font, line = ImageFont.load_default(13), 17
    rows = (len(pictures) + columns - 1) // columns
    gap, text = 8, 2 * line + 8
    image = Image.new("RGB", (columns * (side + gap) + gap, rows * (side + text + gap) + gap), "white")
    draw = ImageDraw.Draw(image)
    for i, (picture, caption) in enumerate(zip(pictures, captions, strict=True)):
        left, top = gap + (i % columns) * (side + gap), gap + (i // columns) * (side + text + gap)
        image.paste(Image.fromarray(picture).resize((side, side), Image.LANCZOS), (left, top))
        lines = [""]
        for word in caption.split():
            longer = f"{lines[-1]} {word}".strip()
            if draw.textlength(longer, font=font) > side:
                lines.append(word)
            else:
                lines[-1] = longer
        for row, words in enumerate(lines[:2]):
            draw.text((left, top + side + 3 + row * line), words, fill=(40, 40, 40), font=font)
    image.save(file, **({"optimize": True} if file.suffix == ".png" else {"quality": 88}))
