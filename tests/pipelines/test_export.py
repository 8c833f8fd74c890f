"""What export writes answers as Keras does, and what does not is not written."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import keras
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter

from pipelines import convert, decoding, metadata, twins
from pipelines import export as export_module
from pipelines.agreement import Tolerance
from pipelines.convert import Job
from pipelines.expected import Expected
from pipelines.export import FORMATS, ExportError, ExportReport, export
from pipelines.exported import open_saved_model, predict_file, predict_saved_model
from pipelines.interface import Interface, predict
from pipelines.proof import Proof, file_name
from tests.pipelines.digits_model import CLASSES, PIXELS, Doubled, convolutional, digits


@dataclasses.dataclass(frozen=True)
class Exported:
    model: keras.Model
    out: Path
    report: ExportReport
    images: np.ndarray
    labels: np.ndarray
    calibration: np.ndarray


@pytest.fixture(scope="module")
def exported(tmp_path_factory) -> Exported:
    """A trained digit classifier in all formats."""
    keras.utils.set_random_seed(0)
    images, labels = digits()
    model = convolutional(head=Doubled())
    model.compile(keras.optimizers.Adam(2e-3), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(images[:1400], labels[:1400], batch_size=64, epochs=5, verbose=0)
    out = tmp_path_factory.mktemp("bundle")
    (out / "bundle.json").write_text("{}")  # an export touches nothing but its own files
    test, truth, calibration = images[1400:1600], labels[1400:1600], images[:100]
    report = export(model, out=out, classes=CLASSES, images=test, labels=truth, calibration=calibration)
    return Exported(model, out, report, test, truth, calibration)


@pytest.fixture
def replayed(exported, monkeypatch) -> Path:
    """The directory whose files the next export proves instead of converting anew."""
    made = Path(shutil.copytree(exported.out, exported.out.parent / "made", dirs_exist_ok=True))

    def convert_nothing(proof, formats, workspace, **_):
        for form in formats:
            copy = shutil.copytree if form == "saved_model" else shutil.copyfile
            copy(made / file_name(form), workspace / file_name(form))
        return {}

    monkeypatch.setattr(export_module, "_convert", convert_nothing)
    return made


def again(exported: Exported, out: Path, *formats, **changes) -> ExportReport:
    given = {"classes": CLASSES, "images": exported.images, "labels": exported.labels}
    return export(changes.pop("model", exported.model), formats, out=out, **{**given, **changes})


def test_all_formats_answer_as_keras_does(exported):
    logits = exported.model.predict(exported.images, verbose=0)
    truth = np.mean(logits.argmax(-1) == exported.labels)
    rows = {row.format: row for row in exported.report.rows}

    assert tuple(rows) == FORMATS
    assert truth > 0.9
    assert exported.report.keras_accuracy == pytest.approx(truth)
    for form, largest in {"saved_model": 1e-5, "float32": 1e-5, "float16": 5e-3, "dynamic": 0.1, "int8": 0.3}.items():
        path = exported.out / rows[form].file
        predict = predict_saved_model if form == "saved_model" else predict_file
        answers = predict(path, exported.images)
        difference = np.abs(answers - logits).max()
        assert difference < largest * logits.std()
        assert rows[form].logit_difference == pytest.approx(difference, rel=0.1, abs=1e-5)
        assert rows[form].accuracy == np.mean(answers.argmax(-1) == exported.labels)
        assert rows[form].accuracy > truth - 0.02
        assert metadata.read_labels(path) == CLASSES
        assert metadata.read_pixels(path) == PIXELS
        assert rows[form].milliseconds > 0
    sizes = [(exported.out / file_name(form)).stat().st_size for form in ("float32", "float16", "dynamic")]
    assert sizes == sorted(sizes, reverse=True)


def test_the_directory_holds_the_files_and_nothing_else(exported):
    assert {path.name for path in exported.out.iterdir()} == {
        "bundle.json", "export.json", "saved_model",
        "float32.tflite", "float16.tflite", "dynamic.tflite", "int8.tflite",
    }  # fmt: skip
    told = json.loads((exported.out / "export.json").read_text())
    assert told == json.loads(exported.report.to_json())
    assert told["versions"]["keras"] == keras.version()
    assert told["tolerance"]["exact"]["difference"] == 1e-3
    assert exported.report.table().row_count == 1 + len(FORMATS)


def test_int8_takes_bytes_as_they_are(exported):
    interpreter = Interpreter(str(exported.out / "int8.tflite"))
    (image,), (logits,) = interpreter.get_input_details(), interpreter.get_output_details()
    assert (image["dtype"], image["quantization"]) == (np.uint8, (1.0, 0))
    assert logits["dtype"] == np.int8
    assert list(interpreter.get_signature_list()["serving_default"].values()) == [["image"], ["logits"]]


def test_the_saved_model_serves_encoded_images_of_any_size(exported):
    import tensorflow as tf

    call = open_saved_model(exported.out / "saved_model")
    images = [tf.image.resize(image, size).numpy().astype(np.uint8) for image, size in
              zip(exported.images, ((16, 16), (31, 22), (90, 200)), strict=False)]  # fmt: skip
    served = call("serve_jpeg", np.array([tf.io.encode_png(image).numpy() for image in images], object))
    seen = np.stack([decoding.resize_and_crop(image, PIXELS).numpy() for image in images])
    expected = keras.ops.convert_to_numpy(keras.ops.softmax(exported.model(seen)))

    np.testing.assert_allclose(served["scores"], expected, atol=1e-5)
    assert [label.decode() for label in served["label"]] == [CLASSES[index] for index in expected.argmax(-1)]
    np.testing.assert_array_equal(served["score"], served["scores"].max(-1))


def test_the_saved_model_takes_bytes_and_floats(exported):
    call = open_saved_model(exported.out / "saved_model")
    as_bytes = call("serve_uint8", exported.images[:5])
    as_floats = call("serving_default", exported.images[:5].astype(np.float32))
    np.testing.assert_array_equal(as_bytes["logits"], as_floats["logits"])
    np.testing.assert_allclose(as_floats["probability"].sum(-1), 1, rtol=1e-5)


def largest_weights(data: bytearray) -> np.ndarray:
    """The largest buffer of a .tflite file as bytes that can be written to."""
    model = schema.Model.GetRootAs(data)
    buffers = [model.Buffers(index) for index in range(model.BuffersLength())]
    held = max(buffers, key=lambda buffer: buffer.DataLength()).DataAsNumpy()
    start = held.__array_interface__["data"][0] - np.frombuffer(data, np.uint8).__array_interface__["data"][0]
    return np.frombuffer(data, np.uint8)[start : start + len(held)]


@pytest.mark.parametrize(
    ("form", "change", "problem"),
    [
        ("float32", lambda weights: weights.view("f4").__imul__(1.01), r"a logit differs by .* \(at most 0.001\)"),
        ("float32", lambda weights: weights.view("f4").__setitem__(3, np.nan), "the logits are not all finite numbers"),
        ("float16", lambda weights: weights.view("f2").__imul__(1.5), r"a logit differs by .* \(at most 0.2\)"),
        (
            "dynamic",
            lambda weights: weights.__setitem__(slice(None), weights[::-1].copy()),
            "the best class is the same",
        ),
        ("int8", lambda weights: weights.fill(1), "the best class is the same on .* accuracy falls from"),
    ],
)
def test_a_corrupt_weight_fails_the_export(exported, replayed, tmp_path, form, change, problem):
    data = bytearray((replayed / file_name(form)).read_bytes())
    change(largest_weights(data))
    good = "float16" if form == "float32" else "float32"
    (replayed / file_name(form)).write_bytes(data)
    shutil.copyfile(exported.out / "export.json", tmp_path / "export.json")
    for name in ("float32.tflite", "float16.tflite", file_name(form)):  # of an earlier export, which passed
        shutil.copyfile(exported.out / name, tmp_path / name)

    with pytest.raises(ExportError, match=f"(?s)Nothing was exported.*{form}.tflite: .*{problem}"):
        again(exported, tmp_path, good, form, calibration=exported.calibration)
    left = {"float32.tflite", "float16.tflite"} - {file_name(good), file_name(form)}
    assert {path.name for path in tmp_path.iterdir()} == (left | {"export.json"} if left else set())


def test_other_labels_inside_fail_the_export(exported, replayed, tmp_path):
    metadata.write(replayed / "float32.tflite", Interface(classes=CLASSES[::-1], pixels=PIXELS), name="small")
    with pytest.raises(ExportError, match=r"float32\.tflite: the labels inside are .'néuf'"):
        again(exported, tmp_path, "float32")


def copy_earlier(exported: Exported, out: Path) -> None:
    """An earlier export of two formats lies in `out`, beside a file of the user's."""
    shutil.copytree(exported.out / "saved_model", out / "saved_model")
    for name in ("float16.tflite", "export.json"):
        shutil.copyfile(exported.out / name, out / name)
    (out / "model.keras").write_text("not ours")


def formats_in(out: Path) -> list[str]:
    return [row["format"] for row in json.loads((out / "export.json").read_text())["rows"]]


def test_files_of_the_same_model_come_together(exported, replayed, tmp_path):
    copy_earlier(exported, tmp_path)
    report = again(exported, tmp_path, "float32")
    names = {"model.keras", "saved_model", "float32.tflite", "float16.tflite", "export.json"}
    assert {path.name for path in tmp_path.iterdir()} == names
    assert formats_in(tmp_path) == [row.format for row in report.rows] == ["saved_model", "float32", "float16"]


@pytest.mark.parametrize("change", ["weights", "images", "no report", "damaged report"])
def test_files_of_another_model_do_not_stay(exported, replayed, tmp_path, change):
    copy_earlier(exported, tmp_path)
    changes = {}
    if change == "weights":
        changes["model"] = keras.models.clone_model(exported.model)
        changes["model"].set_weights([w + np.float32(1e-7) for w in exported.model.get_weights()])
    elif change == "images":
        changes = {"images": exported.images[:-1], "labels": exported.labels[:-1]}
    elif change == "no report":
        (tmp_path / "export.json").unlink()
    else:
        (tmp_path / "export.json").write_text('{"rows": [1]}')
    again(exported, tmp_path, "float32", **changes)
    assert {path.name for path in tmp_path.iterdir()} == {"model.keras", "float32.tflite", "export.json"}
    assert formats_in(tmp_path) == ["float32"]


def test_what_a_killed_export_left_is_removed_and_a_running_one_kept(exported, replayed, tmp_path):
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    left, used = (tmp_path / f".export-{process}-abc" for process in (dead.pid, os.getpid()))
    for directory in (left, used):
        directory.mkdir()
        (directory / "float32.tflite").write_text("half")
    again(exported, tmp_path, "float32")
    assert not left.exists()
    assert used.exists()


@pytest.mark.parametrize("policy", ["mixed_bfloat16", pytest.param("mixed_float16", marks=pytest.mark.slow)])
def test_a_model_in_half_precision_is_exported_in_float32(exported, tmp_path, policy):
    keras.config.set_dtype_policy(policy)
    try:
        model = convolutional()
    finally:
        keras.config.set_dtype_policy("float32")
    model.set_weights(exported.model.get_weights())
    full = convolutional()
    full.set_weights(exported.model.get_weights())
    model.save(tmp_path / convert.MODEL)
    Job(("float32",), CLASSES, ()).write(tmp_path)
    convert.run(tmp_path)
    assert convert.outcomes(tmp_path) == {"float32": None}

    samples = {"image": exported.images}
    half, exact = (predict(one, samples, "classify") for one in (model, full))
    twin = twins.float32_twin(model)
    proof = Proof(
        model=model,
        twin=twin,
        interface=Interface(classes=CLASSES, pixels=PIXELS),
        samples=samples,
        expected=Expected(outputs=half, task="classify", labels=exported.labels),
        tolerance=Tolerance(),
    )
    np.testing.assert_array_equal(predict(twin, samples, "classify")["logits"], exact["logits"])
    told = proof.check("float32", tmp_path)
    assert told.logit_difference == pytest.approx(
        np.abs(exact["logits"] - half["logits"]).max(), rel=0.01
    )  # Keras is the one that rounds
    assert told.relative_difference > 1e-3
    with pytest.raises(ExportError, match="against the model in float32, a logit differs"):
        twin.set_weights([1.01 * weight for weight in twin.get_weights()])
        proof.check("float32", tmp_path)


@pytest.mark.slow
def test_kill_9_leaves_no_file_under_its_final_name(exported, tmp_path):
    exported.model.save(tmp_path / "model.keras")
    np.save(tmp_path / "images.npy", exported.images)
    program = (
        "import sys, keras, numpy as np; import tests.pipelines.digits_model; from pipelines.export import export\n"
        f"model = keras.saving.load_model({str(tmp_path / 'model.keras')!r})\n"
        f"images = np.load({str(tmp_path / 'images.npy')!r})\n"
        f"export(model, out={str(tmp_path / 'out')!r}, classes={CLASSES!r}, images=images, calibration=images)\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    for made in ("saved_model", "float16.tflite"):  # killed while the next file is being made
        process = subprocess.Popen([sys.executable, "-c", program], env=environment)
        while not list((tmp_path / "out").glob(f".export-{process.pid}-*/{made}")):
            assert process.poll() is None
            time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert [path.name[:8] for path in (tmp_path / "out").iterdir()] == [".export-"]
