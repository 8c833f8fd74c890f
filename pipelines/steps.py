"""What a language model says comes next, after prompts and after each token that is added to them.

Two ways to the same numbers: a whole pass of the model for every token, or one token at a time with what was kept of
those before.
"""

from __future__ import annotations

import weakref
from collections.abc import Mapping, Sequence
from typing import Protocol

import keras
import numpy as np
import tensorflow as tf

from zoo.layers.decoding import Decoder, decoder_of
from zoo.layers.decoding_parts import EMPTY

Texts = Sequence[Sequence[int]]  # token ids
Arrays = Mapping[str, np.ndarray]
_BLOCK = 64  # tokens by which a cache grows


class Steps(Protocol):
    """The next-token logits (N, vocabulary) of texts that grow, all by one token at a time."""

    def begin(self, texts: Texts, given: Arrays) -> np.ndarray:
        """The logits after N texts; `given` is what they hang on, by the names of the model's other inputs."""

    def extend(self, tokens: np.ndarray) -> np.ndarray:
        """The logits after one more token (N,) of each text."""

    def select(self, rows: np.ndarray) -> None:
        """Go on with these of the texts (M,); one may be taken several times."""

    def close(self) -> None:
        """Let go of what was kept of the texts."""


class WholePasses:
    """Every text from its beginning at each step."""

    def __init__(self, model: keras.Model):
        self.model = model
        self.prefix = "decoder_" if "decoder_token_ids" in model.input else ""
        self.texts: list[list[int]] = []
        self.given: Arrays = {}
        taken = {name: tf.TensorSpec(tensor.shape, tensor.dtype) for name, tensor in model.input.items()}
        self.run = tf.function(lambda inputs: model(inputs, training=False), input_signature=[taken])

    def begin(self, texts: Texts, given: Arrays) -> np.ndarray:
        self.texts = [list(text) for text in texts]
        self.given = {**_first_states(self.model, len(texts)), **given}
        return self._logits()

    def extend(self, tokens: np.ndarray) -> np.ndarray:
        for text, token in zip(self.texts, tokens.tolist(), strict=True):
            text.append(token)
        return self._logits()

    def select(self, rows: np.ndarray) -> None:
        self.texts = [list(self.texts[row]) for row in rows]
        self.given = {name: array[rows] for name, array in self.given.items()}

    def close(self) -> None:
        self.texts, self.given = [], {}

    def _logits(self) -> np.ndarray:
        inputs = {**self.given, **padded(self.texts, prefix=self.prefix)}
        answer = self.run({name: tf.constant(array) for name, array in inputs.items()})
        logits = answer["logits"] if isinstance(answer, Mapping) else answer
        last = [len(text) - 1 for text in self.texts]
        return tf.gather(logits, last, axis=1, batch_dims=1).numpy()


def padded(texts: Texts, *, prefix: str = "") -> dict[str, np.ndarray]:
    """Token ids and their mask (N, T), padded at the end, where no token before it looks."""
    longest = max(map(len, texts))
    ids = np.array([[*text, *[0] * (longest - len(text))] for text in texts], "int32")
    mask = np.array([[1] * len(text) + [0] * (longest - len(text)) for text in texts], "int32")
    return {f"{prefix}token_ids": ids, f"{prefix}padding_mask": mask}


def _first_states(model: keras.Model, texts: int) -> dict[str, np.ndarray]:
    """Zeros for the states of a recurrent model that takes them."""
    given = {name: tensor for name, tensor in model.input.items() if name.endswith("_0")}
    return {name: np.zeros((texts, *tensor.shape[1:]), tensor.dtype) for name, tensor in given.items()}


class Cached:
    """One token at a time. The caches are variables, into which new entries are written without copying the others."""

    def __init__(self, decoder: Decoder):
        self.decoder = decoder
        self.rows: dict[int, _Rows] = {}  # by the number of texts, for which the graphs are made
        self.now = _Rows(decoder, 0)
        self.busy = False

    def begin(self, texts: Texts, given: Arrays) -> np.ndarray:
        self.busy = True
        known = {name: tf.constant(array) for name, array in given.items()}
        if self.decoder.start is not None:
            known |= self.decoder.start({name: known[name] for name in self.decoder.start.input}, training=False)
        longest = max(map(len, texts))
        ids = np.array([[*[0] * (longest - len(text)), *text] for text in texts], "int32")
        positions = np.array([[*[EMPTY] * (longest - len(text)), *range(len(text))] for text in texts], "int32")
        self.now = self._rows_for(len(texts))
        return self.now.begin(ids, positions, known)

    def extend(self, tokens: np.ndarray) -> np.ndarray:
        return self.now.extend(tokens)

    def select(self, rows: np.ndarray) -> None:
        if len(rows) == self.now.count and (rows == np.arange(len(rows))).all():
            return
        before, self.now = self.now, self._rows_for(len(rows))
        self.now.take(before, rows)
        if before is not self.now:
            before.clear()

    def close(self) -> None:
        for rows in self.rows.values():
            rows.clear()
        self.busy = False

    def _rows_for(self, count: int) -> _Rows:
        if count not in self.rows:
            self.rows[count] = _Rows(self.decoder, count)
        return self.rows[count]


class _Rows:
    """What is kept of a fixed number of texts, and the graphs that add to it."""

    def __init__(self, decoder: Decoder, count: int):
        self.decoder, self.count = decoder, count
        inputs = {name: tensor for name, tensor in decoder.step.input.items() if name not in ("token_ids", "positions")}
        self.kept = {name: _variable(count, tensor) for name, tensor in inputs.items()}
        self.growing = tuple(name for name in inputs if name in (*decoder.cache, "cache_positions"))
        self.used = self.room = 0  # places of the caches: with a token, and all of them
        self.places = np.zeros((count, 1), "int32")  # of the next token in each text
        self.owner = np.arange(count)  # the prompt that each text goes on from
        several, one = (tf.TensorSpec((count, length), tf.int32) for length in (None, 1))
        self.first = tf.function(self._first, input_signature=[several, several])
        self.next = tf.function(self._next, input_signature=[one, one, tf.TensorSpec((), tf.int32)])

    def begin(self, ids: np.ndarray, positions: np.ndarray, given: Mapping[str, tf.Tensor]) -> np.ndarray:
        self.clear()
        for name in self.kept.keys() & given.keys():
            self.kept[name].assign(given[name])
        logits = self.first(tf.constant(ids), tf.constant(positions))
        self.used = self.room = ids.shape[1]
        self.places = positions[:, -1:] + 1
        self.owner = np.arange(self.count)
        return logits.numpy()

    def extend(self, tokens: np.ndarray) -> np.ndarray:
        if self.used == self.room:
            for name in self.growing:
                axis = _time_axis(name)
                padding = [(0, _BLOCK if side == axis else 0) for side in range(axis + (1 if axis == 1 else 2))]
                self.kept[name].assign(tf.pad(self.kept[name], padding, constant_values=EMPTY if axis == 1 else 0))
            self.room += _BLOCK
        ids = tf.constant(tokens[:, None], tf.int32)
        logits = self.next(ids, tf.constant(self.places), tf.constant(self.used))
        self.used += 1
        self.places = self.places + 1
        return logits.numpy()

    def take(self, other: _Rows, rows: np.ndarray) -> None:
        """Become these rows of what is kept by `other`, which may be this one."""
        owner = other.owner[rows]
        moved = {*self.growing, *self.decoder.state}
        for name, variable in self.kept.items():
            if name in moved or other is not self or (owner != self.owner).any():  # a context is the same for a prompt
                variable.assign(tf.gather(other.kept[name], rows))
        self.used, self.room, self.places, self.owner = other.used, other.room, other.places[rows], owner

    def clear(self) -> None:
        for name, variable in self.kept.items():
            variable.assign(_nothing(self.count, self.decoder.step.input[name]))
        self.used = self.room = 0

    def _first(self, ids: tf.Tensor, positions: tf.Tensor) -> tf.Tensor:
        found = self._step(ids, positions)
        for name in (*self.decoder.cache, *self.decoder.state):
            self.kept[name].assign(found[name])
        if "cache_positions" in self.kept:
            self.kept["cache_positions"].assign(positions)
        return found["logits"]

    def _next(self, ids: tf.Tensor, positions: tf.Tensor, place: tf.Tensor) -> tf.Tensor:
        found = self._step(ids, positions)
        with tf.control_dependencies([found["logits"]]):  # once nothing reads a variable it is changed in place
            for name in self.decoder.state:
                self.kept[name].assign(found[name])
            for name in self.decoder.cache:
                self.kept[name][:, :, place : place + 1].assign(found[name])
            if "cache_positions" in self.kept:
                self.kept["cache_positions"][:, place : place + 1].assign(positions)
        return found["logits"]

    def _step(self, ids: tf.Tensor, positions: tf.Tensor) -> dict[str, tf.Tensor]:
        for variable in self.kept.values():  # which a variable does once a slice of it has been written
            tf.raw_ops.DisableCopyOnRead(resource=variable.handle)
        kept = {name: variable.read_value() for name, variable in self.kept.items()}
        return self.decoder.step({"token_ids": ids, "positions": positions, **kept}, training=False)


def _variable(count: int, tensor: keras.KerasTensor) -> tf.Variable:
    return tf.Variable(_nothing(count, tensor), shape=(count, *tensor.shape[1:]), trainable=False)


def _nothing(count: int, tensor: keras.KerasTensor) -> tf.Tensor:
    """An empty cache, or a state of zeros."""
    return tf.zeros((count, *(0 if side is None else side for side in tensor.shape[1:])), tensor.dtype)


def _time_axis(name: str) -> int:
    return 1 if name == "cache_positions" else 2


_known: weakref.WeakKeyDictionary[keras.Model, tuple[tuple[int, ...], Cached]] = weakref.WeakKeyDictionary()


def cached_steps(model: keras.Model) -> Cached:
    """The steps of a model with a cache; their graphs are kept for the next time, and for one use at a time.

    Raises:
        ValueError: the model cannot write text.
    """
    variables = tuple(id(variable) for variable in model.variables)  # LoRA and quantization change the graph
    found = _known.get(model)
    if found is None or found[0] != variables:
        found = _known[model] = (variables, Cached(decoder_of(model)))
    return Cached(found[1].decoder) if found[1].busy else found[1]
