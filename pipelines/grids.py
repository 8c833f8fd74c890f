"""Images side by side, as PNG files."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from pipelines.files import replacing

SMALLEST = 48  # pixels of an image's longer side in a grid: smaller ones are shown enlarged, pixel by pixel
_MARGIN = 2  # pixels between two images
_GROUND = 255


def columns_of(count: int) -> int:
    """The columns of a grid of so many images that is about as wide as high."""
    return max(1, math.ceil(math.sqrt(count)))


def grid(images: Sequence[np.ndarray] | np.ndarray, *, columns: int | None = None) -> np.ndarray:
    """Images (N, H, W, 1 or 3) in 0..255, row by row in one: (h, w, 1 or 3) uint8.

    Raises:
        ValueError: they are none, or of another shape.
    """
    found = as_bytes(images)
    count, height, width, channels = found.shape
    factor = max(1, math.ceil(SMALLEST / max(height, width)))
    found = found.repeat(factor, axis=1).repeat(factor, axis=2)
    height, width = found.shape[1:3]
    across = min(columns or columns_of(count), count)
    down = -(-count // across)
    shape = (down * (height + _MARGIN) - _MARGIN, across * (width + _MARGIN) - _MARGIN, channels)
    sheet = np.full(shape, _GROUND, np.uint8)
    for place, image in enumerate(found):
        top, left = place // across * (height + _MARGIN), place % across * (width + _MARGIN)
        sheet[top : top + height, left : left + width] = image
    return sheet


def as_bytes(images: Sequence[np.ndarray] | np.ndarray) -> np.ndarray:
    """Images in 0..255 in whole numbers: (N, H, W, 1 or 3) uint8.

    Raises:
        ValueError: they are none, or of another shape.
    """
    found = np.asarray(images)
    if found.ndim != 4 or not len(found) or found.shape[-1] not in (1, 3):
        raise ValueError(f"Pictures are of images (N, H, W, 1 or 3), at least one, not of {found.shape}.")
    return np.clip(np.rint(found.astype(np.float32)), 0, 255).astype(np.uint8)


def write_png(image: np.ndarray, path: Path) -> None:
    """Write an image (H, W, 1 or 3) uint8, whole or not at all."""
    from PIL import Image

    plain = image[..., 0] if image.shape[-1] == 1 else image
    with replacing(path) as temporary:
        Image.fromarray(plain).save(temporary, format="png")


def write_grid(images: Sequence[np.ndarray] | np.ndarray, path: Path, *, columns: int | None = None) -> None:
    """Write images (N, H, W, 1 or 3) in 0..255 side by side.

    Raises:
        ValueError: as `grid`.
    """
    write_png(grid(images, columns=columns), path)


def write_each(images: Sequence[np.ndarray] | np.ndarray, folder: Path, *, names: Sequence[str] = ()) -> list[Path]:
    """Write each image as a file of its own, 0001.png and so on, with its name behind the number; the paths.

    Raises:
        ValueError: as `grid`.
    """
    found = as_bytes(images)
    digits = max(4, len(str(len(found))))
    marks = [f"_{_plain(name)}" for name in names] or [""] * len(found)
    paths = [folder / f"{place:0{digits}}{mark}.png" for place, mark in enumerate(marks, start=1)]
    for path, image in zip(paths, found, strict=True):
        write_png(image, path)
    return paths


def _plain(name: str) -> str:
    """A name as a part of a file's name."""
    return "".join(letter if letter.isalnum() or letter in "-." else "_" for letter in name)[:40]
