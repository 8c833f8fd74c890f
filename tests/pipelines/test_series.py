"""Time series as data: windows, their order in time, what is measured on what, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import zoo
from pipelines import series
from pipelines.data import Series
from zoo.layers.scale import Scale
from zoo.layers.series import Windows

PARTS = ("train", "validation", "test")
STEPS = np.arange(100)


def write(path: Path, values: dict) -> str:
    rows = [list(values), *zip(*values.values(), strict=True)]
    path.write_text("".join(",".join(map(str, row)) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def numbered(path: Path, **changes) -> str:
    """100 steps: `step` counts them, `square` is what it says, `day` tells the time."""
    days = np.datetime64("2024-01-01") + STEPS
    return write(path, {"day": days, "step": STEPS, "square": STEPS**2, **changes})


def load(source: str, **options) -> series.SeriesData:
    return series.load(Series(source, **{"target": ("step",), "window": 6, "horizon": 2, **options}))


def examples(data: series.SeriesData, part: str) -> tuple[np.ndarray, np.ndarray]:
    model = zoo.create("mlp", task="forecast", series=data.windows, widths=())
    batches = list(data.evaluation_set(model, part, batch=7).as_numpy_iterator())
    inputs, targets = (np.concatenate(values) for values in zip(*batches, strict=True))
    return inputs, targets


def test_windows_are_followed_by_what_is_to_be_predicted_of_them(tmp_path):
    data = load(numbered(tmp_path / "a.csv"), columns=("square", "step"), target=("step", "square"))
    inputs, targets = examples(data, "train")
    assert inputs.dtype == targets.dtype == "float32"
    assert inputs.shape == (70 - 6 - 2 + 1, 6, 2)
    for first, (window, followed) in enumerate(zip(inputs, targets, strict=True)):
        steps = np.arange(first, first + 8)
        np.testing.assert_array_equal(window, np.stack([steps**2, steps], axis=1)[:6])
        np.testing.assert_array_equal(followed, np.stack([steps, steps**2], axis=1)[6:])


def test_parts_follow_one_another_and_each_predicts_every_value_of_its_own(tmp_path):
    data = load(numbered(tmp_path / "a.csv"), horizon=3)
    predicted = {part: set(examples(data, part)[1].ravel().astype(int)) for part in PARTS}
    assert predicted == {"train": {*range(6, 70)}, "validation": {*range(70, 85)}, "test": {*range(85, 100)}}
    for part, newest in (("train", 66), ("validation", 81), ("test", 96)):
        assert examples(data, part)[0].max() == newest
    assert examples(data, "validation")[0].min() == 64  # what was seen before: the end of training


@pytest.mark.parametrize("step", [70, 71, 84, 85, 99])
def test_no_value_after_training_is_in_a_training_window_or_in_a_measure(tmp_path, step):
    before = load(numbered(tmp_path / "a.csv"), columns=("square", "step"))
    changed, squares = STEPS.copy(), STEPS**2
    changed[step], squares[step] = 10**6, -(10**6)
    after = load(numbered(tmp_path / "b.csv", step=changed, square=squares), columns=("square", "step"))
    assert after.windows == before.windows
    for found, wanted in zip(examples(after, "train"), examples(before, "train"), strict=True):
        np.testing.assert_array_equal(found, wanted)
    moved = [part for part in PARTS if not np.array_equal(examples(after, part)[1], examples(before, part)[1])]
    assert moved == ["validation" if step < 85 else "test"]


def test_columns_are_measured_on_all_of_the_training_part(tmp_path):
    data = load(numbered(tmp_path / "a.csv"), columns=("square",))
    squares, steps = STEPS[:70].astype(float) ** 2, STEPS[:70].astype(float)
    assert data.windows == Windows(
        Scale(("square",), (squares.mean(),), (squares.std(),)), Scale(("step",), (steps.mean(),), (steps.std(),)), 6, 2
    )
    assert data.scale == (steps.std(),)
    assert data.targets == ("step",)
    assert data.options() == {"series": data.windows}
    assert (data.task, data.classes) == ("forecast", ())


def test_the_past_is_what_the_windows_saw_of_the_targets(tmp_path):
    data = load(numbered(tmp_path / "a.csv"), columns=("square",), target=("step", "square"))
    past, (inputs, targets) = data.past("test"), examples(data, "test")
    assert past.shape == (14, 6, 2)
    np.testing.assert_array_equal(past[..., 1:], inputs)
    np.testing.assert_array_equal(past[:, -1, 0] + 1, targets[:, 0, 0])


def test_a_stride_leaves_windows_out(tmp_path):
    data = load(numbered(tmp_path / "a.csv"), stride=5)
    assert examples(data, "train")[0][:, 0, 0].tolist() == list(range(0, 63, 5))
    assert examples(data, "test")[1][:, 0, 0].tolist() == [85, 90, 95]


def test_parts_without_a_share_are_empty(tmp_path):
    data = load(numbered(tmp_path / "a.csv"), split=(0.8, 0.0, 0.2))
    assert {part: len(data.parts[part]) for part in PARTS} == {"train": 73, "validation": 0, "test": 19}
    assert len(load(numbered(tmp_path / "a.csv"), split=(1.0, 0.0, 0.0)).parts["train"]) == 93


def test_training_batches_are_of_one_size_and_in_another_order_every_epoch(tmp_path):
    data = load(numbered(tmp_path / "a.csv"))
    model = zoo.create("mlp", task="forecast", series=data.windows, widths=())
    batches = data.training_set(model, batch=16, seed=1)
    assert batches.steps == 63 // 16
    epochs = [list(batches.epoch(number).as_numpy_iterator()) for number in range(2)]
    first, second = (np.concatenate([inputs[:, 0, 0] for inputs, _ in epoch]) for epoch in epochs)
    assert len(first) == len(set(first)) == 48
    assert not np.array_equal(first, second)
    for inputs, targets in epochs[0]:
        np.testing.assert_array_equal(inputs[:, -1] + 1, targets[:, 0])
    again = data.training_set(model, batch=16, seed=1).epoch().as_numpy_iterator()
    np.testing.assert_array_equal(np.concatenate([inputs[:, 0, 0] for inputs, _ in again]), first)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"target": ("stop",)}, r"no column 'stop', named by Series\(target=.*Did you mean 'step'"),
        ({"columns": ("squares",)}, r"no column 'squares', named by Series\(columns=.*Did you mean 'square'"),
        ({"target": ("step", "step")}, "step, step names a column twice"),
        ({"target": ("day",)}, "row 2: column 'day' holds '2024-01-01', which is no number"),
        ({"window": 69}, "too short: train has 70 of its 100 steps, and needs 71 for window=69 and horizon=2"),
        ({"horizon": 16}, "too short: validation has 15 of its 100 steps, and needs 16 for window=6 and horizon=16"),
        ({"split": (0.0, 0.5, 0.5)}, "too short: train has 0 of its 100 steps"),
    ],
)
def test_what_a_series_cannot_give_is_said_with_its_numbers(tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        load(numbered(tmp_path / "a.csv"), **options)


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        ("", "row 12: column 'step' holds no value, as in 1 steps in all. Fill them in"),
        ("nan", "row 12: column 'step' holds no value"),
        ("1,0", "row 12 has 4 cells, the header has 3"),
        ("ten", "row 12: column 'step' holds 'ten', which is no number"),
        ("inf", "row 12: column 'step' holds 'inf'; numbers must be finite"),
    ],
)
def test_a_wrong_value_is_told_with_its_row(tmp_path, cell, message):
    values = [*map(str, STEPS)]
    values[10] = cell
    with pytest.raises(ValueError, match=message):
        load(numbered(tmp_path / "a.csv", step=values))
    assert len(load(numbered(tmp_path / "b.csv", square=["?"] * 100)).columns) == 100  # a column that nobody asked for


def test_rows_that_go_back_in_time_are_refused_but_for_the_clock_in_autumn(tmp_path):
    days = np.datetime64("2024-01-01") + STEPS
    with pytest.raises(ValueError, match="row 3: 'day' goes back in time, to 2024-04-08"):
        load(numbered(tmp_path / "a.csv", day=days[::-1]))
    with pytest.raises(ValueError, match="row 52: 'day' goes back in time, to 2024-01-01"):
        load(numbered(tmp_path / "b.csv", day=[*days[:50], *days[:50]]))
    hours = np.datetime64("2024-10-27T00:00") + 30 * STEPS
    hours[6:] -= 60
    load(numbered(tmp_path / "c.csv", day=hours))


def test_a_target_that_never_changes_is_refused_and_a_column_is_not(tmp_path):
    still = np.where(STEPS < 70, 3, STEPS)
    with pytest.raises(ValueError, match="'square' is 3 in all of the 70 training steps"):
        load(numbered(tmp_path / "a.csv", square=still), target=("square",))
    data = load(numbered(tmp_path / "a.csv", square=still), columns=("square", "step"))
    assert data.windows.columns.std[0] == 0


def test_numbers_too_close_together_for_float32_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"'step' lies around 1700000034.*varies by 20"):
        load(numbered(tmp_path / "a.csv", step=STEPS + 1_700_000_000))
