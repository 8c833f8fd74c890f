"""Searches that train: what they find, what stays of them, and what they refuse."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pipelines.recipes import adversarial, fine_tuning, from_scratch
from pipelines.run import Images, Run
from tuning import conclusion, journal, preflight, terms
from tuning.plan import Objective, Plan
from tuning.preflight import Known
from tuning.search import SearchFailed, resume, search
from tuning.space import Space

ROOT = Path(__file__).parents[2]


def plan(*, trials: int = 2, oracle: str = "random", ranges: dict | None = None, **changes) -> Plan:
    data = Images("digits", size=28, augment="none", split=(0.2, 0.1, 0.7))
    shared = Run("lenet5", data, from_scratch(epochs=1), Path(), batch=64)
    space = Space(ranges or {"recipe": "from_scratch", "recipe.epochs": 1, "recipe.learning_rate": [0.001, 0.01]})
    return Plan(shared, space, oracle=oracle, trials=trials, **changes)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    return search(plan(), folder=tmp_path_factory.mktemp("search") / "digits", progress=False)


def test_a_search_finds_the_best_of_its_trials(found):
    accuracies = [trial.result.scores["val_accuracy"] for trial in found.trials]
    assert len(accuracies) == 2
    assert found.best.result.scores["val_accuracy"] == max(accuracies)
    assert found.left == 0


def test_the_best_model_read_again_scores_what_was_logged(found):
    logged = found.best.result.scores
    assert set(found.proof.scores) == {"val_loss", "val_accuracy"}
    for name, (before, again) in found.proof.scores.items():
        assert before == logged[name]
        assert again == pytest.approx(before, rel=1e-5)


def test_the_test_split_is_looked_at_once(found):
    assert [path.parent.name for path in found.folder.rglob("evaluation.json")] == ["best"]
    assert "images never trained on" in found.proof.test


def test_the_best_run_is_there_as_json_and_as_a_bundle(found):
    from pipelines import bundle

    run = Run.from_json((found.folder / "best.json").read_text())
    assert run.phases[0].learning_rate == found.best.values["recipe.learning_rate"]
    made = bundle.load(found.folder / "best")
    assert made.run == run
    assert made.load_model().output_shape == (None, 10)
    assert not (found.folder / "best" / "checkpoints").exists()
    assert (found.folder / "report.html").is_file()


def test_a_search_that_is_done_is_not_done_again(found):
    before = (found.folder / journal.NAME).read_bytes()
    model = (found.folder / "best" / "model.keras").stat().st_mtime_ns
    again = resume(found.folder, progress=False)
    assert (again.best, again.proof) == (found.best, found.proof)
    assert (found.folder / journal.NAME).read_bytes() == before
    assert (found.folder / "best" / "model.keras").stat().st_mtime_ns == model


@pytest.mark.slow
def test_a_bundle_that_is_not_whole_is_made_again(found):
    (found.folder / "best" / "trial.json").unlink()
    again = resume(found.folder, progress=False)
    assert again.proof.scores == found.proof.scores
    assert (found.folder / "best" / "trial.json").is_file()


def test_another_search_is_not_overwritten(found):
    with pytest.raises(FileExistsError, match=r"holds a search already\. Go on with it: zoo tune --resume"):
        search(plan(), folder=found.folder)


def test_a_folder_with_something_else_is_left_alone(tmp_path):
    (tmp_path / "mine.txt").touch()
    with pytest.raises(FileExistsError, match="no search"):
        search(plan(), folder=tmp_path, overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_the_usual_objective_is_the_accuracy_else_the_loss():
    metrics = ("loss", "accuracy", "val_loss", "val_accuracy")
    assert preflight.settled(plan(), Known("classify", {}, metrics)).objectives == (Objective("val_accuracy", "max"),)
    assert preflight.settled(plan(), Known("regress", {}, ("loss", "val_loss"))).objectives == (
        Objective("val_loss", "min"),
    )


def test_an_objective_that_no_trial_has_is_refused():
    given = plan(objectives=(Objective.of("val_acuracy"),))
    with pytest.raises(ValueError, match=r"No trial will have a 'val_acuracy'.*Did you mean 'val_accuracy'") as error:
        preflight.settled(given, Known("classify", {}, ("loss", "accuracy", "val_loss", "val_accuracy")))
    assert "latency, size" in str(error.value)


def test_a_mistake_is_told_before_anything_is_written(tmp_path):
    given = plan()
    run = dataclasses.replace(given.run, data=Images("digits", split=(0.8, 0.0, 0.2)))
    with pytest.raises(ValueError, match="'digits' has no validation images"):
        search(dataclasses.replace(given, run=run), folder=tmp_path / "search", progress=False)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_killed_while_a_trial_trains_a_search_ends_as_an_undisturbed_one(tmp_path):
    """The same trials and the same scores, and what had ended is not trained again."""
    ranges = {"recipe": "from_scratch", "recipe.epochs": 4, "recipe.learning_rate": [0.001, 0.003, 0.01]}
    given = plan(trials=3, ranges=ranges)
    known = search(given, folder=tmp_path / "undisturbed", progress=False)
    folder = tmp_path / "killed"
    begin = f"search(plan(trials=3, ranges={ranges!r}), folder={str(folder)!r})"
    code = f"from tests.tuning.test_search import plan; from tuning.search import search; {begin}"
    process = subprocess.Popen([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": str(ROOT)})
    history = folder / "trials" / "0001" / "history.json"
    while not history.is_file():
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    ended = json.loads((folder / "trials" / "0000" / "history.json").read_text())
    again = resume(folder, progress=False)
    assert [(t.values, t.result.scores) for t in again.trials] == [(t.values, t.result.scores) for t in known.trials]
    assert json.loads((folder / "trials" / "0000" / "history.json").read_text()) == ended  # seconds too


@pytest.mark.slow
def test_what_is_found_beats_the_default_recipe(tmp_path):
    data = Images("digits", size=16, augment="none")
    shared = Run("cnn", data, from_scratch(epochs=3), tmp_path, overrides={"widths": (8, 16), "hidden": 32})
    ranges = {
        "recipe": "from_scratch",
        "recipe.epochs": 3,
        "recipe.learning_rate": {"float": [3e-4, 3e-2], "sampling": "log", "default": 1e-3},
        "batch": [16, 32],
    }
    found = search(Plan(shared, Space(ranges), trials=6), folder=tmp_path / "search", progress=False)
    usual = next(trial for trial in found.trials if trial.values["recipe.learning_rate"] == 1e-3)
    assert found.best.result.scores["val_accuracy"] > usual.result.scores["val_accuracy"]


@pytest.mark.slow
def test_what_is_found_beats_the_default_recipe_of_published_weights(tmp_path):
    data = Images("digits", size=48)
    shared = Run("mobilenet_v2", data, fine_tuning(epochs=2), tmp_path, weights="bundled")
    ranges = {
        "recipe": "fine_tuning",
        "recipe.epochs": 2,
        "recipe.learning_rate": {"float": [3e-4, 3e-3], "sampling": "log", "default": 1e-3},
        "recipe.layer_decay": {"float": [0.7, 1.0], "default": 0.8},
        "batch": [32, 16],
        "data.augment": ["light", "none"],
    }
    found = search(Plan(shared, Space(ranges), trials=6), folder=tmp_path / "search", progress=False)
    usual = found.trials[0]  # the defaults of all ranges
    assert usual.values["recipe.learning_rate"] == 1e-3
    assert found.best.result.scores["val_accuracy"] > usual.result.scores["val_accuracy"]


def test_a_search_in_which_all_trials_fail_says_why(tmp_path):
    ranges = {"recipe": "from_scratch", "recipe.epochs": 1, "phases.*.warmup": [2.0, 3.0], "batch": [32, 64]}
    with pytest.raises((SearchFailed, ValueError), match="warmup"):
        search(plan(ranges=ranges), folder=tmp_path / "search", progress=False)


def test_a_model_without_a_score_is_refused_before_the_first_trial(tmp_path):
    shared = Run("gan_dcgan", Images("digits", size=16), adversarial(epochs=1), Path())
    ranges = {"phases.*.learning_rate": [1e-4, 2e-4]}
    with pytest.raises(ValueError, match=r"gan_dcgan.*cannot be compared.*evaluate --judge"):
        search(Plan(shared, Space(ranges), trials=2), folder=tmp_path / "search", progress=False)
    assert not (tmp_path / "search").exists()


@pytest.mark.slow
def test_a_model_whose_loss_is_of_another_that_learns_is_read_again(tmp_path):
    sizes = {"widths": (4,), "latent": 2, "channels": 1}
    shared = Run("vae_conv", Images("digits", size=8), from_scratch(epochs=1), Path(), batch=64, overrides=sizes)
    ranges = {"recipe": "from_scratch", "recipe.epochs": 1, "recipe.learning_rate": [1e-3, 1e-2]}
    found = search(Plan(shared, Space(ranges), trials=2), folder=tmp_path / "search", progress=False)
    assert set(found.proof.scores) == {"val_loss", "val_reconstruction", "val_divergence"}
    for before, again in found.proof.scores.values():
        assert again == pytest.approx(before, rel=1e-5)


def test_lengths_of_time_and_amounts_of_memory():
    assert [terms.seconds(text) for text in ("90s", "30m", "1h30m", "0.5h")] == [90, 1800, 5400, 1800]
    assert [terms.size(text) for text in ("512M", "2G", "1.5GiB", "1024kb")] == [2**29, 2**31, 3 * 2**29, 2**20]
    for text in ("30", "m", "", "1m30", "-5m", "0m"):
        with pytest.raises(ValueError, match="no length of time"):
            terms.seconds(text)
    for text in ("2", "G", "2X", "-1G", "0M"):
        with pytest.raises(ValueError, match="no amount of memory"):
            terms.size(text)


def test_terms_are_those_of_before_but_for_what_is_given(tmp_path):
    clock = terms.Clock(terms.Terms(parallel=2, budget=60.0, memory=2**30), tmp_path)
    clock.write()
    known = terms.load(tmp_path)
    assert known == terms.Terms(2, 60.0, 2**30, None, pytest.approx(0.0, abs=5))
    assert known.changed(parallel=None, budget=None) == known
    assert known.changed(parallel=3, budget=30.0) == terms.Terms(3, 30.0, 2**30, None, 0.0)


def test_scores_that_differ_make_no_bundle(found):
    with pytest.raises(conclusion.ScoresDiffer, match=r"val_loss 0\.6, and its trial logged 0\.5"):
        conclusion._compare({"val_loss": (0.5, 0.6)}, plan().run)
