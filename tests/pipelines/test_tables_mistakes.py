"""What is wrong with a table, said with its row or its column."""

from __future__ import annotations

import pytest

from pipelines import tables
from pipelines.data import Tables
from tests.pipelines.people import load, people, write


def test_an_unknown_source_lists_the_built_in_ones():
    with pytest.raises(FileNotFoundError, match=r"no file 'irsi'.*iris, wine.*Did you mean 'iris'"):
        tables.load(Tables("irsi"), seed=0)


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        (
            {},
            {"target": "come"},
            r"no column 'come', named by Tables\(target=.*Did you mean 'came'.*'age', 'town', 'came'",
        ),
        ({}, {"categorical": ("twon",)}, r"no column 'twon', named by Tables\(categorical=.*'town'"),
        ({}, {"ignore": ("id",)}, r"no column 'id', named by Tables\(ignore="),
        ({}, {"ignore": ("age", "town")}, "no column to predict 'came' from"),
        ({}, {"task": "tag"}, "task='tag' is none of a table"),
        ({}, {"task": "regress"}, "row 2: column 'came' holds 'yes', which is no number"),
        ({}, {"target": "age", "task": "classify"}, "'age' has .* classes in 60 rows"),
        ({7: ["31", "Ulm", ""]}, {}, "row 8: the target 'came' is missing, as in 1 rows in all"),
        ({7: ["1,5", "Ulm", "no"]}, {}, "row 8 has 4 cells, the header has 3"),
        (
            {7: ["31 years", "Ulm", "no"]},
            {},
            r"row 8: column 'age' holds '31 years'.*1 of its 60.*categorical=\('age',\)",
        ),
        ({7: ["inf", "Ulm", "no"]}, {}, "row 8: column 'age' holds 'inf'; numbers must be finite"),
        ({7: ["1e60", "Ulm", "no"]}, {}, "row 8: column 'age' holds '1e60'; numbers must be finite"),
        ({7: ["9" * 9, "Ulm", "n"]}, {"split": (0.5, 0.25, 0.25)}, None),
    ],
)
def test_mistakes_are_told_with_their_row(tmp_path, change, options, message):
    rows = people()
    for index, row in change.items():
        rows[index] = row
    path = write(tmp_path / "a.csv", rows)
    if message is None:
        assert load(path, **options).classes == ("n", "no", "yes")
        return
    with pytest.raises(ValueError, match=message):
        load(path, **options)


@pytest.mark.parametrize(("cell", "said"), [("1.5", "1.5"), ("maybe", "maybe"), ("1e400", "1e400"), ("2", "2")])
def test_a_class_that_training_does_not_have_is_told_as_it_is_written(tmp_path, cell, said):
    rows = [[age, town, {"yes": "1", "no": "0.0"}.get(came, came)] for age, town, came in people()]
    assert load(write(tmp_path / "a.csv", rows)).classes == ("0", "1")
    other = write(tmp_path / "b.csv", [rows[0], [30, "Ulm", "1.0"], [31, "Ulm", cell]])
    with pytest.raises(ValueError, match=f"b.csv', row 3: class '{said}' is none of the training rows.*'0', '1'"):
        load(tmp_path / "a.csv", validation=other)


def test_a_column_without_a_value_is_refused(tmp_path):
    rows = [[*row, ""] for row in people()]
    rows[0][-1] = "empty"
    with pytest.raises(ValueError, match=r"'empty' holds no value in the 42 training rows.*ignore=\('empty',\)"):
        load(write(tmp_path / "a.csv", rows))


def test_numbers_too_close_together_for_float32_are_refused(tmp_path):
    rows = [[*row, 1_700_000_000 + index] for index, row in enumerate(people())]
    rows[0][-1] = "time"
    with pytest.raises(ValueError, match=r"'time' lies around 17000000\d\d, where float32 has steps of 128"):
        load(write(tmp_path / "a.csv", rows))


def test_other_files_must_have_the_same_columns_and_no_new_class(tmp_path):
    path = write(tmp_path / "a.csv", people())
    fewer = write(tmp_path / "b.csv", [["age", "came"], [30, "no"], [40, "yes"]])
    with pytest.raises(ValueError, match=r"b\.csv' has no column 'town', named by '.*a\.csv'"):
        load(path, test=fewer)
    strange = write(tmp_path / "c.csv", [["town", "came", "age"], ["Ulm", "no", 30], ["Ulm", "perhaps", 40]])
    with pytest.raises(ValueError, match=r"c\.csv', row 3: class 'perhaps' is none of the training rows.*'no', 'yes'"):
        load(path, test=strange)
    wrong = write(tmp_path / "d.csv", [["town", "came", "age"], ["Ulm", "no", "old"]])
    with pytest.raises(ValueError, match=r"d\.csv', row 2: column 'age' holds 'old', which is no number"):
        load(path, validation=wrong)


def test_one_class_or_one_value_is_nothing_to_learn(tmp_path):
    rows = [["x", "came"], *([index, "yes"] for index in range(20))]
    with pytest.raises(ValueError, match="'came' has 1 classes in 20 rows"):
        load(write(tmp_path / "a.csv", rows))
    rows = [["x", "came"], *([index, 2.5] for index in range(20))]
    with pytest.raises(ValueError, match=r"'came' is 2\.5 in every training row"):
        load(write(tmp_path / "a.csv", rows))


def test_too_few_rows_for_the_parts_are_refused(tmp_path):
    rows = [["x", "came"], [1, "a"], [2, "a"], [3, "b"], [4, "b"]]
    with pytest.raises(ValueError, match="too few rows to split: none of 4 is left for validation"):
        load(write(tmp_path / "a.csv", rows))
