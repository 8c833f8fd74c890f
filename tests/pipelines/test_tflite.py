"""Models of every kind as .tflite files of builtin operators alone that answer as Keras does."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers

from pipelines import metadata, tflite
from pipelines.exported import run_tflite
from pipelines.interface import Interface, predict
from pipelines.twins import int8_twin
from tests.pipelines.text_models import SMALL, VOCABULARY, converted, differences, shaken, texts

RECURRENT = {"vocabulary": VOCABULARY, "embedding": 8, "width": 8, "depth": 1}
SHORT = {**SMALL, "length": 16}

MODELS = {
    "bert features": ("bert_tiny", "features", SHORT),
    "bert masked_lm, tied table": ("bert_tiny", "masked_lm", SHORT),
    "bert answer": ("bert_tiny", "answer", SHORT),
    "roberta, only tokens have places": ("roberta_base", "tag", {**SHORT, "classes": 3}),
    "distilbert": ("distilbert_base", "classify", {**SHORT, "classes": 3}),
    "gpt": ("gpt2", "causal_lm", SHORT),
    "t5 1.0": ("t5_small", "seq2seq", {**SMALL, "head_width": 8}),
    "t5 1.1, gated": ("t5_v1_1_small", "seq2seq", {**SMALL, "head_width": 8}),
    "transformer, sinusoids": ("transformer_tiny", "seq2seq", SMALL),
    "lstm": ("rnn_lstm", "tag", {**RECURRENT, "classes": 3}),
    "gru, both directions": ("rnn_gru", "tag", {**RECURRENT, "bidirectional": True, "classes": 3}),
    "lstm, states": ("rnn_lstm", "causal_lm", {**RECURRENT, "states": True}),
}


ALIKE = {"bert features", "bert answer", "distilbert", "t5 1.0", "lstm"}  # to one of the others


@pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=pytest.mark.slow if kind in ALIKE else ()) for kind in MODELS]
)
def test_float32_answers_as_keras_does(kind, tmp_path):
    name, task, options = MODELS[kind]
    model = shaken(name, task, **options)
    samples = texts(model)
    path = converted(model, samples, task, tmp_path)
    assert all(metadata.operators(path).values()), metadata.operators(path)
    assert max(differences(model, path, samples, task).values()) < 1e-4


@pytest.mark.parametrize(
    "kind", ["gpt", "roberta, only tokens have places", pytest.param("lstm", marks=pytest.mark.slow)]
)
def test_texts_may_be_padded_before(kind, tmp_path):
    name, task, options = MODELS[kind]
    model = shaken(name, task, **options)
    samples = texts(model, left=True)
    assert max(differences(model, converted(model, samples, task, tmp_path), samples, task).values()) < 1e-4


def test_numbers_in_their_own_units(tmp_path):
    """A series of two columns whose units differ a million times, and missing values in a table."""
    series = keras.Input((6, 2), name="series")
    x = layers.Normalization(mean=[1e-3, 1e3], variance=[1e-6, 1e6])(series)
    model = keras.Model(series, layers.Reshape((3, 1))(layers.Dense(3)(layers.LSTM(4)(x))))
    random = np.random.default_rng(0)
    samples = {"series": (random.normal(size=(8, 6, 2)) * [1e-3, 1e3]).astype("f4")}
    assert differences(model, converted(model, samples, "forecast", tmp_path), samples, "forecast")["values"] < 1e-4

    row = keras.Input((3,), name="row")
    known = keras.ops.where(row != row, 5.0, row)
    model = keras.Model(row, layers.Dense(2)(known))
    samples = {"row": random.normal(size=(8, 3)).astype("f4")}
    samples["row"][2, 1] = np.nan
    (tmp_path / "table").mkdir()
    path = converted(model, samples, "regress", tmp_path / "table")
    assert differences(model, path, samples, "regress")["values"] < 1e-4


def test_int8_attention_needs_a_small_mask(tmp_path):
    """Masked with -1e9, all other scores fall on one of the 256 steps; the exporter's twin keeps them apart."""
    model = shaken("bert_tiny", "tag", scale=0.2, **SHORT, classes=3)
    samples = texts(model, count=24)
    twin = int8_twin(model, {})
    assert {layer.mask_value for layer in twin.layers if hasattr(layer, "mask_value")} == {-30.0}
    expected = predict(model, samples, "tag")["logits"]
    np.testing.assert_allclose(predict(twin, samples, "tag")["logits"], expected, atol=1e-5)
    files = {"ours": converted(model, samples, "tag", tmp_path, "int8"), "plain": tmp_path / "plain.tflite"}
    interface = Interface(task="tag", lengths=dict.fromkeys(samples, 12))
    tflite.write_frozen(model, tmp_path / "plain", interface)
    made = tflite.converter("int8", tmp_path / "plain", tmp_path / tflite.CALIBRATION, images=False)
    files["plain"].write_bytes(made.convert())
    noise = {}
    for kind, path in files.items():
        errors = run_tflite(path, samples)["logits"] - expected
        noise[kind] = float(errors[samples["padding_mask"] == 1].std() / expected.std())
    assert noise["ours"] < 0.2
    assert noise["plain"] > 2 * noise["ours"]


@pytest.mark.parametrize("name", ["rnn_lstm", pytest.param("rnn_gru", marks=pytest.mark.slow)])
def test_int8_recurrent_layers_are_unrolled(name, tmp_path):
    model = shaken(name, "tag", scale=0.3, **RECURRENT, classes=3, bidirectional=True)
    samples = texts(model, length=4, count=16)
    twin = int8_twin(model, dict.fromkeys(samples, 4))
    assert twin.input["token_ids"].shape == (None, 4)
    outputs = predict(model, samples, "tag")["logits"]
    np.testing.assert_allclose(predict(twin, samples, "tag")["logits"], outputs, atol=1e-5)
    answers = run_tflite(converted(model, samples, "tag", tmp_path, "int8"), samples)["logits"]
    errors = (answers - outputs)[samples["padding_mask"] == 1]
    assert errors.std() < 0.3 * outputs.std()


def test_a_model_without_either_needs_no_twin():
    model = keras.Sequential([keras.Input((4,)), layers.Dense(2)])
    assert int8_twin(model, {}) is model
