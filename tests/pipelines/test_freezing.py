"""Frozen means frozen to the bit: weights, batch-norm statistics, dropout."""

import keras
import numpy as np
import pytest
from keras import layers

from pipelines.freezing import Freezer, find_groups, unfrozen
from pipelines.run import Phase
from pipelines.train import fit
from tests.pipelines import tokens, toy

GROUPS = ["stem", "stage1", "stage2", "head"]


def moved(model: keras.Model, before: dict) -> set[str]:
    """Paths of the variables that differ from what they were, in any bit."""
    return {v.path for v in model.weights if not np.array_equal(np.asarray(v), before[v.path])}


def snapshot(model: keras.Model) -> dict:
    return {v.path: np.array(v) for v in model.weights}


@pytest.mark.parametrize("unfreeze", [1, 2, 3, "all", 99])
@pytest.mark.parametrize("batch_norm", ["frozen", "train"])
def test_exactly_the_unfrozen_groups_move(unfreeze, batch_norm):
    model = toy.model()
    before = snapshot(model)
    fit(model, [Phase(1, 1e-2, unfreeze=unfreeze, batch_norm=batch_norm)], toy.dataset(), progress=False)
    learning = GROUPS[-unfreeze:] if isinstance(unfreeze, int) else GROUPS
    expected = {
        path
        for path in before
        if path.split("_")[0] in learning and (batch_norm == "train" or "_bn/" not in path) and "seed" not in path
    }
    assert {path for path in moved(model, before) if "seed" not in path} == expected


def test_frozen_dropout_passes_everything_and_comes_back():
    model = toy.model(dropout=0.5)
    with Freezer(model, find_groups(model)) as freezer:
        freezer.apply(Phase(1, 1e-3, unfreeze=2))
        assert model.get_layer("stage1_dropout").rate == 0.0
        assert model.get_layer("head_dropout").rate == 0.5
        freezer.apply(Phase(1, 1e-3, unfreeze="all"))
        assert model.get_layer("stage1_dropout").rate == 0.5
        freezer.apply(Phase(1, 1e-3))
    assert model.get_layer("stage1_dropout").rate == 0.5


def test_the_model_is_left_as_it_was():
    model = toy.model()
    model.get_layer("stage1_conv").trainable = False
    fit(model, [Phase(1, 1e-3), Phase(1, 1e-3, unfreeze="all")], toy.dataset(), progress=False)
    assert [layer.name for layer in model.layers if not layer.trainable] == ["stage1_conv"]


def test_an_exception_leaves_the_model_as_it_was():
    model = toy.model()
    with pytest.raises(RuntimeError), Freezer(model, find_groups(model)) as freezer:
        freezer.apply(Phase(1, 1e-3))
        raise RuntimeError
    assert all(layer.trainable for layer in model.layers)


def test_what_is_inside_a_container_follows_every_phase():
    """Keras ignores `container.trainable = True` where the container's own flag is True already."""
    x = image = keras.Input((8, 8, 3))
    base = keras.Sequential([keras.Input((8, 8, 3)), layers.Conv2D(4, 3), layers.BatchNormalization()], name="base")
    model = keras.Model(image, layers.Dense(3, name="top")(layers.GlobalAveragePooling2D()(base(x))))
    groups = find_groups(model, [["base"], ["top"]])
    norm = base.layers[-1]
    norm.gamma.trainable = False
    with Freezer(model, groups) as freezer:
        freezer.apply(Phase(1, 1e-3, unfreeze="all"))
        assert not norm.trainable
        freezer.apply(Phase(1, 1e-3, unfreeze="all", batch_norm="train"))
        assert norm.trainable
        assert len(model.trainable_weights) == 6


def test_a_frozen_recurrent_layer_drops_nothing_of_its_state():
    model = tokens.model("rnn_lstm", recurrent_dropout=0.5)
    with Freezer(model, find_groups(model)) as freezer:
        freezer.apply(Phase(1, 1e-3, unfreeze=2))
        assert [model.get_layer(f"block{i}").recurrent_dropout for i in (0, 1)] == [0.0, 0.5]
    assert [model.get_layer(f"block{i}").recurrent_dropout for i in (0, 1)] == [0.5, 0.5]


def test_a_layer_used_at_both_ends_belongs_to_the_stem():
    """The table of token vectors gives the logits too; it learns with what is nearest the input."""
    model = tokens.model("rnn_lstm", task="seq2seq", classes=None, tied=True, bidirectional=True, embedding=32)
    groups = find_groups(model)
    blocks = [f"{tower}.block{i}" for tower in ("encoder", "decoder") for i in (0, 1)]
    assert list(groups) == ["stem", *blocks, "head"]
    assert unfrozen(groups, Phase(1, 1e-3, unfreeze=3)) == ["head", "decoder.block1", "decoder.block0"]
    assert {weight.path for layer in groups["head"] for weight in layer.weights} == {"head_bias/bias"}


class Tied(layers.Layer):
    """Multiplies by a kernel that belongs to another layer."""

    def __init__(self, kernel: keras.Variable, **options):
        super().__init__(**options)
        self.kernel = kernel

    def call(self, x):
        return x @ self.kernel


def test_a_weight_in_two_groups_of_a_model_of_names_is_refused():
    x = inputs = keras.Input((4,))
    first = layers.Dense(4, name="stem_dense")
    x = first(x)
    model = keras.Model(inputs, Tied(first.kernel, name="block0")(x))
    with pytest.raises(ValueError, match="'stem_dense/kernel' is in two groups, 'stem' and 'block0'"):
        find_groups(model)


def foreign() -> keras.Model:
    base = keras.Sequential([keras.Input((8, 8, 3)), layers.Conv2D(4, 3), layers.GlobalAveragePooling2D()], name="base")
    image = keras.Input((8, 8, 3))
    return keras.Model(image, layers.Dense(3, name="top")(base(image)))


def test_groups_of_any_model_can_be_given_as_lists():
    model = foreign()
    with pytest.raises(ValueError, match="groups="):
        find_groups(model)
    by_name = find_groups(model, [["base"], ["top"]])
    assert by_name == find_groups(model, {"group0": [model.get_layer("base")], "group1": [model.get_layer("top")]})
    assert unfrozen(by_name, Phase(1, 1e-3)) == ["group1"]
    before = snapshot(model)
    fit(model, [Phase(1, 1e-2)], toy.dataset(), groups=[["base"], ["top"]], progress=False)
    assert moved(model, before) == {"top/kernel", "top/bias"}


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        ([["base"]], "weights of .* are in no group, such as 'top/kernel'"),
        ([["base"], ["base", "top"]], "in two groups"),
        ([["base"], ["tip"]], "has no layer 'tip'"),
    ],
)
def test_groups_that_do_not_cover_the_model_are_refused(groups, message):
    with pytest.raises(ValueError, match=message):
        find_groups(foreign(), groups)
