"""What an autoencoder has learned, to be looked at: what comes back, what latents stand for, where classes lie."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from statistics import NormalDist
from typing import Any

import keras
import numpy as np

from pipelines import grids, latents
from pipelines.autoencoder import answers, decoder_of, encoder_of, kind_of
from pipelines.card import PICTURES
from pipelines.datasets import Dataset, Part
from pipelines.objectives.pictures import figure, short

ACROSS = 10  # images in a row
_REACH = 3.0  # standard deviations of the prior that a traversal goes to
_ROWS = 10  # latents that are traversed: those that say most
_SIDE = 20  # images of a map
_PLACED = 2000  # images whose latents are shown as points
_NAMED = 20  # classes that a legend has room for

Arrays = dict[str, np.ndarray]


def draw(data: Dataset, model: keras.Model, folder: Path, name: str) -> None:
    """Write pictures of a model with task="reconstruct", always of the same images and latents.

    After each epoch what comes back of images, and images of random latents; of the "final" model also what each latent
    changes, and a map: of two latents the images at equally probable places, and where the images of each class lie.
    """
    place, inputs = folder / PICTURES, _examples(data, model, 2 * ACROSS)
    images, returned = inputs["image"], answers(model, inputs)["image"]
    shown = [row for top in range(0, len(images), ACROSS) for side in (images, returned) for row in side[top:][:ACROSS]]
    grids.write_grid(shown, place / f"{name}_reconstructions.png", columns=min(ACROSS, len(images)))
    if kind_of(model) != "normal":
        return
    decoder = decoder_of(model)
    size = latents.latent_size(decoder)
    count = ACROSS * min(ACROSS, len(data.classes) or ACROSS)
    labels = np.repeat(np.arange(count // ACROSS), ACROSS)
    grids.write_grid(
        latents.made(decoder, latents.drawn(count, size, seed=0), labels), place / f"{name}_samples.png", columns=ACROSS
    )
    if name == "final":
        _draw_latents(data, model, decoder, place, name)


def _draw_latents(data: Dataset, model: keras.Model, decoder: keras.Model, place: Path, name: str) -> None:
    encoder, inputs = encoder_of(model), _examples(data, model, _PLACED)
    found = answers(encoder, inputs)
    mean, variance = found["mean"], np.exp(found["log_variance"])
    told = 0.5 * (mean**2 + variance - 1 - np.log(variance)).mean(axis=0)  # nats of each latent
    order = np.argsort(told)[::-1]
    label = int(inputs["labels"][0]) if latents.takes_labels(decoder) else 0
    path = place / f"{name}_traversals.png"
    grids.write_grid(_traversed(decoder, mean[0], order[:_ROWS], label), path, columns=ACROSS + 1)
    if mean.shape[1] == 2:
        grids.write_grid(_mapped(decoder, label), place / f"{name}_map.png", columns=_SIDE)
    if len(mean) > 2:
        _draw_points(mean, inputs.get("labels"), data.classes, place / f"{name}_latents.png")


def _traversed(decoder: keras.Model, start: np.ndarray, order: np.ndarray, label: int) -> np.ndarray:
    """A row for each latent: the image of a start (Z,) with that latent from -3 to 3."""
    steps = np.linspace(-_REACH, _REACH, ACROSS + 1)
    changed = np.repeat(start[np.newaxis], len(order) * len(steps), axis=0)
    changed[np.arange(len(changed)), np.repeat(order, len(steps))] = np.tile(steps, len(order))
    return latents.made(decoder, changed, np.full(len(changed), label))


def _mapped(decoder: keras.Model, label: int) -> np.ndarray:
    """The images of two latents at equally probable places, the first from left to right, the second upward."""
    quantiles = np.array([NormalDist().inv_cdf((step + 0.5) / _SIDE) for step in range(_SIDE)])
    second, first = np.meshgrid(quantiles[::-1], quantiles, indexing="ij")
    places = np.stack([first.ravel(), second.ravel()], axis=1).astype(np.float32)
    return latents.made(decoder, places, np.full(len(places), label))


def _draw_points(mean: np.ndarray, labels: np.ndarray | None, classes: tuple[str, ...], path: Path) -> None:
    """The latents of images in the plane: themselves if they are two, else their principal components."""
    names = ("latent 1", "latent 2")
    if mean.shape[1] != 2:
        centred = mean - mean.mean(axis=0)
        _, spread, axes = np.linalg.svd(centred, full_matrices=False)
        shares = spread**2 / max(float((spread**2).sum()), 1e-12)
        names = tuple(f"component {axis + 1} ({shares[axis]:.0%} of the variance)" for axis in range(len(axes[:2])))
        mean = centred @ axes[:2].T
    if mean.shape[1] < 2:
        mean, names = np.stack([mean[:, 0], np.zeros(len(mean))], axis=1), ("latent", "")
    with figure(path, panel=(7.0, 6.0)) as (axes_of_plot,):
        if labels is None or labels.ndim > 1 or not 0 < len(classes) <= _NAMED:
            axes_of_plot.scatter(*mean.T, s=8, alpha=0.6)
        else:
            for label, name in enumerate(classes):
                color = f"C{label}" if len(classes) <= 10 else None
                axes_of_plot.scatter(*mean[labels == label].T, s=8, alpha=0.7, label=short(name), color=color)
            axes_of_plot.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), markerscale=2)
        axes_of_plot.set_xlabel(names[0])
        axes_of_plot.set_ylabel(names[1])


def _examples(data: Dataset, model: keras.Model, count: int) -> Arrays:
    """The first examples of the test part, or of another where it has none, as a model takes them."""
    parts: tuple[Part, ...] = ("test", "validation", "train")
    part = next(part for part in parts if len(data.parts[part]))
    found: dict[str, list[np.ndarray]] = {}
    for batch in _few(data.evaluation_set(model, part, batch=latents.BATCH), count):
        image, *labels = batch if isinstance(batch, tuple) else (batch,)
        for key, values in (("image", image), *(("labels", each) for each in labels[:1])):
            found.setdefault(key, []).append(np.asarray(values))
    return {key: np.concatenate(values)[:count] for key, values in found.items()}


def _few(batches: Any, count: int) -> Iterator[Any]:
    yield from batches.take(-(-count // latents.BATCH))
