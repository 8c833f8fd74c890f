"""Trials that train: what they score, and that stopping them and going on from another one changes nothing of it."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from pipelines.checkpoints import Checkpoints
from pipelines.data import Images, Tables
from pipelines.monitor import History
from pipelines.run import Phase, Run
from tuning.job import Job
from tuning.processes import Processes
from tuning.trial import Result

ROOT = Path(__file__).parents[2]
PHASES = (Phase(1, 1e-2, unfreeze=1), Phase(4, 1e-2, unfreeze="all"))


def run(**changes) -> Run:
    """A few layers on the irises."""
    values = {"model": "mlp", "data": Tables("iris"), "phases": PHASES, "out": Path(), "batch": 16, "patience": 99}
    return Run(**{**values, "overrides": {"widths": (8,), "dropout": 0.2}, **changes})


@pytest.fixture(scope="module")
def processes():
    with Processes() as found:
        yield found


def ended(processes: Processes, job: Job) -> Result | None:
    running = processes.start(job)
    assert processes.wait(120) == [running]
    return running.result


@pytest.fixture(scope="module")
def undisturbed(processes, tmp_path_factory):
    folder = tmp_path_factory.mktemp("trials") / "whole"
    return folder, ended(processes, Job(folder, run()))


def outcome(folder: Path) -> tuple[list, list[np.ndarray]]:
    """The history without seconds, and the best weights."""
    history = History.from_json((folder / "history.json").read_text())
    best = Checkpoints(folder / "checkpoints").latest().best
    return [(e.phase, e.epoch, e.metrics, e is history.best) for e in history.epochs], [best[n] for n in sorted(best)]


def assert_same(folder: Path, other: Path) -> None:
    (history, weights), (known, best) = outcome(folder), outcome(other)
    assert history == known
    for found, expected in zip(weights, best, strict=True):
        np.testing.assert_array_equal(found, expected)


def checkpoints(folder: Path, least: int) -> bool:
    """Wait for so many checkpoints, for some time."""
    end = time.monotonic() + 60
    while (Checkpoints(folder / "checkpoints").numbers() or [0])[-1] < least and time.monotonic() < end:
        time.sleep(0.01)
    return time.monotonic() < end


def test_its_scores_are_those_of_the_weights_that_were_kept(undisturbed):
    folder, result = undisturbed
    history = History.from_json((folder / "history.json").read_text())
    assert result.status == "completed"
    assert result.scores == history.best.metrics
    assert {"val_loss", "val_accuracy"} < set(result.scores)
    assert result.epochs == len(history.epochs) == 5
    assert 0 < result.seconds < 120
    assert 100e6 < result.memory < 4e9
    assert "phase 2/2" in (folder / "log.txt").read_text()
    assert json.loads((folder / "run.json").read_text())["out"] == str(folder)
    assert len(Checkpoints(folder / "checkpoints").numbers()) == 1  # the newest, from which it is concluded
    assert not (folder / "evaluation.json").exists()
    assert not (folder / "model.keras").exists()


def test_stopped_and_gone_on_with_it_ends_the_same(processes, undisturbed, tmp_path):
    running = processes.start(Job(tmp_path, run(save_steps=1)))
    assert checkpoints(tmp_path, 4)
    processes.stop(running)
    assert processes.wait(60) == [running]
    assert running.result is None
    assert "its state is saved" in (tmp_path / "log.txt").read_text()
    assert ended(processes, Job(tmp_path, run(save_steps=1))).scores == undisturbed[1].scores
    assert_same(tmp_path, undisturbed[0])


def test_one_that_goes_on_from_another_ends_the_same(processes, undisturbed, tmp_path):
    first = ended(processes, Job(tmp_path / "0000", run(), epochs=2))
    assert first.epochs == 2
    before = outcome(tmp_path / "0000")[0]
    last = ended(processes, Job(tmp_path / "0001", run(), start=tmp_path / "0000"))
    assert last.scores == undisturbed[1].scores
    assert_same(tmp_path / "0001", undisturbed[0])
    assert before == outcome(tmp_path / "0000")[0]  # which another trial may go on from too


def test_what_cannot_be_trained_fails_with_its_reason(processes, tmp_path):
    wrong = ended(processes, Job(tmp_path / "wrong", run(overrides={"width": 3})))
    assert wrong.status == "failed"
    assert "width" in wrong.reason
    hot = ended(processes, Job(tmp_path / "hot", run(phases=(Phase(3, 1e30, unfreeze="all", warmup=0.0),))))
    assert hot.status == "failed"
    assert hot.reason.startswith("The loss became") or "validation loss" in hot.reason


SEARCH = """
import sys
from pathlib import Path
from tests.tuning.test_trial_process import run
from tuning.job import Job
from tuning.processes import Processes

processes = Processes()
processes.start(Job(Path(sys.argv[1]), run(save_steps=1)))
processes.wait()
"""


@pytest.mark.slow
def test_a_trial_whose_search_is_killed_saves_its_state_and_goes_on(processes, undisturbed, tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    search = subprocess.Popen([sys.executable, "-c", SEARCH, str(tmp_path)], env=environment)
    try:
        assert checkpoints(tmp_path, 4)
    finally:
        search.send_signal(signal.SIGKILL)
        search.wait()
    assert ended(processes, Job(tmp_path, run(save_steps=1))).scores == undisturbed[1].scores
    assert "its state is saved" in (tmp_path / "log.txt").read_text()
    assert_same(tmp_path, undisturbed[0])


@pytest.mark.slow
@pytest.mark.parametrize("quantize", ["none", "int8"])
def test_the_tflite_file_is_measured(processes, tmp_path, quantize):
    digits = Run("lenet5", Images("digits", augment="none"), (Phase(2, 1e-2, unfreeze="all"),), tmp_path, batch=64)
    sizes = {}
    for classes in ("float16", quantize):
        job = Job(tmp_path / classes, digits, measure=("latency", "size"), quantize=classes)
        result = ended(processes, job)
        assert result.status == "completed", result.reason
        sizes[classes] = result.scores["size"]
        assert 0 < result.scores["latency"] < 100
        assert not (job.folder / "measured").exists()
    ratio = sizes[quantize] / sizes["float16"]
    assert 1.5 < ratio < 2.1 if quantize == "none" else 0.4 < ratio < 0.8
