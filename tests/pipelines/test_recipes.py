"""The transfer recipes as they stand run on images and on text: what they train, in which order, how fast."""

import keras
import numpy as np
import pytest

from pipelines import optimizer
from pipelines.freezing import find_groups
from pipelines.recipes import RECIPES
from pipelines.train import fit
from tests.pipelines import tokens

GROUPS = {
    "bert_tiny": ["stem", "block0", "block1", "head"],
    "gpt2": ["stem", "block0", "neck", "head"],
    "rnn_lstm": ["stem", "block0", "block1", "head"],
}
DEPTH = {"gpt2": 1}


def moved(model: keras.Model, before: dict[str, np.ndarray]) -> set[str]:
    """The groups with a weight that is not what it was, in any bit."""
    return {w.path.split("_")[0].split("/")[0] for w in model.weights if (np.asarray(w) != before[w.path]).any()}


@pytest.mark.parametrize(
    ("name", "recipe", "options", "learning"),
    [
        ("rnn_lstm", "feature_extraction", {"epochs": 1}, 1),
        ("bert_tiny", "progressive_unfreezing", {"epochs": 1, "groups": 2}, 2),
        ("gpt2", "fine_tuning", {"epochs": 1, "head_epochs": 1}, 4),
    ],
)
def test_text_models_learn_group_by_group_from_the_output(name, recipe, options, learning):
    model = tokens.model(name, depth=DEPTH.get(name, 2))
    assert list(find_groups(model)) == GROUPS[name]
    before = {weight.path: np.array(weight) for weight in model.weights}
    history = fit(model, RECIPES[recipe](learning_rate=1e-2, **options), tokens.dataset(model), progress=False)
    assert np.isfinite([epoch.metrics["loss"] for epoch in history.epochs]).all()
    assert moved(model, before) == set(GROUPS[name][::-1][:learning])


def test_every_variable_of_a_text_model_has_the_rate_of_its_group():
    model = tokens.model("gpt2")
    groups = find_groups(model)
    _, phase = RECIPES["fine_tuning"](learning_rate=0.3, layer_decay=0.5)
    rates = optimizer.group_rates(groups, phase)
    assert rates == pytest.approx({"head": 0.1, "neck": 0.05, "block1": 0.025, "block0": 0.0125, "stem": 0.00625})
    built = optimizer.build(model, groups, phase, steps=10**9)
    peak = 10**8  # the last step of the warm-up
    for inner in built.optimizers:
        inner.iterations.assign(peak)
    before = {weight.path: np.array(weight) for weight in model.trainable_weights}
    built.apply([np.ones(weight.shape, "float32") for weight in model.trainable_weights], model.trainable_weights)
    for weight in model.trainable_weights:
        step = np.abs(before[weight.path] - np.asarray(weight)).max()
        first = (1 - 0.9) / np.sqrt(1 - 0.999)  # Adam does not correct its moments any more so late
        assert step == pytest.approx(rates[weight.path.split("_")[0].split("/")[0]] * first, rel=1e-3), weight.path


def test_a_recurrent_network_learns_what_is_in_a_text():
    model = tokens.model("rnn_lstm")
    data = tokens.dataset(model, 128)
    history = fit(model, RECIPES["from_scratch"](epochs=12, learning_rate=2e-2), data, progress=False)
    assert history.epochs[-1].metrics["accuracy"] > 0.95
