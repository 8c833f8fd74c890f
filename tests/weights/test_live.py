"""Live Keras models as checkpoints: names that do not hang on the session, pixels that stand in the graph."""

from __future__ import annotations

import math

import keras
import numpy as np
import pytest
from keras import layers

from zoo.core.skeleton import skeleton
from zoo.weights.live import conventions, from_keras

MEAN, VARIANCE = (0.485, 0.456, 0.406), (0.229**2, 0.224**2, 0.225**2)


def branches() -> keras.Model:
    """A graph whose order of layers is not that in which they were made, with names given and not given."""
    image = keras.Input((8, 8, 3))
    short, first = layers.Conv2D(2, 1), layers.Conv2D(4, 3, padding="same")
    second, named = layers.Conv2D(2, 3, padding="same"), layers.Conv2D(2, 1, name="conv2_block1_0_conv")
    deep = layers.BatchNormalization()(second(layers.BatchNormalization()(first(image))))
    x = named(layers.Add()([short(image), deep]))
    tail = keras.Sequential([layers.DepthwiseConv2D(3), layers.Flatten(), layers.Dense(5)])
    return keras.Model(image, tail(x))


def test_layers_without_a_name_count_from_the_first_of_the_model():
    branches()
    assert {path.rpartition("/")[0] for path in from_keras(branches()).shapes} == {
        "conv2d",
        "conv2d_1",
        "conv2d_2",
        "batch_normalization",
        "batch_normalization_1",
        "conv2_block1_0_conv",
        "sequential/depthwise_conv2d",
        "sequential/dense",
    }


def test_the_order_is_that_of_creation_and_the_arrays_are_the_models():
    model = branches()
    tensors = from_keras(model)
    shapes = {name: tensors.shapes[f"{name}/kernel"] for name in ("conv2d", "conv2d_1", "conv2d_2")}
    assert shapes == {"conv2d": (1, 1, 3, 2), "conv2d_1": (3, 3, 3, 4), "conv2d_2": (3, 3, 4, 2)}
    dense = model.layers[-1].layers[-1]
    dense.kernel.assign(np.full(dense.kernel.shape, 7.0))
    np.testing.assert_array_equal(tensors["sequential/dense/kernel"], dense.kernel)


def test_names_that_only_look_automatic_stay():
    image = keras.Input((8, 8, 3))
    x = layers.Conv2D(2, 3, name="batch_normalization_7")(image)
    model = keras.Model(image, layers.Conv2D(2, 3, name="conv_1")(x))
    assert list(from_keras(model).shapes)[::2] == ["batch_normalization_7/kernel", "conv_1/kernel"]


def test_nested_models_and_unnamed_variables_of_keras_applications():
    model = skeleton(lambda: keras.applications.ConvNeXtTiny(weights=None, classes=2, input_shape=(32, 32, 3)))
    assert any(weight.path.endswith("layer_scale/variable_17") for weight in model.weights)
    names = set(from_keras(model).shapes)
    assert len(names) == len(model.weights)
    assert "convnext_tiny_stem/convnext_tiny_stem_conv/kernel" in names
    assert "convnext_tiny_stage_3_block_2_layer_scale/variable" in names


def test_what_a_normalization_layer_has_seen_is_no_weight():
    model = skeleton(lambda: keras.applications.EfficientNetB0(weights=None, classes=2, input_shape=(32, 32, 3)))
    names = list(from_keras(model).shapes)
    assert len(names) == len(model.weights) - 3
    assert names[0] == "stem_conv/kernel"


def pixels_as_seen(model: keras.Model, at: str) -> tuple[np.ndarray, np.ndarray]:
    """A random image, and what enters the layer `at` of a model."""
    image = np.random.default_rng(0).uniform(0, 255, (1, *model.input_shape[1:])).astype("float32")
    return image, np.asarray(keras.Model(model.input, model.get_layer(at).input)(image))


@pytest.mark.parametrize(
    ("application", "first"),
    [
        ("EfficientNetB0", "stem_conv_pad"),
        ("EfficientNetV2B0", "stem_conv"),
        ("EfficientNetV2S", "stem_conv"),
        ("MobileNetV3Small", "conv"),
        ("ConvNeXtTiny", "convnext_tiny_stem"),
    ],
)
def test_conventions_are_what_the_graph_does_first(application, first):
    model = skeleton(lambda: getattr(keras.applications, application)(weights=None, classes=2, input_shape=(32, 64, 3)))
    told = conventions(model)
    assert told["size"] == (32, 64)
    image = np.random.default_rng(0).uniform(0, 255, (1, 32, 64, 3)).astype("float32")
    x = image
    for layer in model.layers[1:]:
        if layer.name == first:
            break
        x = layer(x)
    np.testing.assert_allclose((image - told["mean"]) / told["std"], x, rtol=2e-6, atol=1e-5)


def test_the_layers_in_front_are_composed_in_order():
    """As keras.applications.EfficientNetB0 has them with its ImageNet weights."""
    image = keras.Input((32, 32, 3))
    x = layers.Rescaling(1 / 255)(image)
    normalization = layers.Normalization(axis=-1)
    x = normalization(x)
    normalization.adapt_mean.assign(MEAN)
    normalization.adapt_variance.assign(VARIANCE)
    normalization.finalize_state()
    x = layers.Rescaling([1 / math.sqrt(math.sqrt(variance)) for variance in VARIANCE])(x)
    model = keras.Model(image, layers.Conv2D(2, 3, name="stem_conv")(x))
    told = conventions(model)
    pixels, seen = pixels_as_seen(model, "stem_conv")
    assert told["size"] == 32
    np.testing.assert_allclose((pixels - told["mean"]) / told["std"], seen, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(told["mean"], 255 * np.array(MEAN), rtol=1e-6)
    np.testing.assert_allclose(told["std"], 255 * np.array(VARIANCE) ** 0.75, rtol=1e-6)


def test_models_without_such_layers_or_without_rgb_images_tell_no_pixels():
    image = keras.Input((None, None, 3))
    later = layers.Rescaling(2.0)(layers.Conv2D(3, 1)(image))
    assert conventions(keras.Model(image, later)) == {}
    assert conventions(keras.Sequential([keras.Input((28, 28, 3)), layers.Conv2D(3, 1)])) == {"size": 28}
    assert conventions(keras.Sequential([keras.Input((4,)), layers.Rescaling(0.5)])) == {}
    assert conventions(keras.Sequential([keras.Input((8, 8, 1)), layers.Rescaling(0.5)])) == {}
