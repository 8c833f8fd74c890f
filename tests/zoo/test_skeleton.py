"""Models without values: what Keras keeps of them, and how they get values."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers

from zoo.core.skeleton import materialize, skeleton


class Counting(keras.initializers.Initializer):
    """Ones, and a note of every shape that was asked for."""

    def __init__(self):
        self.asked = []

    def __call__(self, shape, dtype=None):
        self.asked.append(tuple(shape))
        return keras.ops.ones(shape, dtype)


def model_with(initializer: Counting) -> keras.Model:
    image = keras.Input((3,), name="image")
    x = layers.Dense(4, kernel_initializer=initializer, bias_initializer=initializer, name="stem_dense")(image)
    return keras.Model(image, layers.Dropout(0.5, name="stem_dropout")(x))


class Twice(layers.Layer):
    """A layer that does not tell its output's shape, so that Keras finds out in a StatelessScope."""

    def call(self, x):
        return 2 * x


def build_another_layer() -> None:
    Twice()(keras.Input((3,)))


def test_a_skeleton_stays_without_values_whatever_is_built_after_it():
    initializer = Counting()
    model = skeleton(lambda: model_with(initializer))
    build_another_layer()
    assert [tuple(variable.shape) for variable in model.weights] == [(3, 4), (4,)]
    assert initializer.asked == []


def test_keras_itself_would_give_it_values():
    """The reason for skeleton(); once this fails, it can be simpler."""
    initializer = Counting()
    with keras.StatelessScope(initialize_variables=False):
        model_with(initializer)
    build_another_layer()
    assert initializer.asked == [(3, 4), (4,)]


def test_a_model_that_could_not_be_built_is_forgotten_too():
    initializer = Counting()

    def fail() -> keras.Model:
        model_with(initializer)
        raise ValueError("too small")

    with pytest.raises(ValueError, match="too small"):
        skeleton(fail)
    build_another_layer()
    assert initializer.asked == []


@pytest.mark.parametrize("transposed", [False, True])
def test_given_values_are_taken_and_the_others_are_initialized(transposed):
    initializer = Counting()
    model = skeleton(lambda: model_with(initializer))
    kernel = np.arange(12, dtype="float32").reshape((4, 3) if transposed else (3, 4))
    kernel = kernel.T if transposed else kernel
    materialize(model, [("stem_dense/kernel", kernel)])
    assert initializer.asked == [(4,)]
    x = np.float32([[1, 2, 3], [0, 0, 1]])
    np.testing.assert_allclose(model(x, training=False), x @ kernel + 1)
    assert (np.asarray(model(np.ones((9, 3), "float32"), training=True)) == 0).any()  # the dropout's state has a value


@pytest.mark.parametrize("order", [(2, 3, 1, 0), (0, 1, 2, 3), (3, 0, 1, 2), (1, 0, 3, 2)])
def test_transposed_views_come_out_as_they_look(order):
    array = np.random.default_rng(0).normal(size=(2, 3, 4, 5)).astype("float32").transpose(order)
    height, width, inputs, outputs = array.shape

    def build() -> keras.Model:
        image = keras.Input((9, 9, inputs))
        return keras.Model(image, layers.Conv2D(outputs, (height, width), use_bias=False, name="stem_conv")(image))

    model = skeleton(build)
    materialize(model, [("stem_conv/kernel", array)])
    np.testing.assert_array_equal(model.weights[0], array)
