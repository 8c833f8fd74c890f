"""A network for slopes is the same as the network, and a derivative of its gradient leaves out what is zeros."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import zoo
from pipelines.hardware import POLICIES
from pipelines.parts import dense
from pipelines.slopes import for_slopes

SIZES = {"size": 16, "depth": 2, "width": 4, "channels": 3}
CRITICS = {"none": {}, "layer": {"norm": "layer"}, "spectral": {"spectral": True, "norm": "none"}}


def images() -> tf.Tensor:
    """Some, in 0..255; a black one among them, of which many activations are at the bend."""
    some = np.random.default_rng(0).uniform(0, 255, (5, 16, 16, 3)).astype("float32")
    some[0] = 127.5
    return tf.constant(some)


def derivatives(model: keras.Model):
    """A graph of what a penalty of slopes comes to, of images, with its gradient."""

    @tf.function(autograph=False)
    def found(image: tf.Tensor):
        with tf.GradientTape() as outer:
            with tf.GradientTape() as inner:
                inner.watch(image)
                logits = model(image)
            slopes = inner.gradient(logits, image)
            loss = tf.reduce_sum(tf.square(slopes))
        gradients = outer.gradient(loss, model.trainable_variables)
        return [logits, loss, *dense(gradients, model.trainable_variables)]  # biases move no slope

    return found


@pytest.mark.parametrize("options", CRITICS.values(), ids=CRITICS)
def test_all_derivatives_are_those_of_the_network(options):
    critic = zoo.create("gan_wgan_gp", task="discriminate", **SIZES, **options)
    again = for_slopes(critic)
    assert {id(weight) for weight in again.weights} == {id(weight) for weight in critic.weights}
    for found, expected in zip(derivatives(again)(images()), derivatives(critic)(images()), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6 * np.abs(expected).max())


def test_no_zeros_go_back_through_the_layers():
    critic = zoo.create("gan_wgan_gp", task="discriminate", **SIZES)

    def gradients(model: keras.Model) -> int:
        graph = derivatives(model).get_concrete_function(images()).graph
        return sum(operation.type == "Conv2DBackpropFilter" for operation in graph.get_operations())

    assert gradients(for_slopes(critic)) < gradients(critic)


def test_half_precision_stays_what_it_is():
    keras.config.set_dtype_policy(POLICIES["float16"])
    critic = zoo.create("gan_wgan_gp", task="discriminate", **SIZES)
    again = for_slopes(critic)
    own, others = ([layer.compute_dtype for layer in model.layers] for model in (again, critic))
    assert own == others
    np.testing.assert_array_equal(again(images()), critic(images()))
