"""Adam and AdamW with one TensorFlow op a variable, where Keras has a dozen that all pass over memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf


class _OneOp:
    """What makes Keras' step TensorFlow's own ApplyAdam: the same numbers, but for rounding.

    The bias correction, the same for all variables, is in the learning rate, so the op corrects nothing.
    """

    def _backend_update_step(self: Any, grads: Sequence[Any], trainable_variables: Sequence[Any], learning_rate: Any):
        steps = tf.cast(self.iterations + 1, tf.float32)
        correction = tf.sqrt(1.0 - tf.pow(float(self.beta_2), steps)) / (1.0 - tf.pow(float(self.beta_1), steps))
        rate = tf.cast(learning_rate, tf.float32) * correction
        super()._backend_update_step(grads, trainable_variables, rate)  # type: ignore[misc]

    def update_step(self: Any, gradient: Any, variable: tf.Variable, learning_rate: tf.Tensor) -> None:
        """Move a variable by its gradient, a tensor or slices, at a corrected rate."""
        place, kind = self._get_variable_index(variable), variable.dtype
        tf.raw_ops.ResourceApplyAdam(
            var=variable.handle,
            m=self._momentums[place].value.handle,
            v=self._velocities[place].value.handle,
            beta1_power=tf.zeros((), kind),
            beta2_power=tf.zeros((), kind),
            lr=tf.cast(learning_rate, kind),
            beta1=tf.constant(self.beta_1, kind),
            beta2=tf.constant(self.beta_2, kind),
            epsilon=tf.constant(self.epsilon, kind),
            grad=tf.cast(tf.convert_to_tensor(gradient), kind),
        )


@keras.saving.register_keras_serializable("zoo")
class Adam(_OneOp, keras.optimizers.Adam):
    """Adam; paper: https://arxiv.org/abs/1412.6980. Takes what keras.optimizers.Adam takes, amsgrad excepted."""


@keras.saving.register_keras_serializable("zoo")
class AdamW(_OneOp, keras.optimizers.AdamW):
    """Adam with decoupled decay; paper: https://arxiv.org/abs/1711.05101. Takes what keras.optimizers.AdamW takes."""
