"""The two halves of a discrete autoencoder: one makes codes of images, the other images of codes."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

import zoo
from zoo.core.family import Pixels, Task
from zoo.layers.codebook import CodeVectors
from zoo.layers.image_text import TextThenImage
from zoo.layers.latent import GumbelSample, likeliest
from zoo.layers.pixels import pixels_of
from zoo.weights.locate import locate

ENCODER, DECODER = "encoder.keras", "decoder.keras"  # in the folder of a transformer's run
FILES = (ENCODER, DECODER)


@dataclass(frozen=True, eq=False)
class Codebook:
    """`encoder` turns images (B, H, W, C) in 0..255 into codes (B, h, w) int32, `decoder` codes into images.

    `source` is what messages call it.
    """

    encoder: keras.Model
    decoder: keras.Model
    source: str

    @property
    def codes(self) -> int:
        """How many there are."""
        return next(layer.input_dim for layer in self.decoder.layers if isinstance(layer, CodeVectors))

    @property
    def grid(self) -> tuple[int, int]:
        """Codes of an image down and across."""
        return self.encoder.output.shape[1:3]

    @property
    def pixels(self) -> Pixels:
        """The images that it is for."""
        return pixels_of(self.encoder)

    def identity(self) -> str:
        """A hash of all weights."""
        digest = hashlib.sha256()
        for weight in (*self.encoder.weights, *self.decoder.weights):
            digest.update(np.ascontiguousarray(weight).tobytes())
        return digest.hexdigest()

    def save(self, folder: Path) -> tuple[str, ...]:
        """Write both halves into a folder: the names of the files."""
        from pipelines.bundle import save_model

        for name, model in zip(FILES, (self.encoder, self.decoder), strict=True):
            save_model(model, folder / name)
        return FILES

    def check(self, layout: TextThenImage) -> None:
        """Refuse a transformer that writes other codes.

        Raises:
            ValueError: it has codes of another number, or another grid of them.
        """
        if self.codes != layout.codes:
            raise ValueError(
                f"The codebook of '{self.source}' has {self.codes} codes, the transformer writes {layout.codes}. Build "
                f"it with codes={self.codes}, or leave that out: it follows the codebook."
            )
        if self.grid != (layout.rows, layout.columns):
            ours, theirs = (f"{rows * 8}x{columns * 8}" for rows, columns in ((layout.rows, layout.columns), self.grid))
            raise ValueError(
                f"'{self.source}' makes {self.grid[0]}x{self.grid[1]} codes of an image ({theirs} pixels), the "
                f"transformer writes {layout.rows}x{layout.columns} ({ours} pixels). Leave out the size: it follows "
                "the autoencoder."
            )


def open_codebook(source: str | Path) -> Codebook:
    """The discrete autoencoder of a run or of a checkpoint; see Drawing.

    Raises:
        FileNotFoundError: there is none.
        ValueError: what is there is none.
    """
    path = locate(source)
    if (path / "bundle.json").is_file():
        return _of_bundle(path)
    if (path / "run.json").is_file():
        raise FileNotFoundError(f"'{path}' holds a run that has not come to its end. Go on with it: zoo resume {path}")
    halves: list[keras.Model] = []
    tasks: tuple[Task, ...] = ("encode", "decode")
    for task, folder in zip(tasks, ("encoder", "decoder"), strict=True):
        inner = path / folder
        halves.append(zoo.from_checkpoint(str(inner if inner.is_dir() else path), task=task))
    return Codebook(*halves, str(source))


def _of_bundle(path: Path) -> Codebook:
    from pipelines import bundle

    found = bundle.load(path)
    if found.task == "text_to_image":
        return Codebook(*(bundle.load_model(path / name) for name in FILES), str(path))
    model = found.load_model() if found.task == "reconstruct" else None
    if model is None or not any(isinstance(layer, GumbelSample) for layer in model.layers):
        raise ValueError(
            f"'{path}' holds a {found.run.model!r} for task={found.task!r}, which has no codes. Train a discrete "
            "autoencoder first: zoo fit dalle_tiny --images FOLDER --task reconstruct."
        )
    return of_autoencoder(model, str(path))


def of_autoencoder(model: keras.Model, source: str) -> Codebook:
    """The halves of a model with task="reconstruct", which share its layers."""
    sample = next(layer for layer in model.layers if isinstance(layer, GumbelSample))
    encoder = keras.Model(model.input, likeliest(model.output["logits"]), name=f"{model.name}_encoder")
    inner = keras.Model(sample.output, model.output["image"], name=f"{model.name}_decoder")
    codes = keras.Input(sample.output.shape[1:], dtype="int32", name="codes")
    return Codebook(encoder, keras.Model(codes, through(inner, codes), name=inner.name), source)


def through(model: keras.Model, inputs: Any) -> Any:
    """What the layers of a functional model give of other inputs, one after the other, in one flat graph."""
    call: Callable[..., Any] = lambda operation, *args, **kwargs: operation(*args, **kwargs)  # noqa: E731
    return model._run_through_graph(inputs, call_fn=call)
