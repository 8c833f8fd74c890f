"""ConvNeXt: keras.applications' numbers, the names of its publishers, what acts in training only."""

from __future__ import annotations

import re
from functools import reduce

import keras
import numpy as np
import pytest
from keras.src.applications.convnext import ConvNeXt  # keras.applications exports the large ones alone

import zoo
from tests.parity import packs
from zoo.core.registry import load_family
from zoo.core.skeleton import skeleton
from zoo.weights import CheckpointError
from zoo.weights.translate import make_plan

FAMILY = load_family("convnext")
TINY = {"depths": (1, 2, 1, 1), "widths": (8, 12, 16, 20)}


def randomize(model: keras.Model) -> None:
    """Give every weight a value near one or of a spread that keeps activations near one."""
    random = np.random.default_rng(0)
    for variable in model.weights:
        if variable.path.endswith(("gamma", "layer_scale/variable", "_scale/scale")):
            variable.assign(random.uniform(0.5, 1.5, variable.shape))
        else:
            spread = 0.1 if len(variable.shape) == 1 else np.prod(variable.shape[:-1]) ** -0.5
            variable.assign(spread * random.standard_normal(variable.shape))


def shapes_only(name: str, **options) -> keras.Model:
    """A model without its variables' values."""
    return skeleton(lambda: zoo.create(name, **options))


def image(*size: int) -> np.ndarray:
    return np.random.default_rng(1).uniform(0, 255, (2, *size, 3)).astype("float32")


def test_a_model_of_keras_applications_gives_its_own_numbers():
    """A small one, by the function that builds theirs of every size; its normalization comes with it."""
    theirs = ConvNeXt(
        TINY["depths"],
        TINY["widths"],
        weights=None,
        input_shape=(45, 64, 3),
        classes=6,
        classifier_activation=None,
        name="convnext_small",
    )
    randomize(theirs)
    ours = zoo.create("convnext_small", weights=theirs, **TINY)
    x = image(45, 64)
    expected = np.asarray(theirs(x, training=False))
    np.testing.assert_allclose(ours(x, training=False), expected, atol=1e-5 * np.abs(expected).max())


def test_facebooks_names_mean_the_tensors_that_timms_do():
    """timm renames its files so, and there the numbers are proven."""
    renamed = [
        (r"^stem\.", "downsample_layers.0."),
        (r"^stages\.(\d)\.downsample\.", r"downsample_layers.\1."),
        (r"\.blocks\.", "."),
        (r"\.conv_dw\.", ".dwconv."),
        (r"\.mlp\.fc", ".pwconv"),
        (r"^head\.norm\.", "norm."),
        (r"^head\.fc\.", "head."),
    ]
    shapes = {name: shape for name, shape, _ in packs.load("timm_convnext_tiny").tensors}
    facebook = {name: reduce(lambda text, rule: re.sub(*rule, text), renamed, name) for name in shapes}
    assert facebook["stages.2.blocks.8.mlp.fc2.weight"] == "stages.2.8.pwconv2.weight"
    assert facebook["stages.3.downsample.1.bias"] == "downsample_layers.3.1.bias"
    model = shapes_only("convnext_tiny")
    known = make_plan(model, shapes, FAMILY.dialects["timm"])
    renaming = make_plan(model, {facebook[name]: shape for name, shape in shapes.items()}, FAMILY.dialects["facebook"])
    assert known.problems == renaming.problems == 0
    for variable, (source, _) in known.sources.items():
        assert renaming.sources[variable][0].names == tuple(facebook[name] for name in source.names)


def test_every_stage_ends_where_the_map_is_halved():
    """The levels of timm's features_only, whose first is at stride 4; what does not fill a cell is left out."""
    model = shapes_only("convnext_atto", **TINY, size=(71, 96))
    levels = [(name, *level.shape[1:]) for name, level in zoo.taps(model).output.items() if name != "head"]
    sides = [
        ("stem", 17, 24, 8),
        ("stage1", 17, 24, 8),
        ("stage2", 8, 12, 12),
        ("stage3", 4, 6, 16),
        ("stage4", 2, 3, 20),
    ]
    assert levels == sides


def test_a_fresh_model_starts_close_to_its_downsampling_alone():
    """Every block begins as the identity, but for a millionth."""
    model = zoo.create("convnext_atto", **TINY, size=32)
    levels = zoo.taps(model, ["stem", "stage1"])(image(32, 32))
    np.testing.assert_allclose(levels["stage1"], levels["stem"], atol=1e-4)
    assert np.abs(levels["stage1"] - levels["stem"]).max() > 0


def test_stochastic_depth_grows_with_depth_and_drops_whole_images():
    model = zoo.create("convnext_atto", depths=(1, 2), widths=(4, 6), size=32, stochastic_depth=0.5, task="features")
    drops = [layer for layer in model.layers if layer.name.endswith("_drop")]
    assert [(drop.name, drop.rate) for drop in drops] == [("stage2_block0_drop", 0.25), ("stage2_block1_drop", 0.5)]
    for variable in model.weights:
        if variable.path.endswith("_scale/scale"):
            variable.assign(np.ones(variable.shape))
    last = keras.Model(model.input, [model.get_layer("stage2_block1_add").input[0], model.output])
    before, after = (np.asarray(value) for value in last(np.repeat(image(32, 32)[:1], 64, axis=0), training=True))
    kept = [bool(np.abs(one - other).max() > 0) for one, other in zip(before, after, strict=True)]
    assert 16 < sum(kept) < 48  # 32 of 64 expected; beyond these bounds one time in 20,000
    before, after = last(image(32, 32), training=False)
    assert all(np.abs(one - other).max() > 0 for one, other in zip(before, after, strict=True))


def test_what_cannot_be_built_says_what_is_needed():
    with pytest.raises(ValueError, match="Images of 31 x 64 pixels are too small: give a size of 32 or more"):
        zoo.create("convnext_tiny", size=(31, 64))
    with pytest.raises(ValueError, match=r"depths=\(1, 2\) and widths=\(96, 192, 384, 768\) need one number each"):
        zoo.create("convnext_tiny", depths=(1, 2))


def match(**changes):
    """What the family makes of a transformers config.json, some of whose values are changed."""
    pack = packs.load("extra_hf_convnext")
    return FAMILY.from_hub({**pack.config, **changes}, {tensor: shape for tensor, shape, _ in pack.tensors})


def test_transformers_crops_what_is_small_and_squeezes_what_is_large():
    processor = {"size": 224, "crop_pct": 0.9, "image_mean": [0.5, 0.4, 0.3], "image_std": [0.1] * 3, "resample": 3}
    pixels = match(preprocessor=processor).config.pixels
    assert (pixels.size, pixels.crop, pixels.interpolation) == (224, 0.9, "bicubic")
    np.testing.assert_allclose([pixels.mean, pixels.std], [(127.5, 102.0, 76.5), (25.5,) * 3])
    large = match(preprocessor={**processor, "size": {"shortest_edge": 384}}).config.pixels
    assert (large.size, large.crop) == (384, 1.0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hidden_act": "relu"}, "hidden_act='relu'; only 'gelu'"),
        ({"patch_size": 2}, "patch_size=2; only 4"),
        ({"depths": [1, 2, 900, 1]}, r"depths\[2\]=900, but the tensors beside it tell 1"),
        ({"hidden_sizes": [12, 20, 36, 60_000]}, r"hidden_sizes\[3\]=60,000, but the tensors beside it tell 60"),
        ({"hidden_sizes": [12, 20]}, "one number for each of four stages"),
        ({"depths": "3393"}, "one number for each of four stages"),
        ({"image_size": 0}, "size=0"),
    ],
)
def test_a_convnext_described_wrongly_is_refused(changes, message):
    with pytest.raises(CheckpointError, match=message):
        match(**changes)


@pytest.mark.parametrize(
    "architecture", ["convnext_tiny_hnf", "convnext_atto_ols", "convnextv2_tiny", "convnext_atto_rms"]
)
def test_what_only_looks_like_a_convnext_is_left_to_others(architecture):
    assert FAMILY.from_hub({"architecture": architecture}, {}) is None
