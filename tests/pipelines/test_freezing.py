"""Frozen means frozen to the bit: weights, batch-norm statistics, dropout."""

import keras
import numpy as np
import pytest
from keras import layers

from pipelines.freezing import Freezer, find_groups, unfrozen
from pipelines.run import Phase
from pipelines.train import fit
from tests.pipelines import toy

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
