"""The moving average is that of a calculation by hand, on one device and on two, and only lent to the model."""

import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from pipelines.ema import MovingAverage
from tests.pipelines import averaging, toy

ROOT = Path(__file__).parents[2]


def by_hand(trace: list[list[np.ndarray]], decay: float) -> list[np.ndarray]:
    """The average of the weights at the beginning and after each update."""
    average = [value.astype("float64") for value in trace[0]]
    for count, values in enumerate(trace[1:], start=1):
        keep = min(decay, (1 + count) / (10 + count))
        average = [keep * old + (1 - keep) * new for old, new in zip(average, values, strict=True)]
    return average


@pytest.mark.parametrize("decay", [0.25, 0.999])
def test_the_average_is_that_of_all_weights_and_forgets_faster_at_first(decay):
    model = toy.model()
    average = MovingAverage(model, decay)
    random = np.random.default_rng(0)
    trace = [model.get_weights()]
    update = tf.function(average.update)
    for _ in range(12):
        model.set_weights([random.normal(size=weight.shape).astype("float32") for weight in model.weights])
        update()
        trace.append(model.get_weights())
    with average.in_model():
        found = model.get_weights()
    assert len(found) == len(model.weights) == 20  # three convolutions with batch norm, and the head
    for a, b in zip(found, by_hand(trace, decay), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
    for a, b in zip(model.get_weights(), trace[-1], strict=True):
        np.testing.assert_array_equal(a, b)


def test_the_model_gets_its_own_weights_back_whatever_happens():
    model = toy.model()
    average = MovingAverage(model, 0.9)
    model.set_weights([weight + 1 for weight in model.get_weights()])
    before, state = model.get_weights(), [np.array(variable) for variable in average.variables]
    with pytest.raises(KeyError), average.in_model():
        assert np.abs(model.get_weights()[0] - before[0]).min() > 0.9
        raise KeyError
    for a, b in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(a, b)
    for a, b in zip(average.variables, state, strict=True):
        np.testing.assert_array_equal(np.array(a), b)


def test_its_variables_are_all_that_it_knows():
    model, random = toy.model(), np.random.default_rng(0)
    first = MovingAverage(model, 0.99)

    def move(average):
        model.set_weights([weight + random.normal(size=weight.shape) for weight in model.get_weights()])
        average.update()

    for _ in range(3):
        move(first)
    second = MovingAverage(model, 0.99)
    for variable, known in zip(second.variables, first.variables, strict=True):
        variable.assign(np.array(known))
    state = random.bit_generator.state
    weights = model.get_weights()
    for average in (first, second):
        random.bit_generator.state = state
        model.set_weights(weights)
        move(average)
    for a, b in zip(first.variables, second.variables, strict=True):
        np.testing.assert_array_equal(np.array(a), np.array(b))


def test_a_half_precision_model_has_an_average_in_float32():
    keras.config.set_dtype_policy("bfloat16")
    try:
        model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2, name="head_logits")])
    finally:
        keras.config.set_dtype_policy("float32")
    average = MovingAverage(model, 0.999)
    model.set_weights([np.ones((2, 2)), np.ones(2)])
    for _ in range(40):
        average.update()
    assert {variable.dtype for variable in average.variables} == {"int64", "float32"}
    kept = np.prod([(1 + n) / (10 + n) for n in range(1, 41)])
    assert float(average.variables[2].value[0]) == pytest.approx(1 - kept, rel=1e-4)


@pytest.mark.parametrize("decay", [0.0, 1.0, 2.0])
def test_a_decay_out_of_range_is_refused(decay):
    with pytest.raises(ValueError, match="must be over 0 and under 1"):
        MovingAverage(toy.model(), decay)


@pytest.mark.slow
def test_two_devices_have_the_average_of_one(tmp_path):
    """Trained in graphs by the engine, in two phases, in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", averaging.__name__, str(tmp_path / "found.npz")],
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    found = dict(np.load(tmp_path / "found.npz"))
    assert (found.pop("one.replicas"), found.pop("two.replicas")) == (1, 2)
    one, two = ({name[4:]: found[name] for name in found if name.startswith(kind)} for kind in ("one", "two"))
    assert len(one) == len(two) == 2 * 2 * 20
    for name, value in one.items():
        np.testing.assert_allclose(two[name], value, atol=2e-5, err_msg=name)
    averages = [name for name in one if name.startswith("average")]
    assert max(np.abs(one[name] - one[name.replace("average", "weight")]).max() for name in averages) > 1e-3
