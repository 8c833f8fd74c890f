import math
import random

import numpy as np
import pytest

from tuning.axes import axes, short_names, text
from tuning.importance import drawn, importance
from tuning.plan import Objective
from tuning.space import Space
from tuning.trial import Result, Trial

SPACE = Space(
    {
        "batch": [16, 32, 64],
        "label_smoothing": {"float": [0.0, 0.2]},
        "recipe": ["feature_extraction", "lora"],
        "recipe.learning_rate": {"float": [1e-5, 1e-1], "sampling": "log"},
        "recipe.rank": {"int": [2, 32]},
    }
)
LOSS = Objective("val_loss", "min")


def found(score, count=60, *, space=SPACE, objective=LOSS):
    generator = random.Random(1)
    points = [space.draw(generator) for _ in range(count)]
    trials = [
        Trial(f"{number:04d}", point, Result("completed", scores={objective.name: score(point)}))
        for number, point in enumerate(points)
    ]
    return importance(trials, axes(space, points), drawn(space), objective)


def shares_of(result):
    return {share.name: share for share in result.shares}


def test_what_decides_alone_has_it_all():
    result = found(lambda point: abs(math.log10(point["recipe.learning_rate"]) + 3))
    shares = shares_of(result)
    assert result.shares[0].name == "recipe.learning_rate"
    assert shares["recipe.learning_rate"].alone > 0.9
    assert all(share.total < 0.1 for name, share in shares.items() if name != "recipe.learning_rate")
    assert result.explained > 0.8 and result.reliable


def test_what_acts_only_together_counts_together():
    def score(point):
        return (point["batch"] == 64) == (point["label_smoothing"] > 0.1)

    space = Space({"batch": [16, 64], "label_smoothing": {"float": [0.0, 0.2]}})
    shares = shares_of(found(lambda point: float(score(point)), 120, space=space))
    assert all(share.alone < 0.1 and share.total > 0.8 for share in shares.values())


def test_a_value_that_is_missing_does_not_take_what_is_the_recipes():
    shares = shares_of(found(lambda point: float(point["recipe"] == "lora"), 120))
    assert shares["recipe"].alone > 0.95
    assert shares["recipe.rank"].total < 0.05
    assert shares["recipe.rank"].trials < shares["recipe"].trials == 120


def test_a_conditional_value_counts_as_often_as_it_is_asked():
    def score(point):
        return point.get("recipe.rank", 17) * 1.0

    shares = shares_of(found(score, 200))
    assert shares["recipe.rank"].total == pytest.approx(1, abs=0.15)


def test_how_far_off_the_worst_are_does_not_matter():
    near = found(lambda point: point["label_smoothing"])
    far = found(lambda point: 10 ** (100 * point["label_smoothing"]))
    assert near.shares == far.shares


def test_noise_is_not_explained():
    noise = random.Random(2)
    result = found(lambda point: noise.random(), 40)
    assert not result.reliable


@pytest.mark.parametrize(
    ("count", "score", "said"),
    [
        (7, lambda point: point["label_smoothing"], "7 completed trials of at least 8"),
        (9, lambda point: 1.0, "the same"),
    ],
)
def test_what_cannot_be_told_is_not(count, score, said):
    result = found(score, count)
    assert result.shares == () and not result.told
    assert said in result.caution


def test_trials_without_a_number_are_left_out():
    result = found(lambda point: math.nan if point["batch"] == 16 else point["label_smoothing"])
    assert 20 < result.trials < 60


def test_places_and_ticks_of_axes():
    found = {axis.name: axis for axis in axes(SPACE, [])}
    rate, batch, rank = (found[name] for name in ("recipe.learning_rate", "batch", "recipe.rank"))
    assert [rate.place(value) for value in (1e-5, 1e-3, 1e-1)] == pytest.approx([0, 0.5, 1])
    assert [batch.place(value) for value in (16, 32, 64)] == [0, 0.5, 1]
    assert batch.ticks() == [(0, "16"), (0.5, "32"), (1, "64")]
    assert [shown for _, shown in rate.ticks()] == ["1e-05", "0.0001", "0.001", "0.01", "0.1"]
    assert rank.conditional and not rate.conditional
    assert rank.cases[0].condition == "recipe is lora"
    assert all(0 <= place <= 1 for axis in found.values() for place, _ in axis.ticks())


def test_axes_of_values_that_the_space_does_not_have():
    found = axes(Space({"batch": 16}), [{"batch": 16, "mine": each} for each in ([1, 2], [3, 4], [1, 2])])
    assert [(axis.name, axis.varies) for axis in found] == [("batch", False), ("mine", True)]
    assert [found[1].place(value) for value in ([1, 2], (3, 4))] == [0, 1]


def test_names_are_as_short_as_they_differ():
    names = ["recipe.learning_rate", "phases.0.epochs", "phases.1.epochs", "batch"]
    assert list(short_names(names).values()) == ["learning_rate", "phases.0.epochs", "phases.1.epochs", "batch"]


def test_values_as_a_person_writes_them():
    assert [text(each) for each in (None, True, 1e-05, 0.1 + 0.2, 32, (64, (1, 2)), {"a": [1]})] == [
        "none", "yes", "1e-05", "0.3", "32", "64, 1, 2", "a: 1",
    ]  # fmt: skip
    assert np.isclose(float(text(0.00123456)), 0.00123456, rtol=1e-2)
