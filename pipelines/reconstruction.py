"""What a trained autoencoder makes of image files and of random latents: `zoo reconstruct` and `zoo sample`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import keras
import numpy as np

from pipelines import grids, latents
from pipelines.autoencoder import answers, decoder_of, encoder_of, kind_of
from pipelines.image_files import read_images
from pipelines.sample import Request, Sampled
from zoo.layers.pixels import pixels_of

if TYPE_CHECKING:
    from pipelines.bundle import Bundle


def sampled(bundle: Bundle, request: Request) -> Sampled:
    """What the decoder of a bundle makes of latents from the prior; of classes all in turn, unless one is named.

    Raises:
        ValueError: the model has codes, for which there is no prior; or as `pipelines.latents.of_generator`.
    """
    model = bundle.load_model()
    if kind_of(model) != "normal":
        raise ValueError(
            f"'{bundle.path}' is a {bundle.run.model}: it has codes, and knows no prior to draw them from; that would "
            f"be a model of its own. zoo reconstruct {bundle.path} IMAGE... shows what it makes of images."
        )
    return latents.of_generator(decoder_of(model), bundle, request)


def reconstruct(bundle: Bundle | str | Path, files: Sequence[str | Path], *, label: str | None = None) -> Sampled:
    """What comes back of images: a row of them as the model sees them, and below each what it makes of it.

    `label` names the class of all, where the model takes one.

    Raises:
        FileNotFoundError: there is no bundle, or no such image.
        ValueError: the model is no autoencoder, a file is no image, or there is no such class.
    """
    model, inputs = _opened(bundle, files, label)
    images, returned = grids.as_bytes(inputs["image"]), grids.as_bytes(answers(model, inputs)["image"])
    columns = min(len(images), 10)
    rows = [
        row for top in range(0, len(images), columns) for side in (images, returned) for row in side[top:][:columns]
    ]
    return Sampled(np.stack(rows), columns=columns)


def encode(bundle: Bundle | str | Path, files: Sequence[str | Path], *, label: str | None = None) -> np.ndarray:
    """The latents of images, the means of their distributions (N, Z) float32, or their codes (N, h, w) int32.

    Raises:
        FileNotFoundError, ValueError: as `reconstruct`.
    """
    model, inputs = _opened(bundle, files, label)
    found = answers(encoder_of(model), inputs)
    return found["mean"] if "mean" in found else found["codes"]


def _opened(
    bundle: Bundle | str | Path, files: Sequence[str | Path], label: str | None
) -> tuple[keras.Model, dict[str, np.ndarray]]:
    """The model of a bundle, and images as it takes them."""
    from pipelines.bundle import load

    found = load(bundle) if isinstance(bundle, str | Path) else bundle
    if found.task != "reconstruct":
        raise ValueError(f"'{found.path}' is a model for task={found.task!r}, not an autoencoder.")
    if not files:
        raise ValueError("No images were given: name at least one file.")
    model = found.load_model()
    if missing := [str(file) for file in files if not Path(file).is_file()]:
        raise FileNotFoundError(f"There is no image '{missing[0]}'.")
    inputs = {"image": read_images([Path(file) for file in files], pixels_of(model))}
    if latents.takes_labels(model):
        known = ", ".join(found.classes)
        if label not in found.classes:
            asked = "It takes the class of its images: give label=" if label is None else f"label={label!r} is none of"
            raise ValueError(f"{asked} {'one of ' if label is None else ''}{known}.")
        inputs["labels"] = np.full(len(files), found.classes.index(label), np.int32)
    elif label is not None:
        raise ValueError(f"label={label!r}: '{found.path}' was trained without classes. Leave it out.")
    return model, inputs
