"""Images with several labels or with numbers: what is read from files, how it is divided, what is refused."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from pipelines import sources, splits
from pipelines.run import Images, Phase, Run
from tests.pipelines import squares
from tests.pipelines.squares import COLORS, write_csv

SHARES = {"train": 0.7, "validation": 0.15, "test": 0.15}
PARTS = ("train", "validation", "test")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return squares.folder(tmp_path_factory.mktemp("squares"))


def by_file(data: sources.ImageData) -> dict[str, list[float]]:
    """What is to be learned of each file, of all parts."""
    found = {}
    for part in PARTS:
        examples = getattr(data, part)
        found |= {Path(path).name: row.tolist() for path, row in zip(examples.images, examples.labels, strict=True)}
    return found


def test_names_in_a_cell_and_columns_of_marks_are_the_same(folder):
    _, marks = squares.pictures(60)
    expected = {f"{index:03}.png": row.tolist() for index, row in enumerate(marks)}
    named = sources.load(Images(str(folder / "labels.csv"), label_delim="|"), seed=0)
    assert (named.task, named.classes) == ("multi_label", ("blue", "green", "red"))
    assert {name: row[::-1] for name, row in by_file(named).items()} == expected
    columns = sources.load(Images(str(folder / "marks.csv"), class_columns=COLORS), seed=0)
    assert (columns.task, columns.classes) == ("multi_label", COLORS)
    assert by_file(columns) == expected
    assert min(map(sum, expected.values())) == 0 < max(map(sum, expected.values())) - 1  # none, and several


def test_numbers_are_standardized_by_the_training_part_alone(folder):
    data = sources.load(Images(str(folder / "values.csv"), target=("age", "income")), seed=1)
    _, marks = squares.pictures(60)
    expected = {f"{i:03}.png": row for i, row in enumerate(squares.numbers(marks).round(1).astype("float32").tolist())}
    assert by_file(data) == expected and (data.task, data.classes) == ("regress", ())
    assert data.target.names == ("age", "income")
    np.testing.assert_allclose(data.target.mean, data.train.labels.mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(data.target.std, data.train.labels.astype("float64").std(axis=0), rtol=1e-5)
    everything = np.concatenate([getattr(data, part).labels for part in PARTS])
    assert abs(data.target.mean[0] - everything[:, 0].mean()) > 1e-3


def test_arrays_hold_marks_or_numbers(tmp_path):
    images, marks = squares.pictures(40)
    described = Images.arrays(images, marks.astype(int), file=tmp_path / "m.npz", classes=COLORS)
    data = sources.load(described, task="multi_label", seed=0)
    assert data.classes == COLORS
    assert sum(len(getattr(data, part)) for part in PARTS) == 40
    for image, row in zip(data.test.images, data.test.labels, strict=True):
        at = next(i for i in range(40) if (images[i] == image).all())
        np.testing.assert_array_equal(marks[at], row)
    described = Images.arrays(images, squares.numbers(marks), file=tmp_path / "v.npz", target=("age", "income"))
    assert sources.load(described, seed=0).target.names == ("age", "income")
    described = Images.arrays(images, squares.numbers(marks)[:, 0], file=tmp_path / "one.npz")
    assert sources.load(described, task="regress", seed=0).target.names == ("label",)


def test_a_column_split_and_files_of_their_own_divide(folder, tmp_path):
    _, marks = squares.pictures(60)
    where = ["train"] * 40 + ["val"] * 10 + ["test"] * 10
    rows = [(f"{folder}/{i:03}.png", "|".join(np.array(COLORS)[m > 0]), where[i]) for i, m in enumerate(marks)]
    whole = write_csv(tmp_path / "whole.csv", ["path", "label", "split"], rows)
    data = sources.load(Images(str(whole), label_delim="|"), seed=0)
    assert [len(getattr(data, part)) for part in PARTS] == [40, 10, 10]
    train = write_csv(tmp_path / "train.csv", ["path", "label"], [row[:2] for row in rows[:50]])
    test = write_csv(tmp_path / "test.csv", ["path", "label"], [row[:2] for row in rows[50:]])
    data = sources.load(Images(str(train), label_delim="|", test=str(test), split=(0.8, 0.2, 0)), seed=0)
    assert [len(getattr(data, part)) for part in PARTS] == [40, 10, 10]
    np.testing.assert_array_equal(data.test.labels, marks[50:, ::-1])


def test_every_label_is_in_every_part_by_its_share():
    random = np.random.default_rng(0)
    marks = random.random((400, 6)) < [0.5, 0.3, 0.1, 0.05, 0.02, 0.008]
    names = [f"image{index}" for index in range(400)]
    found = splits.iterative(marks, names, shares=SHARES, seed=0)
    assert sorted(np.concatenate(list(found.values()))) == list(range(400))
    assert [len(found[part]) for part in SHARES] == pytest.approx([280, 60, 60], abs=2)
    for part, share in SHARES.items():
        counts = marks[found[part]].sum(axis=0)
        assert (counts > 0).all()
        np.testing.assert_allclose(counts, share * marks.sum(axis=0), atol=1.5)
    order = random.permutation(400)
    again = splits.iterative(marks[order], [names[i] for i in order], shares=SHARES, seed=0)
    assert all(set(order[again[part]]) == set(found[part]) for part in SHARES)
    other = splits.iterative(marks, names, shares=SHARES, seed=1)
    assert set(other["test"]) != set(found["test"])


def test_a_part_without_a_share_gets_nothing():
    found = splits.iterative(np.eye(4), list("abcd"), shares={"train": 1.0, "validation": 0.0, "test": 0.0}, seed=0)
    assert [len(found[part]) for part in SHARES] == [4, 0, 0]


GOOD = [("000.png", "red|blue"), ("001.png", ""), ("002.png", "red"), ("003.png", "blue")]


@pytest.mark.parametrize(
    ("header", "rows", "options", "message"),
    [
        (("path", "label"), [*GOOD, ("004.png", "red||blue")], {"label_delim": "|"}, r"row 6.*'red\|\|blue'.*hold ''"),
        (("path", "label"), [*GOOD, ("004.png", "red|red")], {"label_delim": "|"}, "row 6.*'red' twice"),
        (("path", "label"), [*GOOD, ("004.png", "nan")], {"label_delim": "|"}, "row 6.*'nan'.*is empty"),
        (("path", "label"), GOOD, {"label_delim": ";"}, r"no cell.*label_delim=';'; there are 'blue'.*'red\|blue'"),
        (("path", "label"), [(name, "red|blue") for name, _ in GOOD], {"label_delim": "|"}, "every .* 'blue', 'red'"),
        (("path", "tags"), GOOD, {"label_delim": "|"}, "no column 'label', named by .*It has: 'path', 'tags'"),
        (("file", "label"), GOOD, {"label_delim": "|"}, "no column 'path'"),
        (("path", "label", "split"), [(*row, "dev") for row in GOOD], {"label_delim": "|"}, "row 2: split is 'dev'"),
        (("path", "label"), [("", "red|blue"), *GOOD], {"label_delim": "|"}, "row 2: the column path is empty"),
        (("path", "a", "b"), [("000.png", 1, 0), ("001.png", 0, "")], {"class_columns": ("a", "b")},
         "row 3: column 'b' holds ''.* 1 where"),
        (("path", "a", "b"), [("000.png", 1, 2), ("001.png", 0, 1)], {"class_columns": ("a", "b")}, "row 2.*holds '2'"),
        (("path", "a", "b"), [("000.png", 1, 0), ("001.png", 0, 0)], {"class_columns": ("a", "b")}, "no .* label 'b'"),
        (("path", "a", "b"), [("000.png", 1, 0)], {"class_columns": ("a", "z")}, "no column 'z'.*class_columns"),
        (("path", "age"), [("000.png", 1), ("001.png", "old")], {"target": "age"}, "row 3: column 'age' holds 'old'"),
        (("path", "age"), [("000.png", 1), ("001.png", "")], {"target": "age"}, "row 3: the target 'age' is missing"),
        (
            ("path", "age"),
            [("000.png", "nan"), ("001.png", 2)],
            {"target": "age"},
            "row 2: the target 'age' is missing",
        ),
        (("path", "age"), [("000.png", "inf"), ("001.png", 2)], {"target": "age"}, "row 2.*must be finite"),
        (("path", "age"), [(f"00{i}.png", 7) for i in range(9)], {"target": "age"}, "'age' is 7 for every training"),
        (("path", "age"), [("000.png", 1)], {"target": ("aeg",)}, "no column 'aeg'.*Did you mean 'age'"),
        (("path", "age"), [("000.png", 1), ("000.png", 2)], {"target": "age"}, "000.png' is twice in train"),
    ],
)  # fmt: skip
def test_a_bad_row_is_named_by_its_number(folder, tmp_path, header, rows, options, message):
    source = write_csv(
        tmp_path / "bad.csv", header, [(f"{folder}/{name}" if name else "", *rest) for name, *rest in rows]
    )
    with pytest.raises(ValueError, match=message):
        sources.load(Images(str(source), **options), seed=0)


def test_a_file_that_is_not_there_and_one_that_is_none(folder, tmp_path):
    rows = [(f"{folder}/000.png", 1), ("gone.png", 2), ("lost.png", 3)]
    source = write_csv(tmp_path / "a.csv", ["path", "age"], rows)
    with pytest.raises(FileNotFoundError, match=r"row 3 names the file 'gone\.png'.* as 2 rows"):
        sources.load(Images(str(source), target="age"), seed=0)
    (tmp_path / "gone.png").write_bytes(b"no image")
    source = write_csv(tmp_path / "a.csv", ["path", "age"], rows[:2])
    with pytest.raises(ValueError, match=r"1 of 2 images cannot be decoded: 'gone\.png'.*--skip-corrupt"):
        sources.load(Images(str(source), target="age"), seed=0)


@pytest.mark.parametrize(
    ("options", "task", "message"),
    [
        ({}, "multi_label", r"needs to know how an image's labels are written: Images\(label_delim='\|'\)"),
        (
            {"label_delim": "|"},
            "classify",
            r"task='classify', but Images\(label_delim='\|'\) is for task='multi_label'",
        ),
        ({"target": "age"}, "multi_label", r"Images\(target=\('age',\)\) is for task='regress'"),
        ({}, "tag", "task='tag' is none of images; those are classify, multi_label, regress, generate"),
        (
            {"label_delim": "|", "balance": True},
            None,
            r"Images\(balance=True\) is for data where an image has one class",
        ),
        ({"target": "age", "cutmix": 1.0}, None, r"Images\(cutmix=1\.0\) is for data where images have classes"),
        ({"label_delim": "|", "test": "{folder}"}, None, "images with several labels come from a .csv file"),
    ],
)
def test_what_does_not_go_together_is_refused(folder, options, task, message):
    given = {name: str(folder) if value == "{folder}" else value for name, value in options.items()}
    with pytest.raises(ValueError, match=message):
        sources.load(Images(str(folder / "labels.csv"), **given), task=task, seed=0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"label_delim": ""}, "divides nothing"),
        ({"label_delim": "|", "target": "age"}, r"label_delim='\|', target=\('age',\)\): what is to be learned"),
        ({"class_columns": ("a", "a")}, "each once"),
        ({"target": ("",)}, "names of columns"),
    ],
)
def test_options_that_contradict_are_refused_at_once(options, message):
    with pytest.raises(ValueError, match=message):
        Images("a.csv", **options)


def test_other_sources_and_tasks_say_where_such_images_come_from(tmp_path):
    for source in ("digits", "tfds:mnist"):
        with pytest.raises(ValueError, match=r"several labels come from a \.csv file"):
            sources.load(Images(source), task="multi_label", seed=0)
    with pytest.raises(FileNotFoundError, match=r"nowhere.*Give a \.csv or \.npz file"):
        sources.load(Images(str(tmp_path / "nowhere"), target="age"), seed=0)
    squares.folder(tmp_path, count=4)
    with pytest.raises(ValueError, match=r"numbers to predict come from a \.csv file"):
        sources.load(Images(str(tmp_path), target="age"), seed=0)


@pytest.mark.parametrize(
    ("labels", "task", "options", "message"),
    [
        (np.full((4, 2), 0.5), "multi_label", {}, r"0 and 1, \(N, classes\).*image 0 are \[0\.5 0\.5\]"),
        (np.eye(4)[:3], "multi_label", {}, r"4 images, but labels of float64 \(3, 4\)"),
        (np.eye(4), "multi_label", {"classes": ("a", "b")}, "for 2 classes"),
        (np.array([1, 2, np.nan, 4]), "regress", {}, "image 2 are .*nan"),
        (np.eye(4), "regress", {"target": ("a",)}, r"4 numbers an image; Images\(target=...\) names 1"),
        (np.array(list("abcd")), "regress", {}, "takes numbers"),
        (np.eye(4), None, {}, r"labels of shape \(4, 4\); give one an image, or say task='multi_label'"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(tmp_path, labels, task, options, message):
    images, _ = squares.pictures(4)
    described = Images.arrays(images, labels, file=tmp_path / "a.npz", **options)
    with pytest.raises(ValueError, match=message):
        sources.load(described, task=task, seed=0)


def test_a_run_keeps_what_is_learned_and_reads_one_of_before():
    phases = (Phase(1, 1e-3),)
    data = Images("a.csv", class_columns=["a", "b"])
    run = Run("cnn", data, phases, Path("out"), task="multi_label", positive_weights={"a": 2.0})
    assert Run.from_json(run.to_json()) == run and run.data.class_columns == ("a", "b")
    assert Images("a.csv", target="age").target == ("age",)
    plain = dataclasses.replace(run, data=Images("a"), positive_weights=None)
    old = json.loads(plain.to_json())
    del old["positive_weights"]
    for field in ("label_delim", "class_columns", "target"):
        del old["data"][field]
    assert Run.from_json(json.dumps(old)) == plain
    with pytest.raises(ValueError, match=r"Run\(positive_weights=\{'a': -1\}\) must be numbers of at least 0"):
        dataclasses.replace(run, positive_weights={"a": -1})
