"""`zoo tune` as a user types it: what its options make, and what is told of mistakes before anything is computed."""

import dataclasses
import json
from pathlib import Path
from unittest import mock

import pytest

from pipelines.run import Images, Pairs, Series, Tables, Texts
from tests.command import zoo_here
from tuning import begin, spaces
from tuning.plan import AUTO, Objective


def plan(**given):
    return begin.plan(given, out=Path("runs/tune"))


def test_a_model_with_weights_is_fine_tuned_and_one_without_is_trained():
    tuned = plan(model="mobilenet_v2", images="digits", epochs=2)
    assert tuned.run.weights == "bundled"
    assert tuned.run.data == Images("digits")
    assert tuned.space == spaces.of_run("transfer_images", tuned.run, epochs=2)
    assert tuned.space.run(tuned.run, {"recipe": "fine_tuning", "recipe.epochs": 2}).phases[1].epochs == 2
    fresh = plan(model="cnn", images="digits")
    assert fresh.run.weights is None
    assert fresh.space == spaces.of_run("from_scratch_images", fresh.run)
    assert (tuned.oracle, tuned.objectives, tuned.trials) == ("bayesian", (AUTO,), 12)


def test_without_a_model_the_space_has_it():
    assert plan(tables="iris").run.data == Tables("iris")
    assert plan(tables="iris").space == spaces.tables()
    assert plan(images="digits").run.model == "mobilenet_v2"
    assert plan(texts="reviews.csv").run.data == Texts("reviews.csv")
    assert plan(texts="reviews.csv").space == spaces.from_scratch_text()
    assert plan(pairs="captions.csv").run.data == Pairs("captions.csv")
    assert plan(pairs="captions.csv").space == spaces.from_scratch_pairs()
    forecast = plan(series="weather.csv", target=["temperature"])
    assert forecast.run.data == Series("weather.csv", ("temperature",))
    assert forecast.run.model in spaces.series().ranges["model"]


def test_a_file_of_a_space_is_taken(tmp_path):
    mine = tmp_path / "mine.yaml"
    mine.write_text(
        "recipe: from_scratch\nrecipe.learning_rate: {float: [1.0e-4, 1.0e-2], sampling: log}\nbatch: [16, 32]\n"
    )
    found = plan(model="lenet5", images="digits", space=str(mine), epochs=3)
    assert found.space.ranges["batch"].values == (16, 32)
    assert found.space.run(found.run, {"recipe": "from_scratch", "recipe.epochs": 3}).phases[0].epochs == 3
    with pytest.raises(ValueError, match="There is no model"):
        plan(images="digits", space=str(mine))
    mine.write_text("model: [lenet5, cnn]\nbatch: [16, 32]\n")
    assert plan(images="digits", space=str(mine)).run.model == "lenet5"
    with pytest.raises(ValueError, match="has a range 'model'"):
        plan(model="cnn", images="digits", space=str(mine))


def test_several_objectives_are_weighed():
    found = plan(model="cnn", images="digits", objectives=["val_accuracy", "latency", "mine:max"])
    assert found.oracle == "pareto"
    assert found.objectives[1:] == (Objective("latency", "min"), Objective("mine", "max"))


def test_a_run_of_before_is_searched_around(tmp_path):
    before = plan(model="lenet5", images="digits", batch="16", seed=3).run
    (tmp_path / "run.json").write_text(before.to_json())
    found = plan(run_file=tmp_path / "run.json", trials=4)
    assert found.run == before
    with pytest.raises(ValueError, match="--run says all that trials share, and --batch too"):
        plan(run_file=tmp_path / "run.json", batch="16")


def begun(*arguments, folder: Path):
    """What a typed command hands to a search: its plan, and the terms."""
    carry_out = mock.patch("tuning.told.finish", lambda carry_out, folder: carry_out())
    with mock.patch("tuning.search.search") as search, carry_out:
        zoo_here("tune", *arguments, cwd=folder)
    return search.call_args.args[0], search.call_args.kwargs


def test_a_run_of_before_is_searched_around_as_it_is_typed(tmp_path):
    before = plan(model="lenet5", images="digits", batch="16").run
    (tmp_path / "run.json").write_text(before.to_json())
    found, terms = begun("--run", "run.json", "--seed", "5", "--trials", "4", "--out", "there", folder=tmp_path)
    assert found.run == dataclasses.replace(before, seed=5, out=Path("there"))
    assert (found.trials, found.seed, terms) == (4, 5, {"folder": Path("there"), "overwrite": False})


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("--parallel 3 --budget 30m", {"parallel": 3, "budget": 1800.0}),
        ("--memory 2G --trial-time 90s", {"memory": 2 * 1024**3, "trial_seconds": 90.0}),
        ("--chief --listen 0.0.0.0:7071 --lease 2m", {"listen": "0.0.0.0:7071", "lease": 120.0}),
        ("--overwrite", {"overwrite": True}),
    ],
)
def test_terms_are_handed_on(typed, expected, tmp_path):
    _, terms = begun("lenet5", "--images", "digits", *typed.split(), folder=tmp_path)
    assert terms == {"folder": Path("runs/tune"), "overwrite": False, **expected}


def test_what_decides_the_trials_is_in_the_plan(tmp_path):
    typed = "--oracle hyperband --max-epochs 9 --factor 2 --quantize int8 --objective latency --batch 8 --no-flip"
    found, _ = begun("lenet5", "--images", "digits", *typed.split(), folder=tmp_path)
    assert (found.oracle, found.max_epochs, found.factor, found.quantize) == ("hyperband", 9, 2, "int8")
    assert found.objectives == (Objective("latency", "min"),)
    assert (found.run.batch, found.run.data.flip) == (8, False)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ("tune", "zoo tune needs a model and --images"),
        ("tune cnn --images digits --tables iris", "got --images and --tables"),
        ("tune cnn --images digits --space transfer_image", "Did you mean 'transfer_images'"),
        ("tune cnn --images digits --space tables", "for tables. For images: transfer_images, from_scratch_images"),
        ("tune cnn --images digits --space mine.json", "mine.json"),
        ("tune cnn --images digits --oracle bayes", "'bayes' is not one of"),
        ("tune cnn --images digits --trials 0", "must be a whole number of at least 1"),
        ("tune cnn --images digits --budget 30", "--budget 30 is no length of time: 90s, 30m"),
        ("tune cnn --images digits --trial-time soon", "--trial-time soon is no length"),
        ("tune cnn --images digits --memory much", "--memory much is no amount of memory"),
        ("tune cnn --images digits --parallel 0", "must be a whole number of at least 1"),
        ("tune cnn --images digits --oracle bayesian --objective val_loss --objective size", "Take 'pareto'"),
        ("tune cnn --images digits --quantize int4", "int4"),
        ("tune cnn --images digits --factor 1", "factor=1"),
        ("tune lenet6 --images digits", "Did you mean 'lenet5'"),
        ("tune cnn --images digits --out taken", "holds something that is no search"),
        ("tune --run none.json", "none.json"),
        ("tune clip_vit_base32 --pairs captions.csv --space tables", "For pairs: transfer_pairs, from_scratch_pairs"),
        ("tune --resume nowhere", "'nowhere' holds no search: there is no search.json. zoo tune begins searches"),
        ("tune --resume taken --trials 20", "--trials is of a new search; --resume takes one as it is"),
        ("tune cnn --show taken", "MODEL is of a new search"),
    ],
)
def test_a_mistake_is_told_in_a_line(arguments, told, tmp_path):
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "mine.txt").touch()
    said = zoo_here(*arguments.split(), cwd=tmp_path, code=1)
    assert told in said
    assert len(said.strip().splitlines()) == 1
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["mine.txt", "taken"]


def test_a_space_that_names_what_is_not_there_is_refused(tmp_path):
    (tmp_path / "mine.json").write_text(json.dumps({"recipe.learning_rat": [0.1]}))
    said = zoo_here("tune", "cnn", "--images", "digits", "--space", "mine.json", cwd=tmp_path, code=1)
    assert "recipe.learning_rate" in said
