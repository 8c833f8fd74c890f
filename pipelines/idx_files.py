"""Fashion-MNIST as its authors publish it: four idx files, gzipped or not. Paper: https://arxiv.org/abs/1708.07747."""

from __future__ import annotations

import gzip
import math
import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from pipelines import readers, tfds_sets
from pipelines.readers import Labelled

USUAL = Path("/usr/share/datasets/fashion-mnist")  # of Debian's package dataset-fashion-mnist
CLASSES = (
    "T-shirt or top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip
_STEMS = {"train": "train", "test": "t10k"}
_BYTES = 8  # the code of uint8 in an idx file


def fashion_mnist(data_dir: str | None = None) -> dict[str, Callable[[], Labelled]]:
    """Its two parts, 60,000 images to train on and 10,000 to test, (28, 28) grey, each with how to read it.

    The files are looked for in `data_dir`, then where Debian puts them; else it is the set of tensorflow-datasets,
    where that is at hand.

    Raises:
        FileNotFoundError: they are nowhere.
    """
    for folder in (*([Path(data_dir)] if data_dir else []), USUAL):
        if all(_found(folder, stem, kind) for stem in _STEMS.values() for kind in ("images-idx3", "labels-idx1")):
            return {part: partial(_read, folder, part) for part in _STEMS}
    try:
        return tfds_sets.parts("tfds:fashion_mnist", data_dir=data_dir, given={})
    except FileNotFoundError as error:
        places = f"neither in {data_dir!r} nor in '{USUAL}'" if data_dir else f"not in '{USUAL}'"
        raise FileNotFoundError(
            f"The four files of Fashion-MNIST, such as train-images-idx3-ubyte.gz, are {places}. "
            f"Name their folder with --data-dir, or install Debian's dataset-fashion-mnist. {error}"
        ) from error


def _found(folder: Path, stem: str, kind: str) -> Path | None:
    names = (f"{stem}-{kind}-ubyte.gz", f"{stem}-{kind}-ubyte")
    return next((folder / name for name in names if (folder / name).is_file()), None)


def _read(folder: Path, part: str) -> Labelled:
    paths = [_found(folder, _STEMS[part], kind) for kind in ("images-idx3", "labels-idx1")]
    images, labels = (read_idx(path) for path in paths if path)
    found = readers.arrays(images, labels, classes=CLASSES, source=str(folder))
    return Labelled(found.images, found.labels, tuple(f"{part}/{name}" for name in found.names), CLASSES)


def read_idx(path: Path) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """The array in an idx file of bytes, gzipped where its name ends in .gz.

    Raises:
        ValueError: it is no such file, or is cut off.
    """
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as stream:
            content = stream.read()
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ValueError(f"'{path}' cannot be unpacked: {error}. Fetch it again.") from error
    axes = content[3] if len(content) > 3 else 0
    shape = tuple(int.from_bytes(content[4 + 4 * axis : 8 + 4 * axis], "big") for axis in range(axes))
    if content[:3] != bytes([0, 0, _BYTES]) or len(content) != 4 + 4 * axes + math.prod(shape):
        raise ValueError(f"'{path}' is no whole idx file of bytes: {len(content):,} bytes for an array {shape}.")
    return np.frombuffer(content, np.uint8, offset=4 + 4 * axes).reshape(shape)
