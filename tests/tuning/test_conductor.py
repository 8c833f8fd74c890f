"""Searches that end, are interrupted, killed, gone on with: the same trials each time, and none of them twice."""

import json
import math
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from pipelines.interruption import Interrupted, Interruption
from tests.tuning.played import carry_out, plan, played
from tuning import journal
from tuning.carrier import checked
from tuning.journal import Created, Ended, JournalError
from tuning.plan import NAME
from tuning.trial import FOLDER, Result

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def processes():
    with played() as found:
        yield found


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "search"
    path.mkdir()
    return path


def begin(folder: Path, *arguments, **options) -> Path:
    (folder / NAME).write_text(plan(*arguments, **options).to_json())
    return folder


def what_was_tried(folder: Path) -> list[tuple]:
    """The values and the scores of each trial."""
    return [
        (trial.id, dict(trial.values), trial.result and (trial.result.status, dict(trial.result.scores)))
        for trial in journal.trials(journal.read(folder))
    ]


def starts(folder: Path) -> dict[str, int]:
    """How often each trial was begun."""
    found = sorted((folder / FOLDER).glob("*/starts.txt"))
    return {path.parent.name: len(path.read_text().splitlines()) for path in found}


def cut(source: Path, target: Path, events: int) -> None:
    """The folder as it was when the process died after so many events."""
    shutil.copytree(source, target)
    lines = (source / journal.NAME).read_text().splitlines(keepends=True)
    (target / journal.NAME).write_text("".join(lines[:events]))
    known = {event.trial for event in journal.read(target)}
    for path in (target / FOLDER).iterdir():
        if path.name not in known:
            shutil.rmtree(path)
    open_ = {trial.id for trial in journal.trials(journal.read(target)) if trial.result is None}
    for name in open_:
        (target / FOLDER / name / "result.json").unlink()


@pytest.mark.parametrize("oracle", ["random", "grid", "bayesian", "hyperband"])
def test_a_search_that_died_at_any_event_goes_on_to_the_same_trials(oracle, folder, processes, tmp_path):
    learning_rate = {"choice": [1e-4, 1e-3, 1e-2]} if oracle == "grid" else {"float": [1e-5, 1e-1], "sampling": "log"}
    begin(folder, oracle, trials=5, **{"recipe.learning_rate": learning_rate})
    carry_out(folder, processes=processes)
    known = what_was_tried(folder)
    assert len(known) == 5
    assert all(result[0] == "completed" for _, _, result in known)
    for events in (1, 2, 7) if oracle == "random" else (5,):
        again = tmp_path / f"again{events}"
        cut(folder, again, events)
        before = starts(again)
        carry_out(again, processes=processes)
        assert what_was_tried(again) == known
        over = {event.trial for event in journal.read(folder)[:events] if isinstance(event, Ended)}
        assert all(count == before[trial] for trial, count in starts(again).items() if trial in over)


def test_another_seed_tries_other_values(folder, processes, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    for path, seed in ((folder, 0), (other, 1)):
        values = json.loads(plan(trials=3).to_json())
        (path / NAME).write_text(json.dumps({**values, "seed": seed}))
        carry_out(path, processes=processes)
    assert what_was_tried(folder)[1:] != what_was_tried(other)[1:]


def test_a_trial_that_fails_says_why_and_the_search_goes_on(folder, processes):
    begin(folder, "grid", batch=[13, 32], **{"recipe.learning_rate": [1e-3]})
    carry_out(folder, processes=processes)
    found = journal.trials(journal.read(folder))
    assert [trial.status for trial in found if trial.values["batch"] == 32] == ["completed"] * 2
    failed = [trial.result.reason for trial in found if trial.values["batch"] == 13]
    assert failed == ["A batch of 13 brings bad luck."] * 2


def test_values_that_make_no_run_fail_their_trial(folder, processes):
    begin(folder, "grid", trials=4, **{"phases.*.warmup": [0.1, 2.0], "recipe.learning_rate": 1e-3})
    carry_out(folder, processes=processes)
    reasons = [trial.result.reason for trial in journal.trials(journal.read(folder)) if trial.status == "failed"]
    assert len(reasons) == 2
    assert "warmup=2.0" in reasons[0]


def test_a_search_whose_first_trials_all_fail_ends(folder, processes):
    begin(folder, trials=9, batch=13)
    conductor = carry_out(folder, processes=processes)
    assert conductor.hopeless
    assert len(conductor.trials) == 5
    carry_out(folder, processes=processes)  # whoever goes on with it has hope again
    assert len(journal.trials(journal.read(folder))) == 9


def test_a_result_without_a_finite_score_is_a_failure():
    result = checked(Result("completed", scores={"val_loss": math.inf, "loss": 0.5}), plan())
    assert (result.status, result.scores) == ("failed", {"loss": 0.5})
    assert result.reason == "val_loss is no finite number; it has loss."
    assert checked(None, plan()) is None


def test_two_trials_at_a_time(folder, processes):
    begin(folder, trials=4)
    (folder / "waits").touch()
    threading.Timer(1.0, (folder / "waits").unlink).start()
    carry_out(folder, processes=processes, parallel=2)
    events = journal.read(folder)
    assert [type(event) for event in events[:2]] == [Created, Created]
    assert {event.hand for event in events[:2]} == {"hand0", "hand1"}
    assert all(trial.status == "completed" for trial in journal.trials(events))
    assert len(journal.trials(events)) == 4


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_the_trials_which_go_on_later(number, folder, processes):
    begin(folder, trials=3)
    (folder / "waits").touch()
    asked = Interruption()
    threading.Timer(0.8, asked._take, [number, None]).start()
    with pytest.raises(Interrupted):
        carry_out(folder, processes=processes, asked=asked, parallel=2)
    assert [trial.status for trial in journal.trials(journal.read(folder))] == ["running"] * 2
    (folder / "waits").unlink()
    carry_out(folder, processes=processes)
    assert [trial.status for trial in journal.trials(journal.read(folder))] == ["completed"] * 3
    assert starts(folder) == {"0000": 2, "0001": 2, "0002": 1}


def test_a_budget_that_is_over_stops_the_trials_which_go_on_later(folder, processes):
    begin(folder, trials=3)
    (folder / "waits").touch()
    conductor = carry_out(folder, processes=processes, budget=0.8)
    assert conductor.left == 3
    (folder / "waits").unlink()
    assert carry_out(folder, processes=processes).left == 0
    assert [trial.status for trial in journal.trials(journal.read(folder))] == ["completed"] * 3


def test_a_trial_that_somebody_ends_goes_on_but_not_for_ever(folder, processes):
    begin(folder, trials=1)
    (folder / "ends_itself").touch()
    (trial,) = carry_out(folder, processes=processes).trials
    assert trial.status == "failed"
    assert "ended by somebody else 3 times" in trial.result.reason
    assert starts(folder) == {"0000": 3}


def test_only_the_best_trials_keep_their_checkpoints(folder, processes):
    begin(folder, trials=5)
    conductor = carry_out(folder, processes=processes)
    kept = [path.parent.name for path in (folder / FOLDER).glob("*/checkpoints")]
    assert kept == [min(conductor.trials, key=lambda trial: trial.result.scores["val_loss"]).id]


def test_one_process_searches_at_a_time(folder, processes):
    begin(folder, trials=1)
    with journal.Journal(folder), pytest.raises(JournalError, match="Another process goes on with the search"):
        carry_out(folder, processes=processes)


@pytest.mark.slow
def test_killed_without_warning_a_search_ends_with_the_trials_of_an_undisturbed_one(folder, processes, tmp_path):
    begin(folder, "random", trials=4)
    undisturbed = tmp_path / "undisturbed"
    shutil.copytree(folder, undisturbed)
    carry_out(undisturbed, processes=processes)
    (folder / "waits").touch()
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen([sys.executable, "-m", "tests.tuning.played", str(folder)], env=environment)
    while not (folder / FOLDER / "0000" / "starts.txt").is_file():
        assert process.poll() is None
        time.sleep(0.05)
    process.kill()
    process.wait()
    (folder / "waits").unlink()
    carry_out(folder, processes=processes)
    assert what_was_tried(folder) == what_was_tried(undisturbed)
