"""The layer of convolution, batch norm and activation, and the norm alone: Keras' numbers, and Keras' gradients."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from zoo.layers.batch_norm import BatchNormalization
from zoo.layers.convolution import ConvNorm

KINDS = {
    "plain": {"filters": 6, "kernel": 3},
    "pointwise": {"filters": 6, "kernel": 1},
    "row": {"filters": 6, "kernel": (1, 5)},
    "strided": {"filters": 6, "kernel": 3, "stride": 2},
    "same": {"filters": 6, "kernel": 3, "stride": 2, "padding": "same"},
    "valid": {"filters": 6, "kernel": 3, "padding": "valid"},
    "groups": {"filters": 8, "kernel": 3, "groups": 4, "stride": 2},
    "depthwise": {"filters": 8, "kernel": 5, "depthwise": True, "stride": 2},
    "bias": {"filters": 6, "kernel": 3, "bias": True},
    "no gamma": {"filters": 6, "kernel": 3, "scale": False, "activation": "silu"},
}
STATES = {"inference": (False, True), "training": (True, True), "frozen": (True, False)}  # training, norm.trainable


def ours(kind: str) -> tuple[keras.Model, ConvNorm]:
    image = keras.Input((9, 12, 8))
    layer = ConvNorm(**KINDS[kind], name="stem_conv")
    return keras.Model(image, layer(image)), layer


def of_keras(kind: str) -> tuple[keras.Model, layers.Layer, layers.Layer]:
    """The same from three layers of Keras, and its convolution and norm."""
    options = {"stride": 1, "padding": "symmetric", "bias": False, "scale": True, "activation": "relu", **KINDS[kind]}
    kernel = options["kernel"] if isinstance(options["kernel"], tuple) else (options["kernel"],) * 2
    image = x = keras.Input((9, 12, 8))
    mode = options["padding"]
    if mode == "symmetric":
        x, mode = layers.ZeroPadding2D((kernel[0] // 2, kernel[1] // 2))(x), "valid"
    if options.get("depthwise"):
        convolution = layers.DepthwiseConv2D(kernel, options["stride"], mode, use_bias=options["bias"])
    else:
        convolution = layers.Conv2D(
            options["filters"],
            kernel,
            options["stride"],
            mode,
            groups=options.get("groups", 1),
            use_bias=options["bias"],
        )
    norm = layers.BatchNormalization(epsilon=1e-5, momentum=0.9, scale=options["scale"])
    x = layers.Activation(options["activation"])(norm(convolution(x)))
    return keras.Model(image, x), convolution, norm


def outputs_and_gradients(model: keras.Model, image: np.ndarray, *, training: bool) -> list[np.ndarray]:
    x = tf.constant(image)
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = model(x, training=training)
        weights = np.random.default_rng(2).standard_normal(y.shape).astype("float32")
        loss = tf.reduce_sum(y * weights)
    return [
        np.asarray(value) for value in (y, *tape.gradient(loss, [x, *(v.value for v in model.trainable_variables)]))
    ]


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("kind", KINDS)
def test_it_is_three_layers_of_keras_in_one(kind, state):
    training, trainable = STATES[state]
    random = np.random.default_rng(0)
    model, layer = ours(kind)
    for variable in model.weights:
        positive = variable.path.endswith(("gamma", "moving_variance"))
        low, high = (0.5, 1.5) if positive else (-0.5, 0.5)
        variable.assign(random.uniform(low, high, variable.shape))
    reference, convolution, norm = of_keras(kind)
    convolution.set_weights(layer.conv.get_weights())
    norm.set_weights(layer.norm.get_weights())
    layer.norm.trainable = norm.trainable = trainable
    image = random.normal(1, 2, (3, 9, 12, 8)).astype("float32")
    found = outputs_and_gradients(model, image, training=training)
    wanted = outputs_and_gradients(reference, image, training=training)
    scale = max(np.abs(value).max() for value in wanted[2:])  # a bias before an active norm has no gradient but noise
    for index, (ours_is, theirs_is) in enumerate(zip(found, wanted, strict=True)):
        limit = np.abs(theirs_is).max() if index < 2 else scale
        np.testing.assert_allclose(ours_is, theirs_is, atol=5e-6 * limit, rtol=0)
    for ours_is, theirs_is in zip(layer.norm.get_weights(), norm.get_weights(), strict=True):
        np.testing.assert_allclose(ours_is, theirs_is, rtol=1e-5, atol=1e-5)


def test_a_frozen_norm_keeps_its_statistics_and_a_training_one_moves_them():
    model, layer = ours("plain")
    image = np.random.default_rng(0).normal(3, 2, (2, 9, 12, 8)).astype("float32")
    before = np.array(layer.norm.moving_mean)
    layer.norm.trainable = False
    model(image, training=True)
    np.testing.assert_array_equal(layer.norm.moving_mean, before)
    layer.norm.trainable = True
    model(image, training=True)
    assert np.abs(np.array(layer.norm.moving_mean) - before).max() > 1e-3


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("shape", [(16, 5), (4, 3, 5), (2, 3, 4, 5)])
def test_the_norm_alone_is_that_of_keras_for_any_number_of_axes(shape, training):
    random = np.random.default_rng(0)
    x = tf.constant(random.normal(5, 2, shape).astype("float32"))
    weights = random.standard_normal(shape).astype("float32")
    answers = []
    for norm in (BatchNormalization(momentum=0.9), keras.layers.BatchNormalization(momentum=0.9)):
        norm.build(shape)
        norm.set_weights([np.linspace(start, start + 1, 5) for start in (0.5, -0.5, 4.5, 3.5)])
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = norm(x, training=training)
            loss = tf.reduce_sum(y * weights)
        answers.append([y, *tape.gradient(loss, [x, norm.gamma.value, norm.beta.value]), norm.moving_variance])
    for found, wanted in zip(*answers, strict=True):
        np.testing.assert_allclose(found, wanted, atol=1e-5 * np.abs(wanted).max(), rtol=0)
