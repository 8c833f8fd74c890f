"""A transformer with a discrete autoencoder before it: one graph from images and captions to the logits of tokens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import layers, ops

from pipelines.codebook import Codebook, through
from zoo.dalle import layout_of
from zoo.layers.image_text import START, TextThenImage
from zoo.layers.pixels import PixelInput


@dataclass(frozen=True, eq=False)
class Frozen:
    """A model that Keras takes for no part of the one that holds it: it is neither trained nor saved with it."""

    model: keras.Model


class ImageCodes(PixelInput):
    """The codes of images, by an encoder that is not trained: (B, H, W, C) in 0..255 -> (B, h, w) int32."""

    def __init__(self, pixels: Any, *, encoder: Frozen, **kwargs: Any):
        super().__init__(pixels, **{**kwargs, "dtype": "float32"})
        self._encoder = encoder

    def call(self, image):
        return ops.stop_gradient(self._encoder.model(image, training=False))

    def compute_output_spec(self, image):
        return keras.KerasTensor((image.shape[0], *self._encoder.model.output.shape[1:]), "int32")

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "encoder": self._encoder}  # for copies within a process


class WholeSequence(layers.Layer):
    """TextThenImage.tokens as a layer: ids and mask of texts (B, T), codes (B, h, w) -> (B, places) int32.

    In training the captions of those examples are left out whose chance (B,) in 0..1 is under `dropout`.
    """

    def __init__(self, layout: TextThenImage, *, dropout: float, **kwargs: Any):
        super().__init__(**kwargs)
        self.layout, self.dropout = layout, dropout

    def call(self, token_ids, padding_mask, codes, chance, training: bool | None = None):
        there = padding_mask > 0
        if training and self.dropout:
            there = ops.logical_and(there, (chance >= self.dropout)[:, None])
        length = self.layout.length
        ids = ops.pad(ops.where(there, token_ids, START), ((0, 0), (0, length - ops.shape(token_ids)[1])))
        ids = ops.reshape(ids, (-1, length))
        text = ops.where(ids == START, self.layout.words + np.arange(length, dtype="int32"), ids)
        image = ops.reshape(codes, (-1, self.layout.rows * self.layout.columns)) + self.layout.text_ids
        start = ops.full_like(text[:, :1], START)
        return ops.concatenate([start, ops.cast(text, "int32"), ops.cast(image, "int32")], axis=1)

    def compute_output_spec(self, token_ids, *_, **__):
        return keras.KerasTensor((token_ids.shape[0], self.layout.places), "int32")

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "layout": self.layout, "dropout": self.dropout}


@keras.saving.register_keras_serializable("zoo")
class Drawer(keras.Model):
    """A functional model of "image", "token_ids", "padding_mask" and "chance" that gives {"tokens", "logits"}.

    The logits (B, places - 1, vocabulary) are those of the tokens (B, places) from the second one on; its loss and its
    metrics are of the two. The layers that learn are the transformer's own.
    """

    transformer: Frozen
    book: str

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        """The compiled loss of the tokens."""
        return super().compute_loss(x, y_pred["tokens"], y_pred["logits"], sample_weight, training)

    def compute_metrics(self, x, y, y_pred, sample_weight=None):
        """The compiled metrics of the tokens."""
        return super().compute_metrics(x, y_pred["tokens"], y_pred["logits"], sample_weight)

    def save_weights(self, filepath, overwrite=True, **options):
        """Write the transformer's weights."""
        self.transformer.model.save_weights(filepath, overwrite=overwrite, **options)

    def identity(self) -> dict[str, str]:
        """What it hangs on besides data, for checkpoints."""
        return {"codebook": self.book}


def drawer(model: keras.Model, book: Codebook, *, dropout: float = 0.0) -> Drawer:
    """What is trained in the stead of a model with task="text_to_image"; in the scope of its strategy.

    Raises:
        ValueError: the model writes other codes, or no images.
    """
    from pipelines.bundle import twin

    layout = layout_of(model)
    book.check(layout)
    pixels = book.pixels
    inputs = {
        "image": keras.Input((*pixels.shape, pixels.channels), name="image"),
        "token_ids": keras.Input((None,), dtype="int32", name="token_ids"),
        "padding_mask": keras.Input((None,), dtype="int32", name="padding_mask"),
        "chance": keras.Input((), name="chance"),
    }
    codes = ImageCodes(pixels, encoder=Frozen(twin(book.encoder)), name="stem_codes")(inputs["image"])
    sequence = WholeSequence(layout, dropout=dropout, name="stem_sequence")
    tokens = sequence(inputs["token_ids"], inputs["padding_mask"], codes, inputs["chance"])
    before = tokens[:, :-1]
    logits = through(model, {"token_ids": before, "padding_mask": ops.ones_like(before)})
    found = Drawer(inputs, {"tokens": tokens, "logits": logits}, name=model.name)
    found.transformer, found.book = Frozen(model), book.identity()
    return found
