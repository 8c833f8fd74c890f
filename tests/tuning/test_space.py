"""Spaces: what names set, and when a range is asked."""

from __future__ import annotations

import dataclasses
import json
import random
from pathlib import Path

import pytest

from pipelines import recipes
from pipelines.run import Images, Run, Series, Tables
from tuning.space import Cases, Choice, Float, Int, Space


def base(model: str = "cnn", **options) -> Run:
    return Run(model, options.pop("data", Images("digits")), recipes.from_scratch(), Path("out"), **options)


def draws(space: Space, count: int = 300) -> list[dict]:
    return [space.draw(random.Random(number)) for number in range(count)]


# Names


def test_each_name_sets_what_it_names():
    space = Space(
        {
            "model": ["mlp"],
            "weights": None,
            "batch": [64],
            "label_smoothing": 0.1,
            "recipe": "lora",
            "recipe.rank": 4,
            "recipe.epochs": 3,
            "phases.0.warmup": 0.25,
            "data.augment": "none",
            "data.size": 16,
            "hardware.precision": "bfloat16",
            "optimization.optimizer": "sgd",
            "optimization.schedule": "constant",
            "overrides.widths": Choice((8, 4)),
            "overrides.dropout": 0.3,
        }
    )
    before = base(overrides={"l2": 1e-4, "dropout": 0.0})
    (values,) = draws(space, 1)
    run = space.run(before, values)
    assert (run.model, run.weights, run.batch, run.label_smoothing) == ("mlp", None, 64, 0.1)
    assert run.phases == (dataclasses.replace(recipes.lora(rank=4, epochs=3)[0], warmup=0.25),)
    assert (run.data.augment, run.data.size, run.data.source) == ("none", 16, "digits")
    assert (run.hardware.precision, run.optimization.optimizer) == ("bfloat16", "sgd")
    assert run.overrides == {"l2": 1e-4, "dropout": 0.3, "widths": (8, 4)}
    assert (run.seed, run.out) == (before.seed, before.out)
    assert Run.from_json(run.to_json()).overrides["widths"] == [8, 4]


def test_a_star_is_every_phase():
    space = Space({"recipe": "fine_tuning", "phases.*.warmup": [0.3], "phases.1.epochs": [9]})
    run = space.run(base(), {"recipe": "fine_tuning", "phases.*.warmup": 0.3, "phases.1.epochs": 9})
    assert [(phase.warmup, phase.epochs) for phase in run.phases] == [(0.3, 2), (0.3, 9)]


def test_what_is_not_given_stays():
    space = Space({"batch": [16, 32], "data.augment": ["none"]})
    assert space.run(base(batch=8), {"data.augment": "none"}).batch == 8


def test_lists_of_a_journal_are_tuples_in_a_run():
    space = Space({"overrides.widths": Choice((32, 64), (8,))})
    assert space.run(base(), json.loads('{"overrides.widths": [32, 64]}')).overrides["widths"] == (32, 64)


def test_what_hyperband_adds_is_no_field():
    assert Space({"batch": [16, 32]}).run(base(), {"batch": 16, "tuner/epochs": 3}).batch == 16


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("bacth", "Did you mean 'batch'"),
        ("recipe.learningrate", "Did you mean 'recipe.learning_rate'"),
        ("optimization.optimiser", "Did you mean 'optimization.optimizer'"),
        ("data.agument", "Did you mean 'data.augment'"),
        ("hardware", "No run has a field 'hardware'"),
        ("phases.0.epoch", "No run has a field"),
        ("phases.x.epochs", "No run has a field"),
        ("phases.-1.epochs", "No run has a field"),
        ("overrides", "No run has a field"),
        ("overrides.", "No run has a field"),
        ("", "No run has a field ''"),
        ("tuner/epochs", "No run has a field"),
        (3, "is a text"),
        ("seed", "same splits"),
        ("data.split", "other examples"),
        ("data.target", "predict different things"),
        ("out", "folder of its own"),
    ],
)
def test_names_of_nothing_are_refused_at_once(name, said):
    with pytest.raises(ValueError, match=said):
        Space({name: [1, 2]})


@pytest.mark.parametrize(
    ("ranges", "said"),
    [
        ({"recipe.rank": [4, 8]}, "no recipe: add 'recipe'"),
        ({"recipe": ["fine_tuning"], "recipe.rank": [4, 8]}, "fine_tuning do not have it.*Known there: epochs"),
        ({"recipe": ["fine_tunning"]}, "Did you mean 'fine_tuning'"),
        ({"model": [1, 2]}, "no name of a model"),
        ({"batch": Choice(16, 32, when={"modle": "cnn"}), "model": ["cnn"]}, "Did you mean 'model'"),
        ({"batch": Choice(16, when={"model": "mlp"}), "model": ["cnn"]}, "is 'mlp', which it never is"),
        ({"patience": Choice(1, when={"label_smoothing": 0.1}), "label_smoothing": Float(0, 1)}, "give it a step"),
        ({"batch": Choice(1, when={"patience": 1}), "patience": Choice(1, when={"batch": 1})}, "in a circle"),
        ({"batch": Choice(1, when={"batch": 1})}, "in a circle: batch needs batch"),
        ({"batch": []}, "'batch': Choice\\(\\) has nothing"),
        ({"batch": {"chioce": [1, 2]}}, "is no range"),
        ({"batch": {"int": [1, 2], "stpe": 2}}, "Did you mean 'step'"),
        ({"batch": {"int": [1]}}, "lowest and the highest"),
        ({"batch": {"int": 4}}, "holds a list"),
        ({"batch": {"int": [1, 2], "float": [1, 2]}}, "is no range"),
        ({"batch": [16, {"int": [1, 2]}]}, "mixes values and ranges"),
        ({"batch": {"choice": [1, 2], "step": 1}}, "has 'step'"),
        (["batch"], "ranges by their names"),
    ],
)
def test_spaces_that_cannot_be_are_refused(ranges, said):
    with pytest.raises(ValueError, match=said):
        Space(ranges)


@pytest.mark.parametrize(
    ("ranges", "run", "said"),
    [
        ({}, base(), "empty"),
        ({"overrides.kernle": [3, 5]}, base(), "Did you mean 'kernel'"),
        ({"overrides.kernel": [3, 5]}, base("mlp"), "mlp do not have it"),
        ({"overrides.depth": [3, 5], "model": ["cnn", "mlp"]}, base(), "cnn, mlp do not have it"),
        ({"model": ["cnn", "resnet5O"]}, base(), "Did you mean 'resnet50'"),
        ({"data.length": [64, 128]}, base(), "Images have no such field"),
        ({"data.augment": ["none"]}, base("mlp", data=Tables("a.csv", target="y")), "Tables have no such field"),
        ({"distillation.temperature": [1, 2]}, base(), "no distillation to change"),
        ({"batch": Float(16.5, 64.5)}, base(), "None of 20 points.*batch="),
        ({"batch": ["16", "32"]}, base(), "None of 20 points"),
        ({"phases.4.epochs": [1, 2]}, base(), "there are 1 phases here"),
        ({"label_smoothing": ["a"]}, base(), "label_smoothing='a'"),
    ],
)
def test_a_space_is_checked_with_its_run_before_any_trial(ranges, run, said):
    with pytest.raises(ValueError, match=said):
        Space(ranges).check(run)


def test_a_space_of_which_some_points_make_no_run_is_searched():
    Space({"batch": [16, -1]}).check(base())
    with pytest.raises(ValueError, match="batch=-1"):
        Space({"batch": [16, -1]}).run(base(), {"batch": -1})


def test_a_value_of_another_name_is_refused():
    with pytest.raises(ValueError, match=r"no range 'bacth'.*Did you mean 'batch'"):
        Space({"batch": [16, 32]}).run(base(), {"bacth": 16})


# Conditions


def test_a_range_is_asked_where_it_has_a_meaning():
    space = Space(
        {
            "overrides.kernel": [3, 5],  # before the model that it hangs on
            "recipe.rank": [4, 8],
            "overrides.cell": ["lstm", "gru"],
            "overrides.dropout": Float(0, 0.5),
            "model": ["cnn", "rnn_lstm"],
            "recipe": ["lora", "from_scratch"],
        }
    )
    for values in draws(space):
        assert ("overrides.kernel" in values) == (values["model"] == "cnn")
        assert ("overrides.cell" in values) == (values["model"] == "rnn_lstm")
        assert ("recipe.rank" in values) == (values["recipe"] == "lora")
        assert "overrides.dropout" in values
        space.run(base(), values)


def test_conditions_hang_on_conditions():
    space = Space(
        {
            "hardware.accumulate": Choice(1, 2, when={"batch": (64, 128), "optimization.optimizer": "sgd"}),
            "batch": Choice(32, 64, 128, when={"data.augment": "light"}),
            "data.augment": ["none", "light"],
            "optimization.optimizer": ["adam", "sgd"],
            "optimization.momentum": Float(0.8, 0.99, when={"optimization.optimizer": "sgd"}),
        }
    )
    seen = set()
    for values in draws(space):
        assert ("batch" in values) == (values["data.augment"] == "light")
        asked = values.get("batch") in (64, 128) and values["optimization.optimizer"] == "sgd"
        assert ("hardware.accumulate" in values) == asked
        seen.add(asked)
        space.run(base(), values)
    assert seen == {True, False}


def test_cases_are_ranges_of_one_name_and_others_can_hang_on_them():
    space = Space(
        {
            "model": ["cnn", "mlp"],
            "recipe": Cases(
                Choice("from_scratch", when={"model": "mlp"}),
                Choice("fine_tuning", "from_scratch", when={"model": "cnn"}),
            ),
            "recipe.layer_decay": Float(0.5, 1),
            "batch": Cases(
                Choice(8, 16, when={"recipe": "fine_tuning"}), Choice(32, 64, when={"recipe": "from_scratch"})
            ),
        }
    )
    seen = set()
    for values in draws(space):
        seen.add((values["model"], values["recipe"]))
        assert ("recipe.layer_decay" in values) == (values["recipe"] == "fine_tuning")
        assert values["batch"] in ((8, 16) if values["recipe"] == "fine_tuning" else (32, 64))
    assert seen == {("mlp", "from_scratch"), ("cnn", "from_scratch"), ("cnn", "fine_tuning")}


def test_the_defaults_are_what_the_base_run_has():
    run = Run(
        "cnn", Images("digits", augment="none"), recipes.fine_tuning(), Path("out"), batch=16, overrides={"kernel": 5}
    )
    space = Space(
        {
            "batch": [8, 16, 32],
            "data.augment": ["light", "none"],
            "overrides.kernel": [3, 5],
            "overrides.dropout": Float(0, 0.9),
            "overrides.hidden": Int(32, 64),
            "recipe": ["lora", "fine_tuning"],
            "recipe.learning_rate": Float(1e-4, 1e-2, sampling="log"),
            "recipe.head_epochs": Int(1, 9, default=4),
            "optimization.weight_decay": Float(0.0, 0.04),
        }
    )
    assert space.defaults(run) == {
        "batch": 16,
        "data.augment": "none",
        "overrides.kernel": 5,
        "overrides.dropout": 0.5,  # of cnn's Config
        "overrides.hidden": 48,  # the Config's 512 is out of range: the middle
        "recipe": "fine_tuning",
        "recipe.learning_rate": 1e-3,
        "recipe.head_epochs": 4,
        "optimization.weight_decay": 0.02,
    }


def test_of_two_spaces_the_second_is_right():
    both = Space({"batch": [16, 32], "patience": 3}) | Space({"batch": 64})
    assert both == Space({"batch": 64, "patience": 3})


def test_a_series_window_is_searched_and_its_horizon_is_not():
    run = base("rnn_lstm", data=Series("a.csv", target="y"))
    space = Space({"data.window": [12, 24]})
    space.check(run)
    assert space.run(run, {"data.window": 12}).data.window == 12
    with pytest.raises(ValueError, match="other examples"):
        Space({"data.horizon": [1, 2]})
