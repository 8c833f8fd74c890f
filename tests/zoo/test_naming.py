"""The layer-name grammar and what reads it."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers

from zoo.core.naming import GRAMMAR, layer_groups, taps


def chain(*names: str) -> keras.Model:
    """Dense layers in a row, by name."""
    x = image = keras.Input((4,), name="image")
    for name in names:
        x = layers.Dense(4, name=name)(x)
    return keras.Model(image, x, name="chain")


@pytest.mark.parametrize(
    ("name", "tower", "group"),
    [
        ("stem_conv", None, "stem"),
        ("stage12_block3_conv", None, "stage12"),
        ("block0", None, "block0"),
        ("image.block7", "image", "block7"),
        ("text.head_projection", "text", "head"),
    ],
)
def test_a_name_tells_its_group(name, tower, group):
    match = GRAMMAR.fullmatch(name)
    assert (match["tower"], match["group"]) == (tower, group)


@pytest.mark.parametrize(
    "name", ["dense", "stage_conv", "blocks1", "stem-conv", "Image.stem", "headlogits", "get_item_3"]
)
def test_names_outside_the_grammar(name):
    assert GRAMMAR.fullmatch(name) is None


def test_groups_come_in_the_order_of_the_graph():
    model = chain("stem_a", "stage1_a", "stage10_a", "stage10_b", "stage2_a", "head_logits")
    groups = layer_groups(model)
    assert list(groups) == ["stem", "stage1", "stage10", "stage2", "head"]
    assert [layer.name for layer in groups["stage10"]] == ["stage10_a", "stage10_b"]


def test_groups_without_weights_are_none():
    image = keras.Input((4,), name="image")
    x = layers.Activation("relu", name="stem_act")(image)
    model = keras.Model(image, layers.Dense(2, name="head_logits")(x))
    assert list(layer_groups(model)) == ["head"]


def test_a_foreign_model_is_refused_with_a_way_out():
    with pytest.raises(ValueError, match=r"Layer 'dense_7' of 'chain' is outside.*groups=\[\["):
        layer_groups(chain("dense_7"))


def test_taps_share_layers_and_give_chosen_groups():
    model = chain("stem_a", "stage1_a", "stage1_b", "head_logits")
    x = np.ones((2, 4), "float32")
    tapped = taps(model, ["stage1"])
    before = np.asarray(tapped(x)["stage1"])
    np.testing.assert_array_equal(before, keras.Model(model.input, model.get_layer("stage1_b").output)(x))
    model.get_layer("stem_a").kernel.assign(np.eye(4))
    assert np.abs(np.asarray(tapped(x)["stage1"]) - before).max() > 1e-3


def test_taps_of_groups_that_are_not_there():
    with pytest.raises(ValueError, match=r"no groups \['stage9'\]. It has: stem, head"):
        taps(chain("stem_a", "head_logits"), ["stem", "stage9"])


def network(*strides: int, size: tuple[int, int] = (65, 96)) -> keras.Model:
    """A strided convolution a stage, as many filters as the stride; then a neck and a head."""
    x = image = keras.Input((*size, 3), name="image")
    for stage, stride in enumerate(strides, start=1):
        x = layers.Conv2D(stride, 3, stride, "same", name=f"stage{stage}_conv")(x)
        x = layers.Conv2D(4 + stage, 1, name=f"stage{stage}_out")(x)
    x = layers.Conv2D(4, 1, name="neck_conv")(x)
    x = layers.GlobalAveragePooling2D(name="head_pool")(x)
    return keras.Model(image, layers.Dense(2, name="head_logits")(x), name="network")


def shapes(model: keras.Model) -> dict[str, tuple[int | None, ...]]:
    return {name: tensor.shape for name, tensor in model.output.items()}


def test_taps_by_stride_give_the_last_map_of_each():
    model = network(2, 2, 1, 4)
    assert shapes(taps(model, strides=(2, 4, 16))) == {
        "stride2": (None, 33, 48, 5),
        "stride4": (None, 17, 24, 7),  # of stages 2 and 3, both at stride 4
        "stride16": (None, 5, 6, 8),  # of stage 4, not of the neck
    }
    x = np.random.default_rng(0).uniform(size=(1, 65, 96, 3)).astype("float32")
    found = taps(model, strides=(16, 4))(x)
    assert set(found) == {"stride4", "stride16"}
    by_group = taps(model, ["stage3", "stage4"])(x)
    np.testing.assert_array_equal(found["stride4"], by_group["stage3"])
    np.testing.assert_array_equal(found["stride16"], by_group["stage4"])


def test_strides_are_those_of_the_layers_whatever_the_size():
    """The quotient of sizes would tell another: 33 pixels over 3, 5 over 1."""
    assert shapes(taps(network(2, 2, 2, 2, size=(33, 5)), strides=(2, 4, 8, 16))) == {
        "stride2": (None, 17, 3, 5),
        "stride4": (None, 9, 2, 6),
        "stride8": (None, 5, 1, 7),
        "stride16": (None, 3, 1, 8),
    }


def test_strides_through_branches():
    """Both sides of a residual block and of squeeze and excitation lead to the same map."""
    image = keras.Input((32, 32, 8), name="image")
    x = layers.Conv2D(8, 3, 2, "same", name="stage1_conv")(image)
    gate = layers.GlobalAveragePooling2D(keepdims=True, name="stage1_squeeze_pool")(x)
    x = layers.Multiply(name="stage1_scale")([x, layers.Conv2D(8, 1, name="stage1_squeeze")(gate)])
    shortcut = layers.AveragePooling2D(2, name="stage2_shortcut")(x)
    x = layers.ZeroPadding2D(1, name="stage2_pad")(x)
    x = layers.Add(name="stage2_add")([layers.DepthwiseConv2D(3, 2, name="stage2_conv")(x), shortcut])
    model = keras.Model(image, x)
    assert shapes(taps(model, strides=(2, 4))) == {"stride2": (None, 16, 16, 8), "stride4": (None, 8, 8, 8)}


def test_strides_that_are_not_there():
    with pytest.raises(ValueError, match=r"no feature maps \['stride8', 'stride64'\]. It has: stride2, stride4"):
        taps(network(2, 2), strides=(4, 8, 64))
    with pytest.raises(ValueError, match=r"no feature maps \['stride4'\]. It has: none"):
        taps(chain("stem_a", "head_logits"), strides=(4,))
    with pytest.raises(ValueError, match="groups or strides, not both"):
        taps(network(2), ["stage1"], strides=(2,))
