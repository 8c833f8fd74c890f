"""The mean error of int8 logits is taken back, and nothing else is touched."""

from pathlib import Path

import keras
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from keras import layers

from pipelines import bias_correction, tflite
from pipelines.exported import predict_file
from pipelines.interface import Interface
from tests.pipelines import toy


def as_int8(model: keras.Model, images: np.ndarray, folder: Path) -> Path:
    """The int8 file of a model as the converter makes it."""
    np.savez(folder / "images.npz", image=images)
    tflite.write_frozen(model, folder / "frozen", Interface())
    made = tflite.converter("int8", folder / "frozen", folder / "images.npz", images=True).convert()
    (folder / "int8.tflite").write_bytes(made)
    return folder / "int8.tflite"


@pytest.fixture(scope="module")
def quantized(tmp_path_factory):
    """An int8 file of a model, as the converter makes it, with the images and logits it is held against."""
    folder = tmp_path_factory.mktemp("int8")
    keras.utils.set_random_seed(0)
    model = toy.model()
    model.get_layer("head_logits").bias.assign([0.1, -0.2, 0.3])  # the converter leaves out a bias of zeros
    images = np.clip(toy.problem(64)[0] * 40 + 100, 0, 255)
    return as_int8(model, images, folder), images, model.predict(images, verbose=0)


def test_a_shift_of_the_logits_is_taken_back(quantized, tmp_path):
    """Held against logits that are higher by a known amount, the file follows, class by class."""
    path = tmp_path / "int8.tflite"
    path.write_bytes(quantized[0].read_bytes())
    _, images, logits = quantized
    step = schema.Model.GetRootAs(path.read_bytes()).Subgraphs(0)
    scale = step.Tensors(step.Outputs(0)).Quantization().Scale(0)
    before = predict_file(path, images)
    wanted = before + np.array([3, 0, -2]) * scale
    bias_correction.correct(path, images, wanted)
    shift = (predict_file(path, images) - before).mean(axis=0)
    np.testing.assert_allclose(shift, np.array([3, 0, -2]) * scale, atol=0.6 * scale)
    bias_correction.correct(path, images, logits)
    assert np.abs((predict_file(path, images) - logits).mean(axis=0)).max() <= 0.6 * scale


def contents(path) -> list[bytes]:
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(path.read_bytes()))
    return [bytes(buffer.data) for buffer in model.buffers if buffer.data is not None]


def test_only_the_last_bias_changes(quantized, tmp_path):
    path = tmp_path / "int8.tflite"
    path.write_bytes(quantized[0].read_bytes())
    bias_correction.correct(path, quantized[1], quantized[2] + 1.0)
    buffers = [contents(file) for file in (quantized[0], path)]
    assert sum(a != b for a, b in zip(*buffers, strict=True)) == 1


def test_a_file_that_ends_otherwise_is_left_alone(tmp_path):
    image = keras.Input((8, 8, 3))
    x = layers.GlobalAveragePooling2D()(layers.Conv2D(3, 3)(image))
    model, images = keras.Model(image, x), np.random.default_rng(0).uniform(0, 255, (8, 8, 8, 3)).astype("float32")
    path = as_int8(model, images, tmp_path)
    before = path.read_bytes()
    bias_correction.correct(path, images, model.predict(images, verbose=0) + 1.0)
    assert path.read_bytes() == before
