"""TensorBoard's curves, read back with TensorBoard's own reader."""

from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from pipelines import optimizer
from pipelines.engine import Step
from pipelines.freezing import Freezer, find_groups
from pipelines.monitor import Epoch
from pipelines.run import Phase
from pipelines.tensorboard import TensorBoard
from tests.pipelines import toy

PHASE = Phase(2, 1e-2, unfreeze=2, layer_decay=0.5, warmup=0.25)
LEARNING = ["head", "stage2"]


def curves(folder: Path) -> dict[str, dict[str, list[tuple[int, float]]]]:
    """{set: {tag: [(step, value), ...]}}."""
    found = {}
    for path in sorted(folder.iterdir()):
        events = EventAccumulator(str(path), size_guidance={"tensors": 0})
        events.Reload()
        found[path.name] = {
            tag: [(event.step, float(tf.make_ndarray(event.tensor_proto))) for event in events.Tensors(tag)]
            for tag in events.Tags()["tensors"]
        }
    return found


def steps(curve: list[tuple[int, float]]) -> list[int]:
    return [step for step, _ in curve]


@pytest.fixture
def model():
    """Compiled with the optimizer of a phase of 2 epochs of 4 steps."""
    model = toy.model()
    groups = find_groups(model)
    Freezer(model, groups).apply(PHASE)
    model.compile(optimizer.build(model, groups, PHASE, steps=8), loss="mse")
    return model


def watcher(folder: Path, model: keras.Model, *, every: int = 1, start: int = 0) -> TensorBoard:
    found = TensorBoard(folder, model=model, groups=find_groups(model), start=start, every=every)
    found.begin_phase(1, PHASE, LEARNING)
    return found


def train(board: TensorBoard, model: keras.Model, numbers: range, *, epoch: int, done: int = 0, sign: int = 1) -> None:
    """Steps of zero gradients; the loss of step n is n, times the sign."""
    board.begin_epoch(epoch, 4, done)
    for number in numbers:
        model.optimizer.apply([tf.zeros(v.shape) for v in model.trainable_variables], model.trainable_variables)
        board.after_step(number, Step(sign * float(number), (10.0 * number, 20.0 * number)))


def ended(epoch: int, value: float = 1.0) -> Epoch:
    metrics = {"loss": value, "accuracy": 0.5, "val_loss": 2 * value, "val_accuracy": 0.25}
    return Epoch(phase=1, epoch=epoch, learning_rate=1e-2, metrics=metrics, seconds=1.0)


def test_steps_and_epochs_are_written(tmp_path, model):
    board = watcher(tmp_path, model)
    for epoch in (1, 2):
        train(board, model, range(epoch * 4 - 3, epoch * 4 + 1), epoch=epoch)
        board.after_epoch(ended(epoch, epoch))
    board.close()
    found = curves(tmp_path)
    assert found["steps"]["loss"] == [(n, float(n)) for n in range(1, 9)]
    assert found["steps"]["gradient_norm/head"] == [(n, 10.0 * n) for n in range(1, 9)]
    assert found["steps"]["gradient_norm/stage2"] == [(n, 20.0 * n) for n in range(1, 9)]
    assert found["train"] == {"epoch/loss": [(4, 1.0), (8, 2.0)], "epoch/accuracy": [(4, 0.5), (8, 0.5)]}
    assert found["validation"] == {"epoch/loss": [(4, 2.0), (8, 4.0)], "epoch/accuracy": [(4, 0.25), (8, 0.25)]}


def test_the_learning_rate_is_that_of_the_step(tmp_path, model):
    """Warm-up of 2 of 8 steps from 0 to the peak, then half a cosine; the group before the last at half of it."""
    board = watcher(tmp_path, model)
    train(board, model, range(1, 9), epoch=1)
    board.close()
    found = curves(tmp_path)["steps"]
    expected = [0, 5e-3, *(1e-2 * (1 + np.cos(np.pi * n / 6)) / 2 for n in range(6))]
    assert steps(found["learning_rate/head"]) == list(range(1, 9))
    assert [rate for _, rate in found["learning_rate/head"]] == pytest.approx(expected, abs=1e-8)
    assert [rate for _, rate in found["learning_rate/stage2"]] == pytest.approx([r / 2 for r in expected], abs=1e-8)


@pytest.mark.parametrize("kind", ["plain", "float16"])
def test_the_learning_rate_of_other_optimizers(tmp_path, kind):
    model = toy.model()
    inner = keras.optimizers.SGD(0.25)
    model.compile(keras.optimizers.LossScaleOptimizer(inner) if kind == "float16" else inner, loss="mse")
    model.optimizer.build(model.trainable_variables)
    board = watcher(tmp_path, model)
    board.begin_epoch(1, 4, 0)
    board.after_step(1, Step(1.0, (1.0, 1.0)))
    board.close()
    assert curves(tmp_path)["steps"]["learning_rate/stage2"] == [(1, 0.25)]


def test_every_few_steps_and_the_first(tmp_path, model):
    board = watcher(tmp_path, model, every=3)
    train(board, model, range(1, 9), epoch=1)
    board.close()
    found = curves(tmp_path)["steps"]
    assert steps(found["loss"]) == steps(found["learning_rate/head"]) == [1, 3, 6]
    assert found["learning_rate/head"][1][1] == pytest.approx(1e-2)  # of the third step, the first after the warm-up


def test_a_resume_in_the_middle_of_an_epoch_has_one_value_a_step(tmp_path, model):
    """The first process got to step 7 and its last checkpoint is of step 5; it died without closing its files."""
    first = watcher(tmp_path, model)
    train(first, model, range(1, 5), epoch=1)
    first.after_epoch(ended(1))
    train(first, model, range(5, 8), epoch=2, sign=-1)
    first.before_checkpoint()
    second = watcher(tmp_path, model, start=5)
    train(second, model, range(6, 9), epoch=2, done=1)
    second.after_epoch(ended(2))
    second.close()
    found = curves(tmp_path)
    assert found["steps"]["loss"] == [(1, 1), (2, 2), (3, 3), (4, 4), (5, -5), (6, 6), (7, 7), (8, 8)]
    assert steps(found["train"]["epoch/loss"]) == steps(found["validation"]["epoch/accuracy"]) == [4, 8]


@pytest.mark.parametrize("tells_of_the_epoch", [True, False])
def test_a_resume_before_a_validation_replaces_that_epoch(tmp_path, model, tells_of_the_epoch):
    """The checkpoint is of the epoch's last step; the process died after the validation, or before it was written."""
    first = watcher(tmp_path, model)
    train(first, model, range(1, 5), epoch=1)
    first.after_epoch(ended(1, 7.0))
    first.close()
    second = watcher(tmp_path, model, start=4)
    if tells_of_the_epoch:
        second.begin_epoch(1, 4, 4)
    second.after_epoch(ended(1, 9.0))
    second.close()
    found = curves(tmp_path)
    assert steps(found["steps"]["loss"]) == [1, 2, 3, 4]
    assert found["train"]["epoch/loss"] == [(4, 9.0)]
    assert found["validation"]["epoch/loss"] == [(4, 18.0)]


def test_a_resume_at_the_beginning_of_an_epoch_keeps_the_one_before(tmp_path, model):
    first = watcher(tmp_path, model)
    train(first, model, range(1, 5), epoch=1)
    first.after_epoch(ended(1, 7.0))
    first.close()
    second = watcher(tmp_path, model, start=4)
    train(second, model, range(5, 9), epoch=2)
    second.after_epoch(ended(2, 9.0))
    second.close()
    found = curves(tmp_path)
    assert found["train"]["epoch/loss"] == [(4, 7.0), (8, 9.0)]
    assert steps(found["steps"]["loss"]) == list(range(1, 9))


def test_a_file_that_ends_within_an_event_is_mended(tmp_path, model):
    first = watcher(tmp_path, model)
    train(first, model, range(1, 5), epoch=1)
    first.close()
    path = next((tmp_path / "steps").iterdir())
    path.write_bytes(path.read_bytes()[:-9])
    left_behind = path.with_name(f".1.partial.{path.name}")
    left_behind.write_bytes(b"")
    second = watcher(tmp_path, model, start=2)
    train(second, model, range(3, 7), epoch=1, done=2)
    second.close()
    assert not left_behind.exists()
    assert steps(curves(tmp_path)["steps"]["loss"]) == list(range(1, 7))


def test_a_new_fit_in_the_same_folder_begins_anew(tmp_path, model):
    for sign in (-1, 1):
        board = watcher(tmp_path, model)
        train(board, model, range(1, 4), epoch=1, sign=sign)
        board.close()
    assert curves(tmp_path)["steps"]["loss"] == [(1, 1), (2, 2), (3, 3)]


def test_values_come_to_the_disk_with_a_checkpoint(tmp_path, model):
    board = watcher(tmp_path, model)
    train(board, model, range(1, 4), epoch=1)
    board.before_checkpoint()
    assert steps(curves(tmp_path)["steps"]["loss"]) == [1, 2, 3]
    board.close()
