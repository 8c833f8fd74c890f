"""A fit goes on where a step has failed: without memory in micro-batches, without numbers at a lower rate."""

import shutil
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from pipelines.checkpoints import Checkpoints
from pipelines.engine import Engine
from pipelines.loop import Settings
from pipelines.monitor import History, TrainingDiverged
from pipelines.objectives.losses import CrossEntropy
from pipelines.optimization import Optimization
from pipelines.recovery import OutOfMemory, in_smaller_batches, more_parts
from pipelines.run import Phase
from pipelines.train import fit
from tests.pipelines import toy

EVERY = 1_000  # checkpoints are kept
GROUPS = [["body"], ["head_logits"]]
PHASES = (Phase(2, 1e-2, unfreeze="all", batch_norm="train"), Phase(1, 1e-2, unfreeze="all", batch_norm="train"))
MARK = 9.0  # in the first pixel of the image that takes much memory


class Hungry(layers.Layer):
    """Passes everything, but has no memory for more examples than `limit` at a time if a marked one is among them."""

    def __init__(self, limit: int, *, always: bool = False):
        super().__init__()
        self.limit, self.always, self.seen, self.failed = limit, always, [], 0
        self.shrinks = False

    def call(self, x, training=False):
        if not training:
            return x
        with tf.control_dependencies([tf.numpy_function(self._eat, [x], tf.int32)]):
            return tf.identity(x)

    def _eat(self, images: np.ndarray) -> np.int32:
        if self.shrinks and len(self.seen) == 3:
            self.limit = 6
        if len(images) > self.limit and (self.always or (images[:, 0, 0, 0] == MARK).any()):
            self.failed += 1
            raise MemoryError("OOM when allocating a tensor")
        self.seen.append(len(images))
        return np.int32(0)


def model(hungry: layers.Layer, *, norm: bool = False) -> keras.Model:
    """(B, 8, 8, 3) -> (B, 3), with a batch norm beside the layer that fails: a failed step changes something."""
    image = keras.Input((8, 8, 3))
    x = layers.BatchNormalization(momentum=0.5, name="norm")(image) if norm else image
    # The layer sees the image, not what the norm makes of it.
    x = layers.Concatenate()([hungry(image), x])
    x = layers.Dense(8, "relu", name="body")(layers.Flatten()(x))
    x = layers.Dropout(0.2)(x) if norm else x
    return keras.Model(image, layers.Dense(3, name="head_logits")(x))


def data(count: int = 48, *, marked: int | None = 37, batch: int = 12) -> tf.data.Dataset:
    images, labels = toy.problem(count)
    if marked is not None:
        images[marked, 0, 0, 0] = MARK
    return tf.data.Dataset.from_tensor_slices((images, labels)).batch(batch)


def fitted(hungry: Hungry, *, norm: bool = False, folder: Path | None = None, go_on: bool = False, **options):
    """The model after a fit, its weights and its history."""
    keras.utils.set_random_seed(0)
    made = model(hungry, norm=norm)
    checkpoints = Checkpoints(folder, keep=EVERY) if folder else None
    groups = [["norm"], *GROUPS] if norm else GROUPS
    settings = {"save_steps": 1 if folder else None, **options.pop("settings", {})}
    history = fit(
        made,
        options.pop("phases", PHASES),
        options.pop("train", data()),
        toy.dataset(24, seed=1),
        groups=groups,
        progress=False,
        checkpoints=checkpoints,
        resumed=checkpoints.latest() if go_on else None,
        settings=Settings(**settings),
    )
    return made.get_weights(), history


def lines(history: History) -> str:
    return str([(e.phase, e.epoch, e.learning_rate, *e.metrics.items(), e is history.best) for e in history.epochs])


def cut(folder: Path, target: Path, last: int) -> Path:
    """The checkpoints of a run that was killed after so many of them."""
    shutil.copytree(folder, target)
    for number in Checkpoints(target).numbers():
        if number > last:
            shutil.rmtree(target / f"checkpoint-{number:06}")
    return target


def test_out_of_memory_halves_the_micro_batch_and_nothing_else():
    """Without batch norm the weights are those of a fit that had the memory."""
    once, undisturbed = fitted(Hungry(99))
    hungry = Hungry(4)
    found, history = fitted(hungry)
    for a, b in zip(found, once, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7)
    for one, other in zip(history.epochs, undisturbed.epochs, strict=True):
        assert one.metrics == pytest.approx(other.metrics, rel=1e-6)
    # Three steps on twelve examples, done again for their state; parts of six fail, of three fit to the end.
    assert hungry.failed == 2
    assert hungry.seen == [12] * 3 * 2 + [3] * 4 * 9
    assert len(history.notes) == 2
    assert "step 4: from there on a batch of 12 goes through in 2 micro-batches" in history.notes[0]
    assert "in 4 micro-batches" in history.notes[1]
    assert "OOM when allocating" in history.notes[0]


def disturbed_and_told(folder: Path) -> tuple[list[np.ndarray], History]:
    """A fit without memory for step 4, in folder/failed; its weights are those of one that is told to divide there."""
    hungry = Hungry(6)
    found, history = fitted(hungry, norm=True, folder=folder / "failed", phases=PHASES[:1])
    assert hungry.failed == 1
    told = cut(folder / "failed", folder / "told", 4)  # the phase's beginning and three steps
    checkpoints = Checkpoints(told, keep=EVERY)
    state = checkpoints.latest().state
    assert (state["position"]["step"], state["course"]["accumulate"]) == (3, 1)
    state["course"]["accumulate"] = 2
    checkpoints.save(checkpoints.latest().arrays, state)
    expected, _ = fitted(Hungry(99), norm=True, folder=told, go_on=True, phases=PHASES[:1])
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_array_equal(a, b)
    return found, history


def test_it_goes_on_from_the_state_before_the_failed_step(tmp_path):
    """With batch norm and dropout, bit for bit; and a run that is resumed keeps what it has found."""
    found, history = disturbed_and_told(tmp_path)
    again = Hungry(6)
    killed = cut(tmp_path / "failed", tmp_path / "killed", 6)
    same, kept = fitted(again, norm=True, folder=killed, go_on=True, phases=PHASES[:1])
    assert (again.failed, set(again.seen)) == (0, {6})
    assert (lines(kept), kept.notes) == (lines(history), history.notes)
    for a, b in zip(same, found, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.slow
def test_memory_that_shrinks_while_it_trains():
    """The steps since the last checkpoint do not fit any more either."""
    once, _ = fitted(Hungry(99))
    hungry = Hungry(99, always=True)
    hungry.shrinks = True
    found, history = fitted(hungry)
    for a, b in zip(found, once, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7)
    assert len(history.notes) == 1


def test_a_single_example_that_does_not_fit():
    with pytest.raises(OutOfMemory, match=r"single example does not fit into memory.*OOM when allocating"):
        fitted(Hungry(0), train=data(4, marked=0, batch=2), phases=PHASES[1:])


def test_on_request_it_fails_instead():
    with pytest.raises(OutOfMemory, match=r"for step 4. Set a smaller batch, or more .* accumulate=1"):
        fitted(Hungry(6), settings={"divide": False})


@pytest.mark.parametrize(
    ("examples", "parts", "more"),
    [(16, 1, 2), (16, 8, 16), (12, 1, 2), (12, 2, 4), (12, 4, 12), (15, 1, 3), (10, 4, 10), (17, 1, 2), (17, 9, 17)],
)
def test_parts_divide_the_batch_where_they_can(examples, parts, more):
    assert more_parts(examples, parts, MemoryError()) == more


def test_work_without_learning_in_smaller_batches():
    tried = []

    def work(batch):
        tried.append(batch)
        if batch > 3:
            raise MemoryError
        return "done"

    assert in_smaller_batches(work, 20) == "done"
    assert tried == [20, 10, 5, 3]
    with pytest.raises(OutOfMemory, match="single example"):
        in_smaller_batches(lambda batch: work(9), 2)


def test_a_gradient_without_a_norm_is_told_apart_from_a_loss_that_is_no_number():
    numbers = keras.Input((2,))
    made = keras.Model(numbers, layers.Dense(1, name="head_logits")(numbers))
    far = tf.data.Dataset.from_tensors((np.full((4, 2), 1e21, "float32"), np.zeros((4, 1), "float32")))
    with pytest.raises(TrainingDiverged, match=r"^The norm of the gradient is no number, and the loss became \d"):
        fit(made, (Phase(1, 1e-3),), far, groups=[["head_logits"]], loss="mae", metrics=(), progress=False)


HOT = (Phase(1, 1e-2, unfreeze="all"), Phase(2, 800.0, unfreeze="all", warmup=0.0))
SGD = Optimization(optimizer="sgd", schedule="constant")


def hot(folder: Path | None = None, *, rollbacks: int = 12, **options):
    settings = {"rollbacks": rollbacks, "optimization": SGD}
    return fitted(Hungry(99), phases=HOT, folder=folder, settings=settings, **options)


def test_a_rate_far_too_high_is_halved_until_it_trains(tmp_path):
    weights, history = hot(tmp_path / "whole")
    assert all(np.isfinite(array).all() for array in weights)
    assert len(history.epochs) == 3
    assert all(np.isfinite(value) for epoch in history.epochs for value in epoch.metrics.values())
    assert 1 <= len(history.notes) <= 12
    assert history.epochs[0].learning_rate == 1e-2
    assert history.epochs[-1].learning_rate == 800 / 2 ** len(history.notes)
    assert "rollback 1 of 12" in history.notes[0]
    assert History.from_json(history.to_json()).notes == history.notes
    numbers = Checkpoints(tmp_path / "whole").numbers()
    for number in (len(numbers) // 2,):  # between two rollbacks
        found, again = hot(cut(tmp_path / "whole", tmp_path / f"{number}", number), go_on=True)
        assert (lines(again), again.notes) == (lines(history), history.notes)
        for a, b in zip(found, weights, strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.slow
def test_without_checkpoints_it_goes_back_as_well():
    weights, history = hot()
    assert all(np.isfinite(array).all() for array in weights)
    assert history.notes


def test_after_so_many_rollbacks_it_stops():
    with pytest.raises(TrainingDiverged, match=r"after 1 rollback\. Try a tenth"):
        hot(rollbacks=1)


def test_data_that_are_no_numbers_are_not_tried_again(tmp_path):
    images, labels = toy.problem(48)
    images[20, 1, 1, 1] = np.nan
    train = tf.data.Dataset.from_tensor_slices((images, labels)).batch(12)
    with pytest.raises(TrainingDiverged, match=r"step 2, at a peak learning rate of 0\.01\. Try"):
        fitted(Hungry(99), train=train, settings={"rollbacks": 3})


def test_checkpoints_that_may_be_gone_back_to_stay(tmp_path):
    checkpoints = Checkpoints(tmp_path, keep=2)
    kinds = (lambda state: state["kind"] == "phase", lambda state: state["kind"] in ("phase", "epoch"))
    for place, kind in enumerate(("phase", "step", "epoch", "step", "epoch", "step", "step", "step")):
        checkpoints.save({"place": np.array(place)}, {"kind": kind}, stay=kinds)
    assert checkpoints.numbers() == [1, 5, 7, 8]
    assert checkpoints.newest(kinds[1]).arrays["place"] == 4
    shutil.rmtree(tmp_path / "checkpoint-000005")
    assert checkpoints.newest(kinds[1]).arrays["place"] == 0


def test_a_step_that_half_precision_skips_counts_in_no_metric():
    """An image that overflows in float16: neither the loss, nor the accuracy, nor the batch norm knows of it."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_float16")
    try:
        keras.utils.set_random_seed(0)
        made = toy.model()
    finally:
        keras.config.set_dtype_policy(before)
    made.compile(
        keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.0)), CrossEntropy(), weighted_metrics=["accuracy"]
    )
    images, labels = toy.problem(32)
    images[3, 0, 0, 0] = 1e6
    batches = tf.data.Dataset.from_tensor_slices((images, labels)).batch(16)
    made._symbolic_build(data_batch=next(iter(batches)))
    engine = Engine(made, {})
    iterator = engine.batches(batches)
    steps, statistics = [], []
    for _ in range(2):
        steps.append(engine.train(iterator))
        statistics.append(made.get_layer("stem_bn").moving_mean.numpy())
    assert [step.skipped for step in steps] == [True, False]
    assert not np.isfinite(steps[0].loss)
    assert engine.results()["loss"] == pytest.approx(steps[1].loss, rel=1e-6)
    assert np.all(statistics[0] == 0) and np.all(np.isfinite(statistics[1])) and np.any(statistics[1] != 0)
