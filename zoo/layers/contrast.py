"""What models that compare images with texts end in: one vector each, and how alike the two are."""

from __future__ import annotations

import math
from typing import Any

import keras
from keras import layers, ops

Shape = tuple[int | None, ...]
_FIRST, _MOST = math.log(1 / 0.07), math.log(100.0)  # of the logarithm of the scale, as CLIP's paper has them


@keras.saving.register_keras_serializable("zoo")
class EndToken(layers.Layer):
    """The token that ends each text: (B, T, D), (B, T) ids and their mask (B, T) -> (B, D).

    It is the first whose id is `end`, or the first token where there is none; with None the one of the largest id.
    Padding is never taken.
    """

    def __init__(self, end: int | None = None, **kwargs: Any):
        super().__init__(**kwargs)
        self.end = end

    def call(
        self, x: keras.KerasTensor, token_ids: keras.KerasTensor, padding_mask: keras.KerasTensor
    ) -> keras.KerasTensor:
        sought = token_ids + 1 if self.end is None else ops.cast(ops.equal(token_ids, self.end), "int32")
        place = ops.argmax(sought * padding_mask, axis=1)
        return ops.sum(x * ops.one_hot(place, ops.shape(x)[1], dtype=x.dtype)[..., None], axis=1)

    def compute_output_shape(self, shape: Shape, *_: Any) -> Shape:
        return shape[0], shape[-1]

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "end": self.end}


@keras.saving.register_keras_serializable("zoo")
class UnitLength(layers.Layer):
    """Vectors of length 1, in the same directions, in float32 whatever the precision of the model: (B, D) -> (B, D)."""

    def __init__(self, **kwargs: Any):
        super().__init__(**{**kwargs, "dtype": "float32"})

    def call(self, x: keras.KerasTensor) -> keras.KerasTensor:
        x = ops.cast(x, "float32")
        return x / ops.sqrt(ops.maximum(ops.sum(x * x, axis=-1, keepdims=True), 1e-24))

    def compute_output_shape(self, shape: Shape) -> Shape:
        return shape


@keras.saving.register_keras_serializable("zoo")
class Similarity(layers.Layer):
    """How alike each image is to each text, as logits: (N, D), (M, D) of length 1 -> (N, M) float32.

    With `learned` their cosines times a learned factor, of which the variable is the logarithm; training never lets it
    grow over 100.
    """

    def __init__(self, *, learned: bool = True, **kwargs: Any):
        super().__init__(**{**kwargs, "dtype": "float32"})
        self.learned = learned

    def build(self, images_shape: Shape, texts_shape: Shape) -> None:
        if self.learned:
            self.scale = self.add_weight(
                name="scale", shape=(), initializer=keras.initializers.Constant(_FIRST), constraint=AtMost(_MOST)
            )

    def call(self, images: keras.KerasTensor, texts: keras.KerasTensor) -> keras.KerasTensor:
        cosines = ops.matmul(ops.cast(images, "float32"), ops.transpose(ops.cast(texts, "float32")))
        return cosines * ops.exp(self.scale) if self.learned else cosines

    def compute_output_shape(self, images_shape: Shape, texts_shape: Shape) -> Shape:
        return images_shape[0], texts_shape[0]

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "learned": self.learned}


@keras.saving.register_keras_serializable("zoo")
class AtMost(keras.constraints.Constraint):
    """Weights that training does not let grow over a bound."""

    def __init__(self, bound: float):
        self.bound = bound

    def __call__(self, w: keras.KerasTensor) -> keras.KerasTensor:
        return ops.minimum(w, ops.cast(self.bound, w.dtype))

    def get_config(self) -> dict[str, Any]:
        return {"bound": self.bound}
