"""A small model of matrices, for tests of optimizers."""

import keras
from keras import layers


def dense() -> keras.Model:
    """Three groups with matrices, biases and a normalization. (B, 4) -> (B, 3)."""
    keras.utils.set_random_seed(0)
    x = inputs = keras.Input((4,))
    x = layers.Dense(6, name="stem_dense")(x)
    x = layers.LayerNormalization(name="block0_norm")(x)
    x = layers.Dense(5, name="block0_dense")(x)
    return keras.Model(inputs, layers.Dense(3, name="head_logits")(x), name="dense")
