"""ResNet and its kin: keras.applications' numbers, convolutions in groups, the levels of the feature maps."""

from __future__ import annotations

import math

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras.src.applications.resnet import ResNet, stack_residual_blocks_v1  # of any depth

import zoo
from zoo.core.registry import load_family
from zoo.core.skeleton import skeleton
from zoo.layers.grouped_convolution import GroupedConv2D

FAMILY = load_family("resnet")
TINY = {"depths": (1, 1, 1, 1), "width": 8, "classes": 3}


def test_a_model_of_keras_applications_gives_its_own_numbers():
    """A shallow one, by the functions that build theirs of every depth."""

    def blocks(x):
        x = stack_residual_blocks_v1(x, 64, 2, stride1=1, name="conv2")
        return stack_residual_blocks_v1(x, 128, 1, name="conv3")

    size = (47, 66)
    theirs = ResNet(
        blocks, False, True, weights=None, input_shape=(*size, 3), classes=6, classifier_activation=None, name="resnet"
    )
    random = np.random.default_rng(0)
    for variable in theirs.weights:
        if variable.path.endswith(("gamma", "moving_variance")):
            variable.assign(random.uniform(0.5, 1.5, variable.shape))
        else:
            scale = math.sqrt(2 / math.prod(variable.shape[:-1])) if len(variable.shape) > 1 else 0.1
            variable.assign(scale * random.standard_normal(variable.shape))
    ours = zoo.create("resnet50", depths=(2, 1), weights=theirs, size=size)
    image = random.uniform(0, 255, (2, *size, 3)).astype("float32")
    expected = np.asarray(theirs(keras.applications.resnet.preprocess_input(image.copy()), training=False))
    np.testing.assert_allclose(ours(image, training=False), expected, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize(
    ("channels", "filters", "groups", "kernel", "stride", "padding"),
    [
        (8, 16, 4, 3, 1, "same"),  # all groups share one convolution
        (96, 96, 12, 3, 2, "valid"),  # four groups of 8 channels share one
        (40, 20, 5, 1, 1, "same"),  # five cannot be split, and fewer outputs than inputs
        (128, 64, 2, 3, 1, "same"),  # every group has its own
    ],
)
def test_a_convolution_in_groups_and_its_gradients_are_those_of_keras(
    channels, filters, groups, kernel, stride, padding
):
    options = {"strides": stride, "padding": padding, "groups": groups, "bias_initializer": "normal"}
    ours, theirs = (kind(filters, kernel, **options) for kind in (GroupedConv2D, keras.layers.Conv2D))
    random = np.random.default_rng(0)
    image = tf.constant(random.standard_normal((2, 7, 9, channels)), "float32")
    ours.build(image.shape)
    theirs.build(image.shape)
    theirs.set_weights(ours.get_weights())
    wanted = random.standard_normal(ours.compute_output_shape(image.shape))

    def answers(layer):
        with tf.GradientTape() as tape:
            tape.watch(image)
            output = layer(image)
            error = tf.reduce_sum((output - wanted) ** 2)
        return output, *tape.gradient(error, [image, layer.kernel.value, layer.bias.value])

    for found, expected in zip(answers(ours), answers(theirs), strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max())


def test_a_convolution_in_groups_is_saved_and_keeps_its_precision(tmp_path):
    image = keras.Input((6, 6, 16))
    layer = GroupedConv2D(8, 3, groups=4, dtype="mixed_bfloat16", name="grouped")
    model = keras.Model(image, layer(image))
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    x = np.random.default_rng(0).standard_normal((1, 6, 6, 16)).astype("float32")
    assert again(x).dtype == "bfloat16"
    np.testing.assert_array_equal(tf.cast(again(x), "float32"), tf.cast(model(x), "float32"))


def test_a_resnext_learns_two_colours():
    keras.utils.set_random_seed(0)
    model = zoo.create("resnext50_32x4d", **{**TINY, "depths": (1, 1)}, groups=4, size=32)
    image = np.repeat([[200.0, 30.0, 30.0], [30.0, 30.0, 200.0]], 8, axis=0)[:, None, None] * np.ones((1, 32, 32, 1))
    label = np.repeat([0, 1], 8)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(1e-3), loss, jit_compile=False)
    losses = model.fit(image, label, batch_size=16, epochs=8, verbose=0).history["loss"]
    assert losses[-1] < 0.1 * losses[0]


@pytest.mark.parametrize("variant", ["resnet18", "resnet50d", "resnext50_32x4d"])
def test_every_group_ends_where_the_map_is_halved(variant):
    """The levels of timm's features_only; an odd side is rounded up."""
    options = {"groups": 4} if "next" in variant else {}
    model = skeleton(lambda: zoo.create(variant, **TINY, **options, size=(65, 96)))
    levels = [(name, *level.shape[1:3]) for name, level in zoo.taps(model).output.items() if name != "head"]
    assert levels == [("stem", 33, 48), ("stage1", 17, 24), ("stage2", 9, 12), ("stage3", 5, 6), ("stage4", 3, 3)]


def test_a_pooled_shortcut_averages_the_pixels_that_are_there():
    """So an image of one colour stays it to the last row, which a zero beside it would darken."""
    model = zoo.create("resnet18d", **TINY, size=(72, 72))
    pool = model.get_layer("stage2_block0_shortcut_pool")
    ones = np.ones((1, 9, 9, pool.input.shape[-1]), "float32")
    np.testing.assert_array_equal(pool(ones), np.ones((1, 5, 5, ones.shape[-1])))


@pytest.mark.parametrize("variant", ["wide_resnet101_2", "resnext101_64x4d", "resnet200d", "resnet34"])
def test_a_description_gives_the_variant_of_that_name(variant):
    pixels = {"input_size": [3, 256, 320], "crop_pct": 0.95, "interpolation": "bicubic"}
    found = FAMILY.from_hub({"architecture": variant, "num_classes": 5, "pretrained_cfg": pixels}, {})
    assert (found.variant, found.classes, found.task) == (variant, 5, "classify")
    assert found.config.depths == FAMILY.variants[variant].depths
    assert (found.config.pixels.size, found.config.pixels.crop) == ((256, 320), 0.95)


@pytest.mark.parametrize(
    "architecture", ["resnet50c", "resnet50_gn", "seresnext50_32x4d", "resnet50t", "convnext_tiny"]
)
def test_what_only_looks_like_a_resnet_is_left_to_others(architecture):
    assert FAMILY.from_hub({"architecture": architecture}, {}) is None
