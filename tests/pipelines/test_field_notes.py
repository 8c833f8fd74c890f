"""What docs/field-notes.md says is silently wrong in Keras, and no other test shows to be right here."""

import ast
import itertools
import re
import subprocess
import sys
import typing
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import pipelines
from pipelines import optimization, optimizer
from pipelines.checkpoints import Remembered
from pipelines.freezing import find_groups
from pipelines.loop import Settings
from pipelines.optimization import Optimization
from pipelines.run import Phase
from pipelines.train import fit
from tests.pipelines import mirrored_fit, toy
from tests.pipelines.test_tensorboard import curves

OPTIONS = {
    "clipnorm", "global_clipnorm", "clipvalue", "gradient_accumulation_steps", "use_ema", "ema_overwrite_frequency",
    "steps_per_execution", "jit_compile", "run_eagerly", "class_weight", "restore_best_weights",
}  # fmt: skip
NAMES = {
    "keras.callbacks", "keras.distribution", "tf.train.Checkpoint", "tf.train.CheckpointManager", "model.fit",
    "keras.optimizers.ScheduleFreeAdamW", "keras.layers.RandomCrop",
}  # fmt: skip


def test_what_is_wrong_in_keras_is_not_used():
    """Neither an option nor a name of theirs stands in the code of training."""
    found = []
    for path in Path(pipelines.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                found += [(path.name, word.arg) for word in node.keywords if word.arg in OPTIONS]
            if isinstance(node, ast.Attribute) and ast.unparse(node) in NAMES:
                found.append((path.name, ast.unparse(node)))
    assert found == []


def test_optimizers_that_differ_under_a_strategy_are_not_offered():
    assert not any("free" in name for name in typing.get_args(optimization.Optimizer))
    with pytest.raises(ValueError, match="'schedule_free_adamw' is not one of"):
        Optimization(optimizer="schedule_free_adamw")


class Noted(Remembered):
    """What the model was as each phase began, by the paths of its variables."""

    def __init__(self, model: keras.Model):
        super().__init__()
        self._model, self.begun = model, []

    def save(self, arrays, state, **more):
        super().save(arrays, state, **more)
        if state["position"]["epoch"] == 0:
            self.note()

    def note(self):
        self.begun.append({variable.path: np.array(variable) for variable in self._model.variables})


def test_layers_that_are_frozen_and_unfrozen_stay_and_learn():
    """Momentum, decay, batch statistics and the average of the phase before move nothing that is frozen by a bit."""
    inputs = keras.Input((8, 8, 3))
    x = layers.BatchNormalization(name="stem_bn")(layers.Conv2D(4, 3, 2, name="stem_conv")(inputs))
    model = keras.Model(inputs, layers.Dense(3, name="head_logits")(layers.GlobalAveragePooling2D(name="head_pool")(x)))
    everything, head = Phase(1, 1e-2, unfreeze="all", batch_norm="train"), Phase(1, 1e-2)
    settings = Settings(optimization=Optimization(optimizer="adamw", weight_decay=0.1, ema=0.5))
    noted = Noted(model)
    phases = [everything, head, everything]
    fit(model, phases, toy.dataset(48), progress=False, checkpoints=noted, settings=settings)
    noted.note()
    moved = [
        {path.split("_")[0] for path in before if not np.array_equal(before[path], after[path])}
        for before, after in itertools.pairwise(noted.begun)
    ]
    assert moved == [{"stem", "head"}, {"head"}, {"stem", "head"}]


def test_the_global_norm_is_that_of_all_groups_together():
    """Keras clips within each optimizer of a MultiOptimizer. A step without momentum has the length rate x limit."""
    model = toy.model(dropout=0.0)
    before = [np.array(v) for v in model.trainable_variables]
    limit = 0.01
    chosen = Optimization(optimizer="sgd", momentum=0.0, schedule="constant", clip=limit)
    phase = Phase(1, 0.5, unfreeze="all", warmup=0.0, batch_norm="train")
    fit(model, [phase], toy.dataset(16), progress=False, settings=Settings(optimization=chosen))
    moves = [np.array(v) - old for v, old in zip(model.trainable_variables, before, strict=True)]
    assert sum(np.abs(move).max() > 0 for move in moves) > 2  # in all groups
    assert np.sqrt(sum(np.square(move).sum() for move in moves)) == pytest.approx(0.5 * limit, rel=1e-3)


def tower(name: str) -> keras.Model:
    inputs = keras.Input((4,))
    return keras.Model(inputs, layers.Dense(4, name="dense")(inputs), name=name)


def test_layers_of_one_name_in_two_nested_models_have_their_own_rates_and_moments():
    """Paths of variables, by which Keras finds their optimizers, are the same in both."""
    inputs = keras.Input((4,))
    model = keras.Model(inputs, tower("late")(tower("early")(inputs)))
    assert len({variable.path for variable in model.trainable_variables}) == 2
    groups = find_groups(model, [["early"], ["late"]])
    phase = Phase(1, 0.1, unfreeze="all", layer_decay=0.1, warmup=0.0)
    first, second = (optimizer.build(model, groups, phase, steps=10**9) for _ in range(2))
    before = [np.array(v) for v in model.trainable_variables]
    gradients = [np.full(v.shape, i + 1.0, "float32") for i, v in enumerate(model.trainable_variables)]
    first.apply(gradients, model.trainable_variables)
    moves = [old - np.array(v) for v, old in zip(model.trainable_variables, before, strict=True)]
    for move, rate in zip(moves, (0.01, 0.01, 0.1, 0.1), strict=True):  # Adam's first step is the rate
        np.testing.assert_allclose(move, rate, rtol=1e-4)
    optimizer.carry_state(first, second)
    carried = sorted(float(np.max(np.array(v))) for v in second.variables if v.path.endswith("_momentum"))
    assert carried == pytest.approx([0.1, 0.2, 0.3, 0.4], rel=1e-5)


def test_a_model_that_is_not_built_is_refused():
    model = keras.Sequential([layers.Flatten(), layers.Dense(3, name="dense")])
    with pytest.raises(ValueError, match="has no weights yet"):
        fit(model, [Phase(1, 1e-3)], toy.dataset(), groups=[["dense"]], progress=False)


def test_arrays_are_refused_with_the_way_to_batches():
    images, labels = toy.problem(32)
    for train, validation in (((images, labels), None), (toy.dataset(32), (images, labels))):
        with pytest.raises(ValueError, match="not a tuple"):
            fit(toy.model(), [Phase(1, 1e-3)], train, validation, progress=False)


def test_the_notes_name_tests_that_exist():
    root = Path(__file__).parents[2]
    sections = (root / "docs" / "field-notes.md").read_text(encoding="utf-8").split("\n## ")[2:5]
    named = {name for section in sections for name in re.findall(r"(test_\w+)::(test_\w+)", section)}
    assert len(named) > 20
    for file, test in named:
        assert f"\ndef {test}(" in (root / "tests" / "pipelines" / f"{file}.py").read_text(encoding="utf-8"), test


def test_what_is_saved_of_a_model_with_frozen_layers_answers_alike(tmp_path):
    """Of a nested container Keras gives its own flag back as True; a fit sets every flag itself."""
    inputs = keras.Input((4,))
    model = keras.Model(inputs, tower("late")(tower("early")(inputs)))
    model.get_layer("early").trainable = False
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    x, y = np.ones((8, 4), "float32"), np.zeros(8, "int32")
    np.testing.assert_array_equal(again(x), model(x))
    early = [np.array(v) for v in again.get_layer("early").weights]
    batches = tf.data.Dataset.from_tensor_slices((x, y)).batch(4)
    fit(again, [Phase(1, 0.1)], batches, groups=[["early"], ["late"]], progress=False)
    for variable, old in zip(again.get_layer("early").weights, early, strict=True):
        np.testing.assert_array_equal(np.array(variable), old)


@pytest.mark.slow
def test_two_devices_end_as_one_with_all_that_watches_a_fit(tmp_path):
    """Plateau, best weights, early end, moving average, TensorBoard, checkpoints; to the bit if the fit goes on."""
    command = [sys.executable, "-m", mirrored_fit.__name__, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.split() == ["1", "2", "2"]
    found = np.load(tmp_path / "found.npz")
    for part in ("variables", "losses"):
        np.testing.assert_allclose(found[f"two.{part}"], found[f"one.{part}"], rtol=2e-6, atol=6e-7)
    np.testing.assert_array_equal(found["again.variables"], found["two.variables"])
    np.testing.assert_allclose(found["again.losses"], found["two.losses"], rtol=2e-7)  # sums are put together otherwise
    one, two, again = (curves(tmp_path / name / "tensorboard")["steps"] for name in ("one", "two", "again"))
    assert [value for _, value in one["learning_rate/head"][1:]] == pytest.approx([0.3, 0.09], rel=1e-6)
    for name, values in one.items():
        np.testing.assert_allclose(two[name], values, rtol=1e-4)
        assert again[name] == two[name][-1:]
