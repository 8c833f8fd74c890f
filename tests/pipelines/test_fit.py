"""The engine alone: any functional model, any tf.data set."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import zoo
from pipelines.engine import Engine
from pipelines.loop import Settings
from pipelines.monitor import TrainingDiverged
from pipelines.objectives.losses import CrossEntropy
from pipelines.recipes import from_scratch, progressive_unfreezing
from pipelines.run import Optimization, Phase
from pipelines.train import fit
from tests.pipelines import toy


def accuracy(model, dataset) -> float:
    right = [np.argmax(model(x, training=False), -1) == y.numpy() for x, y in dataset]
    return float(np.concatenate(right).mean())


def loss(model, dataset) -> float:
    compute = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    return float(np.mean([compute(y, model(x, training=False)) for x, y in dataset]))


def test_it_learns():
    model, test = toy.model(), toy.dataset(96, seed=1)
    before = loss(model, test)
    history = fit(model, from_scratch(epochs=8, learning_rate=1e-2), toy.dataset(), test, patience=8, progress=False)
    assert loss(model, test) < before / 2
    assert accuracy(model, test) > 0.9
    assert history.epochs[-1].metrics["loss"] < history.epochs[0].metrics["loss"] / 2


def test_the_best_weights_over_all_phases_are_kept():
    """The last phase ruins the model on purpose; what is kept is from before."""
    model, test = toy.model(dropout=0.0), toy.dataset(96, seed=1)
    phases = (Phase(4, 1e-2, unfreeze="all"), Phase(2, 5.0, unfreeze="all", warmup=0.0))
    history = fit(model, phases, toy.dataset(), test, progress=False)
    assert history.best.phase == 1
    assert history.epochs[-1].metrics["val_loss"] > 2 * history.best.metrics["val_loss"]
    assert loss(model, test) == pytest.approx(history.best.metrics["val_loss"], rel=1e-4)


def test_each_phase_begins_with_the_best_weights_so_far():
    model, test = toy.model(dropout=0.0), toy.dataset(96, seed=1)
    phases = (Phase(3, 1e-2, unfreeze="all"), Phase(1, 5.0, unfreeze="all", warmup=0.0), Phase(1, 1e-9))
    history = fit(model, phases, toy.dataset(), test, progress=False)
    assert history.epochs[-1].metrics["val_loss"] == pytest.approx(history.best.metrics["val_loss"], rel=1e-3)


def test_a_phase_that_no_longer_improves_ends_early():
    model, test = toy.model(), toy.dataset(96, seed=1)
    phases = (Phase(3, 1e-2, unfreeze="all"), Phase(20, 5.0, unfreeze="all", warmup=0.0), Phase(2, 1e-5))
    history = fit(model, phases, toy.dataset(), test, patience=2, progress=False)
    assert sum(e.phase == 2 for e in history.epochs) == 2
    assert sum(e.phase == 3 for e in history.epochs) == 2  # the next phase has its own patience


def test_without_validation_the_last_weights_are_kept():
    model = toy.model()
    history = fit(model, [Phase(3, 1e-2)], toy.dataset(), progress=False)
    assert history.best is history.epochs[-1]
    assert set(history.best.metrics) == {"loss", "accuracy"}


def test_history_and_best_weights_are_on_disk(tmp_path):
    model = toy.model()
    history = fit(model, [Phase(2, 1e-2), Phase(1, 1e-3)], toy.dataset(), folder=tmp_path, progress=False)
    assert (tmp_path / "history.csv").read_text() == history.to_csv()
    assert len(history.to_csv().splitlines()) == 4
    again = toy.model()
    again.load_weights(tmp_path / "best.weights.h5")
    for a, b in zip(again.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["best.weights.h5", "history.csv", "history.json"]


def test_ctrl_c_leaves_the_best_weights_in_the_model(tmp_path):
    """The interrupt comes from the validation set of the third epoch, as a user's would: at any moment."""
    model, test = toy.model(), toy.dataset(96, seed=1)
    epochs = iter(range(100))

    class Interrupted(keras.metrics.SparseCategoricalAccuracy):
        def reset_state(self):
            super().reset_state()
            if next(epochs) == 8:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        phases = [Phase(9, 1e-2, unfreeze="all")]
        fit(model, phases, toy.dataset(), test, metrics=[Interrupted()], folder=tmp_path, progress=False)
    best = toy.model()
    best.load_weights(tmp_path / "best.weights.h5")
    assert loss(model, test) == pytest.approx(loss(best, test), rel=1e-6)
    assert all(layer.trainable for layer in model.layers)


def test_a_diverged_loss_stops_with_the_best_weights_kept():
    model, test = toy.model(), toy.dataset(96, seed=1)
    phases = (Phase(2, 1e-2, unfreeze="all"), Phase(3, 1e30, unfreeze="all", warmup=0.0))
    with pytest.raises(TrainingDiverged, match="phase 2, epoch"):
        fit(model, phases, toy.dataset(), test, progress=False)
    assert all(np.isfinite(w).all() for w in model.get_weights())
    assert accuracy(model, test) > 0.4


@pytest.mark.parametrize(
    ("train", "message"),
    [(toy.dataset().repeat(), "never ends"), (toy.dataset().take(0), "no batches")],
)
def test_training_sets_without_an_end_or_a_beginning_are_refused(train, message):
    with pytest.raises(ValueError, match=message):
        fit(toy.model(), [Phase(1, 1e-3)], train, progress=False)


def test_a_set_of_unknown_length_is_counted():
    unknown = toy.dataset().filter(lambda x, y: True)
    history = fit(toy.model(), [Phase(1, 1e-3)], unknown, progress=False)
    assert len(history.epochs) == 1


@pytest.mark.parametrize("batches", [1, 3])
def test_batches_of_a_fixed_size_are_each_evaluated_once(batches):
    """The end of the data is found in the graph, which knows the size of such a batch without having one."""
    model, images, labels = toy.model(), *toy.problem(8 * batches)
    model.compile("sgd", CrossEntropy(), metrics=["accuracy"])
    sets = tf.data.Dataset.from_tensor_slices((images, labels)).batch(8, drop_remainder=True)
    found = Engine(model, {}).evaluate(sets)
    assert found["loss"] == pytest.approx(loss(model, sets), rel=1e-5)
    assert found["accuracy"] == pytest.approx(accuracy(model, sets))


def test_images_in_0_to_1_are_refused_for_models_of_the_zoo():
    model = zoo.create("resnet18", classes=3, size=32, depths=(1, 1, 1, 1), width=8)
    images = np.random.default_rng(0).random((8, 32, 32, 3), dtype="float32")
    train = tf.data.Dataset.from_tensor_slices((images, np.arange(8) % 3)).batch(4)
    with pytest.raises(ValueError, match="0\\.\\.255"):
        fit(model, [Phase(1, 1e-3)], train, progress=False)


@pytest.mark.slow
def test_keras_applications_fine_tune_with_groups_as_lists():
    base = keras.applications.MobileNetV2(
        weights=None, include_top=False, input_shape=(32, 32, 3), alpha=0.35, pooling="avg"
    )
    model = keras.Model(base.input, keras.layers.Dense(3, name="top")(base.output))
    names = [layer.name for layer in base.layers]
    groups = [names[: len(names) // 2], names[len(names) // 2 :], ["top"]]
    before = {v.path: np.array(v) for v in model.weights}
    train = toy.dataset(32).map(lambda x, y: (tf.repeat(tf.repeat(x, 4, 1), 4, 2), y))
    fit(model, progressive_unfreezing(epochs=1, groups=2), train, groups=groups, progress=False)
    moved = {v.path.split("/")[0] for v in model.weights if not np.array_equal(np.array(v), before[v.path])}
    assert "top" in moved
    assert moved <= {"top", *groups[1]}
    assert len(moved) > 5


@pytest.mark.parametrize("schedule", ["cosine", pytest.param("one_cycle", marks=pytest.mark.slow)])
def test_a_fitted_model_saved_by_keras_comes_back_compiled_and_learns_on(tmp_path, schedule):
    """With its rates by group, its loss and its metric: nothing of them is known to Keras by itself."""
    model, data = toy.model(dropout=0.0), toy.dataset()
    phases = (Phase(1, 1e-2, unfreeze="all", layer_decay=0.5, batch_norm="train"),)
    settings = Settings(optimization=Optimization(schedule=schedule, end=0.5))
    fit(
        model,
        phases,
        data,
        progress=False,
        settings=settings,
        loss=CrossEntropy(smoothing=0.1, weights=(1.0, 2.0, 3.0)),
    )
    model.save(tmp_path / "fitted.keras")
    loaded = keras.models.load_model(tmp_path / "fitted.keras")
    np.testing.assert_allclose(loaded.evaluate(data, verbose=0), model.evaluate(data, verbose=0), rtol=1e-6)
    for each in (model, loaded):
        each.fit(data, verbose=0)
    for ours, theirs in zip(model.get_weights(), loaded.get_weights(), strict=True):
        np.testing.assert_allclose(theirs, ours, atol=1e-6)


@pytest.mark.parametrize("batch_norm", ["frozen", "train"])
def test_a_last_batch_of_fewer_examples_than_micro_batches(batch_norm):
    """The seven examples of a set of one's own come in four and three, so that one of four micro-batches is empty."""

    def trained(accumulate):
        keras.utils.set_random_seed(0)
        model = toy.model(dropout=0.0)
        phase = Phase(1, 1e-2, unfreeze="all", batch_norm=batch_norm)
        data = tf.data.Dataset.from_tensor_slices(toy.problem(7)).batch(4)
        fit(model, (phase,), data, progress=False, settings=Settings(accumulate=accumulate))
        return model.get_weights()

    divided = trained(4)
    assert all(np.isfinite(weight).all() for weight in divided)
    if batch_norm == "frozen":  # else statistics are those of single examples
        for ours, theirs in zip(divided, trained(1), strict=True):
            np.testing.assert_allclose(ours, theirs, atol=1e-6)
