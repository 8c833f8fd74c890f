"""Small pictures with red, green and blue squares, any number of them, and the CSV files that tell of them."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

COLORS = ("red", "green", "blue")
SIDE = 16  # pixels
RATES = (0.6, 0.4, 0.2)  # how often there is a square of each color


def pictures(count: int) -> tuple[np.ndarray, np.ndarray]:
    """(count, 16, 16, 3) uint8 and marks (count, 3): a square of each color at a place of its own, or none."""
    random = np.random.default_rng(0)
    marks = (random.random((count, 3)) < RATES).astype("float32")
    images = random.integers(60, 70, (count, SIDE, SIDE, 3), dtype="uint8")
    for image, on in zip(images, marks, strict=True):
        for channel in np.flatnonzero(on):
            top = 5 * channel
            image[top : top + 5, 2:12] = 30
            image[top : top + 5, 2:12, channel] = 250
    return images, marks


def numbers(marks: np.ndarray) -> np.ndarray:
    """Two numbers of each picture (count, 2), in units of very different size."""
    return np.stack([marks @ [1.0, 2.0, 4.0] + 10, 50_000 - 3_000 * marks[:, 0]], axis=1)


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence]) -> Path:
    with path.open("w", newline="") as stream:
        table = csv.writer(stream)
        table.writerow(header)
        table.writerows(rows)
    return path


def folder(root: Path, *, count: int = 60) -> Path:
    """PNG files, and labels.csv (names with |), marks.csv (a column a color) and values.csv (age and income)."""
    root.mkdir(parents=True, exist_ok=True)
    images, marks = pictures(count)
    names = [f"{index:03}.png" for index in range(count)]
    for name, image in zip(names, images, strict=True):
        Image.fromarray(image).save(root / name)
    said = ["|".join(np.array(COLORS)[on > 0]) for on in marks]
    write_csv(root / "labels.csv", ["path", "label"], zip(names, said, strict=True))
    write_csv(root / "marks.csv", ["path", *COLORS], ((n, *m.astype(int)) for n, m in zip(names, marks, strict=True)))
    rows = zip(names, numbers(marks).round(1).tolist(), strict=True)
    write_csv(root / "values.csv", ["path", "age", "income"], ((name, *row) for name, row in rows))
    return root
