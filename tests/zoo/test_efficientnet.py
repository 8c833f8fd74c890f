"""EfficientNet: keras.applications' numbers, torchvision's names, publishers' conventions, stochastic depth."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras.src.applications.efficientnet import EfficientNet  # keras.applications exports the deep ones alone
from keras.src.applications.efficientnet_v2 import EfficientNetV2

import zoo
from zoo.core.registry import load_family
from zoo.core.skeleton import skeleton
from zoo.layers.pixels import pixels_of
from zoo.layers.regularization import StochasticDepth
from zoo.weights import CheckpointError
from zoo.weights.live import from_keras
from zoo.weights.translate import make_plan

FAMILY = load_family("efficientnet")
_TORCHVISION = {"library_name": "torchvision"}


def shapes_only(name: str, **options) -> keras.Model:
    """A model without its variables' values."""
    return skeleton(lambda: zoo.create(name, **{"size": 32, **options}))


def randomize(model: keras.Model) -> None:
    """Random weights under which neither activations nor rounding errors grow from block to block."""
    random = np.random.default_rng(0)
    for variable in model.weights:
        if variable.path.endswith(("gamma", "variance")):
            variable.assign(random.uniform(0.5, 1.5, variable.shape))
        elif len(variable.shape) < 2:
            variable.assign(0.1 * random.standard_normal(variable.shape))
        else:
            fan_in = np.prod(variable.shape[:2] if "dwconv" in variable.path else variable.shape[:-1])
            gain = 0.5 if "project" in variable.path else 2
            variable.assign(random.standard_normal(variable.shape) * np.sqrt(gain / fan_in))


@pytest.mark.parametrize(
    ("variant", "builder", "scale", "name"),
    [
        ("efficientnet_b0", EfficientNet, {"width": 0.5, "depth": 0.4}, "efficientnetb0"),
        pytest.param(
            "efficientnet_b0", EfficientNet, {"width": 0.3, "depth": 0.7}, "efficientnetb0", marks=pytest.mark.slow
        ),
        ("efficientnet_v2_b0", EfficientNetV2, {"width": 0.6, "depth": 0.4}, "efficientnetv2-b0"),
        pytest.param(
            "efficientnet_v2_s",
            EfficientNetV2,
            {"width": 0.5, "depth": 0.3},
            "efficientnetv2-s",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_a_model_of_keras_applications_gives_its_own_numbers(variant, builder, scale, name):
    """Narrow and shallow ones, by the functions that build theirs of every scale."""
    theirs = builder(
        scale["width"],
        scale["depth"],
        224,
        input_shape=(47, 66, 3),
        classes=7,
        classifier_activation=None,
        weights=None,
        name=name,
    )
    randomize(theirs)
    if builder is EfficientNet:
        theirs.layers[2].finalize_state()  # of the Normalization, whose statistics are random too now
    ours = zoo.create(variant, weights=theirs, **scale)
    assert pixels_of(ours).size == (47, 66)
    image = np.random.default_rng(1).uniform(0, 255, (2, 47, 66, 3)).astype("float32")
    expected, found = (np.asarray(model(image, training=False)) for model in (theirs, ours))
    assert expected.std() > 0.1
    np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize(
    ("variant", "application", "dialect"),
    [("efficientnet_b1", "EfficientNetB1", "keras"), ("efficientnet_v2_b2", "EfficientNetV2B2", "keras_v2")],
)
def test_every_weight_of_a_whole_model_of_keras_applications_has_its_place(variant, application, dialect):
    theirs = skeleton(lambda: getattr(keras.applications, application)(weights=None, input_shape=(32, 32, 3)))
    model, shapes = shapes_only(variant), from_keras(theirs).shapes
    fitting = [name for name in FAMILY.dialects if not make_plan(model, shapes, FAMILY.dialects[name]).problems]
    assert fitting == [dialect]


@pytest.mark.parametrize(
    ("dialect", "layer", "name"),
    [
        ("torchvision", "stage1_block0_squeeze_reduce", "features.1.0.block.1.fc1"),  # nothing is expanded here
        ("torchvision", "stage1_block1_project_bn2", "features.1.1.block.2.1"),
        ("torchvision", "stage3_block1_depthwise_conv2", "features.3.1.block.1.0"),
        ("torchvision", "stage7_block0_squeeze_expand", "features.7.0.block.2.fc2"),
        ("torchvision_v2", "stage1_block2_bn", "features.1.2.block.0.1"),
        ("torchvision_v2_s", "stage2_block3_fused_project_conv2", "features.2.3.block.1.0"),
        ("torchvision_v2_s", "neck_conv", "features.7.0"),
        ("timm", "stage2_block3_fused_project_conv2", "blocks.1.3.conv_pwl"),
        ("timm", "stage1_block2_bn", "blocks.0.2.bn1"),
        ("timm", "stage4_block1_squeeze_expand", "blocks.3.1.se.conv_expand"),
        ("keras", "stage4_block1_squeeze_expand", "block4b_se_expand"),
        ("keras_v2", "stage1_block2_conv", "block1c_project_conv"),
    ],
)
def test_layers_have_the_names_of_each_publisher(dialect, layer, name):
    kind, leaf = ("BatchNormalization", "gamma") if "_bn" in layer else ("Conv2D", "kernel")
    (found,) = FAMILY.dialects[dialect].source(layer, kind, leaf).names
    assert found in (f"{name}.weight", f"{name}/{leaf}")


@pytest.mark.parametrize(
    ("config", "stem", "variant", "padding", "epsilon"),
    [
        ({"architecture": "efficientnet_b0"}, 32, "efficientnet_b0", "symmetric", 1e-5),
        ({"architecture": "tf_efficientnet_b7"}, 64, "efficientnet_b7", "same", 1e-3),
        ({"architecture": "tf_efficientnet_lite4"}, 32, "efficientnet_lite4", "same", 1e-3),
        ({"architecture": "efficientnetv2_rw_s"}, 24, "efficientnet_v2_rw_s", "symmetric", 1e-5),
        ({"architecture": "tf_efficientnetv2_b3"}, 40, "efficientnet_v2_b3", "same", 1e-3),
        ({"architecture": "efficientnet_b4", **_TORCHVISION}, 48, "efficientnet_b4", "symmetric", 1e-5),
        ({"architecture": "efficientnet_b5", **_TORCHVISION}, 48, "efficientnet_b5", "symmetric", 1e-3),
        ({"architecture": "efficientnet_v2_l", **_TORCHVISION}, 32, "efficientnet_v2_l", "symmetric", 1e-3),
    ],
)
def test_config_json_tells_the_variant_and_its_conventions(config, stem, variant, padding, epsilon):
    found = FAMILY.from_hub({**config, "num_classes": 9}, {"conv_stem.weight": (stem, 3, 3, 3)})
    assert (found.variant, found.classes) == (variant, 9)
    assert (found.config.padding, found.config.epsilon) == (padding, epsilon)


def test_config_json_of_others_or_against_the_tensors():
    for other in ("efficientnet_es", "tf_efficientnet_b9", "efficientnet_b0_gn", "efficientnetv2_xl", "resnet50"):
        assert FAMILY.from_hub({"architecture": other}, {}) is None
    with pytest.raises(CheckpointError, match="channels of the stem=48, but the tensors beside it tell 32"):
        FAMILY.from_hub({"architecture": "efficientnet_b4"}, {"conv_stem.weight": (32, 3, 3, 3)})
    with pytest.raises(CheckpointError, match="norm_layer"):
        FAMILY.from_hub(
            {"architecture": "efficientnet_b0", **_TORCHVISION, "torchvision_args": {"norm_layer": "x"}},
            {"features.0.0.weight": (32, 3, 3, 3)},
        )


@pytest.mark.parametrize("variant", ["efficientnet_b0", "efficientnet_lite0", "efficientnet_v2_m"])
def test_groups_end_at_the_maps_of_every_stride(variant):
    """timm's features_only gives the last map of each stride before the neck."""
    shapes = {name: tuple(tap.shape[1:3]) for name, tap in zoo.taps(shapes_only(variant, size=(64, 96))).output.items()}
    last = {shape: name for name, shape in shapes.items() if name.startswith("stage")}
    assert last == {(32, 48): "stage1", (16, 24): "stage2", (8, 12): "stage3", (4, 6): "stage5", (2, 3): "stage7"}
    assert shapes["stem"] == (32, 48)
    assert shapes["neck"] == (2, 3)


def test_squeezes_are_a_quarter_of_what_comes_into_the_block():
    model = shapes_only("efficientnet_b0")
    assert model.get_layer("stage1_block0_squeeze_reduce").filters == 8
    assert model.get_layer("stage2_block0_squeeze_reduce").filters == 4
    assert model.get_layer("stage2_block1_squeeze_reduce").filters == 6
    assert not any("squeeze" in layer.name for layer in shapes_only("efficientnet_lite0").layers)


def test_lite_scales_neither_its_ends_nor_their_depth():
    model = shapes_only("efficientnet_lite4")
    assert [model.get_layer(name).conv.filters for name in ("stem_conv", "neck_conv")] == [32, 1280]
    names = {layer.name for layer in model.layers}
    assert "stage2_block3_project_conv3" in names
    assert not names & {"stage1_block1_project_conv2", "stage7_block1_project_conv3"}


def test_stochastic_depth_grows_toward_the_output_and_changes_no_inference():
    options = {"stages": FAMILY.variants["efficientnet_b0"].stages[1:3], "width": 0.25, "classes": 2, "size": 32}
    plain, deep = (zoo.create("efficientnet_b0", stochastic_depth=rate, **options) for rate in (0.0, 0.8))
    deep.set_weights(plain.get_weights())
    rates = {layer.name: layer.rate for layer in deep.layers if isinstance(layer, StochasticDepth)}
    assert rates == pytest.approx({"stage1_block1_drop": 0.2, "stage2_block1_drop": 0.6})
    assert not any(isinstance(layer, StochasticDepth) for layer in plain.layers)
    image = np.random.default_rng(0).uniform(0, 255, (4, 32, 32, 3)).astype("float32")
    np.testing.assert_array_equal(deep(image, training=False), plain(image, training=False))


@pytest.mark.parametrize("shape", [(4,), (3, 4), (2, 3, 4)])
def test_stochastic_depth_drops_whole_images_and_keeps_the_mean(shape):
    layer = StochasticDepth(0.25, seed=0)
    again = StochasticDepth.from_config(layer.get_config())
    x = np.ones((4000, *shape), "float32")
    assert np.asarray(layer(x, training=False)).min() == 1
    for each in (layer, again):
        images = np.asarray(each(x, training=True)).reshape(4000, -1)
        assert (images == images[:, :1]).all()
        np.testing.assert_allclose(np.unique(images), [0, 4 / 3], rtol=1e-6)
        assert images.mean() == pytest.approx(1, abs=0.03)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"width": 0}, "width=0 must be over 0"),
        ({"depth": 11}, "depth=11 must be over 0 and at most 10"),
        ({"stochastic_depth": 1.0}, "stochastic_depth=1.0 must be at least 0 and under 1"),
    ],
)
def test_options_out_of_range_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        shapes_only("efficientnet_b0", **options)
