"""Tables as data: what columns become, how rows are divided, and what is refused."""

from __future__ import annotations

import logging

import numpy as np
import pytest

import zoo
from pipelines import tables
from pipelines.data import Tables
from tests.pipelines.people import PARTS, cells, columns, load, people, write
from zoo.layers.scale import Scale
from zoo.layers.table import Category, Number

# Columns


def test_columns_are_measured_on_the_training_part_alone(tmp_path):
    data = load(write(tmp_path / "a.csv", people()))
    ages = [float(row[0]) for row in cells(data, "train")]
    assert columns(data)["age"].mean == pytest.approx(np.mean(ages))
    assert columns(data)["age"].std == pytest.approx(np.std(ages))
    assert columns(data)["town"] == Category("town", ("Bonn", "Köln", "Ulm"))
    assert data.classes == ("no", "yes")
    assert data.task == "classify"
    assert data.options() == {"columns": data.columns}


def test_changing_the_other_parts_changes_no_measure_and_no_training_row(tmp_path):
    rows = people()
    before = load(write(tmp_path / "a.csv", rows))
    train = set(cells(before, "train"))
    given = write(tmp_path / "train.csv", [rows[0], *before.parts["train"].table.rows])
    other = write(tmp_path / "other.csv", [rows[0], [1e6, "Rome", "no"], ["NA", "", "yes"]])
    after = load(given, validation=other, test=other)
    assert set(cells(after, "train")) == train
    assert after.columns == before.columns
    model = zoo.create("mlp", columns=after.columns, widths=(2,), classes=2)
    ((inputs, targets),) = after.evaluation_set(model, "test", batch=8).as_numpy_iterator()
    np.testing.assert_array_equal(inputs, np.array([[1e6, -1], [np.nan, -1]], "float32"))
    np.testing.assert_array_equal(targets, [0, 1])


def test_named_columns_are_categories_and_ignored_ones_are_nothing(tmp_path):
    rows = [[*row, index] for index, row in enumerate(people())]
    rows[0][-1] = "number"
    data = load(write(tmp_path / "a.csv", rows), categorical=("age",), ignore=("number",))
    assert list(columns(data)) == ["age", "town"]
    found = columns(data)["age"]
    assert isinstance(found, Category)
    assert list(found.vocabulary) == sorted({row[0] for row in cells(data, "train")}, key=int)


def test_what_is_missing_in_training_gets_a_place_and_what_is_missing_later_does_not_fail(tmp_path, caplog):
    rows = people()
    given = [["age", "town", "came"], ["NA", "", "no"], *rows[1:]]
    with_missing = load(
        write(tmp_path / "a.csv", given), validation=write(tmp_path / "b.csv", rows), test=str(tmp_path / "b.csv")
    )
    assert all(column.missing for column in columns(with_missing).values())
    assert columns(with_missing)["age"].mean == pytest.approx(np.mean([row[0] for row in rows[1:]]))
    without = load(str(tmp_path / "b.csv"), validation=str(tmp_path / "a.csv"), test=str(tmp_path / "a.csv"))
    assert not any(column.missing for column in columns(without).values())


def test_what_a_careful_user_wants_to_know_is_logged(tmp_path, caplog):
    caplog.set_level(logging.WARNING, logger="zoo")
    rows = [[*row, 7, "x"] for row in people()]
    rows[0][-2:] = ["seven", "ex"]
    test = write(tmp_path / "test.csv", [rows[0], rows[1], [33, "Rome", "no", 8, "x"], [44, "", "yes", 7, "x"]])
    load(write(tmp_path / "a.csv", rows), test=test, validation=test)
    text = caplog.text
    assert "the same in every training row, so left out: seven, ex" in text
    assert "1 of 3 rows of test are in train too" in text
    assert "test has values of 'town' that train does not have: 'Rome'." in text


def test_equal_rows_are_kept_each_once(tmp_path):
    rows = [["age", "town", "came"], *[["30", "Ulm", "yes"], ["50", "Bonn", "no"]] * 30]
    data = load(write(tmp_path / "a.csv", rows))
    assert sum(len(data.parts[part]) for part in PARTS) == 60
    assert [len(data.parts[part]) for part in PARTS] == [42, 10, 8]


# Targets


@pytest.mark.parametrize(
    ("values", "task"),
    [
        (["yes", "no"] * 30, "classify"),
        ([0, 1] * 4, "classify"),
        (["1.0", "2", "3"] * 20, "classify"),
        (list(range(60)), "regress"),
        ([0.5, 1.5] * 30, "regress"),
        ([1, 2, 3, 4, 5, 6] * 4, "regress"),
        (list(range(21)) * 10, "regress"),
    ],
)
def test_a_target_says_what_there_is_to_learn(tmp_path, values, task):
    rows = [["x", "came"], *([index, value] for index, value in enumerate(values))]
    assert load(write(tmp_path / "a.csv", rows), split=(1.0, 0.0, 0.0)).task == task


def test_whole_numbers_are_classes_in_their_order_however_they_are_written(tmp_path):
    rows = [["x", "came"], *([index, value] for index, value in enumerate(["10", "9", "9.0", "1e1"] * 10))]
    data = load(write(tmp_path / "a.csv", rows))
    assert data.classes == ("9", "10")
    wanted = {str(index): float(value) == 10 for index, value in rows[1:]}
    found = data.parts["train"]
    assert [bool(target) for target in found.targets] == [wanted[row[0]] for row in found.table.rows]


def test_numbers_to_predict_are_in_their_own_units_with_their_scale(tmp_path):
    rows = [["x", "came"], *([index, 5000 + 2 * index] for index in range(50))]
    data = load(write(tmp_path / "a.csv", rows), task="regress")
    found = data.parts["train"]
    np.testing.assert_array_equal(found.targets, [[5000 + 2 * float(row[0])] for row in found.table.rows])
    assert found.targets.dtype == "float32"
    assert data.classes == ()
    assert data.targets == ("came",)
    assert data.scale == pytest.approx((found.targets.std(),))
    mean = float(found.targets.astype("float64").mean())
    assert data.options()["target"] == Scale(("came",), (mean,), data.scale)


def test_classes_are_in_every_part_by_their_shares(tmp_path):
    rows = [["x", "came"], *([index, "rare" if index % 5 == 0 else "common"] for index in range(100))]
    data = load(write(tmp_path / "a.csv", rows))
    assert [np.bincount(data.parts[part].targets).tolist() for part in PARTS] == [[56, 14], [12, 3], [12, 3]]


def test_a_seed_decides_the_split_and_the_order_of_the_rows_does_not(tmp_path):
    rows = people()
    first = load(write(tmp_path / "a.csv", rows))
    again = load(write(tmp_path / "b.csv", [rows[0], *reversed(rows[1:])]))
    other = load(str(tmp_path / "a.csv"), seed=1)
    for part in PARTS:
        assert sorted(cells(first, part)) == sorted(cells(again, part))
    assert sorted(cells(first, "test")) != sorted(cells(other, "test"))


# Batches


def test_training_batches_are_of_one_size_and_in_another_order_every_epoch(tmp_path):
    data = load(write(tmp_path / "a.csv", people(100)))
    model = zoo.create("mlp", columns=data.columns, widths=(2,), classes=2)
    batches = data.training_set(model, batch=16, seed=3)
    assert batches.steps == 70 // 16
    epochs = [list(batches.epoch(number).as_numpy_iterator()) for number in range(2)]
    assert {inputs.shape for epoch in epochs for inputs, _ in epoch} == {(16, 2)}
    assert not np.array_equal(epochs[0][0][0], epochs[1][0][0])
    again = list(data.training_set(model, batch=16, seed=3).epoch().as_numpy_iterator())
    for (inputs, targets), (same, too) in zip(epochs[0], again, strict=True):
        np.testing.assert_array_equal(inputs, same)
        np.testing.assert_array_equal(targets, too)
    answers = {(float(row[0]), float(row[1])): index for row, index in zip(*epochs[0][0], strict=True)}
    assert all((age > 40) == bool(index) for (age, _), index in answers.items())


def test_evaluation_batches_are_all_rows_in_order(tmp_path):
    data = load(write(tmp_path / "a.csv", people(100)))
    model = zoo.create("mlp", columns=data.columns, widths=(2,), classes=2)
    found = list(data.evaluation_set(model, "test", batch=4).as_numpy_iterator())
    inputs, targets = (np.concatenate(values) for values in zip(*found, strict=True))
    np.testing.assert_array_equal(inputs[:, 0], [float(row[0]) for row in cells(data, "test")])
    np.testing.assert_array_equal(targets, data.parts["test"].targets)


# scikit-learn's tables


@pytest.mark.parametrize(
    ("name", "rows", "width", "classes"),
    [
        ("iris", 150, 4, ("setosa", "versicolor", "virginica")),
        ("wine", 178, 13, ("class_0", "class_1", "class_2")),
        ("breast_cancer", 569, 30, ("benign", "malignant")),
        ("diabetes", 442, 10, ()),
    ],
)
def test_built_in_tables(name, rows, width, classes):
    data = tables.load(Tables(name), seed=0)
    assert sum(len(data.parts[part]) for part in PARTS) == rows
    assert data.classes == classes
    assert data.task == ("classify" if classes else "regress")
    assert len(data.columns.names) == data.columns.width == width
    assert all(isinstance(column, Number) for column in data.columns.columns)
