"""Draws a scene: flat colours, one dark outline, a face on everything. Pillow, at twice the size, then halved.

Coordinates of the background are shares of the picture (x to the right, y down); those of an object are shares of its height
around its foot (x to the right, y up), so that one drawing serves every size.
"""

import math
from random import Random

import numpy as np
from PIL import Image, ImageDraw

from scenes import COLOURS, FLOATING, Scene, Subject

PICTURE = 256
OVERSAMPLING = 2
CANVAS = PICTURE * OVERSAMPLING

OUTLINE = (38, 32, 44)
LINE = max(2, int(0.017 * CANVAS))
LIGHT = (255, 255, 255)
SKIES = {
    "day": ((110, 185, 245), (208, 234, 250)),
    "sunset": ((105, 75, 150), (255, 160, 85)),
    "night": ((12, 15, 48), (42, 52, 104)),
    "dawn": ((250, 172, 190), (255, 236, 190)),
}
# How the hour tints what stands in the background; subjects keep their colours, so that a caption's colour can be read.
TINTS = {"day": (1, 1, 1), "sunset": (0.88, 0.70, 0.62), "night": (0.36, 0.40, 0.58), "dawn": (1.0, 0.88, 0.90)}
HORIZON = 0.66

HEIGHTS = {"small": 0.46, "medium": 0.60, "big": 0.77}
PAIR_HEIGHT = 0.46
TRIPLE_HEIGHT = 0.33
# Subjects stand on a grid of two latent pixels, a patch of the transformer: wherever one stands, its latents are the same,
# and a small model learns the whole outline in place of every shift of it.
GRID = 1 / 16
# Drawn a little lower than the others, because they are wide for their height.
WIDE = {"car", "boat", "fish", "star", "sun"}


def scaled(colour, factor):
    factors = factor if isinstance(factor, tuple) else (factor,) * 3
    return tuple(int(max(0, min(255, c * f))) for c, f in zip(colour, factors))


def lighter(colour, share):
    return tuple(int(c + (255 - c) * share) for c in colour)


class Brush:
    """Shapes in coordinates around an origin: `x` and `y` map them to the canvas."""

    def __init__(self, draw, x, y, scale):
        self.draw, self.x, self.y, self.scale = draw, x, y, scale

    def ellipse(self, x, y, rx, ry, fill, outline=None, width=LINE):
        x0, x1 = sorted((self.x(x - rx), self.x(x + rx)))
        y0, y1 = sorted((self.y(y - ry), self.y(y + ry)))
        self.draw.ellipse([x0, y0, x1, y1], fill=fill, outline=outline, width=width if outline else 0)

    def box(self, x0, y0, x1, y1, fill, outline=None, radius=0.0):
        left, right = sorted((self.x(x0), self.x(x1)))
        top, bottom = sorted((self.y(y0), self.y(y1)))
        self.draw.rounded_rectangle(
            [left, top, right, bottom], radius=radius * self.scale, fill=fill, outline=outline, width=LINE if outline else 0
        )

    def polygon(self, points, fill, outline=None):
        corners = [(self.x(x), self.y(y)) for x, y in points]
        self.draw.polygon(corners, fill=fill)
        if outline:
            self.draw.line([*corners, corners[0], corners[1]], fill=outline, width=LINE, joint="curve")

    def line(self, points, fill, width):
        self.draw.line(
            [(self.x(x), self.y(y)) for x, y in points], fill=fill, width=max(2, int(width * self.scale)), joint="curve"
        )

    def arc(self, x, y, rx, ry, start, end, fill, width):
        """Angles in degrees, clockwise from three o'clock as Pillow counts them."""
        x0, x1 = sorted((self.x(x - rx), self.x(x + rx)))
        y0, y1 = sorted((self.y(y - ry), self.y(y + ry)))
        self.draw.arc([x0, y0, x1, y1], start, end, fill=fill, width=max(2, int(width * self.scale)))


# ---- the background


def draw_background(place: str, time: str, rng: Random, hide_luminary: bool):
    top, bottom = ((10, 6, 28), (48, 24, 84)) if place == "space" else SKIES[time]
    depth = np.clip(np.linspace(0, 1, CANVAS) / (1 if place == "space" else HORIZON), 0, 1)[:, None]
    column = np.array(top) * (1 - depth) + np.array(bottom) * depth
    image = Image.fromarray(np.broadcast_to(column[:, None, :], (CANVAS, CANVAS, 3)).astype(np.uint8).copy())
    brush = Brush(ImageDraw.Draw(image), lambda x: x * CANVAS, lambda y: y * CANVAS, CANVAS)
    side = rng.choice((-1, 1))
    if place == "space":
        draw_space(brush, side, rng)
    elif place == "room":
        draw_room(brush, time, side)
    else:
        draw_sky(brush, place, time, side, rng, hide_luminary)
        GROUNDS[place](brush, TINTS[time], side, rng, time)
    return image, brush.draw


def draw_space(brush, side, rng):
    for _ in range(12):
        brush.ellipse(rng.random(), rng.random(), 0.010, 0.010, (255, 255, 235))
    x = 0.5 + side * 0.37
    brush.ellipse(x, 0.15, 0.085, 0.085, (205, 120, 90))
    brush.line([(x - 0.13, 0.18), (x + 0.13, 0.12)], (240, 205, 150), 0.018)


def draw_luminary(brush, x, y, time, size=1.0):
    if time == "day":
        brush.ellipse(x, y, 0.075 * size, 0.075 * size, (255, 232, 90))
    elif time == "night":
        brush.ellipse(x, y, 0.065 * size, 0.065 * size, (240, 240, 215))
        brush.ellipse(x + 0.03 * size, y - 0.015 * size, 0.055 * size, 0.055 * size, SKIES["night"][0])
    else:
        brush.ellipse(x, y, 0.10 * size, 0.10 * size, (255, 95, 60) if time == "sunset" else (255, 208, 120))


def draw_sky(brush, place, time, side, rng, hide_luminary):
    if time == "night":
        for _ in range(8):
            brush.ellipse(rng.random(), rng.random() * 0.5, 0.010, 0.010, (255, 255, 235))
    if not hide_luminary:
        draw_luminary(brush, 0.5 + side * 0.37, 0.13 if time in ("day", "night") else 0.55, time)
    if time in ("day", "dawn") and place != "snow":
        for dx, radius in ((-0.07, 0.045), (0, 0.06), (0.07, 0.045)):
            brush.ellipse(0.5 - side * 0.34 + dx, 0.14, radius * 1.1, radius * 0.8, LIGHT)


def draw_desert(brush, tint, side, rng, time):
    x = 0.5 + side * 0.3
    brush.polygon([(x - 0.2, 0.67), (x, 0.43), (x + 0.2, 0.67)], scaled((214, 168, 92), tint))
    brush.polygon([(x, 0.43), (x + 0.2, 0.67), (x + 0.05, 0.67)], scaled((180, 135, 70), tint))
    brush.box(0, HORIZON, 1, 1, scaled((240, 206, 128), tint))
    brush.ellipse(0.2, 0.73, 0.45, 0.10, scaled((250, 220, 150), tint))
    brush.ellipse(0.85, 1.0, 0.6, 0.22, scaled((226, 186, 104), tint))


def draw_meadow(brush, tint, side, rng, time):
    brush.ellipse(0.15, 0.76, 0.5, 0.2, scaled((150, 212, 100), tint))
    brush.box(0, 0.70, 1, 1, scaled((118, 194, 80), tint))
    brush.ellipse(0.85, 0.88, 0.55, 0.20, scaled((102, 180, 70), tint))
    for _ in range(4):
        petal = rng.choice(((255, 255, 255), (255, 225, 80), (250, 120, 150)))
        brush.ellipse(rng.random(), rng.uniform(0.84, 0.97), 0.014, 0.014, scaled(petal, tint))


def draw_waves(brush, tint, rows, offset):
    for row, y in enumerate(rows):
        for i in range(-1, 6):
            x = i * 0.2 + (0.1 if row % 2 else 0) + offset
            brush.arc(x + 0.06, y, 0.06, 0.02, 200, 340, scaled((150, 205, 240), tint), 0.010)


def draw_sea(brush, tint, side, rng, time):
    brush.box(0, HORIZON, 1, 1, scaled((48, 128, 196), tint))
    draw_waves(brush, tint, (0.71, 0.79, 0.87, 0.95), side * 0.03)


def draw_beach(brush, tint, side, rng, time):
    brush.box(0, 0.56, 1, 0.74, scaled((60, 170, 205), tint))
    draw_waves(brush, tint, (0.60, 0.67), side * 0.03)
    brush.box(0, 0.74, 1, 1, scaled((247, 221, 160), tint))
    brush.ellipse(0.5 + side * 0.1, 0.74, 0.62, 0.025, scaled((252, 250, 240), tint))
    for x, y in ((0.12, 0.93), (0.9, 0.9)):
        brush.ellipse(x, y, 0.022, 0.015, scaled((250, 150, 140), tint))


def draw_snow(brush, tint, side, rng, time):
    brush.box(0, 0.68, 1, 1, scaled((238, 244, 252), tint))
    brush.ellipse(0.2, 0.72, 0.5, 0.11, scaled((250, 252, 255), tint))
    brush.ellipse(0.9, 0.94, 0.5, 0.16, scaled((214, 228, 244), tint))
    for _ in range(10):
        brush.ellipse(rng.random(), rng.random() * 0.66, 0.014, 0.014, LIGHT)


def draw_forest(brush, tint, side, rng, time):
    brush.box(0, 0.68, 1, 1, scaled((92, 120, 58), tint))
    for i in range(7):
        x, y, height = i / 6, 0.72, 0.42 if i % 2 else 0.34
        brush.box(x - 0.015, y - 0.06, x + 0.015, y, scaled((92, 62, 40), tint))
        needles = scaled((28, 96, 56) if i % 2 else (38, 116, 64), tint)
        brush.polygon([(x - 0.10, y - 0.05), (x, y - height), (x + 0.10, y - 0.05)], needles)


def draw_city(brush, tint, side, rng, time):
    windows = (210, 230, 245) if time in ("day", "dawn") else (255, 222, 110)
    heights = (0.34, 0.22, 0.42, 0.26, 0.38, 0.30)
    for i in range(6):
        x, height = i * 0.18 - 0.04, heights[i if side > 0 else 5 - i]
        brush.box(x, 0.72 - height, x + 0.16, 0.72, scaled(((120, 125, 150), (150, 130, 130), (100, 110, 135))[i % 3], tint))
        for y in np.arange(0.72 - height + 0.04, 0.66, 0.075):
            for dx in (0.03, 0.095):
                brush.box(x + dx, y, x + dx + 0.035, y + 0.035, windows)
    brush.box(0, 0.72, 1, 1, scaled((112, 112, 118), tint))
    for i in range(5):
        brush.box(i * 0.24, 0.93, i * 0.24 + 0.12, 0.955, scaled((240, 240, 230), tint))


def draw_mountains(brush, tint, side, rng, time):
    for x, height, width in ((0.18, 0.36, 0.30), (0.82, 0.40, 0.32), (0.5, 0.28, 0.28)):
        y, cap = 0.72, 0.32
        brush.polygon([(x - width, y), (x, y - height), (x + width, y)], scaled((128, 128, 148), tint))
        snow, half = y - height * (1 - cap), width * cap
        edge = [(x + half, snow), (x + width * 0.1, snow + 0.03), (x - width * 0.1, snow - 0.02)]
        brush.polygon([(x - half, snow), (x, y - height), *edge], scaled((250, 250, 255), tint))
    brush.box(0, 0.70, 1, 1, scaled((150, 170, 96), tint))
    brush.ellipse(0.2, 1.0, 0.55, 0.18, scaled((130, 152, 80), tint))


def draw_room(brush, time, side):
    tint = {"day": (1, 1, 1), "dawn": (1, 0.94, 0.92), "sunset": (0.92, 0.78, 0.68), "night": (0.50, 0.48, 0.60)}[time]
    brush.box(0, 0, 1, 1, scaled((250, 226, 190), tint))
    for i in range(8):
        brush.box(i * 0.14 - 0.02, 0, i * 0.14 + 0.02, 0.74, scaled((244, 214, 172), tint))
    brush.box(0, 0.74, 1, 1, scaled((186, 128, 84), tint))
    for y in (0.80, 0.88):
        brush.box(0, y, 1, y + 0.008, scaled((160, 106, 66), tint))
    brush.box(0, 0.72, 1, 0.75, scaled((252, 246, 236), tint))
    x = 0.5 + side * 0.31
    brush.box(x - 0.15, 0.07, x + 0.15, 0.33, scaled((252, 246, 236), tint))
    brush.box(x - 0.125, 0.095, x + 0.125, 0.305, SKIES[time][0])
    draw_luminary(brush, x + 0.06, 0.16 if time in ("day", "night") else 0.25, time, 0.5)
    brush.box(x - 0.01, 0.095, x + 0.01, 0.305, scaled((252, 246, 236), tint))


GROUNDS = {
    "desert": draw_desert,
    "meadow": draw_meadow,
    "sea": draw_sea,
    "beach": draw_beach,
    "snow": draw_snow,
    "forest": draw_forest,
    "city": draw_city,
    "mountains": draw_mountains,
}


# ---- the subjects: each returns where its face is (x, y, half-width)


def draw_cactus(b, c, dark, light, plain):
    for sign, low, high in ((-1, 0.36, 0.74), (1, 0.46, 0.86)):
        b.box(sign * 0.34, low, sign * 0.52, high, c, OUTLINE, 0.09)
        b.box(sign * 0.16, low, sign * 0.46, low + 0.16, c, OUTLINE, 0.08)
        b.box(sign * 0.37, low + 0.03, sign * 0.49, low + 0.24, c)
    b.box(-0.27, 0, 0.27, 1, c, OUTLINE, 0.25)
    for x in (-0.10, 0.10):
        b.line([(x, 0.08), (x, 0.26)], dark, 0.035)
    return 0, 0.63, 0.27


def draw_house(b, c, dark, light, plain):
    b.box(-0.42, 0, 0.42, 0.64, c, OUTLINE)
    b.polygon([(-0.53, 0.62), (0, 1), (0.53, 0.62)], dark, OUTLINE)
    b.box(-0.10, 0, 0.10, 0.17, (120, 75, 45), OUTLINE)
    if plain:
        for x in (-0.33, 0.15):
            b.box(x, 0.28, x + 0.18, 0.46, (190, 225, 245), OUTLINE)
    return 0, 0.42, 0.30


def draw_tree(b, c, dark, light, plain):
    b.box(-0.10, 0, 0.10, 0.45, (125, 80, 45), OUTLINE)
    b.ellipse(-0.24, 0.50, 0.22, 0.19, c, OUTLINE)
    b.ellipse(0.24, 0.50, 0.22, 0.19, c, OUTLINE)
    b.ellipse(0, 0.68, 0.33, 0.32, c, OUTLINE)
    b.ellipse(0, 0.56, 0.28, 0.19, c)
    return 0, 0.62, 0.30


def draw_boat(b, c, dark, light, plain):
    b.box(-0.03, 0.46, 0.03, 1, (125, 80, 45), OUTLINE)
    b.polygon([(0.03, 0.56), (0.03, 0.97), (0.42, 0.56)], (250, 246, 232), OUTLINE)
    b.polygon([(-0.58, 0.50), (0.58, 0.50), (0.40, 0), (-0.40, 0)], c, OUTLINE)
    return 0, 0.29, 0.26


def draw_cat(b, c, dark, light, plain):
    b.box(0.10, 0.02, 0.46, 0.16, c, OUTLINE, 0.07)
    b.ellipse(0, 0.20, 0.27, 0.20, c, OUTLINE)
    b.ellipse(0, 0.16, 0.15, 0.12, light)
    b.polygon([(-0.37, 0.62), (-0.34, 1.0), (-0.06, 0.84)], c, OUTLINE)
    b.polygon([(0.37, 0.62), (0.34, 1.0), (0.06, 0.84)], c, OUTLINE)
    b.ellipse(0, 0.59, 0.40, 0.30, c, OUTLINE)
    return 0, 0.60, 0.30


def draw_fish(b, c, dark, light, plain):
    b.polygon([(0.26, 0.45), (0.56, 0.76), (0.56, 0.14)], dark, OUTLINE)
    b.polygon([(-0.14, 0.72), (0.10, 0.95), (0.16, 0.68)], dark, OUTLINE)
    b.ellipse(-0.10, 0.45, 0.43, 0.36, c, OUTLINE)
    return -0.13, 0.46, 0.29


def draw_star(b, c, dark, light, plain):
    points = []
    for i in range(10):
        angle, reach = math.pi / 2 + i * math.pi / 5, 0.56 if i % 2 == 0 else 0.34
        points.append((reach * math.cos(angle), 0.46 + reach * math.sin(angle)))
    b.polygon(points, c, OUTLINE)
    return 0, 0.45, 0.25


def draw_sun(b, c, dark, light, plain):
    rays = []
    for i in range(20):
        angle, reach = math.pi / 2 + i * math.pi / 10, 0.54 if i % 2 == 0 else 0.39
        rays.append((reach * math.cos(angle), 0.5 + reach * math.sin(angle)))
    b.polygon(rays, c, OUTLINE)
    b.ellipse(0, 0.5, 0.37, 0.37, c, OUTLINE)
    return 0, 0.5, 0.30


def draw_moon(b, c, dark, light, plain):
    b.ellipse(0, 0.5, 0.47, 0.47, c, OUTLINE)
    for x, y, radius in ((-0.17, 0.82, 0.08), (0.20, 0.17, 0.10)):
        b.ellipse(x, y, radius, radius, scaled(c, 0.84))
    return 0, 0.5, 0.32


def draw_flower(b, c, dark, light, plain):
    b.box(-0.05, 0, 0.05, 0.5, (70, 150, 60), OUTLINE)
    b.ellipse(0.19, 0.09, 0.16, 0.08, (70, 150, 60), OUTLINE)
    b.ellipse(-0.19, 0.09, 0.16, 0.08, (70, 150, 60), OUTLINE)
    for i in range(6):
        angle = i * math.pi / 3 + math.pi / 6
        b.ellipse(0.28 * math.cos(angle), 0.62 + 0.24 * math.sin(angle), 0.17, 0.17, c, OUTLINE)
    b.ellipse(0, 0.62, 0.29, 0.27, (255, 236, 150) if c != COLOURS["yellow"] else (250, 190, 110), OUTLINE)
    return 0, 0.62, 0.25


def draw_mushroom(b, c, dark, light, plain):
    b.box(-0.30, 0, 0.30, 0.58, (250, 238, 215), OUTLINE, 0.12)
    top, bottom = b.y(1.0), b.y(0.06)
    b.draw.pieslice([b.x(-0.50), top, b.x(0.50), bottom], 180, 360, fill=c, outline=OUTLINE, width=LINE)
    for x, y, radius in ((-0.27, 0.69, 0.08), (0.02, 0.84, 0.09), (0.29, 0.68, 0.08)):
        b.ellipse(x, y, radius, radius, LIGHT)
    return 0, 0.30, 0.27


def draw_robot(b, c, dark, light, plain):
    b.box(-0.03, 0.84, 0.03, 0.95, dark, OUTLINE)
    b.ellipse(0, 0.95, 0.06, 0.06, (235, 60, 60), OUTLINE)
    b.box(-0.24, 0, -0.06, 0.16, dark, OUTLINE)
    b.box(0.06, 0, 0.24, 0.16, dark, OUTLINE)
    for sign in (-1, 1):
        b.box(sign * 0.28, 0.14, sign * 0.44, 0.36, dark, OUTLINE, 0.05)
    b.box(-0.30, 0.12, 0.30, 0.42, c, OUTLINE, 0.04)
    b.box(-0.15, 0.18, 0.15, 0.32, light)
    b.box(-0.40, 0.38, 0.40, 0.87, c, OUTLINE, 0.08)
    return 0, 0.63, 0.31


def draw_rocket(b, c, dark, light, plain):
    b.polygon([(-0.13, 0.14), (0, -0.08), (0.13, 0.14)], (255, 160, 40), OUTLINE)
    b.polygon([(-0.20, 0.44), (-0.46, 0.04), (-0.16, 0.16)], (215, 60, 55), OUTLINE)
    b.polygon([(0.20, 0.44), (0.46, 0.04), (0.16, 0.16)], (215, 60, 55), OUTLINE)
    hull = [(-0.20, 0.12), (-0.32, 0.36), (-0.31, 0.62), (-0.18, 0.84), (0, 1)]
    b.polygon([*hull, *[(-x, y) for x, y in reversed(hull[:-1])]], c, OUTLINE)
    b.polygon([(-0.18, 0.84), (0, 1), (0.18, 0.84)], (215, 60, 55), OUTLINE)
    if plain:
        b.ellipse(0, 0.56, 0.14, 0.14, (170, 220, 250), OUTLINE)
    return 0, 0.52, 0.27


def draw_snowman(b, c, dark, light, plain):
    for sign in (-1, 1):
        b.line([(sign * 0.29, 0.22), (sign * 0.50, 0.38)], (110, 70, 40), 0.055)
    b.ellipse(0, 0.20, 0.35, 0.22, c, OUTLINE)
    b.ellipse(0, 0.57, 0.33, 0.28, c, OUTLINE)
    b.box(-0.30, 0.78, 0.30, 0.84, (50, 45, 60), OUTLINE)
    b.box(-0.19, 0.82, 0.19, 1, (50, 45, 60), OUTLINE)
    b.box(-0.26, 0.28, 0.26, 0.36, (215, 60, 55), OUTLINE)
    return 0, 0.59, 0.27


def draw_balloon(b, c, dark, light, plain):
    b.line([(0, 0.28), (0, 0)], OUTLINE, 0.035)
    b.polygon([(-0.08, 0.18), (0, 0.28), (0.08, 0.18)], dark, OUTLINE)
    b.ellipse(0, 0.62, 0.37, 0.38, c, OUTLINE)
    b.ellipse(-0.14, 0.87, 0.09, 0.06, lighter(c, 0.65))
    return 0, 0.59, 0.30


def draw_car(b, c, dark, light, plain):
    b.polygon([(-0.42, 0.54), (-0.26, 0.90), (0.26, 0.90), (0.42, 0.54)], dark, OUTLINE)
    b.polygon([(-0.28, 0.56), (-0.19, 0.80), (0.19, 0.80), (0.28, 0.56)], (190, 228, 248), OUTLINE)
    b.box(-0.58, 0.08, 0.58, 0.58, c, OUTLINE, 0.10)
    for x in (-0.40, 0.40):
        b.ellipse(x, 0.10, 0.14, 0.14, (60, 58, 66), OUTLINE)
    return 0, 0.36, 0.27


DRAWERS = {
    "cactus": draw_cactus,
    "house": draw_house,
    "tree": draw_tree,
    "boat": draw_boat,
    "cat": draw_cat,
    "fish": draw_fish,
    "star": draw_star,
    "sun": draw_sun,
    "moon": draw_moon,
    "flower": draw_flower,
    "mushroom": draw_mushroom,
    "robot": draw_robot,
    "rocket": draw_rocket,
    "snowman": draw_snowman,
    "balloon": draw_balloon,
    "car": draw_car,
}


def draw_face(b, x, y, half, mood):
    """Two eyes and a mouth around (`x`, `y`), `half` as wide to each side: few, bold shapes, of two latent pixels and more."""
    eye, stroke = 0.24 * half, 0.20 * half
    apart, brow = 0.56 * half, y + 0.26 * half
    for sign in (-1, 1):
        ex = x + sign * apart
        if mood == "sleepy":
            b.arc(ex, brow + 0.3 * eye, 1.4 * eye, 1.2 * eye, 10, 170, OUTLINE, stroke)
            continue
        wide = 1.35 if mood == "surprised" else 1.0
        b.ellipse(ex, brow, eye * wide, eye * 1.25 * wide, OUTLINE)
        b.ellipse(ex - 0.25 * eye, brow + 0.45 * eye, 0.46 * eye, 0.46 * eye, LIGHT)
        if mood == "angry":
            b.line([(ex - sign * 1.5 * eye, brow + 0.9 * eye), (ex + sign * 1.5 * eye, brow + 2.3 * eye)], OUTLINE, stroke * 1.2)
    if mood == "happy":
        b.arc(x, y - 0.04 * half, 0.60 * half, 0.56 * half, 10, 170, OUTLINE, stroke)
    elif mood in ("sad", "angry"):
        b.arc(x, y - 0.80 * half, 0.50 * half, 0.46 * half, 195, 345, OUTLINE, stroke)
        if mood == "sad":
            b.ellipse(x + 0.74 * half, y - 0.26 * half, 0.17 * half, 0.27 * half, (90, 190, 255))
    elif mood == "surprised":
        b.ellipse(x, y - 0.48 * half, 0.24 * half, 0.28 * half, OUTLINE)
    else:
        b.ellipse(x, y - 0.38 * half, 0.18 * half, 0.14 * half, OUTLINE)


def draw_subject(draw, subject: Subject, x: float, foot: float, height: float):
    """`x`, `foot`: where it stands, `height`: how tall it is, all as shares of the picture."""
    scale = height * CANVAS
    brush = Brush(draw, lambda u: (x * CANVAS + u * scale), lambda v: (foot * CANVAS - v * scale), scale)
    colour, plain = COLOURS[subject.colour], subject.mood == "plain"
    face = DRAWERS[subject.object](brush, colour, scaled(colour, 0.74), lighter(colour, 0.45), plain)
    if not plain:
        draw_face(brush, *face, subject.mood)


def places_of(scene: Scene, rng: Random):
    """For each subject: x of its middle, y of its foot, height; shares of the picture."""
    count = len(scene.subjects)
    for i, subject in enumerate(scene.subjects):
        height = (HEIGHTS[subject.size], PAIR_HEIGHT, TRIPLE_HEIGHT)[count - 1]
        if subject.object in WIDE:
            height *= 0.88 if count < 3 else 0.80
        x = ((8,), (4, 12), (3, 8, 13))[count - 1][i] * GRID
        if count == 1:
            x += round(rng.uniform(-1, 1)) * GRID
        if subject.object in FLOATING:
            foot = round((0.5 + height / 2) / GRID + rng.uniform(-0.5, 0.5)) * GRID
        else:
            foot = (14 if scene.place == "sea" else 15) * GRID
        yield subject, x, max(foot, math.ceil((height + 0.02) / GRID) * GRID), height


def render(scene: Scene, rng: Random) -> np.ndarray:
    """uint8 [256, 256, 3], sRGB."""
    hide = any(subject.object in ("sun", "moon") for subject in scene.subjects)
    image, draw = draw_background(scene.place, scene.time, rng, hide)
    water = []
    for subject, x, foot, height in places_of(scene, rng):
        draw_subject(draw, subject, x, foot, height)
        if scene.place == "sea" and subject.object not in FLOATING:
            water.append(foot)
    if water:
        draw_foreground_water(draw, max(water), TINTS[scene.time])
    return np.asarray(image.reduce(OVERSAMPLING))


def draw_foreground_water(draw, foot, tint):
    brush = Brush(draw, lambda x: x * CANVAS, lambda y: y * CANVAS, CANVAS)
    brush.box(-0.1, foot - 0.03, 1.1, 1.1, scaled((40, 112, 180), tint))
    for i in range(-1, 7):
        brush.arc(i * 0.18 + 0.09, foot - 0.025, 0.09, 0.025, 190, 350, scaled((190, 225, 245), tint), 0.013)


# ---- where a person looks


class _Nothing:
    """Takes every call of Pillow's drawing and draws nothing."""

    def __getattr__(self, name):
        return lambda *args, **named: None


def focus(scene: Scene):
    """Boxes (left, top, right, bottom, weight), in shares of the picture: 3 for each subject, 8 for its face.

    Where subjects stand on the average; `render` moves them by a step of the grid, so the boxes are larger than the subjects.
    """

    class Middle(Random):
        def uniform(self, low, high):
            return (low + high) / 2

    for subject, x, foot, height in places_of(scene, Middle()):
        margin = GRID if len(scene.subjects) == 1 else 0.03
        half = height * (0.58 if subject.object in WIDE else 0.5)
        yield x - half - margin, foot - height - 0.03, x + half + margin, foot + 0.03, 3.0
        if subject.mood != "plain":
            brush = Brush(_Nothing(), lambda u: u, lambda v: v, height * CANVAS)
            fx, fy, size = DRAWERS[subject.object](brush, (0, 0, 0), (0, 0, 0), (0, 0, 0), False)
            cx, cy, reach = x + fx * height, foot - fy * height, 1.2 * size * height + margin * 0.6
            yield cx - reach, cy - reach, cx + reach, cy + reach, 8.0
