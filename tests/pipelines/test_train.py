"""A run from data to bundle: it learns, it repeats itself bit for bit, it leaves nothing half done."""

import dataclasses
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import keras
import numpy as np
import pytest

from pipelines import bundle, card, datasets
from pipelines.checkpoints import Checkpoints
from pipelines.evaluate import evaluate_bundle
from pipelines.monitor import TrainingDiverged
from pipelines.run import Hardware, Images, Phase, Run
from pipelines.train import resume, train
from tests.pipelines import small


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    return train(small.run(tmp_path_factory.mktemp("runs") / "digits"), progress=False)


def test_it_learns_the_digits(finished):
    assert finished.scores.accuracy > 0.9
    assert finished.scores.examples == finished.info["images"]["test"]
    assert finished.classes == tuple("0123456789")


def test_the_bundle_is_complete(finished):
    names = {path.name for path in finished.path.iterdir()}
    assert names == {
        "README.md", "bundle.json", "confusion.png", "evaluation.json",
        "history.csv", "history.json", "labels.txt", "learning_rates.png", "model.keras", "run.json", "tensorboard",
    }  # fmt: skip
    card = (finished.path / "README.md").read_text()
    assert f"**{finished.scores.accuracy:.2%}**" in card
    assert "| 0 |" in card
    assert bundle.load(finished.path) == finished


def test_the_saved_model_scores_what_was_logged(finished):
    assert evaluate_bundle(finished) == finished.scores


def test_the_same_run_from_its_json_gives_the_same_weights(finished, tmp_path):
    text = (finished.path / "run.json").read_text()
    again = train(dataclasses.replace(Run.from_json(text), out=tmp_path / "again"), progress=False)
    for a, b in zip(finished.load_model().get_weights(), again.load_model().get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.slow
def test_a_folder_of_images(tmp_path):
    data = Images(str(small.folder(tmp_path / "colours")), size=16)
    phases = (Phase(8, 3e-2, unfreeze="all", batch_norm="train"),)
    result = train(small.run(tmp_path / "out", data=data, phases=phases, batch=8), progress=False)
    assert result.classes == ("blue", "green", "red")
    assert result.scores.accuracy == 1.0


@pytest.mark.parametrize("precision", [pytest.param("bfloat16", marks=pytest.mark.slow), "float16"])
def test_mixed_precision_learns_and_reloads(precision, tmp_path):
    result = train(small.run(tmp_path / "out", hardware=Hardware(precision=precision)), progress=False)
    assert result.scores.accuracy > 0.85
    reloaded = result.load_model()
    assert reloaded.get_layer("stem_conv").dtype_policy.name == f"mixed_{precision}"
    assert reloaded.output.dtype == "float32"
    assert keras.config.dtype_policy().name == "float32"


def test_nothing_is_overwritten_unasked(tmp_path):
    out = tmp_path / "out"
    first = train(small.quick(out), progress=False)
    with pytest.raises(FileExistsError, match="--overwrite"):
        train(small.quick(out, seed=1), progress=False)
    assert bundle.load(out) == first
    before = first.load_model().get_weights()
    other = train(small.quick(out, seed=1), overwrite=True, progress=False)
    assert other.run.seed == 1
    assert not any(
        np.array_equal(a, b) for a, b in zip(before, other.load_model().get_weights(), strict=True) if a.ndim > 1
    )

    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    with pytest.raises(FileExistsError, match="no result of a run"):
        train(small.quick(tmp_path / "mine"), overwrite=True, progress=False)
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "years of work"


def test_bad_input_leaves_no_folder(tmp_path):
    for changes in ({"data": Images(str(tmp_path / "nowhere"))}, {"model": "resnet81"}, {"overrides": {"deepness": 3}}):
        with pytest.raises((ValueError, FileNotFoundError)):
            train(small.quick(tmp_path / "out", **changes), progress=False)
        assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_a_killed_run_is_no_bundle_until_it_is_resumed(tmp_path):
    """SIGKILL as soon as the first epoch is on disk; what is there is whole and can be gone on from."""
    run = small.run(tmp_path / "out", phases=(Phase(3, 1e-3, unfreeze="all", batch_norm="train"),), save_steps=5)
    (tmp_path / "run.json").write_text(run.to_json())
    program = (
        "import pathlib, sys; from pipelines.run import Run; from pipelines.train import train;"
        "train(Run.from_json(pathlib.Path(sys.argv[1]).read_text()), progress=False)"
    )
    child = subprocess.Popen([sys.executable, "-c", program, str(tmp_path / "run.json")], stderr=subprocess.PIPE)
    best = run.out / "best.weights.h5"
    deadline = time.monotonic() + 120
    while not best.exists() and child.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    os.kill(child.pid, signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL, child.stderr.read().decode()[-2000:]
    with pytest.raises(FileNotFoundError, match="did not finish"):
        bundle.load(run.out)
    import zoo

    model = zoo.create("resnet18", classes=10, size=16, **small.TINY_RESNET)
    model.load_weights(best)
    assert all(np.isfinite(w).all() for w in model.get_weights())
    resumed = resume(run.out, progress=False)
    whole = train(dataclasses.replace(run, out=tmp_path / "whole"), progress=False)
    for a, b in zip(resumed.load_model().get_weights(), whole.load_model().get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    assert resumed.scores == whole.scores
    assert sorted(path.name for path in run.out.iterdir()) == sorted(path.name for path in whole.path.iterdir())


def test_a_run_that_died_at_its_card_is_completed(tmp_path):
    made = train(small.quick(tmp_path / "out"), progress=False)
    card_text = (made.path / "README.md").read_text()
    (made.path / "README.md").unlink()
    (made.path / "checkpoints").mkdir()
    assert resume(made.path, progress=False) == made
    assert (made.path / "README.md").read_text() == card_text
    assert not (made.path / "checkpoints").exists()


def test_a_run_that_diverges_names_the_step_the_files_and_the_layer(tmp_path):
    small.folder(tmp_path / "colours")
    run = Run(
        "cnn",
        Images(str(tmp_path / "colours"), size=16, augment="none"),
        (Phase(3, 1e25, unfreeze="all", warmup=0.0),),
        tmp_path / "out",
        overrides={"widths": (4, 8), "hidden": 16},
        batch=8,
    )
    with pytest.raises(TrainingDiverged) as told:
        train(run, progress=False)
    text = str(told.value)
    assert "phase 1, epoch 1, step 2" in text
    assert re.search(r"Before the step: the first output that is not finite is that of 'stage\d_conv' \(Conv2D\)", text)
    named = text.partition("The batch: ")[2].rstrip(".").split(", ")
    assert len(named) == 8 and all(Path(name).is_file() for name in named)


def test_a_run_whose_data_have_changed_is_not_resumed(tmp_path):
    small.folder(tmp_path / "colours")
    run = small.quick(tmp_path / "out", data=Images(str(tmp_path / "colours"), size=16), batch=8)
    checkpoints = Checkpoints(run.out / "checkpoints")
    bundle.prepare(run, datasets.load(run))
    known = {"classes": ["blue", "green", "red"], "train": 3, "validation": 1, "test": 1}
    checkpoints.save({}, {"position": {"step": 1}, "data": known})
    with pytest.raises(ValueError, match="data have changed since the run"):
        resume(run.out, progress=False)


def test_a_bundle_of_a_later_version_is_refused(finished, tmp_path):
    for name in ("run.json", "bundle.json"):
        (tmp_path / name).write_text((finished.path / name).read_text())
    info = json.loads((tmp_path / "bundle.json").read_text())
    (tmp_path / "bundle.json").write_text(json.dumps({**info, "format": bundle.FORMAT + 1}))
    with pytest.raises(ValueError, match=f"format {bundle.FORMAT + 1}"):
        bundle.load(tmp_path)


def test_a_bundle_of_the_first_format_is_read(finished, tmp_path):
    """What is new since then is taken out of its files: kinds of data, tasks, losses, files of a model."""
    shutil.copytree(finished.path, tmp_path / "old")
    run = json.loads((tmp_path / "old" / "run.json").read_text())
    info = json.loads((tmp_path / "old" / "bundle.json").read_text())
    scores = json.loads((tmp_path / "old" / "evaluation.json").read_text())
    del run["task"], run["loss"], run["data"]["kind"], info["task"], info["targets"], info["files"], scores["kind"]
    scores["images"] = scores.pop("examples")
    for name, values in (("run", run), ("bundle", {**info, "format": 1}), ("evaluation", scores)):
        (tmp_path / "old" / f"{name}.json").write_text(json.dumps(values))
    old = bundle.load(tmp_path / "old")
    assert (old.run, old.classes, old.task, old.scores) == (finished.run, finished.classes, "classify", finished.scores)
    assert evaluate_bundle(old) == finished.scores
    card.write(old.path)
    assert (old.path / "README.md").read_text() == (finished.path / "README.md").read_text()
