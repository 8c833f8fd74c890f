"""Image files as arrays for a model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from zoo.core.family import Pixels


def check_there(paths: Sequence[str | Path]) -> list[Path]:
    """The paths of images.

    Raises:
        FileNotFoundError: some are not there.
    """
    absent = [str(path) for path in paths if not Path(path).is_file()]
    if absent:
        raise FileNotFoundError(f"There is no image at {', '.join(map(repr, absent))}.")
    return [Path(path) for path in paths]


def read_images(paths: Sequence[Path], pixels: Pixels) -> np.ndarray:
    """Image files as the model takes them: (N, h, w, 3) float32, 0..255.

    Raises:
        ValueError: one cannot be decoded; it is named.
    """
    from pipelines import decoding

    def read(path: Path) -> np.ndarray:
        return decoding.seen(decoding.decode(Path(path).read_bytes()), pixels).numpy()

    return np.stack([named(path, read) for path in paths])


def named(path: Path, read: Callable[[Path], Any]) -> Any:
    """What `read` makes of an image; one that TensorFlow cannot decode is named."""
    import tensorflow as tf

    try:
        return read(path)
    except tf.errors.InvalidArgumentError:
        raise ValueError(f"'{path}' cannot be decoded. It may be cut off, or no image at all.") from None
