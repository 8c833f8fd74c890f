"""What every variant of every family does, on tiny copies of them: one row in tests/rows.py each."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import keras
import numpy as np
import pytest

import zoo
from tests.rows import ROWS
from zoo.core.registry import configure, find_family


def structure(variant: str):
    """The Config of a tiny copy without what does not change its graph: variants of one structure are tested once."""
    config = configure(find_family(variant).variants[variant], **ROWS[variant].tiny, crop=1.0, interpolation="bilinear")
    return replace(config, dropout=0.1) if getattr(config, "dropout", None) else config


DIFFERENT = tuple({structure(variant): variant for variant in reversed(ROWS)}.values())[::-1]
ALL = pytest.mark.parametrize("variant", DIFFERENT)
WITH_FEATURES = pytest.mark.parametrize(
    "variant", [name for name in DIFFERENT if "features" in find_family(name).tasks]
)


def build(variant: str, **options) -> keras.Model:
    """A tiny copy with three classes whose every weight is random, and large enough to pass an image on."""
    model = zoo.create(variant, **({"classes": 3} | dict(ROWS[variant].tiny) | options))
    random = np.random.default_rng(0)
    for variable in model.weights:
        if variable.path.endswith(("gamma", "moving_variance")):
            variable.assign(random.uniform(0.5, 1.5, variable.shape))
        elif len(variable.shape) == 1:
            variable.assign(0.1 * random.standard_normal(variable.shape))
        else:
            *into, out = variable.shape
            fan_in = np.prod(into[:2] if len(into) == 3 and out == 1 else into)  # (3, 3, C, 1) is depthwise
            variable.assign(random.standard_normal(variable.shape) * np.sqrt(2 / fan_in))
    return model


@cache
def tiny(variant: str) -> keras.Model:
    return build(variant)


def image(model: keras.Model) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (2, *model.input.shape[1:]), "uint8")


def outputs(model: keras.Model, x: np.ndarray) -> np.ndarray:
    return np.asarray(model(x, training=False))


def test_every_variant_has_a_row():
    assert set(ROWS) == set(zoo.variants())


@ALL
def test_logits_are_finite_float32_and_hang_on_the_image(variant):
    model = tiny(variant)
    logits = outputs(model, image(model))
    assert logits.shape == (2, 3)
    assert logits.dtype == "float32"
    assert np.isfinite(logits).all()
    assert np.abs(logits[0] - logits[1]).max() > 1e-6


@ALL
def test_bytes_and_floats_are_the_same_image(variant):
    model = tiny(variant)
    np.testing.assert_array_equal(outputs(model, image(model)), outputs(model, image(model).astype("float32")))


@ALL
def test_groups_hold_every_weight_once_from_input_to_output(variant):
    model = tiny(variant)
    groups = zoo.layer_groups(model)
    layers = [layer for group in groups.values() for layer in group]
    assert [weight.path for layer in layers for weight in layer.weights] == [weight.path for weight in model.weights]
    assert list(groups)[-1] == "head"
    assert model.get_layer("head_logits") in groups["head"]


@ALL
def test_a_saved_model_comes_back_the_same(variant, tmp_path):
    model = tiny(variant)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(outputs(again, image(model)), outputs(model, image(model)))


@ALL
def test_bfloat16_computes_in_bfloat16_and_answers_in_float32(variant):
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = build(variant)
    finally:
        keras.config.set_dtype_policy("float32")
    computing = {layer.compute_dtype for layer in model.layers if layer.weights and "head_logits" not in layer.name}
    assert computing <= {"bfloat16"}
    assert model.get_layer("head_logits").compute_dtype == "float32"
    exact, rounded = outputs(tiny(variant), image(model)), outputs(model, image(model))
    assert rounded.dtype == "float32"
    np.testing.assert_allclose(rounded, exact, atol=0.15 * max(1.0, np.abs(exact).max()))


@WITH_FEATURES
def test_features_are_what_the_head_would_take(variant):
    features = build(variant, task="features")
    x = image(features)
    model = tiny(variant)
    known = {weight.path: weight for weight in model.weights}
    for weight in features.weights:
        weight.assign(known[weight.path])
    body = list(zoo.layer_groups(features))[-1]
    value = outputs(features, x)
    assert value.ndim in (3, 4)
    np.testing.assert_allclose(zoo.taps(model, [body])(x)[body], value, rtol=1e-5, atol=1e-5)


@WITH_FEATURES
def test_taps_give_the_output_of_each_group(variant):
    model = tiny(variant)
    maps = zoo.taps(model)(image(model))
    assert list(maps) == list(zoo.layer_groups(model))
    np.testing.assert_array_equal(maps["head"], outputs(model, image(model)))
    assert len({np.asarray(value).tobytes() for value in maps.values()}) == len(maps)


def test_wrong_options_say_what_is_known():
    with pytest.raises(ValueError, match=r"'windth'.*Did you mean 'width'"):
        zoo.create("mobilenet_v2", windth=0.5)
    with pytest.raises(ValueError, match="width=-1 must be over 0"):
        zoo.create("mobilenet_v2", width=-1)
    with pytest.raises(ValueError, match="hold no patch of 16"):
        zoo.create("vit_tiny16", size=8)
    with pytest.raises(ValueError, match="5 heads"):
        zoo.create("vit_tiny16", heads=5)
    with pytest.raises(ValueError, match="pooling='median'"):
        zoo.create("lenet5", pooling="median")
    with pytest.raises(ValueError, match=r"'softplus' is unknown here\. Known: gelu"):
        zoo.create("vit_tiny16", activation="softplus")
