"""The history as CSV and JSON, and what a progress bar says."""

import io
import json
import math

import pytest
from rich.console import Console

from pipelines import monitor
from pipelines.engine import Step
from pipelines.monitor import Epoch, History, ProgressBar
from pipelines.run import Phase

STEP = Step(1.0, (1.0,))


def epoch(number: int, *, loss: float = 0.123456789, **metrics: float) -> Epoch:
    return Epoch(phase=1, epoch=number, learning_rate=1e-3, metrics={"loss": loss, **metrics}, seconds=2.0)


class Clock:
    """Time that passes when it is told to."""

    now = 100.0

    def perf_counter(self) -> float:
        return self.now

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch):
    found = Clock()
    monkeypatch.setattr(monitor, "time", found)
    return found


def bar(*, terminal: bool = False, **options) -> tuple[ProgressBar, io.StringIO]:
    found, stream = ProgressBar(phases=2, **options), io.StringIO()
    found._console = Console(file=stream, force_terminal=terminal, width=100, highlight=False)
    found.begin_phase(1, Phase(3, 1e-3), ["head"])
    return found, stream


def run_epoch(bar: ProgressBar, clock: Clock, seconds: list[float], *, number: int = 1, done: int = 0) -> None:
    bar.begin_epoch(number, done + len(seconds), done)
    for each in seconds:
        clock.now += each
        bar.after_step(1, STEP)


def test_a_history_as_json_and_back():
    epochs = [epoch(1, accuracy=0.5), epoch(2, loss=1 / 3, val_loss=0.25), epoch(3)]
    history = History(epochs, epochs[1])
    again = History.from_json(history.to_json())
    assert again == history
    assert again.best is again.epochs[1]
    assert json.loads(history.to_json())["epochs"][1]["metrics"]["loss"] == 1 / 3  # all digits


def test_json_without_a_best_epoch_and_with_what_is_no_number():
    text = History([epoch(1, val_loss=math.nan, other=math.inf)]).to_json()
    values = json.loads(text, parse_constant=lambda name: pytest.fail(name))
    assert values["best"] is None
    assert values["epochs"][0]["metrics"] == {"loss": 0.123456789, "val_loss": None, "other": None}
    assert math.isnan(History.from_json(text).epochs[0].metrics["val_loss"])


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"epochs": [{}], "best": null}', '{"epochs": [], "best": 1}'])
def test_what_is_no_history(text):
    with pytest.raises(ValueError, match="not a history's JSON"):
        History.from_json(text)


def test_a_line_an_epoch_with_its_speed(clock):
    """The first step of a phase builds the graph: 9 of its 10 seconds are not training."""
    found, stream = bar(batch=32, unit="images")
    run_epoch(found, clock, [10.0, 0.5, 0.5])
    clock.now += 50  # validation
    found.after_epoch(epoch(1, val_loss=0.25))
    run_epoch(found, clock, [0.25, 0.25], number=2)
    found.after_epoch(epoch(2))
    first, *lines = stream.getvalue().splitlines()
    assert first == "phase 1/2: training head"
    assert lines == [
        "  epoch 1/3  loss 0.1235  val_loss 0.2500  64 images/s",
        "  epoch 2/3  loss 0.1235  128 images/s",
    ]


def test_an_epoch_of_one_step_and_one_without_any(clock):
    """After a resume an epoch may have nothing to train, only to validate."""
    found, stream = bar(batch=8, unit="texts")
    found.after_epoch(epoch(1))
    run_epoch(found, clock, [4.0], number=2, done=9)
    found.after_epoch(epoch(2))
    found.after_epoch(epoch(3))
    assert stream.getvalue().splitlines()[1:] == [
        "  epoch 1/3  loss 0.1235",
        "  epoch 2/3  loss 0.1235  2 texts/s",
        "  epoch 3/3  loss 0.1235",
    ]


def test_each_phase_builds_a_graph(clock):
    found, stream = bar(batch=10)
    run_epoch(found, clock, [9.0, 1.0])
    found.after_epoch(epoch(1))
    found.begin_phase(2, Phase(1, 1e-3), ["head"])
    run_epoch(found, clock, [9.0, 2.0])
    found.after_epoch(epoch(1))
    assert [line.split("  ")[-1] for line in stream.getvalue().splitlines() if "epoch" in line] == [
        "10 examples/s",
        "5 examples/s",
    ]


def test_without_a_batch_steps_are_counted(clock):
    found, stream = bar(unit="images")
    run_epoch(found, clock, [1.0, 0.4, 0.6])
    found.after_epoch(epoch(1))
    assert "2 steps/s" in stream.getvalue()


def test_a_terminal_shows_speed_and_time_to_go(clock):
    """A step of 32 images each half second, 3 of 9 done: 3 seconds to go."""
    found, stream = bar(terminal=True, batch=32, unit="images")
    found.begin_epoch(1, 9, 0)
    found._bar.get_time = clock.perf_counter
    for each in (5.0, 0.5, 0.5):
        clock.now += each
        found.after_step(1, STEP)
    found._bar.refresh()
    shown = stream.getvalue()
    assert "64 images/s" in shown
    assert "3/9" in shown
    found.close()
    found.close()  # once more does no harm


def test_a_fit_that_goes_back_leaves_no_bar_behind(clock):
    shown, _ = bar(terminal=True)
    for _ in range(2):
        run_epoch(shown, clock, [1.0, 1.0])
        left = shown._bar
        shown.go_back(0)
        assert not left.live.is_started
        assert shown._bar is None
