"""A model of texts, exported in all formats: inputs by name, any length in a SavedModel, one in a .tflite file."""

from __future__ import annotations

import dataclasses
import json
import zipfile
from pathlib import Path

import keras
import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter
from keras import layers

from pipelines import metadata
from pipelines.export import ExportReport, export, usual_formats
from pipelines.exported import open_saved_model, run_saved_model, run_tflite
from pipelines.interface import predict
from tests.pipelines.digits_model import convolutional
from tests.pipelines.text_models import SMALL, shaken, texts

CLASSES = ("bad", "good", "größer")
TOKENIZER = json.dumps({"version": "1.0", "model": {"vocab": {"größe": 0}}}, ensure_ascii=False)
FORMATS = ("saved_model", "float32", "float16", "dynamic", "int8")


@dataclasses.dataclass(frozen=True)
class Exported:
    model: keras.Model
    out: Path
    report: ExportReport
    samples: dict[str, np.ndarray]


@pytest.fixture(scope="module")
def exported(tmp_path_factory) -> Exported:
    """A tagger of tokens, whose texts have up to 12 of them, for texts of 14."""
    model = shaken("bert_tiny", "tag", scale=0.2, **SMALL, length=16, classes=3)
    samples, out = texts(model, count=24), tmp_path_factory.mktemp("texts")
    labels = predict(model, samples, "tag")["logits"].argmax(-1)
    labels[:, 0] = -1
    report = export(
        model,
        FORMATS,
        out=out,
        task="tag",
        classes=CLASSES,
        samples=samples,
        labels=labels,
        calibration=samples,
        length=14,
        files={"tokenizer.json": TOKENIZER},
    )
    return Exported(model, out, report, samples)


def test_all_formats_answer_as_keras_does(exported):
    expected = predict(exported.model, exported.samples, "tag")["logits"]
    real = exported.samples["padding_mask"] == 1
    rows = {row.format: row for row in exported.report.rows}
    assert tuple(rows) == FORMATS
    assert exported.report.keras_accuracy == 1
    for form, largest in {"saved_model": 1e-5, "float32": 1e-5, "float16": 0.01, "dynamic": 0.2, "int8": 0.5}.items():
        path, tflite = exported.out / rows[form].file, form != "saved_model"
        answers = (run_tflite if tflite else run_saved_model)(path, exported.samples)
        logits = answers["logits"][:, :12]  # a file's texts have 14 tokens
        assert np.abs(logits - expected)[real].max() < largest * expected[real].std()
        assert rows[form].agreement == pytest.approx((logits.argmax(-1) == expected.argmax(-1))[real].mean(), abs=0.02)
        assert rows[form].accuracy >= 0.9
        assert metadata.read_labels(path) == CLASSES
        assert metadata.read_task(path) == "tag"
        assert metadata.read_lengths(path) == dict.fromkeys(exported.samples, 14)
        assert metadata.read_file(path, "tokenizer.json") == TOKENIZER
    with zipfile.ZipFile(exported.out / "float32.tflite") as archive:  # what `unzip` shows
        assert set(archive.namelist()) == {"labels.txt", "inputs.json", "tokenizer.json"}


def test_the_report_speaks_of_texts(exported):
    told = json.loads((exported.out / "export.json").read_text())
    assert (told["unit"], told["samples"], told["task"], told["lengths"]["token_ids"]) == ("text", 24, "tag", 14)
    table = exported.report.table()
    assert table.title == "Compared with Keras on 24 texts"
    assert table.columns[-1].header == "ms a text"


def test_the_saved_model_takes_any_number_of_texts_of_any_length(exported):
    call = open_saved_model(exported.out / "saved_model")
    for count, length in ((1, 3), (7, 16)):
        samples = texts(exported.model, count=count, length=length)
        served = call("serving_default", samples)
        expected = predict(exported.model, samples, "tag")["logits"]
        np.testing.assert_allclose(served["logits"], expected, atol=1e-4)
        np.testing.assert_allclose(served["probability"].sum(-1), 1, rtol=1e-5)


def test_a_tflite_file_takes_one_text_by_the_names_of_the_inputs(exported):
    interpreter = Interpreter(str(exported.out / "int8.tflite"))
    runner = interpreter.get_signature_runner("serving_default")
    taken = {name: (tuple(tensor["shape"]), tensor["dtype"]) for name, tensor in runner.get_input_details().items()}
    assert taken == dict.fromkeys(("token_ids", "padding_mask", "segment_ids"), ((1, 14), np.int32))
    assert list(runner.get_output_details()) == ["logits"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda given: {**given, "token_ids": np.ones((2, 15), "int32")},
            r"takes token_ids of shape \(14,\), got \(15,\)",
        ),
        (lambda given: {"token_ids": given["token_ids"]}, "takes the inputs .* got token_ids"),
    ],
)
def test_what_a_tflite_file_does_not_take_is_refused(exported, change, message):
    with pytest.raises(ValueError, match=message):
        run_tflite(exported.out / "float32.tflite", change({name: v[:2] for name, v in exported.samples.items()}))


def attempt(out: Path, **changes) -> ExportReport:
    model = changes.pop("model", None) or shaken("bert_tiny", "tag", **SMALL, length=16, classes=3)
    samples = texts(model) if isinstance(model.input, dict) else np.ones((2, 4), "f4")
    given = {"task": "tag", "classes": CLASSES, "samples": samples, "formats": ["float32"], **changes}
    return export(model, out=out, **given)


def test_what_does_not_fit_is_refused(tmp_path):
    model = shaken("bert_tiny", "tag", **SMALL, length=16, classes=3)
    samples = texts(model)
    without = {name: values for name, values in samples.items() if name != "segment_ids"}
    vectors = keras.Input((4,), name="row")
    wrong = {
        r"takes token_ids, padding_mask, segment_ids; the samples are token_ids, padding_mask\.": {"samples": without},
        "give samples as a dict of arrays": {"samples": samples["token_ids"]},
        r"samples 'token_ids' of shape \(N, T\), got \(8,\)": {"samples": {**samples, "token_ids": np.ones(8, int)}},
        "as whole numbers, got float64": {"samples": {**samples, "token_ids": samples["token_ids"] * 1.0}},
        "not equally many": {"samples": {**samples, "token_ids": samples["token_ids"][1:]}},
        "hold no tokens: padding_mask is 0": {"samples": {**samples, "padding_mask": 0 * samples["padding_mask"]}},
        "has 3 logits, but there are 2 classes": {"classes": ("a", "b")},
        "for task='classify', not": {"task": "classify"},
        r"There must be labels \(8, T\) below 3": {"labels": np.full((8, 12), 3)},
        "a sequence of 17 tokens is longer than the 16": {"length": 17},
        "Give the test texts as samples=": {"samples": None},
        "has no classes, but 3 were given": {"task": "masked_lm"},
        "'tags' is unknown": {"task": "tags"},
        "length=3 says nothing here": {
            "model": keras.Model(vectors, layers.Dense(3)(vectors)),
            "task": "classify",
            "length": 3,
        },
        "it cannot write text": {"steps": 4},
    }
    for message, changes in wrong.items():
        with pytest.raises(ValueError, match=f"(?i){message}"):
            attempt(tmp_path, **changes)
    assert not list(tmp_path.iterdir())


def test_int8_is_usual_for_images_only():
    assert "int8" in usual_formats(convolutional())
    assert usual_formats(shaken("bert_tiny", "tag", **SMALL, classes=3)) == FORMATS[:4]
