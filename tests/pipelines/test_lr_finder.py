"""The sweep over learning rates: what it suggests, and that it leaves no trace."""

import dataclasses
import random

import keras
import numpy as np
import pytest
import tensorflow as tf

import pipelines.train as training
from pipelines import datasets
from pipelines.creation import create
from pipelines.lr_finder import Found, find_learning_rate, found, longest_fall, smooth
from pipelines.optimization import Optimization
from pipelines.recipes import from_scratch
from pipelines.run import Images, Phase, Run, Tables
from pipelines.train import fit
from tests.pipelines import toy


def fresh() -> keras.Model:
    keras.utils.set_random_seed(7)
    return toy.model(dropout=0.3)


def sweep(model: keras.Model, **options) -> Found:
    return find_learning_rate(model, toy.dataset(), **{"steps": 40, "start": 1e-5, **options})


def test_smoothing_is_the_mean_at_first_and_forgets():
    np.testing.assert_allclose(smooth(np.array([3.0, 3.0, 3.0])), 3.0, rtol=1e-12)
    two = smooth(np.array([1.0, 2.0]))[1]
    assert two == pytest.approx((0.98 * 1 + 2) / 1.98)
    assert smooth(np.array([9.0] + [1.0] * 999))[-1] == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([5, 4, 3, 2, 1], (0, 4)),
        ([1, 2, 3], (0, 0)),
        ([1, 5, 4, 9, 3, 2, 6], (1, 5)),
        ([3, 3, 3, 2], (0, 3)),
        ([9, 8, 1, 7, 6, 5], (0, 5)),
    ],
)
def test_the_longest_fall(values, expected):
    assert longest_fall(np.array(values, float)) == expected


def test_suggestions_on_a_known_curve():
    """Flat to 1e-4, then a fall that is steepest at 1e-2, then a rise from 1e-1 on."""
    rates = 10.0 ** np.linspace(-7, 1, 81)
    logs = np.log10(rates)
    losses = 2.0 - 1.5 / (1 + np.exp(-6 * (logs + 2))) + np.where(logs > -1, 8 * (logs + 1), 0)
    result = found(rates, losses, steps=81)
    assert 1e-2 <= result.steepest <= 10**-1.3  # the average is behind the losses
    assert result.valley < result.steepest
    falling = result.smoothed[8:]
    begin, stop = longest_fall(falling)
    assert result.valley == rates[8 + (begin + stop) // 2]


def test_noise_before_the_fall_suggests_nothing():
    """A lucky batch at a tiny rate is a steep fall, but no long one."""
    rates = 10.0 ** np.linspace(-7, 1, 81)
    logs = np.log10(rates)
    losses = 2.0 - 1.0 / (1 + np.exp(-6 * (logs + 2))) + np.where(logs > -1, 8 * (logs + 1), 0)
    losses[12] -= 0.6
    assert 1e-3 <= found(rates, losses, steps=81).steepest <= 1e-1


def test_the_model_its_optimizer_and_chance_are_what_they_were():
    model = fresh()
    model.compile(keras.optimizers.Adam(1e-3), loss="mse")
    model.optimizer.build(model.trainable_variables)
    random.seed(1)
    np.random.seed(2)
    compiled, variables = model.optimizer, [*model.variables, *model.optimizer.variables]
    before = [np.array(variable) for variable in variables]
    trainable = [layer.trainable for layer in model.layers]
    draws = random.getstate(), np.random.get_state()[1].tolist()
    sweep(model)
    assert model.optimizer is compiled
    assert [layer.trainable for layer in model.layers] == trainable
    assert (random.getstate(), np.random.get_state()[1].tolist()) == draws
    for one, other in zip(before, variables, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.slow
def test_training_after_it_ends_with_the_same_weights():
    ended = []
    for sweeps in (False, True):
        model = fresh()
        if sweeps:
            sweep(model, steps=20)
        added = keras.random.normal((3,)).numpy()  # Keras' own generator
        fit(model, [Phase(1, 1e-2)], toy.dataset(), progress=False)
        ended.append([*model.get_weights(), added])
    for one, other in zip(*ended, strict=True):
        np.testing.assert_array_equal(one, other)


def test_the_same_sweep_twice_sees_the_same():
    model = fresh()
    one, other = sweep(model, steps=20), sweep(model, steps=20)
    np.testing.assert_array_equal(one.losses, other.losses)


def test_it_ends_when_the_loss_diverges():
    result = sweep(fresh(), optimization=Optimization("sgd", momentum=0.0), end=1e6, steps=60)
    assert len(result.rates) == len(result.losses) == len(result.smoothed) < 60
    assert not result.smoothed[-1] <= 4 * np.nanmin(result.smoothed)
    assert result.rates[0] < result.valley < result.rates[-1]


@pytest.mark.slow
def test_on_digits_the_steepest_beats_a_tenth_and_ten_times_it(tmp_path):
    phase = from_scratch(epochs=4)[0]
    run = Run("cnn", Images("digits", size=16, augment="none"), (phase,), tmp_path)
    data = datasets.load(run)
    losses = []
    for factor in (0.1, 1, 10):
        keras.utils.set_random_seed(0)
        model = create(run, data)
        train = data.training_set(model, batch=32, seed=0)
        if not losses:
            rate = find_learning_rate(model, train, phase=phase).steepest
        phases = [dataclasses.replace(phase, learning_rate=factor * rate)]
        history = fit(model, phases, train, data.evaluation_set(model, "validation", batch=64), progress=False)
        losses.append(history.best.metrics["val_loss"])
    assert losses[1] < losses[0] / 2
    assert losses[1] < losses[2] / 2


def test_only_the_groups_of_the_phase_learn(monkeypatch):
    """The copy's layers before the head are, after the sweep, what they were."""
    model, copies = toy.model(), []
    clone = keras.models.clone_model
    monkeypatch.setattr(keras.models, "clone_model", lambda *given: copies.append(clone(*given)) or copies[-1])
    sweep(model, phase=Phase(1, 1.0, unfreeze=1), steps=20, end=1.0)
    moved = [v.path for v, own in zip(copies[0].weights, model.weights, strict=True) if not np.array_equal(v, own)]
    assert sorted(moved) == ["head_logits/bias", "head_logits/kernel"]


def test_groups_and_loss_of_ones_own():
    x = image = keras.Input((8, 8, 3))
    x = keras.layers.Flatten()(keras.layers.Conv2D(4, 3, name="a")(x))
    model = keras.Model(image, keras.layers.Dense(1, name="b")(x))
    images, labels = toy.problem()
    train = tf.data.Dataset.from_tensor_slices((images, labels[:, None].astype("float32"))).batch(16)
    result = find_learning_rate(model, train, loss="mse", groups=[["a"], ["b"]], start=1e-5, end=10, steps=60)
    assert result.rates[0] < result.steepest < result.rates[-1]


def test_the_picture(tmp_path):
    rates = 10.0 ** np.linspace(-7, 1, 81)
    losses = 2.0 - np.linspace(0, 1, 81)
    losses[-1] = np.nan
    found(rates, losses, steps=81).draw(tmp_path / "rates.png")
    assert (tmp_path / "rates.png").stat().st_size > 10_000


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"start": 1.0, "end": 0.1}, "from a small rate to a larger one"),
        ({"start": 0.0}, "from a small rate to a larger one"),
        ({"steps": 5}, "too few for a sweep"),
    ],
)
def test_mistakes(options, message):
    with pytest.raises(ValueError, match=message):
        sweep(toy.model(), **options)


def test_a_sweep_for_the_rate_begins_anew_in_more_micro_batches(tmp_path, monkeypatch):
    find, tried = training.find_learning_rate, []

    def narrow(*arguments, accumulate, **options):
        tried.append(accumulate)
        if accumulate < 5:
            raise MemoryError("OOM when allocating a tensor")
        return find(*arguments, accumulate=accumulate, **options)

    monkeypatch.setattr(training, "find_learning_rate", narrow)
    run = Run("mlp", Tables("wine"), from_scratch(), tmp_path, batch=12, overrides={"widths": [4]})
    assert 1e-6 < training.find_rate(run).steepest < 10
    assert tried == [1, 2, 4, 12]


def test_data_that_are_no_numbers():
    images, labels = toy.problem()
    train = tf.data.Dataset.from_tensor_slices((images * np.nan, labels)).batch(16)
    with pytest.raises(ValueError, match="The loss was a number for 0 of 20 steps"):
        find_learning_rate(toy.model(), train, steps=20)


def test_a_loss_that_never_falls():
    with pytest.raises(ValueError, match="fell at no rate"):
        found(10.0 ** np.linspace(-7, 1, 41), np.linspace(1, 2, 41), steps=41)
