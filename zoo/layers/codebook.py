"""Codebooks: vectors of codes, the nearest of them, and what moves them besides gradients."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from typing import Any, NamedTuple, Protocol

import keras
from keras import layers, ops

from zoo.layers.latent import likeliest


@keras.saving.register_keras_serializable("zoo")
class CodeVectors(layers.Embedding):
    """The vector of each code: (...) int32 -> (..., D), or of shares of all codes (..., codes) float -> (..., D)."""

    def call(self, inputs):
        if not keras.backend.is_float_dtype(inputs.dtype):
            return super().call(ops.cast(inputs, "int32"))
        return ops.matmul(ops.cast(inputs, self.compute_dtype), ops.cast(self.embeddings, self.compute_dtype))

    def compute_output_shape(self, shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return (*shape, self.output_dim)

    def compute_output_spec(self, inputs):
        shape = inputs.shape[:-1] if keras.backend.is_float_dtype(inputs.dtype) else inputs.shape
        return keras.KerasTensor((*shape, self.output_dim), self.compute_dtype)


class Follower(Protocol):
    """A layer with codes that moves by what came to it in a step, besides what it learns by gradient."""

    codes: int

    @property
    def moved(self) -> list[keras.Variable]:
        """What moves."""

    def settle(self, sums: Sequence[Any], places: Any, vectors: Any) -> None:
        """Move by the sums of a whole batch over so many places, and by `codes` vectors of it, evenly spread."""


class Came(NamedTuple):
    """What came to a layer with codes: sums over all places, and the vectors (N, D) there."""

    layer: Follower
    sums: tuple[Any, ...]
    vectors: Any


_DEAD = 0.1  # of the count that a code of a codebook would have if all had the same: below, it is dead
_take: ContextVar[Callable[[Came], None] | None] = ContextVar("take", default=None)


@contextlib.contextmanager
def noting(of: Callable[[Came], Came] = lambda came: came) -> Iterator[list[Came]]:
    """Inside, codebooks do not follow what comes to them in training, but note it in a list, or what is left `of` it.

    So that what belongs together, the parts of a batch, moves a codebook once.
    """
    found: list[Came] = []
    before = _take.set(lambda came: found.append(of(came)))
    try:
        yield found
    finally:
        _take.reset(before)


def note(came: Came) -> bool:
    """Put down what came to a layer; False where nobody wants to know."""
    take = _take.get()
    if take is not None:
        take(came)
    return take is not None


@keras.saving.register_keras_serializable("zoo")
class VectorQuantizer(layers.Layer):
    """The nearest of a codebook's vectors at every place; paper: https://arxiv.org/abs/1711.00937.

    (B, h, w, D) -> a dict of "codes" (B, h, w) int32, their "quantized" vectors (B, h, w, D) float32, through which
    gradients reach the codebook, and "passed", the same vectors with the gradient of what came in (straight-through).
    With `reverse` codes (B, h, w) -> their vectors (B, h, w, D).

    With a `decay` over 0 the codebook follows, in training, the mean of what came to each code, and has no gradient:
    `counts` and `sums` are moving averages, and a vector is the one by the other (the paper's appendix A.1). Both are
    for each place of a batch rather than for all, so that they are the same on one device and on several.
    """

    def __init__(self, codes: int, width: int, *, decay: float = 0.99, epsilon: float = 1e-7, **kwargs: Any):
        super().__init__(**kwargs)
        if type(codes) is not int or codes < 2 or type(width) is not int or width < 1:
            raise ValueError(
                f"A codebook of {codes!r} codes of width {width!r}: at least 2 codes of width 1 are needed."
            )
        if not 0 <= decay < 1:
            raise ValueError(f"decay={decay!r} must be at least 0 (the codebook learns by gradient) and under 1.")
        self.codes, self.width, self.decay, self.epsilon = codes, width, decay, epsilon

    def build(self, shape: tuple[int | None, ...]) -> None:
        share = 1.0 / self.codes
        vectors = keras.initializers.RandomUniform(-share, share)
        if not self.decay:
            self.vectors = self.add_weight(name="vectors", shape=(self.codes, self.width), initializer=vectors)
            return
        count = 0.99 * _DEAD * share  # so that training begins with vectors that come, which are far from these
        first, vectors = (
            keras.initializers.Constant(count),
            keras.initializers.RandomUniform(-count * share, count * share),
        )
        options = {"trainable": False, "aggregation": "mean", "autocast": False, "dtype": "float32"}
        self.counts = self.add_weight(name="counts", shape=(self.codes,), initializer=first, **options)
        self.sums = self.add_weight(name="sums", shape=(self.codes, self.width), initializer=vectors, **options)

    @property
    def codebook(self) -> keras.KerasTensor:
        """The vector of each code: (codes, D) float32."""
        if not self.decay:
            return ops.cast(self.vectors, "float32")
        total = ops.sum(self.counts)  # a code that nothing comes to keeps a count over 0
        counts = (self.counts + self.epsilon) / (total + self.codes * self.epsilon) * total
        return self.sums / counts[:, None]

    def call(self, x, *, reverse: bool = False, training: bool | None = None):
        codebook = self.codebook
        if reverse:
            return ops.take(codebook, ops.cast(x, "int32"), axis=0)
        if x.shape[-1] != self.width:
            raise ValueError(f"A codebook of width {self.width} takes vectors as wide, got {x.shape[-1]}.")
        flat = ops.reshape(ops.cast(x, "float32"), (-1, self.width))
        distances = ops.sum(codebook**2, axis=1) - 2.0 * ops.matmul(flat, ops.transpose(codebook))  # but for flat**2
        codes = likeliest(-distances)
        if training and self.decay and self.trainable:
            self._follow(flat, codes)
        quantized = ops.reshape(ops.take(codebook, codes, axis=0), ops.shape(x))
        came = ops.cast(x, "float32")
        passed = ops.cast(came + ops.stop_gradient(quantized - came), self.compute_dtype)
        return {"codes": ops.reshape(codes, ops.shape(x)[:-1]), "quantized": quantized, "passed": passed}

    @property
    def moved(self) -> list[keras.Variable]:
        """The moving averages."""
        return [self.counts, self.sums]

    def settle(self, sums: Sequence[Any], places: Any, vectors: Any) -> None:
        """Follow counts and sums of so many places; codes to which hardly anything comes become other vectors."""
        self.follow(*sums, places)
        self.restart(vectors)

    def restart(self, vectors) -> None:
        """Put other vectors (codes, D) in the place of codes to which hardly anything comes any more.

        As in https://arxiv.org/abs/2005.00341: without it most codes of a large codebook are never used.
        """
        share = 1.0 / self.codes
        dead = self.counts < _DEAD * share
        self.sums.assign(ops.where(dead[:, None], share * vectors, self.sums))
        self.counts.assign(ops.where(dead, share, self.counts))

    def follow(self, counts, sums, places) -> None:
        """Move the moving averages toward what came: counts (codes,), sums (codes, D), of so many places."""
        for average, value in ((self.counts, counts / places), (self.sums, sums / places)):
            average.assign(self.decay * average + (1.0 - self.decay) * value)

    def _follow(self, flat, codes) -> None:
        chosen = ops.stop_gradient(ops.one_hot(codes, self.codes, dtype="float32"))
        sums = ops.matmul(ops.transpose(chosen), ops.stop_gradient(flat))
        came = Came(self, (ops.sum(chosen, axis=0), sums), ops.stop_gradient(flat))
        if not note(came):
            self.follow(*came.sums, ops.cast(ops.shape(flat)[0], "float32"))

    def compute_output_spec(self, x, *, reverse: bool = False, training: bool | None = None):
        if reverse:
            return keras.KerasTensor((*x.shape, self.width), "float32")
        return {
            "codes": keras.KerasTensor(x.shape[:-1], "int32"),
            "quantized": keras.KerasTensor(x.shape, "float32"),
            "passed": keras.KerasTensor(x.shape, self.compute_dtype),
        }

    def get_config(self) -> dict[str, Any]:
        own = {"codes": self.codes, "width": self.width, "decay": self.decay, "epsilon": self.epsilon}
        return {**super().get_config(), **own}
