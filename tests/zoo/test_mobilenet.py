"""MobileNet V1 to V3 of keras.applications give their own numbers in our graphs, at every width."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import applications

import zoo
from zoo.core.registry import load_family
from zoo.core.skeleton import skeleton
from zoo.layers.pixels import pixels_of
from zoo.weights.live import from_keras
from zoo.weights.translate import make_plan

FAMILY = load_family("mobilenet")


def live(application: str, size: tuple[int, int], **options) -> keras.Model:
    """A model of keras.applications with random weights under which rounding errors stay small."""
    builder = getattr(applications, application)
    model = builder(weights=None, classes=7, input_shape=(*size, 3), classifier_activation=None, **options)
    random = np.random.default_rng(0)
    for variable in model.weights:
        if variable.path.endswith(("gamma", "variance")):
            variable.assign(random.uniform(0.5, 1.5, variable.shape))
        elif len(variable.shape) < 2:
            variable.assign(0.1 * random.standard_normal(variable.shape))
        else:
            depthwise = "_dw_" in variable.path or "depthwise" in variable.path
            fan_in = np.prod(variable.shape[:2] if depthwise else variable.shape[:-1])
            gain = 0.5 if "project" in variable.path else 2
            variable.assign(random.standard_normal(variable.shape) * np.sqrt(gain / fan_in))
    return model


@pytest.mark.parametrize(
    ("variant", "application", "size", "options", "preprocess"),
    [
        ("mobilenet_v1", "MobileNet", (64, 95), {"alpha": 0.25}, applications.mobilenet.preprocess_input),
        ("mobilenet_v2", "MobileNetV2", (47, 64), {"alpha": 0.35}, applications.mobilenet_v2.preprocess_input),
        pytest.param("mobilenet_v3_small", "MobileNetV3Small", (64, 64), {}, None, marks=pytest.mark.slow),
        pytest.param("mobilenet_v3_small", "MobileNetV3Small", (75, 50), {"alpha": 1.3}, None, marks=pytest.mark.slow),
        pytest.param("mobilenet_v3_large", "MobileNetV3Large", (32, 33), {"alpha": 0.35}, None, marks=pytest.mark.slow),
        ("mobilenet_v3_small_minimal", "MobileNetV3Small", (47, 64), {"minimalistic": True}, None),
    ],
)
def test_a_model_of_keras_applications_gives_its_own_numbers(variant, application, size, options, preprocess):
    theirs = live(application, size, **options)
    ours = zoo.create(variant, weights=theirs, width=options.get("alpha", 1.0))
    assert pixels_of(ours).shape == size
    image = np.random.default_rng(1).uniform(0, 255, (2, *size, 3)).astype("float32")
    expected = np.asarray(theirs(preprocess(image.copy()) if preprocess else image, training=False))
    assert expected.std() > 0.05
    found = np.asarray(ours(image, training=False))
    np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize(
    ("variant", "application", "options", "dialect"),
    [
        ("mobilenet_v1_050", "MobileNet", {"alpha": 0.5}, "keras_v1"),
        ("mobilenet_v2_140", "MobileNetV2", {"alpha": 1.4}, "keras_v2"),
        ("mobilenet_v3_large", "MobileNetV3Large", {}, "keras_v3_large"),
        ("mobilenet_v3_large_minimal", "MobileNetV3Large", {"minimalistic": True}, "keras_v3_large"),
        ("mobilenet_v3_small_075", "MobileNetV3Small", {"alpha": 0.75}, "keras_v3_small"),
    ],
)
def test_every_published_width_of_keras_applications_has_its_place_in_one_dialect(
    variant, application, options, dialect
):
    theirs = skeleton(lambda: getattr(applications, application)(weights=None, input_shape=(32, 32, 3), **options))
    model = skeleton(lambda: zoo.create(variant, size=32))
    shapes = from_keras(theirs).shapes
    fitting = [name for name in FAMILY.dialects if not make_plan(model, shapes, FAMILY.dialects[name]).problems]
    assert fitting == [dialect]


def test_a_headless_model_of_keras_applications_gives_its_map():
    theirs = applications.MobileNetV2(weights=None, include_top=False, alpha=0.35, input_shape=(32, 32, 3))
    ours = zoo.create("mobilenet_v2_035", weights=theirs, task="features")
    image = np.random.default_rng(1).uniform(0, 255, (2, 32, 32, 3)).astype("float32")
    expected = np.asarray(theirs(image / 127.5 - 1, training=False))
    assert expected.std() > 0
    np.testing.assert_allclose(ours(image, training=False), expected, atol=1e-5 * np.abs(expected).max())


def test_the_maps_of_every_stride_are_among_the_taps():
    """timm's features_only gives the last map of each stride before the neck."""
    model = skeleton(lambda: zoo.create("mobilenet_v2", size=(64, 96)))
    shapes = {name: tuple(tap.shape[1:]) for name, tap in zoo.taps(model).output.items() if name != "head"}
    last = {shape[:2]: (name, shape[2]) for name, shape in shapes.items() if name != "neck"}
    assert last == {
        (32, 48): ("stage1", 16),
        (16, 24): ("stage2", 24),
        (8, 12): ("stage3", 32),
        (4, 6): ("stage5", 96),
        (2, 3): ("stage7", 320),
    }
    assert shapes["neck"] == (2, 3, 1280)
