"""Runs and folders of images small enough for tests."""

from pathlib import Path

import numpy as np
from PIL import Image

from pipelines.recipes import from_scratch
from pipelines.run import Images, Phase, Run

TINY_RESNET = {"depths": (1, 1), "width": 8}


def run(out: Path, **changes) -> Run:
    """A two-stage ResNet from scratch on the built-in digits, a few seconds long."""
    values = {
        "model": "resnet18",
        "data": Images("digits", size=16, augment="none"),
        "phases": from_scratch(epochs=3, learning_rate=1e-2),
        "out": out,
        "overrides": TINY_RESNET,
        "batch": 64,
    }
    return Run(**{**values, **changes})


def quick(out: Path, **changes) -> Run:
    """The same, one epoch of the head alone."""
    return run(out, phases=(Phase(1, 1e-3),), **changes)


def folder(root: Path, *, each: int = 12, size: int = 24) -> Path:
    """A folder of PNG files with the classes blue, green and red."""
    random = np.random.default_rng(0)
    for channel, name in enumerate(("red", "green", "blue")):
        (root / name).mkdir(parents=True)
        for index in range(each):
            pixels = random.integers(0, 100, (size, size, 3), dtype="uint8")
            pixels[..., channel] += 150
            Image.fromarray(pixels).save(root / name / f"{index:02}.png")
    return root
