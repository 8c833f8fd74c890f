"""Pictures that the image tests write: patterns whose every pixel differs from its neighbors."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image


def pattern(height: int = 20, width: int = 30, *, phase: float = 0.0) -> np.ndarray:
    """(height, width, 3) uint8, smooth, neither symmetric nor gray."""
    y, x = np.mgrid[:height, :width]
    waves = [60 * np.sin(x / 7 + channel + phase) + 60 * np.cos(y / 5 - channel) + 128 for channel in range(3)]
    return np.stack(waves, axis=-1).astype(np.uint8)


def encoded(image: Image.Image | np.ndarray, kind: str, **options) -> bytes:
    buffer = io.BytesIO()
    picture = image if isinstance(image, Image.Image) else Image.fromarray(image)
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def class_folder(root: Path, *, classes: tuple[str, ...] = ("cat", "dog"), count: int = 6) -> Path:
    """A folder with `count` JPEG files of 24 x 32 pixels a class."""
    for number, name in enumerate(classes):
        (root / name).mkdir(parents=True)
        for index in range(count):
            picture = pattern(24, 32, phase=number + index / 10)
            (root / name / f"{name}{index}.jpg").write_bytes(encoded(picture, "JPEG", quality=90))
    return root
