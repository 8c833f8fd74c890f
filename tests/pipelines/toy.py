"""A small convolutional model and a small separable problem, for tests of training."""

import keras
import numpy as np
import tensorflow as tf
from keras import layers


def model(*, dropout: float = 0.3, classes: int = 3) -> keras.Model:
    """Four groups, batch norms in three of them, a dropout in two. (B, 8, 8, 3) -> (B, classes)."""
    x = image = keras.Input((8, 8, 3), name="image")
    for group in ("stem", "stage1", "stage2"):
        x = layers.Conv2D(8, 3, 2, padding="same", name=f"{group}_conv")(x)
        x = layers.BatchNormalization(momentum=0.5, name=f"{group}_bn")(x)
        x = layers.ReLU(name=f"{group}_act")(x)
        if group == "stage1":
            x = layers.Dropout(dropout, name=f"{group}_dropout")(x)
    x = layers.GlobalAveragePooling2D(name="head_pool")(x)
    x = layers.Dropout(dropout, name="head_dropout")(x)
    return keras.Model(image, layers.Dense(classes, dtype="float32", name="head_logits")(x), name="toy")


def problem(count: int = 96, *, classes: int = 3, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Images whose class is their brightest channel."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, classes, count)
    images = random.normal(size=(count, 8, 8, 3)).astype("float32")
    images[np.arange(count), :, :, labels] += 1.5
    return images, labels.astype("int32")


def dataset(count: int = 96, *, batch: int = 16, seed: int = 0) -> tf.data.Dataset:
    """The problem in batches, the same order in every epoch."""
    return tf.data.Dataset.from_tensor_slices(problem(count, seed=seed)).batch(batch)
