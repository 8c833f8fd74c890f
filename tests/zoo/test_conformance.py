"""What every variant of every family does, on tiny copies of them: one row in tests/rows.py each."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace
from functools import cache

import keras
import numpy as np
import pytest

import zoo
from tests.rows import ROWS
from zoo.core.family import CLASSED
from zoo.core.registry import configure, find_family

CLASSES, BATCH, LENGTH = 3, 2, 7  # LENGTH in tokens, or steps of a series
TOKENS = 12  # ids below this one, which every tiny vocabulary has
FLOAT32_HEAD = re.compile(
    r"(?:.*\.)?(head_(logits|bias|span|vocabulary|labels|mean|log_variance|vectors|statistics)|neck_codebook).*"
)  # answers whatever the precision of the model


def structure(variant: str):
    """The Config of a tiny copy without what does not change its graph: variants of one structure are tested once."""
    config = configure(find_family(variant).variants[variant], **ROWS[variant].tiny)
    if hasattr(config, "pixels"):
        config = configure(config, crop=1.0, interpolation="bilinear")
    if isinstance(getattr(config, "width", None), float):  # a factor of all channels, which test_parameters.py checks
        config = replace(config, width=1.0)
    return replace(config, dropout=0.1) if getattr(config, "dropout", None) else config


def usual_task(variant: str) -> str:
    """Classification where there is such a task, else the first of the family's."""
    tasks = find_family(variant).tasks
    return "classify" if "classify" in tasks else tasks[0]


DIFFERENT = tuple({structure(variant): variant for variant in reversed(ROWS)}.values())[::-1]
ALL = pytest.mark.parametrize("variant", DIFFERENT)
WITH_PIXELS = pytest.mark.parametrize(
    "variant",
    [
        name
        for name in DIFFERENT
        if hasattr(structure(name), "pixels") and usual_task(name) in ("classify", "reconstruct")
    ],
)
WITHOUT_PIXELS = tuple(name for name in DIFFERENT if not hasattr(structure(name), "pixels"))
WITH_BOTH = tuple(name for name in DIFFERENT if {"pixels", "vocabulary"} <= set(vars(structure(name))))
WITH_FEATURES = pytest.mark.parametrize(
    "variant", [name for name in DIFFERENT if "features" in find_family(name).tasks]
)
EVERY_TASK = pytest.mark.parametrize(
    ("variant", "task"),
    [
        (name, task)
        for name in DIFFERENT
        if usual_task(name) != "classify" or name in (*WITHOUT_PIXELS, *WITH_BOTH)
        for task in find_family(name).tasks
        if task not in (usual_task(name), "multi_label", "regress")  # whose graphs are that of classify
        and name != "dalle_small"  # whose autoencoder is dalle_base's
    ],
)


def build(variant: str, **options) -> keras.Model:
    """A tiny copy with three classes whose every weight is random, and large enough to pass an image on."""
    task = options.get("task", usual_task(variant))
    classes = {"classes": CLASSES} if task in CLASSED else {}
    model = zoo.create(variant, **{"task": task, **classes, **ROWS[variant].tiny, **options})
    random = np.random.default_rng(0)
    for variable in model.weights:
        if variable.path.endswith(("gamma", "moving_variance", "scale", "counts")):
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


def inputs(model: keras.Model):
    """What the model takes, drawn by its own description of it; the second of a batch is padded at its end."""
    random = np.random.default_rng(1)
    if not isinstance(model.input, dict):
        return drawn("image" if len(model.input.shape) == 4 else "series", model.input, random)
    return {name: drawn(name, spec, random) for name, spec in model.input.items()}


def drawn(name: str, spec: keras.KerasTensor, random: np.random.Generator) -> np.ndarray:
    shape = (BATCH, *(LENGTH if side is None else side for side in spec.shape[1:]))
    if len(shape) == 4:
        return random.integers(0, 256, shape, "uint8")
    if name.endswith("padding_mask"):
        return np.array([[1] * shape[1], [1] * (shape[1] - 2) + [0] * 2], "int32")
    if "int" in spec.dtype:
        return random.integers(0, 2 if name.endswith("segment_ids") else TOKENS, shape, "int32")
    return random.standard_normal(shape).astype("float32")


def gives_codes(model: keras.Model) -> bool:
    return not isinstance(model.output, dict) and model.output.dtype == "int32"


def answers(model: keras.Model, x) -> dict[str, np.ndarray]:
    """The outputs by name; one that is alone has none."""
    answer = model(x, training=False)
    return {name: np.asarray(value) for name, value in (answer if isinstance(answer, dict) else {"": answer}).items()}


def outputs(model: keras.Model, x) -> np.ndarray:
    """The only output, or the first of several."""
    return next(iter(answers(model, x).values()))


def assert_same(found: dict[str, np.ndarray], wanted: dict[str, np.ndarray]) -> None:
    assert set(found) == set(wanted)
    for name, value in found.items():
        np.testing.assert_array_equal(value, wanted[name], err_msg=name)


def test_every_variant_has_a_row():
    assert set(ROWS) == set(zoo.variants())


@ALL
def test_the_answer_is_finite_float32_and_hangs_on_the_input(variant):
    model = tiny(variant)
    answer = outputs(model, inputs(model))
    if usual_task(variant) == "classify":
        assert answer.shape == (BATCH, CLASSES)
    assert answer.dtype == "float32"
    assert np.isfinite(answer).all()
    assert np.abs(answer[0] - answer[1]).max() > 1e-6


@EVERY_TASK
def test_every_task_answers_and_comes_back_from_a_file(variant, task, tmp_path):
    model = build(variant, task=task)
    x = inputs(model)
    found = answers(model, x)
    wanted = {name: "int32" if name == "codes" or gives_codes(model) else "float32" for name in found}
    assert all(value.dtype == wanted[name] and np.isfinite(value).all() for name, value in found.items())
    assert all(np.abs(value[0] - value[1]).max() > 1e-6 for value in found.values())
    model.save(tmp_path / "model.keras")
    assert_same(answers(keras.saving.load_model(tmp_path / "model.keras"), x), found)


@WITH_PIXELS
def test_bytes_and_floats_are_the_same_image(variant):
    model = tiny(variant)
    x = inputs(model)
    floats = {**x, "image": x["image"].astype("float32")} if isinstance(x, dict) else x.astype("float32")
    np.testing.assert_array_equal(outputs(model, x), outputs(model, floats))


@pytest.mark.parametrize("variant", (*WITHOUT_PIXELS, *WITH_BOTH))
def test_padding_changes_nothing(variant):
    """Neither what stands there nor how much of it: at tokens the answer stays what it was."""
    model = tiny(variant)
    if not isinstance(model.input, dict) or not any(name.endswith("padding_mask") for name in model.input):
        pytest.skip(f"{variant} takes no padding mask")
    x = inputs(model)
    longer = {name: longer_and_changed(name, array, x) for name, array in x.items()}
    found, wanted = outputs(model, longer), outputs(model, x)
    if wanted.ndim == 3:  # one answer a token
        masks = [array for name, array in x.items() if name.endswith("padding_mask") and array.shape[1] == LENGTH]
        kept = masks[-1].astype(bool)  # those of a decoder come after those of its encoder
        found, wanted = found[:, :LENGTH][kept], wanted[kept]
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)


def longer_and_changed(name: str, array: np.ndarray, x: dict[str, np.ndarray]) -> np.ndarray:
    """Three more places of padding, and something else in those that are padding already."""
    if array.ndim < 2 or array.shape[1] != LENGTH:
        return array
    widened = np.concatenate([array, np.zeros_like(array[:, :3])], axis=1)
    if name.endswith(("padding_mask", "segment_ids")):
        return widened
    mask = x["decoder_padding_mask" if name.startswith("decoder_") else "padding_mask"]
    padding = np.pad(mask, ((0, 0), (0, 3))) == 0
    widened[padding] = TOKENS - 1 if array.dtype == "int32" else 9.0
    return widened


@ALL
def test_groups_hold_every_weight_once_from_input_to_output(variant):
    model = tiny(variant)
    groups = zoo.layer_groups(model)
    found = [weight.path for layers in groups.values() for layer in layers for weight in layer.weights]
    assert by_tower(found) == by_tower(weight.path for weight in model.weights)
    if usual_task(variant) == "classify":
        assert list(groups)[-1] == "head"
        assert model.get_layer("head_logits") in groups["head"]


def by_tower(paths: Iterable[str]) -> dict[str, list[str]]:
    """Two towers of which neither takes what the other gives have no order among them."""
    towers: dict[str, list[str]] = {}
    for path in paths:
        tower, _, _ = path.partition("/")[0].rpartition(".")
        towers.setdefault(tower, []).append(path)
    return towers


@ALL
def test_a_saved_model_comes_back_the_same(variant, tmp_path):
    model = tiny(variant)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert_same(answers(again, inputs(model)), answers(model, inputs(model)))


@ALL
def test_bfloat16_computes_in_bfloat16_and_answers_in_float32(variant):
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = build(variant)
    finally:
        keras.config.set_dtype_policy("float32")
    computing = {layer.compute_dtype for layer in model.layers if layer.weights and not FLOAT32_HEAD.match(layer.name)}
    assert computing <= {"bfloat16"}
    if usual_task(variant) == "classify":
        assert model.get_layer("head_logits").compute_dtype == "float32"
    exact, rounded = outputs(tiny(variant), inputs(model)), outputs(model, inputs(model))
    assert rounded.dtype == "float32"
    np.testing.assert_allclose(rounded, exact, atol=0.15 * max(1.0, np.abs(exact).max()))


@WITH_FEATURES
def test_features_are_what_the_head_would_take(variant):
    features, model = build(variant, task="features"), tiny(variant)
    x = inputs(model)
    known = {weight.path: weight for weight in model.weights}
    for weight in features.weights:
        if weight.path in known:
            weight.assign(known[weight.path])
        else:  # a pooler that this model's head does without
            assert weight.path.startswith("head_")
    body = [group for group in zoo.layer_groups(features) if group != "head"][-1]
    value = outputs(features, {name: x[name] for name in features.input} if isinstance(x, dict) else x)
    assert value.ndim in (3, 4)
    np.testing.assert_allclose(zoo.taps(model, [body])(x)[body], value, rtol=1e-5, atol=1e-5)


@WITH_FEATURES
def test_taps_give_the_output_of_each_group(variant):
    model = tiny(variant)
    maps = zoo.taps(model)(inputs(model))
    assert list(maps) == list(zoo.layer_groups(model))
    assert "head" in maps or "classify" not in find_family(variant).tasks
    if "head" in maps:  # a language model may have no weights after its blocks
        np.testing.assert_array_equal(maps["head"], outputs(model, inputs(model)))
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
