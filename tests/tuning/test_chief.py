"""A chief and its workers, over real connections on this machine; the trials here train nothing."""

import socket
import time

import pytest

from pipelines.interruption import Interrupted, Interruption
from pipelines.run import Images, Phase, Run
from tuning.carrier import Done
from tuning.chief import Chief, ChiefError
from tuning.plan import Objective, Plan
from tuning.protocol import TrialStatus, address
from tuning.space import Choice, Space
from tuning.trial import Result, Trial
from tuning.worker import ChiefLost, Client

LEASE = 1.0
FIRST = Trial("0", {"batch": 8, "recipe.learning_rate": 1e-3, "overrides.widths": [4, 8], "weights": None})
SECOND = Trial("1", {"batch": 16})
GOOD = Result("completed", scores={"val_loss": 0.25, "val_accuracy": 0.875}, epochs=2, seconds=1.5, memory=10)


@pytest.fixture
def plan(tmp_path):
    run = Run("lenet5", Images("digits"), (Phase(1, 1e-3),), tmp_path)
    return Plan(run, Space({"batch": Choice((8, 16))}), (Objective.of("val_loss"),))


@pytest.fixture
def chief(plan, tmp_path):
    with Chief(plan, tmp_path, listen=f"127.0.0.1:{free_port()}", lease=LEASE) as found:
        yield found


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def client(chief: Chief, name: str, *, patience: float = 20.0) -> Client:
    return Client(chief.address, name=name, patience=patience, asked=Interruption())


def test_a_worker_gets_a_trial_as_it_is_and_its_result_comes_back(chief, tmp_path):
    with client(chief, "one") as one, client(chief, "two") as two:
        assert one.folder() == tmp_path
        assert one.ask() == TrialStatus.IDLE
        chief.start(FIRST)
        chief.start(SECOND)
        assert (one.ask(), two.ask()) == (FIRST, SECOND)
        assert one.ask() == FIRST  # as if the answer had been lost
        assert chief.places == 2
        one.end(FIRST, GOOD)
        two.end(SECOND, Result("failed", "no memory"))
        assert chief.wait(0) == [Done("0", GOOD), Done("1", Result("failed", "no memory"))]
        assert chief.running == ()


def test_a_score_that_is_missing_is_a_failure(chief):
    with client(chief, "one") as one:
        chief.start(FIRST)
        one.ask()
        one.end(FIRST, Result("completed", scores={"val_accuracy": 0.5}))
    (done,) = chief.wait(1)
    assert done.result.status == "failed"
    assert "val_loss" in done.result.reason


def test_what_a_silent_worker_had_comes_back_and_its_late_words_count_no_more(chief):
    with client(chief, "dead") as dead, client(chief, "next") as other:
        chief.start(FIRST)
        assert dead.ask() == FIRST
        assert dead.goes_on(FIRST)
        time.sleep(LEASE / 2)
        assert dead.goes_on(FIRST)
        time.sleep(LEASE / 2)
        assert chief.wait(0) == []  # half a lease after its last word
        assert until(chief, [Done("0", None)])
        chief.start(FIRST)
        assert other.ask() == FIRST
        assert not dead.goes_on(FIRST)
        dead.end(FIRST, Result("completed", scores={"val_loss": 0.0}))
        assert other.goes_on(FIRST)
        other.end(FIRST, GOOD)
        assert chief.wait(0) == [Done("0", GOOD)]


def until(chief: Chief, expected: list[Done]) -> bool:
    """Whether this comes back, in four leases."""
    end = time.monotonic() + 4 * LEASE
    while time.monotonic() < end:
        if found := chief.wait(0.05):
            return found == expected
    return False


def test_what_a_worker_leaves_goes_to_the_next_one(chief):
    with client(chief, "one") as one, client(chief, "two") as two:
        chief.start(FIRST)
        assert one.ask() == FIRST
        one.end(FIRST, None, leaves=True)
        assert chief.wait(0) == []
        assert chief.desk.workers == []
        assert two.ask() == FIRST


def test_a_chief_that_comes_back_lets_workers_go_on(chief):
    """What it finds begun waits for a worker, and one of them has it already, or is done with it."""
    with client(chief, "one") as one, client(chief, "two") as two:
        for trial in (FIRST, SECOND):
            chief.start(trial)
        assert one.goes_on(FIRST)
        two.end(SECOND, GOOD)
        assert chief.wait(0) == [Done("1", GOOD)]
        assert two.ask() == TrialStatus.IDLE


def test_a_trial_that_is_to_stop(chief):
    with client(chief, "one") as one:
        for trial in (FIRST, SECOND):
            chief.start(trial)
        assert one.ask() == FIRST
        for trial in (FIRST, SECOND):
            chief.stop(trial.id)
        assert chief.wait(0) == [Done("1", None)]  # which no worker had
        assert not one.goes_on(FIRST)
        one.end(FIRST, None)
        assert chief.wait(0) == [Done("0", None)]


def test_workers_are_sent_home_at_the_end(plan, tmp_path):
    chief = Chief(plan, tmp_path, listen=f"127.0.0.1:{free_port()}")
    with client(chief, "one") as one:
        with chief:
            assert one.ask() == TrialStatus.IDLE
            chief.desk.close()
            assert one.ask() == TrialStatus.STOPPED
        with pytest.raises(ChiefLost, match="no chief at 127"):
            client(chief, "late", patience=0.5).ask()


def test_a_worker_does_not_wait_for_a_chief_once_it_is_to_end():
    asked = Interruption()
    asked._take(15, None)
    with pytest.raises(Interrupted):
        Client(f"127.0.0.1:{free_port()}", name="one", patience=60, asked=asked).ask()


def test_two_chiefs_cannot_have_the_same_address(chief, plan, tmp_path):
    with pytest.raises(ChiefError, match=f"cannot listen at {chief.address}"):
        Chief(plan, tmp_path, listen=chief.address)


@pytest.mark.parametrize(
    ("text", "found"), [("machine1", "machine1:7070"), ("[::1]:9", "[::1]:9"), ("10.0.0.1:65535", "10.0.0.1:65535")]
)
def test_addresses(text, found):
    assert address(text) == found


@pytest.mark.parametrize("text", ["", ":7070", "host:", "host:0", "host:65536", "http://host:1", "a b:1"])
def test_what_is_no_address(text):
    with pytest.raises(ValueError, match="no address of a chief"):
        address(text)
