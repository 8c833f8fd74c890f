"""The layers that take windows of series and forecast what follows them."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter

import zoo
from zoo.layers.scale import Scale
from zoo.layers.series import SeriesInput, SeriesOutput, Windows, windows_of

COLUMNS = Scale(("heat", "load", "still"), (20.0, 1000.0, 5.0), (2.0, 100.0, 0.0))
WINDOWS = Windows(COLUMNS, Scale(("load", "wind"), (1000.0, 7.0), (100.0, 3.0)), window=4, horizon=2)
SERIES = np.array([[[20, 900, 5], [22, 1000, 6], [24, 1100, 5], [18, 1200, 4]]], "float32")


def build(variant: str = "mlp", **options) -> keras.Model:
    """A small model that forecasts, with random weights."""
    keras.utils.set_random_seed(0)
    sizes = {"widths": (6,)} if variant == "mlp" else {"width": 5}
    model = zoo.create(variant, task="forecast", **{"series": WINDOWS, **sizes, **options})
    random = np.random.default_rng(0)
    for variable in model.weights:
        variable.assign(random.normal(size=variable.shape))
    return model


def past(count: int = 5) -> np.ndarray:
    random = np.random.default_rng(1)
    return (random.normal(size=(count, 4, 3)) * COLUMNS.std + COLUMNS.mean).astype("float32")


def test_levels_are_standardized_and_followed_by_the_way_to_the_last_step():
    wanted = [
        # heat, load, still: levels; heat, load, still: from the last step
        [0, -1, 0, 1, -3, 0],
        [1, 0, 0, 2, -2, 0],
        [2, 1, 0, 3, -1, 0],
        [-1, 2, 0, 0, 0, 0],
    ]
    np.testing.assert_allclose(SeriesInput(WINDOWS)(SERIES), [wanted], atol=1e-6)


def test_changes_count_from_the_last_value_seen_or_from_the_mean():
    changes = np.array([[[0.0, 0.0], [0.5, -1.0]]], "float32")
    np.testing.assert_array_equal(SeriesOutput(WINDOWS)(changes, SERIES), [[[1200, 7], [1250, 4]]])


@pytest.mark.parametrize("variant", ["mlp", "rnn_gru"])
def test_a_model_that_has_learned_nothing_forecasts_that_all_stays_as_it_is(variant):
    size = {"widths": (6,)} if variant == "mlp" else {"width": 5}
    model = zoo.create(variant, task="forecast", series=WINDOWS, **size)
    np.testing.assert_array_equal(model(SERIES), [[[1200, 7], [1200, 7]]])


def test_a_forecast_does_not_hang_on_the_units(tmp_path):
    factor, offset = np.array([1.8, 1e-3, 1.0]), np.array([32.0, 5.0, 0.0])
    columns = Scale(COLUMNS.names, tuple(COLUMNS.mean * factor + offset), tuple(COLUMNS.std * factor))
    other = Windows(columns, Scale(("load", "wind"), (6.0, 7.0), (0.1, 3.0)), window=4, horizon=2)
    found = build(series=other)((past() * factor + offset).astype("float32"))
    np.testing.assert_allclose(found, build()(past()) * np.array([1e-3, 1.0]) + np.array([5.0, 0.0]), rtol=1e-4)


@pytest.mark.parametrize("variant", ["mlp", "rnn_gru"])
def test_a_saved_model_knows_its_windows(variant, tmp_path):
    model = build(variant)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert windows_of(again) == WINDOWS
    np.testing.assert_array_equal(again(past()), model(past()))
    assert [name for name in zoo.layer_groups(model) if not name.startswith("block")] == ["head"]


def test_a_tflite_file_answers_as_keras_does(tmp_path):
    model = build()
    signature = [tf.TensorSpec((1, 4, 3), tf.float32, name="series")]
    model.export(tmp_path / "m.tflite", format="litert", input_signature=signature, verbose=False)
    content = (tmp_path / "m.tflite").read_bytes()
    assert b"Flex" not in content
    interpreter = Interpreter(model_content=content)
    interpreter.allocate_tensors()
    (source,), (sink,) = interpreter.get_input_details(), interpreter.get_output_details()
    for window, wanted in zip(past(), np.asarray(model(past())), strict=True):
        interpreter.set_tensor(source["index"], window[np.newaxis])
        interpreter.invoke()
        np.testing.assert_allclose(interpreter.get_tensor(sink["index"])[0], wanted, rtol=1e-5, atol=1e-3)


def test_half_precision_does_not_touch_the_units():
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = build()
    finally:
        keras.config.set_dtype_policy("float32")
    assert model.get_layer("block0_dense").compute_dtype == "bfloat16"
    wanted = build()(past())
    np.testing.assert_allclose(model(past()), wanted, rtol=0.02, atol=0.2)
    np.testing.assert_array_equal(SeriesOutput(WINDOWS)(np.zeros((1, 2, 2)), SERIES + 0.25)[..., 0], [[1200.25] * 2])


def test_models_without_a_series_say_so():
    with pytest.raises(ValueError, match=r"Give series=Windows\(\.\.\.\)"):
        zoo.create("mlp", task="forecast")
    with pytest.raises(ValueError, match="no SeriesInput layer"):
        windows_of(zoo.create("mlp", widths=(2,), size=8))


@pytest.mark.parametrize("steps", [{"window": 0}, {"horizon": 2.5}, {"window": True}])
def test_windows_have_whole_numbers_of_steps(steps):
    ((name, value),) = steps.items()
    with pytest.raises(ValueError, match=rf"{name}={value} must be|{name}={value}\) must be"):
        Windows(**steps)
