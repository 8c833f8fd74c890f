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
from keras import layers
from sklearn.datasets import load_digits

from pipelines import convert, decoding, metadata
from pipelines import export as export_module
from pipelines.convert import Job
from pipelines.export import FORMATS, ExportError, ExportReport, export
from pipelines.exported import open_saved_model, predict_file, predict_saved_model
from pipelines.proof import Proof, file_name, keras_logits
from zoo.core.family import Pixels
from zoo.layers.pixels import image_input

PIXELS = Pixels(size=(16, 16), crop=0.875)
CLASSES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "néuf")


@keras.saving.register_keras_serializable("tests")
class Doubled(layers.Layer):
    """A layer of the user's own, which the converter's process must import this module for."""

    def call(self, x):
        return 2 * x


def digits() -> tuple[np.ndarray, np.ndarray]:
    """The handwritten digits, 16 x 16 pixels, RGB 0..255."""
    data = load_digits()
    grey = np.clip(data.images * 16, 0, 255).astype(np.uint8).repeat(2, axis=1).repeat(2, axis=2)
    return grey[..., np.newaxis].repeat(3, axis=-1), data.target


def convolutional(*, head: layers.Layer | None = None) -> keras.Model:
    image, x = image_input(PIXELS)
    x = layers.Conv2D(16, 3, activation="relu", name="stage1_conv")(x)
    x = layers.DepthwiseConv2D(3, strides=2, name="stage2_conv")(x)
    x = layers.BatchNormalization(name="stage2_bn")(x)
    x = layers.Conv2D(32, 3, activation="relu", name="stage3_conv")(x)
    if head is not None:
        x = head(x)
    return keras.Model(image, layers.Dense(10, dtype="float32", name="head_logits")(layers.Flatten()(x)), name="small")


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

    def convert_nothing(model, formats, workspace, **_):
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
        ("float16", lambda weights: weights.view("f2").__imul__(1.1), r"a logit differs by .* \(at most 0.03\)"),
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
    for name in ("float32.tflite", "export.json"):  # of an earlier export, which passed
        shutil.copyfile(exported.out / name, tmp_path / name)

    with pytest.raises(ExportError, match=f"(?s)Nothing was exported.*{form}.tflite: .*{problem}"):
        again(exported, tmp_path, good, form, calibration=exported.calibration)
    assert not list(tmp_path.iterdir())


def test_other_labels_inside_fail_the_export(exported, replayed, tmp_path):
    metadata.write(replayed / "float32.tflite", classes=CLASSES[::-1], pixels=PIXELS, name="small")
    with pytest.raises(ExportError, match=r"float32\.tflite: the labels inside are .'néuf'"):
        again(exported, tmp_path, "float32")


def test_an_export_replaces_the_whole_earlier_one(exported, replayed, tmp_path):
    for name in ("float16.tflite", "export.json", "saved_model"):
        copy = shutil.copytree if name == "saved_model" else shutil.copyfile
        copy(exported.out / name, tmp_path / name)
    (tmp_path / "model.keras").write_text("not ours")
    again(exported, tmp_path, "float32")
    assert {path.name for path in tmp_path.iterdir()} == {"model.keras", "float32.tflite", "export.json"}
    assert [row["format"] for row in json.loads((tmp_path / "export.json").read_text())["rows"]] == ["float32"]


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


def test_operators_that_tflite_lacks_are_named(exported, tmp_path):
    model = convolutional(head=layers.Resizing(9, 9, interpolation="bicubic"))
    with pytest.raises(ExportError, match=r"float32.tflite: needs operators .* not have: FlexResizeBicubic\. Replace"):
        again(exported, tmp_path, "float32", model=model)
    assert not list(tmp_path.iterdir())


def test_weights_too_large_for_float16_are_noticed(exported, tmp_path):
    model = convolutional()
    kernel, bias = model.get_layer("head_logits").get_weights()
    model.get_layer("head_logits").set_weights([kernel * 1e6, bias])
    with pytest.raises(ExportError) as caught:
        again(exported, tmp_path, "float32", "float16", model=model)
    assert "float16.tflite: a logit differs by" in str(caught.value)  # the converter cuts them off at 65504
    assert "float32.tflite" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_a_crash_of_the_converter_is_an_error_that_names_the_format(exported, tmp_path):
    image, x = image_input(PIXELS)
    x = layers.LSTM(4)(layers.Reshape((16, 48))(x))  # the int8 calibration of a rolled LSTM ends its process
    model = keras.Model(image, layers.Dense(10)(x))
    with pytest.raises(
        ExportError, match=r"(?s)int8\.tflite: the conversion ended with SIG[A-Z]+; it printed:"
    ) as caught:
        again(exported, tmp_path, "float32", "int8", model=model, calibration=exported.calibration)
    assert "float32.tflite" not in str(caught.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_a_model_in_half_precision_is_exported_in_float32(exported, tmp_path, policy):
    keras.config.set_dtype_policy(policy)
    try:
        model = convolutional()
    finally:
        keras.config.set_dtype_policy("float32")
    model.set_weights(exported.model.get_weights())
    model.save(tmp_path / convert.MODEL)
    Job(("float32",), CLASSES, ()).write(tmp_path)
    convert.run(tmp_path)
    assert convert.outcomes(tmp_path) == {"float32": None}

    half = keras_logits(model, exported.images)
    full = convolutional()
    full.set_weights(model.get_weights())
    answers = predict_file(tmp_path / "float32.tflite", exported.images)
    np.testing.assert_allclose(answers, keras_logits(full, exported.images), atol=1e-4)
    assert np.abs(answers - half).max() > 1e-3  # Keras itself is the one that rounds
    told = Proof(
        model=model,
        classes=CLASSES,
        images=exported.images,
        labels=None,
        logits=half,
        tolerance=export_module.Tolerance(),
    ).check("float32", tmp_path)
    assert told.agreement >= 0.98


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"classes": CLASSES[:9]}, r"'small' has 10 logits, but there are 9 classes: 'zero', "),
        ({"classes": (*CLASSES[:9], "one")}, "Class names must differ"),
        ({"classes": (*CLASSES[:9], "a\nb")}, "be one line each"),
        ({"images": np.full((4, 8, 16, 3), 255)}, r"takes images of shape \(N, 16, 16, 3\), got \(4, 8, 16, 3\)"),
        ({"images": np.ones((0, 16, 16, 3))}, r"got \(0, 16, 16, 3\)"),
        ({"images": np.full((200, 16, 16, 3), 0.5)}, r"must be RGB 0..255, but their values go from 0.5 to 0.5"),
        ({"labels": np.arange(7)}, r"a label from 0 to 9 for each of the 200 images, got \(7,\) from 0 to 6"),
        ({"labels": np.full(200, 10)}, "from 10 to 10"),
        ({"formats": ("int8",)}, "int8 needs calibration=: about 100 training images"),
        ({"formats": ("onnx",)}, r"The formats \['onnx'\] must be some of saved_model, float32"),
        ({"formats": ()}, "must be some of"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(exported, tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        again(exported, tmp_path, *changes.pop("formats", ("float32",)), **changes)
    assert not list(tmp_path.iterdir())


def unfit_models() -> dict[str, keras.Model]:
    image = keras.Input((16, 16, 3))
    pooled = layers.GlobalAveragePooling2D()(image)
    anywhere = keras.Input((None, None, 3))
    local = type("Local", (Doubled,), {"__module__": "__main__"})
    return {
        r"must turn images \(B, H, W, 3\) into logits": keras.Model(image, layers.Conv2D(10, 3)(image)),
        "takes images .None, None, None, 3.": keras.Model(
            anywhere, layers.Dense(10)(layers.GlobalAveragePooling2D()(anywhere))
        ),
        "ends in a softmax .'last'.": keras.Model(image, layers.Dense(10, activation="softmax", name="last")(pooled)),
        "The layers Local are defined in the program itself": keras.Model(image, layers.Dense(10)(local()(pooled))),
    }


@pytest.mark.parametrize("message", list(unfit_models()))
def test_models_that_cannot_be_exported_are_refused(exported, tmp_path, message):
    with pytest.raises(ValueError, match=message):
        again(exported, tmp_path, "float32", model=unfit_models()[message])


def test_a_diverged_model_is_refused(exported, tmp_path):
    model = convolutional()
    model.get_layer("head_logits").bias.assign(np.full(10, np.nan))
    with pytest.raises(ValueError, match="'small' are not all finite numbers: its training has diverged"):
        again(exported, tmp_path, "float32", model=model)


@pytest.mark.slow
def test_kill_9_leaves_no_file_under_its_final_name(exported, tmp_path):
    exported.model.save(tmp_path / "model.keras")
    np.save(tmp_path / "images.npy", exported.images)
    program = (
        "import sys, keras, numpy as np; import tests.pipelines.test_export; from pipelines.export import export\n"
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
