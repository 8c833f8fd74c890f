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
