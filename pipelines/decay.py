"""Which weights are to be small: those that decay and are penalized, and the penalty."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import keras
import tensorflow as tf

from pipelines.optimization import Optimization

_POSITIONS = re.compile(r"(^|[/_.])pos(ition)?s?(itional)?(_?emb\w*)?([/_.]|$)|relative_\w*bias", re.IGNORECASE)
_TOKEN = re.compile(r"(^|_)(token|cls|dist)$", re.IGNORECASE)  # at the end: "token_table" holds many


def decays(variable: keras.Variable) -> bool:
    """Whether a weight decays: matrices, kernels and the tables of embeddings do.

    Biases, the scales of normalizations and of residual branches, learned tokens and tables of positions do not, as
    is usual for vision transformers (https://arxiv.org/abs/2012.12877) and ConvNets; BERT's own training leaves out
    biases and normalizations alone, and lets its positions decay. Told by a weight's shape and path: those of a
    single axis are none, nor are those named a bias (of attention and of a GRU they have two axes), a token or
    positions. A table of words or categories is a matrix that a one-hot vector is multiplied by: it decays.
    """
    leaf = variable.path.rsplit("/", 1)[-1]
    named = (
        leaf.endswith("bias") or leaf in ("gamma", "beta") or _TOKEN.search(leaf) or _POSITIONS.search(variable.path)
    )
    return len(variable.shape) > 1 and not named


class Penalty:
    """L1 and L2 of the weights that learn and decay: `l1` times their absolute sum, `l2` times that of their squares.

    For the loss of a whole batch, once: of R replicas and k micro-batches each adds its share of it.
    """

    def __init__(self, variables: Sequence[keras.Variable], *, l1: float, l2: float):
        self._variables, self._l1, self._l2 = [v for v in variables if decays(v)], l1, l2

    def __call__(self) -> tf.Tensor:
        values = [tf.cast(variable.value, tf.float32) for variable in self._variables]
        absolute = [self._l1 * tf.reduce_sum(tf.abs(value)) for value in values if self._l1]
        squares = [self._l2 * tf.reduce_sum(tf.square(value)) for value in values if self._l2]
        return tf.reduce_sum(tf.stack([*absolute, *squares])) if absolute or squares else tf.zeros(())


def penalty(model: keras.Model, optimization: Optimization) -> Callable[[], tf.Tensor] | None:
    """What to add to the loss of a batch while training; None where nothing is.

    Not in validation: what learns differs from phase to phase, and the losses of epochs are compared.
    """
    if not (optimization.l1 or optimization.l2):
        return None
    return Penalty(model.trainable_variables, l1=optimization.l1, l2=optimization.l2)
