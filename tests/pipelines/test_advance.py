"""A run that is trained a few epochs at a time ends as one that is trained at once."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from pipelines.checkpoints import Checkpoints
from pipelines.data import Tables
from pipelines.monitor import History
from pipelines.recipes import from_scratch
from pipelines.run import Phase, Run
from pipelines.train import advance, resume, train

PHASES = (Phase(1, 1e-2, unfreeze=1), Phase(2, 1e-2, unfreeze="all", warmup=0.2))


def run(out: Path, **changes) -> Run:
    """A few layers on the irises, in two phases."""
    values = {"model": "mlp", "data": Tables("iris", "target"), "phases": PHASES, "out": out, "batch": 16}
    return Run(**{**values, "overrides": {"widths": (8,), "dropout": 0.2}, "seed": 3, **changes})


def told(history: History) -> list[tuple]:
    return [(e.phase, e.epoch, *e.metrics.values(), e is history.best) for e in history.epochs]


def logged(out: Path) -> list[tuple]:
    return told(History.from_json((out / "history.json").read_text()))


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    return train(run(tmp_path_factory.mktemp("run") / "whole"), progress=False)


def test_epoch_by_epoch_it_becomes_what_it_becomes_at_once(undisturbed, tmp_path):
    whole = logged(undisturbed.path)
    for epochs in (1, 2):  # a phase's end, and within the next
        history = advance(run(tmp_path / "run"), epochs=epochs)
        assert [line[:-1] for line in told(history)] == [line[:-1] for line in whole[:epochs]]
        assert not list((tmp_path / "run").glob("*.keras"))
        assert not (tmp_path / "run" / "evaluation.json").exists()
    bundle = resume(tmp_path / "run", progress=False)
    assert logged(bundle.path) == whole
    assert bundle.scores == undisturbed.scores
    for found, known in zip(bundle.load_model().get_weights(), undisturbed.load_model().get_weights(), strict=True):
        np.testing.assert_array_equal(found, known)


def test_at_its_end_nothing_is_done_anew(undisturbed, tmp_path):
    assert told(advance(run(tmp_path / "run"))) == logged(undisturbed.path)
    last = Checkpoints(tmp_path / "run" / "checkpoints").numbers()[-1]
    assert told(advance(run(tmp_path / "run"), epochs=2)) == logged(undisturbed.path)
    assert Checkpoints(tmp_path / "run" / "checkpoints").numbers()[-1] == last


def test_patience_counts_on(tmp_path):
    impatient = {"phases": (Phase(9, 1e-9),), "patience": 2}  # whose first epochs are as good as all others
    whole = train(run(tmp_path / "whole", **impatient), progress=False)
    assert len(logged(whole.path)) < 9
    advance(run(tmp_path / "run", **impatient), epochs=len(logged(whole.path)) - 1)
    assert logged(resume(tmp_path / "run", progress=False).path) == logged(whole.path)


def test_data_without_a_validation_split_are_refused(tmp_path):
    data = Tables("iris", "target", split=(0.8, 0.0, 0.2))
    with pytest.raises(ValueError, match=r"'iris' has no validation rows.*Tables\(split="):
        advance(run(tmp_path / "run", data=data))
    assert not (tmp_path / "run").exists()


def test_what_else_lies_in_the_folder_is_left_alone(undisturbed, tmp_path):
    with pytest.raises(FileExistsError, match="has come to its end"):
        advance(dataclasses.replace(undisturbed.run, out=undisturbed.path))
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="no result of a run"):
        advance(run(tmp_path))
    assert (tmp_path / "mine.txt").read_text() == "mine"
    for wrong in (0, 1.5, True):
        with pytest.raises(ValueError, match="whole number of at least 1"):
            advance(run(tmp_path / "run"), epochs=wrong)


def test_another_run_in_the_folder_is_told_of_and_what_a_search_keeps_there_stays(tmp_path):
    (tmp_path / "run").mkdir()
    for name in ("job.json", "log.txt"):
        (tmp_path / "run" / name).write_text(name)
    advance(run(tmp_path / "run"), epochs=1)
    for name in ("job.json", "log.txt"):
        assert (tmp_path / "run" / name).read_text() == name
    with pytest.raises(ValueError, match=r"its phases, seed are not this one's"):
        advance(run(tmp_path / "run", phases=from_scratch(epochs=2), seed=4))
    known = json.loads((tmp_path / "run" / "run.json").read_text())
    assert known["seed"] == 3
