"""The strict engine: all weights or none, and reports that a person can act on."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers

import zoo
from tests.weights.files import TINY, torch_resnet
from zoo.core.registry import load_family
from zoo.weights.dialect import Dialect, Rule, rgb_from_bgr, squeezed, third
from zoo.weights.errors import WeightsMismatch
from zoo.weights.layouts import TORCH
from zoo.weights.report import fold
from zoo.weights.translate import translate, variables

DIALECT = load_family("resnet").dialects["torch"]


@pytest.fixture
def model() -> keras.Model:
    return zoo.create("resnet18", classes=10, dropout=0.5, **TINY)


def weights(model: keras.Model) -> dict[str, np.ndarray]:
    """By layer path and variable, such as 'stem_conv/kernel'."""
    return {f"{path}/{variable.name}": np.asarray(variable) for _, path, variable in variables(model)}


def bits(model: keras.Model) -> list[bytes]:
    return [np.asarray(variable).tobytes() for variable in model.variables]


def test_every_tensor_lands_in_its_layout(model):
    tensors = torch_resnet()
    translate(model, tensors, DIALECT)
    ours = weights(model)
    torch_kernels = {
        "stem_conv": "conv1",
        "stage2_block0_conv1": "layer2.0.conv1",
        "stage4_block0_conv2": "layer4.0.conv2",
        "stage3_block0_shortcut_conv": "layer3.0.downsample.0",
    }
    for layer, module in torch_kernels.items():
        theirs = tensors[f"{module}.weight"]
        assert np.array_equal(ours[f"{layer}/kernel"], np.einsum("oihw->hwio", theirs))
    for ours_leaf, leaf in {
        "gamma": "weight",
        "beta": "bias",
        "moving_mean": "running_mean",
        "moving_variance": "running_var",
    }.items():
        assert np.array_equal(ours[f"stage3_block0_bn2/{ours_leaf}"], tensors[f"layer3.0.bn2.{leaf}"])
    assert np.array_equal(ours["head_logits/kernel"], np.einsum("oi->io", tensors["fc.weight"]))
    assert np.array_equal(ours["head_logits/bias"], tensors["fc.bias"])


def without(*names: str):
    return lambda tensors: [tensors.pop(name) for name in names]


def reshaped(name: str, *shape: int):
    return lambda tensors: tensors.update({name: np.resize(tensors[name], shape)})


def spoiled(name: str, value: float):
    def spoil(tensors):
        tensors[name].flat[-1] = value

    return spoil


def typed(name: str, kind: str):
    return lambda tensors: tensors.update({name: tensors[name].astype(kind)})


DEFECTS = {
    "missing": (without("layer2.0.bn1.running_var"), "Missing 1: stage2_block0_bn1/moving_variance"),
    "left over": (
        lambda tensors: tensors.update({"layer5.0.conv1.weight": np.zeros(1, "f")}),
        "Not used 1: layer5.0.conv1",
    ),
    "misshapen": (reshaped("conv1.weight", 8, 3, 7, 6), r"takes \(7, 7, 3, 8\).*'conv1.weight' \(8, 3, 7, 6\)"),
    "transposed": (reshaped("conv1.weight", 3, 8, 7, 7), r"'conv1.weight' \(3, 8, 7, 7\)"),
    "flat": (reshaped("layer1.0.conv1.weight", 576), r"'layer1.0.conv1.weight' \(576,\)"),
    "too many axes": (reshaped("bn1.bias", 1, 8), r"'bn1.bias' \(1, 8\)"),
    "NaN": (spoiled("layer4.0.bn2.running_mean", np.nan), "not hold finite.*1 tensors: layer4.0.bn2.running_mean"),
    "infinity": (spoiled("fc.weight", -np.inf), "not hold finite.*fc.weight"),
    "float64 beyond float32": (
        lambda tensors: tensors.update({"fc.bias": np.full(10, 1e300)}),
        "not hold finite.*fc.bias",
    ),
    "integers": (typed("fc.bias", "int32"), "not hold finite floating-point numbers.*fc.bias"),
    "complex": (typed("fc.bias", "complex64"), "not hold finite floating-point numbers.*fc.bias"),
    "raw bytes": (typed("fc.bias", "V4"), "not hold finite floating-point numbers.*fc.bias"),
}


@pytest.mark.parametrize("defect", DEFECTS)
def test_one_defect_and_not_a_bit_is_assigned(model, defect):
    spoil, words = DEFECTS[defect]
    tensors = torch_resnet(seed=1)
    spoil(tensors)
    before = bits(model)
    with pytest.raises(WeightsMismatch, match=words):
        translate(model, tensors, DIALECT)
    assert bits(model) == before


@pytest.mark.parametrize("kind", ["float16", "float64"])
def test_other_widths_of_float_are_converted(model, kind):
    tensors = {name: array.astype(kind) for name, array in torch_resnet().items()}
    translate(model, tensors, DIALECT)
    found = np.asarray(model.get_layer("head_logits").bias)
    assert np.array_equal(found, tensors["fc.bias"].astype("float32"))


def test_kept_layers_are_neither_assigned_nor_missed(model):
    tensors = torch_resnet(classes=77)
    before = np.asarray(model.get_layer("head_logits").kernel)
    translate(model, tensors, DIALECT, keep=("head_logits",))
    assert np.array_equal(np.asarray(model.get_layer("head_logits").kernel), before)
    assert np.array_equal(weights(model)["stem_bn/beta"], tensors["bn1.bias"])


def test_the_tensors_of_a_head_that_was_not_built_are_no_left_overs():
    features = zoo.create("resnet18", task="features", **TINY)
    translate(features, torch_resnet(), DIALECT)
    with pytest.raises(WeightsMismatch, match=r"Not used 1: fc2\.weight"):
        translate(features, {**torch_resnet(), "fc2.weight": np.zeros(3, "f")}, DIALECT)


def test_a_report_folds_the_indices(model):
    biased = zoo.create("resnet18", classes=10, conv_bias=True, **TINY)
    with pytest.raises(WeightsMismatch) as error:
        translate(biased, torch_resnet(), DIALECT)
    assert str(error.value) == (
        "The checkpoint does not fit 'resnet18'; nothing was loaded. Missing 12: stem_conv/bias, "
        "stage{1..4}_block0_conv{1..2}/bias (8), stage{2..4}_block0_shortcut_conv/bias (3) "
        "(first looked for 'conv1.bias'). A checkpoint without convolution biases needs conv_bias=False."
    )


def test_a_checkpoint_of_something_else_says_so(model):
    with pytest.raises(WeightsMismatch, match="No tensor has a name that is known here"):
        translate(model, {"encoder.weight": np.zeros(3, "f")}, DIALECT)


@pytest.mark.parametrize(
    ("names", "folded"),
    [
        ([], ""),
        (["fc.weight"], "fc.weight"),
        (["conv1.bias", "fc.bias"], "conv1.bias, fc.bias"),
        (["a.0", "a.1", "a.2"], "a.{0..2} (3)"),
        (["a.9", "a.10", "a.11"], "a.{9..11} (3)"),
        (["a.0", "a.3", "a.7"], "a.{0,3,7} (3)"),
        (["s1_b0", "s1_b1", "s2_b0", "s2_b1"], "s{1..2}_b{0..1} (4)"),
        (["s1_b0", "s2_b0", "s2_b1"], "s{1..2}_b* (3)"),
        (
            [f"s{s}_b{b}_conv{c}" for s, depth in ((1, 3), (2, 4)) for b in range(depth) for c in (1, 2)],
            "s{1..2}_b*_conv{1..2} (14)",
        ),
        (["a#1", "a#2"], "a#{1..2} (2)"),
        (["a\x1b[31m"], r"a\x1b[31m"),
        (list("abcdefgh"), "a, b, c, d, e, f and 2 more"),
        (["bn1/gamma", "bn1/beta", "bn2/gamma", "bn2/beta", "bn3/gamma"], "bn{1..3}/gamma (3), bn{1..2}/beta (2)"),
        (["bn1/gamma", "bn1/beta", "bn2/gamma", "bn2/beta"], "bn{1..2}/{gamma,beta} (4)"),
        (["0.1.weight", "0.1.bias"], "0.1.{weight,bias} (2)"),
        (["a/b/", "/", ".", "c"], "a/b/, /, ., c"),
    ],
)
def test_fold(names, folded):
    assert fold(names) == folded


def test_fold_survives_names_of_any_length():
    assert len(fold(["9" * 5000, "8" * 5000, "x" * 10**6, "\u0669" * 10])) < 400


def test_pieces():
    fused = np.arange(18).reshape(9, 2)
    assert [third(place)(fused).tolist() for place in range(3)] == [fused[i : i + 3].tolist() for i in (0, 3, 6)]
    assert squeezed(np.ones((1, 4, 3))).shape == (4, 3)
    assert rgb_from_bgr(np.arange(3).reshape(1, 1, 3, 1)).ravel().tolist() == [2, 1, 0]
    assert rgb_from_bgr(np.arange(3)).tolist() == [0, 1, 2]  # a bias has no input channels


@pytest.mark.parametrize("shape", [(6, 1, 3, 3), (2, 3, 3, 3), (6, 1, 9, 1), (6, 3, 3, 1)])
def test_a_depthwise_kernel_is_not_reshaped_into_fitting(shape):
    image = keras.Input((8, 8, 3))
    model = keras.Model(image, layers.DepthwiseConv2D(3, depth_multiplier=2, use_bias=False, name="stem_conv")(image))
    tensors = {"conv.weight": np.arange(54, dtype="float32").reshape(shape)}
    dialect = Dialect(TORCH, (Rule("stem_conv", "conv"),))
    if shape == (6, 1, 3, 3):
        translate(model, tensors, dialect)
        kernel = np.asarray(model.get_layer("stem_conv").kernel)  # (h, w, C, m): torch has the m of a channel together
        assert all(kernel[0, 0, c, m] == tensors["conv.weight"][2 * c + m, 0, 0, 0] for c in range(3) for m in range(2))
    else:
        with pytest.raises(WeightsMismatch, match="Misshapen 1"):
            translate(model, tensors, dialect)


@pytest.mark.parametrize("shape", [(5, 4, 3), (4, 3)])
def test_a_table_with_a_batch_axis_has_a_batch_of_one(shape):
    tokens = keras.Input((2,), dtype="int32")
    model = keras.Model(tokens, layers.Embedding(4, 3, name="stem_table")(tokens))
    dialect = Dialect(TORCH, (Rule("stem_table", "table", squeezed),))
    with pytest.raises(WeightsMismatch, match="Misshapen 1"):
        translate(model, {"table.weight": np.zeros(shape, "f")}, dialect)
    translate(model, {"table.weight": np.ones((1, 4, 3), "f")}, dialect)
    assert np.asarray(model.weights[0]).min() == 1
