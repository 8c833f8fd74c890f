"""Images of latents: what a generator makes of random numbers, of fixed ones, and of those between two."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import keras
import numpy as np

from pipelines import grids
from pipelines.card import PICTURES
from pipelines.sample import Request, Sampled

if TYPE_CHECKING:
    from pipelines.bundle import Bundle

BATCH = 64
FIXED = 20_141_126  # the seed of the latents of all pictures
COLUMNS, ROWS, PATHS, MOST_ROWS = 10, 6, 6, 20


def takes_labels(generator: keras.Model) -> bool:
    """Whether a generator is told the class of each image."""
    return isinstance(generator.input, Mapping)


def latent_size(generator: keras.Model) -> int:
    """How many random numbers an image is made from."""
    given = generator.input["latent"] if takes_labels(generator) else generator.input
    return int(given.shape[-1])


def drawn(count: int, size: int, *, seed: int, truncation: float | None = None) -> np.ndarray:
    """Latents (count, size) float32 from a normal distribution; none beyond `truncation`, if given.

    Each hangs on the seed and its place alone: fewer are the first of more.
    """
    rows = []
    for place in range(count):
        draw = np.random.default_rng((seed, place))
        if truncation is None:
            rows.append(draw.standard_normal(size))
        else:
            bound = math.erf(truncation / math.sqrt(2))  # the share of all numbers that are left
            shares = keras.ops.erfinv(draw.uniform(-bound, bound, size).astype(np.float32))
            rows.append(np.clip(math.sqrt(2) * keras.ops.convert_to_numpy(shares), -truncation, truncation))
    return np.stack(rows).astype(np.float32)


def inputs(generator: keras.Model, count: int, *, classes: int, seed: int) -> dict[str, np.ndarray]:
    """What a generator takes, by the names of its inputs: random latents (N, Z), and all classes in turn (N,)."""
    found = {"latent": drawn(count, latent_size(generator), seed=seed)}
    return found | ({"labels": np.arange(count, dtype=np.int32) % classes} if takes_labels(generator) else {})


def made(generator: keras.Model, latents: np.ndarray, labels: np.ndarray | None = None) -> np.ndarray:
    """The images of latents (N, Z), and labels (N,) where the generator takes them: (N, H, W, C) float32, 0..255.

    Nothing of the generator changes, and no random number is drawn.
    """
    images = []
    for start in range(0, len(latents), BATCH):
        inputs = latents[start : start + BATCH]
        if takes_labels(generator):
            assert labels is not None
            inputs = {"latent": inputs, "labels": labels[start : start + BATCH].astype(np.int32)}
        images.append(keras.ops.convert_to_numpy(generator(inputs, training=False)))
    return np.concatenate(images).astype(np.float32)


def between(first: np.ndarray, last: np.ndarray, steps: int) -> np.ndarray:
    """Latents (steps, Z) on the way from one (Z,) to another, both included.

    Along the arc: those on the straight line are shorter than any that a normal distribution gives.
    """
    lengths = np.linalg.norm(first), np.linalg.norm(last)
    angle = np.arccos(np.clip(np.dot(first, last) / (lengths[0] * lengths[1]), -1.0, 1.0))
    shares = np.linspace(0.0, 1.0, steps)[:, np.newaxis]
    if np.sin(angle) < 1e-6:
        return ((1 - shares) * first + shares * last).astype(np.float32)
    weights = np.sin((1 - shares) * angle) / np.sin(angle), np.sin(shares * angle) / np.sin(angle)
    return (weights[0] * first + weights[1] * last).astype(np.float32)


def sampled(bundle: Bundle, request: Request) -> Sampled:
    """What the generator of a bundle makes; of classes, unless one is named, all in turn, a row each.

    Raises:
        ValueError: there is no such class, or the generator knows of none.
    """
    return of_generator(bundle.load_model(), bundle, request)


def of_generator(generator: keras.Model, bundle: Bundle, request: Request) -> Sampled:
    """What a generator that belongs to a bundle makes.

    Raises:
        ValueError: as `sampled`.
    """
    request.refuse(bundle.task, known=("label", "truncation"))
    chosen = _chosen(generator, bundle, request)
    latents = drawn(request.count, latent_size(generator), seed=request.seed, truncation=request.truncation)
    images = grids.as_bytes(made(generator, latents, chosen))
    if chosen is None:
        return Sampled(images)
    rows = len(np.unique(chosen))
    columns = request.count // rows if rows > 1 and request.count % rows == 0 else None
    return Sampled(images, tuple(bundle.classes[label] for label in chosen), columns)


def _chosen(generator: keras.Model, bundle: Bundle, request: Request) -> np.ndarray | None:
    """The label of each image; None where the generator takes none."""
    if not takes_labels(generator):
        if request.label is not None:
            raise ValueError(
                f"label={request.label!r}: '{bundle.path}' was trained without classes. Train gan_conditional, "
                "gan_projection or vae_conditional to choose one."
            )
        return None
    classes: Sequence[str] = bundle.classes
    if request.label is None:
        return np.sort(np.arange(request.count) % len(classes))
    if request.label not in classes:
        raise ValueError(f"label={request.label!r} is none of the classes: {', '.join(classes)}.")
    return np.full(request.count, classes.index(request.label))


def draw(generator: keras.Model, folder: Path, name: str, *, classes: int = 0) -> None:
    """Write what a generator makes of fixed latents, and of those between two, into a run's folder of pictures.

    Of classes there is a row each in the first picture; in the second each row stays with one.
    """
    size, labelled = latent_size(generator), takes_labels(generator)
    rows = min(classes, MOST_ROWS) if labelled else ROWS
    latents = drawn(rows * COLUMNS, size, seed=FIXED)
    labels = np.repeat(np.arange(rows), COLUMNS) if labelled else None
    write = functools.partial(grids.write_grid, columns=COLUMNS)
    write(made(generator, latents, labels), folder / PICTURES / f"{name}_samples.png")
    ends = drawn(2 * PATHS, size, seed=FIXED + 1)
    ways = np.concatenate([between(ends[2 * row], ends[2 * row + 1], COLUMNS) for row in range(PATHS)])
    labels = np.repeat(np.arange(PATHS) % max(classes, 1), COLUMNS) if labelled else None
    write(made(generator, ways, labels), folder / PICTURES / f"{name}_between.png")
