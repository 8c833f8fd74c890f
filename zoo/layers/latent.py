"""Between images and what they are drawn from: random latents, codebooks, labels."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from contextvars import ContextVar
from typing import Any, NamedTuple, Protocol

import keras
from keras import layers, ops

from zoo.core.family import Pixels
from zoo.layers.pixels import PixelInput


@keras.saving.register_keras_serializable("zoo")
class NormalSample(layers.Layer):
    """A draw from normal distributions in training, their mean in inference: mean, log-variance (B, Z) -> (B, Z).

    Paper: https://arxiv.org/abs/1312.6114. `noise` (B, Z), if given, is drawn already, and used in inference too.
    """

    def __init__(self, *, seed: int | None = None, **kwargs: Any):
        super().__init__(**{**kwargs, "dtype": "float32"})
        self.seed = seed
        self.generator = keras.random.SeedGenerator(seed)

    def call(self, mean, log_variance, *, noise=None, training: bool | None = None):
        if noise is None:
            if not training:
                return mean
            noise = keras.random.normal(ops.shape(mean), dtype=mean.dtype, seed=self.generator)
        return mean + ops.exp(0.5 * log_variance) * noise

    def compute_output_shape(self, shape: tuple[int | None, ...], *_: Any) -> tuple[int | None, ...]:
        return shape

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "seed": self.seed}


@keras.saving.register_keras_serializable("zoo")
class GumbelSample(layers.Layer):
    """One code of each place: logits (..., codes) -> shares of the codes (..., codes) that add to 1.

    In training a draw that is made soft (Gumbel-softmax, https://arxiv.org/abs/1611.01144): the lower the
    `temperature`, the nearer to a single code; a call may bring one of its own for each example, (B,). In inference the
    likeliest code, as whole numbers (...) int32. `noise` (..., codes), if given, is drawn already from the Gumbel
    distribution, and used in inference too: the code is then one that the logits make probable.
    """

    def __init__(self, temperature: float = 1.0, *, seed: int | None = None, **kwargs: Any):
        super().__init__(**{**kwargs, "dtype": "float32"})
        if not temperature > 0:
            raise ValueError(f"temperature={temperature!r} must be over 0; common are 1 down to 1/16.")
        self.temperature, self.seed = temperature, seed
        self.generator = keras.random.SeedGenerator(seed)

    def call(self, logits, *, noise=None, temperature=None, training: bool | None = None):
        if not training:
            return likeliest(logits if noise is None else logits + noise)
        if noise is None:
            noise = gumbel(keras.random.uniform(ops.shape(logits), seed=self.generator))
        if temperature is None:
            return ops.softmax((logits + noise) / self.temperature)
        return ops.softmax((logits + noise) / ops.reshape(temperature, (-1, *(1 for _ in logits.shape[1:]))))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "temperature": self.temperature, "seed": self.seed}


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
_noted: ContextVar[list[Came] | None] = ContextVar("noted", default=None)


@contextlib.contextmanager
def noting() -> Iterator[list[Came]]:
    """Inside, codebooks do not follow what comes to them in training, but note it in a list.

    So that what belongs together, the parts of a batch, moves a codebook once.
    """
    found: list[Came] = []
    before = _noted.set(found)
    try:
        yield found
    finally:
        _noted.reset(before)


def note(came: Came) -> bool:
    """Put down what came to a layer; False where nobody wants to know."""
    noted = _noted.get()
    if noted is not None:
        noted.append(came)
    return noted is not None


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


def gumbel(uniform):
    """Numbers of the Gumbel distribution from those that are uniform in 0..1: (...) -> (...)."""
    return -ops.log(-ops.log(ops.clip(uniform, 1e-20, 1.0 - 1e-7)))


def likeliest(logits):
    """The code with the largest logit: (..., codes) -> (...) int32. TFLite has no built-in for Keras' argmax."""
    return ops.cast(ops.top_k(logits, 1)[1], "int32")[..., 0]


def image_inputs(pixels: Pixels, labels: int, *, tower: str = "") -> tuple[dict[str, keras.KerasTensor], Any]:
    """The inputs of a network that takes images and, where there are `labels`, the label of each; and what it sees.

    That is the image normalized and, with labels, one more channel: a learned map of each label.
    """
    inputs = {"image": keras.Input((*pixels.shape, pixels.channels), name="image")}
    x = PixelInput(pixels, name=f"{tower}stem_pixels")(inputs["image"])
    if labels:
        inputs["labels"] = label_input()
        height, width, _ = x.shape[1:]
        vectors = layers.Embedding(labels, height * width, name=f"{tower}stem_labels")(inputs["labels"])
        plane = layers.Reshape((height, width, 1), name=f"{tower}stem_plane")(vectors)
        x = layers.Concatenate(name=f"{tower}stem_joined")([x, plane])
    return inputs, x


def with_labels(x, labels, classes: int, width: int, *, tower: str = ""):
    """A learned vector of each label behind a latent: (B, Z), (B,) -> (B, Z + width)."""
    vectors = layers.Embedding(classes, width, name=f"{tower}stem_labels")(labels)
    return layers.Concatenate(name=f"{tower}stem_joined")([x, vectors])


def label_input() -> keras.KerasTensor:
    """The class of each image: (B,) int32."""
    return keras.Input((), dtype="int32", name="labels")


def alone(inputs: dict[str, keras.KerasTensor]) -> Any:
    """A model's inputs by name; the only one by itself."""
    return inputs if len(inputs) > 1 else next(iter(inputs.values()))


def halved(pixels: Pixels, times: int, *, name: str) -> tuple[int, int]:
    """The sides of an image after so many halvings.

    Raises:
        ValueError: a side does not halve so often.
    """
    step = 2**times
    height, width = pixels.shape
    if height % step or width % step:
        near = [max(step, step * round(side / step)) for side in (height, width)]
        raise ValueError(
            f"{name!r} halves an image {times} times, so its sides must divide by {step}; got {height}x{width}. "
            f"Give size={near[0] if near[0] == near[1] else tuple(near)}, or fewer halvings."
        )
    return height // step, width // step
