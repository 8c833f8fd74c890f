"""A text and the image that it tells of as one sequence of tokens, as DALL-E reads and writes it.

Paper: https://arxiv.org/abs/2102.12092. Places: a start, the text, then the codes of the image row by row.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from reprlib import repr as short
from typing import Any, Literal

import keras
import numpy as np
from keras import layers, ops

from zoo.layers.transformer_block import TransformerBlock

Attends = Literal["full", "axial_row", "axial_col"]
START = 0  # the token before every text, and in a text the id of padding


@dataclass(frozen=True)
class TextThenImage:
    """How many texts and images there can be, and where their tokens stand.

    The ids are those of the text's tokens, then one for each place of a text that is padding, then those of the codes.
    """

    words: int  # token ids of texts; 0 is padding
    length: int  # tokens of a text
    codes: int  # of the codebook
    rows: int  # codes of an image down
    columns: int  # and across

    @property
    def text_ids(self) -> int:
        """The ids before those of codes."""
        return self.words + self.length

    @property
    def vocabulary(self) -> int:
        """All ids."""
        return self.text_ids + self.codes

    @property
    def image(self) -> int:
        """The place where the image begins."""
        return 1 + self.length

    @property
    def places(self) -> int:
        """Those of a whole sequence: start, text and image."""
        return self.image + self.rows * self.columns

    def prompt(self, texts: Any) -> np.ndarray:
        """What the model reads before it writes an image: ids of texts (N, T), 0 = padding -> (N, 1 + length).

        A text of padding alone is what guidance without a condition takes.

        Raises:
            ValueError: a text is too long, or holds an id that there is not.
        """
        ids = np.asarray(texts)
        if ids.ndim != 2 or ids.dtype.kind not in "iu" or ids.shape[1] > self.length:
            raise ValueError(
                f"Texts of shape {ids.shape} and type {ids.dtype}: whole numbers (N, T) are needed, T at most the "
                f"{self.length} tokens that this model reads. Cut longer texts."
            )
        _check_ids(ids, self.words, "A text", "Does the tokenizer belong to this model?")
        ids = np.pad(ids.astype("int32"), ((0, 0), (0, self.length - ids.shape[1])))
        padding = self.words + np.arange(self.length, dtype="int32")
        return np.pad(np.where(ids == START, padding, ids), ((0, 0), (1, 0)), constant_values=START)

    def tokens(self, texts: Any, codes: Any) -> np.ndarray:
        """A whole sequence, or the beginning of one: (N, T), codes (N, h, w) or (N, M) -> (N, 1 + length + M).

        Raises:
            ValueError: as `prompt`; or the codes are not those of this codebook, or too many.
        """
        found = np.asarray(codes)
        found = found.reshape(len(found), -1) if found.ndim == 3 else found
        if found.ndim != 2 or found.dtype.kind not in "iu" or found.shape[1] > self.rows * self.columns:
            raise ValueError(
                f"Codes of shape {np.shape(codes)} and type {found.dtype}: whole numbers (N, {self.rows}, "
                f"{self.columns}) are needed, or the first of them (N, M)."
            )
        _check_ids(found, self.codes, "An image", "Was it encoded with another codebook?")
        return np.concatenate([self.prompt(texts), found.astype("int32") + self.text_ids], axis=1)

    def image_codes(self, tokens: Any) -> np.ndarray:
        """The codes of whole sequences, or of what was written after prompts: (N, T) -> (N, h, w).

        Raises:
            ValueError: there are not as many tokens as an image has, or some are no codes.
        """
        ids, count = np.asarray(tokens), self.rows * self.columns
        if ids.ndim != 2 or ids.shape[1] not in (count, self.places):
            raise ValueError(f"Tokens of shape {ids.shape}: an image has {count}, with its text {self.places}.")
        codes = ids[:, -count:] - self.text_ids
        _check_ids(codes, self.codes, "An image", "These tokens are of a text.")
        return codes.reshape(-1, self.rows, self.columns)


def _check_ids(ids: np.ndarray, known: int, what: str, next_step: str) -> None:
    wrong = ids[(ids < 0) | (ids >= known)]
    if wrong.size:
        raise ValueError(f"{what} holds the id {wrong[0]}; those known here are 0 to {known - 1:,}. {next_step}")


class _Placed(layers.Layer):
    """A layer that knows where text and image stand."""

    def __init__(self, layout: TextThenImage | Mapping[str, int], **kwargs: Any):
        super().__init__(**kwargs)
        self.layout = TextThenImage(**layout) if isinstance(layout, Mapping) else layout

    def compute_output_shape(self, shape, *_, **__):
        return shape

    def get_config(self):
        return {**super().get_config(), "layout": asdict(self.layout)}


@keras.saving.register_keras_serializable("zoo")
class TextThenImagePositions(_Placed):
    """Adds a learned vector to each place, in the image that of its row and that of its column: (B, T, D)."""

    @property
    def length(self) -> int:
        """The places that there are vectors for."""
        return self.layout.places

    def build(self, shape):
        drawn = keras.initializers.RandomNormal(stddev=0.02)
        sides = {"text": self.layout.image, "rows": self.layout.rows, "columns": self.layout.columns}
        for name, side in sides.items():
            table = self.add_weight(name=name, shape=(side, shape[-1]), initializer=drawn)
            setattr(self, f"{name}_table", table)

    def call(self, x):
        if x.shape[1] is not None and x.shape[1] > self.length:
            raise ValueError(
                f"A sequence of {x.shape[1]} tokens is longer than the {self.length} that this model takes."
            )
        return x + ops.cast(self.vectors(ops.arange(ops.shape(x)[1], dtype="int32"), x.shape[-1])[None], x.dtype)

    def vectors(self, places, width: int):
        """What is added at each place: (...) whole numbers -> (..., D)."""
        image = ops.expand_dims(self.rows_table, 1) + ops.expand_dims(self.columns_table, 0)  # (h, w, D)
        image = ops.reshape(image, (-1, width))
        return ops.take(ops.concatenate([self.text_table, image], axis=0), places, axis=0)


@keras.saving.register_keras_serializable("zoo")
class OwnLogits(_Placed):
    """Leaves those logits that can be next: of texts where a text goes on, else of codes; (B, T, vocabulary)."""

    def __init__(self, layout, *, mask_value: float = -1e9, **kwargs: Any):
        super().__init__(layout, **{**kwargs, "dtype": "float32"})
        self.mask_value = mask_value

    def call(self, x):
        return self.at(x, ops.arange(ops.shape(x)[1], dtype="int32"))

    def at(self, x, places):
        """The same for given places: (..., vocabulary), (...) -> (..., vocabulary)."""
        codes = np.arange(self.layout.vocabulary) >= self.layout.text_ids
        of_codes = ops.cast(places >= self.layout.length, "float32")[..., None]  # after the text's last token
        wrong = of_codes * (1.0 - codes) + (1.0 - of_codes) * codes
        return x + ops.cast(wrong, "float32") * self.mask_value

    def get_config(self):
        return {**super().get_config(), "mask_value": self.mask_value}


@keras.saving.register_keras_serializable("zoo")
class TextThenImageBlock(TransformerBlock):
    """A TransformerBlock for a text and an image behind it; padding may stand after them.

    `attends` says which places of the image each of its places sees, of those before it: all, or those of its own row
    or column; all see the whole text before them. With `shift` half of what enters attention and MLP comes from
    neighbors: in the text from the token before, in the image a quarter from above and a quarter from the left, zeros
    where there is none. `layer_scale` is what the learned factors of both branches begin with.
    """

    def __init__(self, heads, mlp_width, *, layout, attends="full", shift=False, layer_scale=0.1, **kwargs: Any):
        super().__init__(heads, mlp_width, **{**kwargs, "causal": True})
        if attends not in ("full", "axial_row", "axial_col"):
            raise ValueError(f"attention={short(attends)} is unknown here. Known: full, axial_row, axial_col.")
        self.layout = TextThenImage(**layout) if isinstance(layout, Mapping) else layout
        self.attends, self.shift, self.layer_scale = attends, shift, layer_scale

    def build(self, x_shape):
        super().build(x_shape)
        if self.shift and x_shape[-1] % 4:
            raise ValueError(f"A width of {x_shape[-1]} does not split into quarters, which shift=True moves.")
        for branch in ("attention", "mlp"):
            first = keras.initializers.Constant(self.layer_scale)
            scale = self.add_weight(name=f"{branch}_scale", shape=(x_shape[-1],), initializer=first)
            setattr(self, f"{branch}_scale", scale)

    @property
    def kept(self):
        more = {"attention_shift": (1, self.width // 2), "mlp_shift": (1, self.width // 2)} if self.shift else {}
        return {**super().kept, **more}

    @property
    def width(self) -> int:
        """Of a token's vector."""
        return self.attention_scale.shape[0]

    def call(self, x, *, padding_mask=None, training=None):
        return super().call(x, padding_mask=padding_mask, position_bias=self._unseen_in(x), training=training)

    def attention_shares(self, x, *, padding_mask=None):
        x = keras.ops.cast(x, self.compute_dtype)
        return super().attention_shares(x, padding_mask=padding_mask, position_bias=self._unseen_in(x))

    def step(self, x, key, value, *shifted, bias, positions, cache_positions):
        """TransformerBlock.step; `positions` (B, T) and `cache_positions` (B, S) say which place each token has.

        With `shift` halves of what entered attention and MLP are kept too, (B, 1, S, D / 2).
        """
        others = ops.concatenate([cache_positions, positions], axis=1)
        unseen = self._unseen(positions, others)
        bias = bias if unseen is None else bias + unseen[:, None]
        new, moved = [], []

        def attend(x):
            attended, *found = self.attention.step(x, key, value, bias=bias)
            new.extend(found)
            return attended

        for function, norm in ((attend, self.attention_norm), (self.mlp, self.mlp_norm)):
            entering = norm(x)
            if self.shift:
                half, rest = ops.split(entering, 2, axis=-1)
                before = ops.concatenate([shifted[len(moved)][:, 0], half], axis=1)  # (B, S + T, D / 2)
                moved.append(half[:, None])
                left, above = self._picked(before, positions, others)
                entering = self._mixed(left, ops.split(above, 2, axis=-1)[0], rest, places=positions)
            x = x + function(entering) * self._scale_of(norm)
        return x, *new, *moved

    def _residual(self, x, function, norm, training):
        entering = norm(x)
        if self.shift:
            half, rest = ops.split(entering, 2, axis=-1)  # whose gradient is cheaper than that of x[..., :n]
            above = self._moved(ops.split(half, 2, axis=-1)[0], self.layout.columns)
            places = ops.arange(ops.shape(x)[1], dtype="int32")[None]
            entering = self._mixed(self._moved(half, 1), above, rest, places=places)
        return x + self.dropout(function(entering), training=training) * self._scale_of(norm)

    def _scale_of(self, norm):
        scale = self.attention_scale if norm is self.attention_norm else self.mlp_scale
        return ops.cast(scale, self.compute_dtype)

    def _moved(self, x, by: int):
        """What stood so many places before: (B, T, C) -> (B, T, C), zeros at first."""
        return ops.slice(ops.pad(x, ((0, 0), (by, 0), (0, 0))), (0, 0, 0), ops.shape(x))

    def _picked(self, before, positions, others):
        """What stood one place before each token, and one row above it, from all tokens and their places."""
        for by in (1, self.layout.columns):
            wanted = ops.where(positions >= by, positions - by, -2)  # -1 is an empty place
            there = ops.cast(others[:, None] == wanted[:, :, None], before.dtype)
            yield ops.matmul(there, before)  # (B, T, S + T) x (B, S + T, D / 2)

    def _mixed(self, left, above, rest, *, places):
        """What is left (B, T, D / 2) and above (B, T, D / 4), and half of its own: (B, T, D); places (B or 1, T)."""
        image = places - self.layout.image
        in_text = ops.cast(image < 0, rest.dtype)[..., None]
        has_left = ops.cast(ops.logical_or(image < 0, image % self.layout.columns > 0), rest.dtype)[..., None]
        has_above = ops.cast(image >= self.layout.columns, rest.dtype)[..., None]
        before, left = ops.split(left, 2, axis=-1)
        return ops.concatenate([in_text * before + has_above * above, has_left * left, rest], axis=-1)

    def _unseen_in(self, x):
        places = ops.arange(ops.shape(x)[1], dtype="int32")[None]
        unseen = self._unseen(places, places)
        return None if unseen is None else unseen[:, None]

    def _unseen(self, queries, keys):
        """What is added to scores between places of other rows or columns: (B, T), (B, S) -> (B, T, S)."""
        if self.attends == "full":
            return None
        query, key = (places - self.layout.image for places in (queries[:, :, None], keys[:, None]))
        step = self.layout.columns
        apart = query // step != key // step if self.attends == "axial_row" else query % step != key % step
        both = ops.logical_and(query >= 0, key >= 0)
        return ops.cast(ops.logical_and(both, apart), "float32") * self.mask_value

    def get_config(self):
        own = {"attends": self.attends, "shift": self.shift, "layer_scale": self.layer_scale}
        config = {**super().get_config(), **own, "layout": asdict(self.layout)}
        del config["causal"]
        return config
