"""How well images fit a text, by a model that compares the two, as CLIP does."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np

import zoo
from pipelines import decoding
from pipelines.tokenizers import Tokenizer, open_tokenizer
from pipelines.zero_shot import text_batch, tower
from zoo.core.family import Pixels
from zoo.layers.pixels import pixels_of

BATCH = 32


def open_judge(source: str | Path) -> tuple[keras.Model, Tokenizer]:
    """A model for task="contrast" and its tokenizer: of a folder made by zoo fit, or of a checkpoint.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it does not compare images with texts.
    """
    from pipelines import bundle

    if (Path(source) / "bundle.json").is_file():
        found = bundle.load(source)
        model = found.load_model()
        tower(model, "image")  # refuses others
    else:
        model = zoo.from_checkpoint(str(source), task="contrast")
    return model, open_tokenizer(source)


def similarities(model: keras.Model, tokenizer: Tokenizer, images: np.ndarray, text: str) -> np.ndarray:
    """The cosine of the angle between each image's embedding and the text's: images (N, H, W, 1 or 3) uint8 -> (N,).

    Raises:
        ValueError: the model does not compare images with texts, or the text is too long for it.
    """
    pixels = pixels_of(model)
    shown = np.stack([_fitted(image, pixels) for image in images])
    told = np.asarray(tower(model, "text")(text_batch(model, [text], tokenizer), training=False))[0]
    look = tower(model, "image")
    seen = np.concatenate(
        [np.asarray(look({"image": shown[at : at + BATCH]}, training=False)) for at in range(0, len(shown), BATCH)]
    )
    lengths = np.linalg.norm(seen, axis=1) * np.linalg.norm(told)
    return seen @ told / np.maximum(lengths, np.finfo("float32").tiny)


def _fitted(image: np.ndarray, pixels: Pixels) -> np.ndarray:
    """An image as a model takes it: of its size, and in color."""
    color = np.repeat(image, 3, axis=-1) if image.shape[-1] == 1 else image
    return np.asarray(decoding.resize_and_crop(color, pixels))
