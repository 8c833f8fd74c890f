"""Images of coloured shapes with captions, made by code: what a test trains a model of images and texts on."""

from __future__ import annotations

import csv
import itertools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

COLORS = {"red": (220, 30, 30), "green": (30, 180, 60), "blue": (40, 60, 220), "yellow": (230, 210, 40)}
SHAPES = ("square", "circle", "triangle")
BACKGROUNDS = {"white": (250, 250, 250), "black": (10, 10, 10)}


def write(folder: Path, *, count: int = 24, size: int = 32, captions: int = 1, seed: int = 0) -> Path:
    """A captions.csv and its images: each a shape of some colour on some ground, with so many captions."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(seed)
    kinds = list(itertools.product(COLORS, SHAPES, BACKGROUNDS))
    rows = []
    for number in range(count):
        color, shape, ground = kinds[number % len(kinds)]
        name = f"images/{number:03d}.png"
        draw(color, shape, ground, size=size, random=random).save(folder / name)
        said = (f"a {color} {shape} on {ground}", f"{ground} ground with a {shape} of {color}", f"one {color} {shape}")
        rows += [(name, caption) for caption in said[:captions]]
    return table(folder / "captions.csv", rows)


def draw(color: str, shape: str, ground: str, *, size: int, random: np.random.Generator) -> Image.Image:
    """A picture of a shape at some place, at least a third of the picture wide."""
    picture = Image.new("RGB", (size, size), BACKGROUNDS[ground])
    width = int(random.integers(size // 3, size // 2 + 1))
    left, top = (int(value) for value in random.integers(1, size - width, 2))
    right, bottom, fill = left + width, top + width, COLORS[color]
    pen = ImageDraw.Draw(picture)
    if shape == "square":
        pen.rectangle((left, top, right, bottom), fill)
    elif shape == "circle":
        pen.ellipse((left, top, right, bottom), fill)
    else:
        pen.polygon([(left, bottom), (right, bottom), ((left + right) // 2, top)], fill)
    return picture


def table(path: Path, rows: Sequence[tuple[str, str]], *, header: tuple[str, str] = ("image", "caption")) -> Path:
    """A CSV file of captions."""
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])
    return path
