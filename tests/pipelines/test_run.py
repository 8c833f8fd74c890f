"""A run is data: it goes to JSON and back unchanged, and refuses values that make no sense."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from pipelines import recipes
from pipelines.run import Hardware, Images, Phase, Run, Series, Tables, Texts

RUN = Run(
    "mobilenet_v2",
    Images("pets", split=(0.8, 0.1, 0.1), size=96, augment="standard", flip=False),
    recipes.progressive_unfreezing(epochs=3, groups=2),
    Path("runs/pets"),
    weights="bundled",
    overrides={"dropout": 0.1, "width": 0.5},
    hardware=Hardware("mirrored", "bfloat16", deterministic=False),
    batch=16,
    seed=7,
)


def test_json_round_trip():
    assert Run.from_json(RUN.to_json()) == RUN


def test_a_run_of_before_it_could_be_otherwise_is_deterministic():
    values = json.loads(RUN.to_json())
    assert values["hardware"].pop("deterministic") is False
    assert Run.from_json(json.dumps(values)).hardware.deterministic


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not a run's JSON"),
        ("[]", "object"),
        (RUN.to_json().replace('"batch"', '"batches"'), "unknown fields \\['batches'\\]"),
        (RUN.to_json().replace('"model": "mobilenet_v2",', ""), "missing fields \\['model'\\]"),
        (RUN.to_json().replace('"epochs": 3', '"epochs": 0'), "epochs=0"),
        (RUN.to_json().replace('"standard"', '"heavy"'), "'heavy' is not one of 'none', 'light', 'standard'"),
    ],
)
def test_bad_json_is_refused_with_the_reason(text, message):
    with pytest.raises(ValueError, match=message):
        Run.from_json(text)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Images("x", split=(0.5, 0.5, 0.5)),
        lambda: Images("x", split=(1.2, -0.1, -0.1)),
        lambda: Images("x", size=4),
        lambda: Phase(0, 1e-3),
        lambda: Phase(1, 0.0),
        lambda: Phase(1, float("nan")),
        lambda: Phase(1, 1e-3, unfreeze=0),
        lambda: Phase(1, 1e-3, layer_decay=1.5),
        lambda: Phase(1, 1e-3, warmup=1.0),
        lambda: Hardware(precision="float8"),
        lambda: Hardware(deterministic=1),
        lambda: dataclasses.replace(RUN, phases=()),
        lambda: dataclasses.replace(RUN, batch=0),
        lambda: dataclasses.replace(RUN, task="dream"),
        lambda: dataclasses.replace(RUN, loss="l3"),
        lambda: Texts("x", length=1),
        lambda: Texts("x", vocabulary=10),
        lambda: Tables("x", split=(1.0, 1.0, 0.0)),
        lambda: Series("x", target=()),
        lambda: Series("x", target=("y",), horizon=0),
    ],
)
def test_values_out_of_range_are_refused(make):
    with pytest.raises(ValueError, match=r"\S"):
        make()


def test_overrides_without_a_json_form_are_refused():
    with pytest.raises(ValueError, match="cannot be written as JSON"):
        dataclasses.replace(RUN, overrides={"activation": abs}).to_json()


def test_arrays_become_a_file_that_a_run_can_name(tmp_path):
    images = np.arange(2 * 4 * 4, dtype="uint8").reshape(2, 4, 4)
    made = Images.arrays(images, [1, 0], file=tmp_path / "x.npz", classes=("a", "b"), augment="none")
    with np.load(made.source) as stored:
        np.testing.assert_array_equal(stored["images"], images)
        assert stored["labels"].tolist() == [1, 0]
        assert stored["classes"].tolist() == ["a", "b"]
    assert made.augment == "none"


def test_recipes_unfreeze_from_the_output():
    assert [p.unfreeze for p in recipes.feature_extraction()] == [1]
    assert [p.unfreeze for p in recipes.fine_tuning()] == [1, "all"]
    phases = recipes.progressive_unfreezing(epochs=3, learning_rate=0.1, groups=3, rate_decay=0.5)
    assert [p.unfreeze for p in phases] == [1, 2, 3]
    assert [p.learning_rate for p in phases] == pytest.approx([0.1, 0.05, 0.025])
    assert {p.epochs for p in phases} == {3}
    assert all(p.batch_norm == "frozen" for p in phases)
    assert recipes.from_scratch()[0].batch_norm == "train"


@pytest.mark.parametrize(
    "data",
    [
        Texts("reviews.csv", second_column="title", tokenizer="bpe", length=64),
        Tables("houses.csv", target="price", categorical=("town",), ignore=("id", "link")),
        Series("power.csv", target=("load", "loss"), columns=("load", "wind"), window=48, horizon=12),
    ],
    ids=lambda data: data.unit,
)
def test_every_kind_of_data_goes_to_json_and_back(data):
    run = dataclasses.replace(RUN, data=data, task="regress", loss="huber")
    assert Run.from_json(run.to_json()) == run
    with pytest.raises(ValueError, match="unknown kind 'Sounds'"):
        Run.from_json(run.to_json().replace(f'"{type(data).__name__}"', '"Sounds"'))


def test_a_run_of_the_first_version_is_of_images():
    values = json.loads(RUN.to_json())
    del values["data"]["kind"], values["task"], values["loss"]
    assert Run.from_json(json.dumps(values)) == RUN


def test_one_name_where_several_can_be_is_not_taken_letter_by_letter():
    assert Series("power.csv", target="load").target == ("load",)
    assert Tables("houses.csv", ignore="id").ignore == ("id",)


def test_texts_in_lists_become_a_file_that_a_run_can_name(tmp_path):
    made = Texts.lists([("a", "b"), ("c", "d")], ["x", "y"], file=tmp_path / "pairs.jsonl", length=8)
    assert (made.second_column, made.label_column, made.length) == ("second", "label", 8)
    lines = [json.loads(line) for line in (tmp_path / "pairs.jsonl").read_text().splitlines()]
    assert lines == [{"text": "a", "second": "b", "label": "x"}, {"text": "c", "second": "d", "label": "y"}]
    assert Texts.lists(["a"], file=tmp_path / "plain.jsonl").label_column is None
