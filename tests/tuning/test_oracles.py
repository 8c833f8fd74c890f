"""What is proposed: the same again for the same seed, the rest of it after a journal, all of it within the space."""

from __future__ import annotations

import json
import math
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from tests.tuning.proposals import MIXED, ORACLES, cost, free, plan, points, proposed, search
from tuning import journal, oracles
from tuning.journal import Created, Ended
from tuning.run_model import RunModel
from tuning.space import Choice, Float, Int, Space
from tuning.trial import Result


@pytest.mark.parametrize("oracle", ORACLES)
def test_the_same_seed_makes_the_same_trials_and_another_one_others(oracle):
    found = {seed: proposed(oracle, seed) for seed in (0, 1)}
    random.seed(7)
    assert proposed(oracle, 0) == found[0]
    if oracle != "grid":
        assert found[0][0] == found[1][0]  # the defaults
        assert all(point not in found[1] for point in found[0][1:])


@pytest.mark.slow
def test_another_process_makes_the_same_trials():
    code = (
        "import json; from tests.tuning import proposals as t;"
        "print(json.dumps({o: t.proposed(o, 0) for o in t.ORACLES}))"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "99", "PYTHONPATH": "."}
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    here = json.dumps({oracle: proposed(oracle, 0) for oracle in ORACLES})
    assert json.loads(done.stdout.splitlines()[-1]) == json.loads(here)


@pytest.mark.parametrize("oracle", ORACLES)
def test_after_a_journal_comes_what_would_have_come(oracle, tmp_path):
    whole = search(oracles.make(plan(oracle)))
    assert any(isinstance(event, Ended) and event.result.status == "failed" for event in whole)
    (tmp_path / journal.NAME).touch()
    told = [event if isinstance(event, Created) else Ended(event.trial, _written(event.result)) for event in whole]
    with journal.Journal(tmp_path) as file:
        for event in told:
            file.add(event)
    read = journal.read(tmp_path)
    for cut in (1, 6, len(read) - 1):
        again = oracles.make(plan(oracle))
        oracles.replay(again, read[:cut])
        assert points(json_of(search(again, events=read[:cut]))) == points(json_of(read))


def json_of(events: list[journal.Event]) -> list[journal.Event]:
    """With lists in place of tuples."""
    return [
        Created(event.trial, event.hand, json.loads(json.dumps(dict(event.values))))
        for event in events
        if isinstance(event, Created)
    ]


def _written(result: Result) -> Result:
    """As the search writes what is no number."""
    finite = all(map(math.isfinite, result.scores.values()))
    return result if finite else Result("failed", "no number")


@pytest.mark.parametrize("oracle", ORACLES)
def test_a_search_has_its_number_of_trials_all_of_them_points_of_the_space(oracle, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    made = plan(oracle, trials=12)
    events = search(oracles.make(made))
    assert [event.trial for event in events[::2]] == [f"{number:04d}" for number in range(12)]
    assert points(events)[0].items() >= MIXED.defaults(made.run).items()
    for values in points(events):
        json.dumps(values)
        MIXED.run(made.run, values)
        for asked in MIXED.asked():
            assert asked.name not in values or any(
                values[asked.name] in other.range for other in MIXED.asked() if other.name == asked.name
            )
    assert list(tmp_path.iterdir()) == []


def test_a_grid_is_every_point_once():
    space = Space(
        {
            "batch": Int(2, 8, step=2, sampling="log"),
            "data.augment": Choice("none", "light", when={"batch": (2, 8)}),
            "data.mixup": Float(0, 0.3, step=0.1, when={"data.augment": "light"}),
            "weights": ["bundled", None],
            "patience": [5],
        }
    )
    found = points(search(oracles.make(plan("grid", space, trials=1000)), score=lambda _: Result("failed", "x")))
    assert len(found) == len({json.dumps(values, sort_keys=True) for values in found}) == 2 * (2 * (1 + 4) + 1)


def test_a_grid_has_a_point_for_every_hand():
    space = Space({"batch": [16, 32, 64], "weights": ["bundled", None]})
    oracle = oracles.make(plan("grid", space, trials=99))
    trials = [oracles.propose(oracle, f"hand{hand}") for hand in range(6)]
    assert len({(trial.values["batch"], trial.values["weights"]) for trial in trials}) == 6
    for trial in trials:
        oracles.end(oracle, trial.id, free(trial.values), oracle.plan)
    assert oracles.propose(oracle, "hand0") == "stopped"


def test_a_grid_takes_ten_of_numbers_without_a_step():
    found = points(search(oracles.make(plan("grid", Space({"label_smoothing": Float(0, 0.5)}), trials=99)), score=free))
    assert len(found) == 11  # the default too
    assert sorted(values["label_smoothing"] for values in found)[1] == pytest.approx(0.025)


@pytest.mark.parametrize("oracle", ["random", "bayesian", "pareto", "hyperband", "grid"])
def test_a_small_space_is_tried_out_and_no_point_twice(oracle):
    space = Space({"batch": [16, 32, 64], "weights": ["bundled", None]})
    found = points(search(oracles.make(plan(oracle, space, trials=50)), score=free))
    fresh = [(values["batch"], values["weights"]) for values in found if not values.get("tuner/initial_epoch")]
    assert len(set(fresh)) == len(fresh) >= 5


@pytest.mark.parametrize("oracle", ORACLES)
def test_nothing_to_choose_is_one_trial(oracle):
    found = points(search(oracles.make(plan(oracle, Space({"batch": 16}), max_epochs=1)), score=free))
    assert [values["batch"] for values in found] == [16]


def test_hundreds_of_failures_do_not_stop_an_oracle():
    assert len(points(search(oracles.make(plan(trials=150)), score=lambda _: Result("failed", "x")))) == 150


def test_trials_that_run_at_once_are_replayed_too():
    oracle, events = oracles.make(plan("bayesian")), []
    running = {}
    for step in range(8):
        hand = f"hand{step % 3}"
        if hand in running:
            trial = running.pop(hand)
            events.append(Ended(trial.id, cost(trial.values)))
            oracles.end(oracle, trial.id, events[-1].result, oracle.plan)
        running[hand] = oracles.propose(oracle, hand)
        events.append(Created(running[hand].id, hand, running[hand].values))
    again = oracles.make(plan("bayesian"))
    oracles.replay(again, events)
    for hand, trial in running.items():
        assert oracles.propose(again, hand) == trial
    assert oracles.propose(again, "one more") == oracles.propose(oracle, "one more")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"batch": [16, 32]}, "'batch' has no value"),
        ({"label_smoothing": Float(0.05, 0.2)}, "0.0 is not in Float"),
        ({"patience": Int(2, 9)}, "'patience' has no value"),
    ],
)
def test_a_space_that_was_changed_is_told(change, said):
    oracle = oracles.make(plan(space=MIXED | Space(change)))
    values = MIXED.defaults() | {"label_smoothing": 0.0, "recipe": "fine_tuning"}
    with pytest.raises(oracles.SpaceChanged, match=rf"(?s)trial 0000 .*{said}.*new search"):
        oracles.replay(oracle, [Created("0000", "hand0", values)])


def test_an_oracle_that_was_changed_is_told():
    events = search(oracles.make(plan("random")))
    with pytest.raises(oracles.SpaceChanged, match="trial 0001"):
        oracles.replay(oracles.make(plan("grid")), events)
    with pytest.raises(oracles.SpaceChanged, match=r"trial 0001 .*now there comes Trial\(id='0000'"):
        oracles.replay(oracles.make(plan("random")), events[2:])


def test_a_hyper_model_builds_runs():
    made = plan("random")
    oracle, model = oracles.make(made), RunModel(made.space, made.run)
    for hand in range(5):
        trial = oracles.propose(oracle, f"hand{hand}")
        assert model.build(oracle.trials[trial.id].hyperparameters) == made.space.run(made.run, trial.values)


def test_a_hyper_model_declares_what_is_not_known():
    import keras_tuner

    found, made = keras_tuner.HyperParameters(), plan("random")
    assert RunModel(made.space, made.run).build(found) == made.space.run(made.run, made.space.defaults(made.run))
    assert {hp.name for hp in found.space} == {asked.key for asked in made.space.asked()}


@pytest.mark.parametrize("wrong", [{"seed": -1}, {"seed": None}, {"trials": 0}, {"max_epochs": 0}, {"factor": 1}])
def test_a_plan_with_a_wrong_number_is_refused(wrong):
    with pytest.raises(ValueError, match=rf"Plan\({next(iter(wrong))}="):
        plan(**wrong)
