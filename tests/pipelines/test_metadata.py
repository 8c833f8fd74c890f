"""Labels, pixels and TFLite metadata inside a .tflite file that computes as before."""

from __future__ import annotations

import zipfile
from pathlib import Path

import flatbuffers
import keras
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from pipelines import metadata, tflite
from pipelines.exported import predict_file
from pipelines.interface import Interface
from pipelines.predict import Predictor
from zoo.core.family import Pixels

CLASSES = ("cat", "Größe, 大", "a dog ", "'quoted'")
PIXELS = Pixels(size=(12, 16), crop=0.9, interpolation="bicubic")
IMAGES = Interface(classes=CLASSES, pixels=PIXELS)


@pytest.fixture(scope="module")
def bare(tmp_path_factory) -> Path:
    """A float32 .tflite file as the converter makes it."""
    keras.utils.set_random_seed(0)
    image = keras.Input((12, 16, 3))
    x = keras.layers.Conv2D(5, 3, activation="relu")(image)
    model = keras.Model(image, keras.layers.Dense(4)(keras.layers.GlobalAveragePooling2D()(x)))
    directory = tmp_path_factory.mktemp("bare")
    tflite.write_frozen(model, directory / "frozen", IMAGES)
    path = directory / "bare.tflite"
    path.write_bytes(tflite.converter("float32", directory / "frozen", directory / "none", images=True).convert())
    return path


@pytest.fixture
def written(bare, tmp_path) -> Path:
    path = tmp_path / "with labels.tflite"
    path.write_bytes(bare.read_bytes())
    metadata.write(path, IMAGES, name="a model")
    return path


def metadata_table(path: Path) -> flatbuffers.table.Table:
    """The root of the metadata, found as a reader with the schema finds it."""
    model = schema.Model.GetRootAs(path.read_bytes())
    (entry,) = (
        entry for entry in map(model.Metadata, range(model.MetadataLength())) if entry.Name() == b"TFLITE_METADATA"
    )
    data = model.Buffers(entry.Buffer()).DataAsNumpy().tobytes()
    assert data[4:8] == b"M001"
    return flatbuffers.table.Table(data, flatbuffers.encode.Get(flatbuffers.packer.uoffset, data, 0))


def follow(table: flatbuffers.table.Table, *slots: int) -> flatbuffers.table.Table:
    """The table reached through slots that hold tables or vectors of one table (a negative slot)."""
    for slot in slots:
        position = table.Offset(4 + 2 * abs(slot))
        assert position
        if slot < 0:
            assert table.VectorLen(position) == 1
            start = table.Vector(position)
        else:
            start = position + table.Pos
        table = flatbuffers.table.Table(table.Bytes, table.Indirect(start))
    return table


def text(table: flatbuffers.table.Table, slot: int) -> str:
    return table.String(table.Offset(4 + 2 * slot) + table.Pos).decode()


def number(table: flatbuffers.table.Table, slot: int, flags=flatbuffers.number_types.Uint8Flags):
    return table.Get(flags, table.Offset(4 + 2 * slot) + table.Pos)


def test_labels_and_pixels_come_back(written):
    assert metadata.read_labels(written) == CLASSES
    assert metadata.read_pixels(written) == PIXELS
    with zipfile.ZipFile(written) as archive:  # what `unzip` shows
        assert archive.read("labels.txt").decode().splitlines() == list(CLASSES)


def test_the_file_computes_the_same_bits(bare, written):
    images = np.random.default_rng(0).uniform(0, 255, (20, 12, 16, 3)).astype(np.float32)
    answers = predict_file(written, images)
    assert np.ptp(answers) > 1
    np.testing.assert_array_equal(answers, predict_file(bare, images))


def test_the_metadata_follows_the_schema(written):
    root = metadata_table(written)  # ModelMetadata
    assert (text(root, 0), text(root, 7)) == ("a model", "1.0.0")

    image = follow(root, -3, -2)  # subgraph_metadata, input_tensor_metadata
    content, unit = follow(image, 3), follow(image, -4)
    assert text(image, 0) == "image"
    assert number(content, 0) == 2  # ImageProperties
    assert number(follow(content, 1), 0) == 1  # RGB
    assert number(unit, 0) == 1  # NormalizationOptions
    floats = flatbuffers.number_types.Float32Flags
    options = follow(unit, 1)
    assert options.GetVectorAsNumpy(floats, options.Offset(4)).tolist() == [0]  # mean
    assert options.GetVectorAsNumpy(floats, options.Offset(6)).tolist() == [1]  # std

    logits = follow(root, -3, -3)  # output_tensor_metadata
    assert text(logits, 0) == "logits"
    labels = follow(logits, -6)  # associated_files
    assert (text(labels, 0), number(labels, 2)) == ("labels.txt", 2)  # TENSOR_AXIS_LABELS


def test_weights_stay_on_16_byte_boundaries(written):
    data = written.read_bytes()
    model = schema.Model.GetRootAs(data)
    start = np.frombuffer(data, np.uint8).__array_interface__["data"][0]
    held = [buffer for buffer in map(model.Buffers, range(model.BuffersLength())) if buffer.DataLength()]
    assert len(held) > 4
    for buffer in held:
        assert (buffer.DataAsNumpy().__array_interface__["data"][0] - start) % 16 == 0


def test_writing_again_replaces(written):
    first = written.read_bytes()
    metadata.write(written, Interface(classes=("x", "y", "z", "w"), pixels=PIXELS), name="second")
    assert metadata.read_labels(written) == ("x", "y", "z", "w")
    assert text(metadata_table(written), 0) == "second"
    metadata.write(written, IMAGES, name="a model")
    assert written.read_bytes() == first


def test_operators_are_named(bare):
    found = metadata.operators(bare)
    assert found == dict.fromkeys(("CONV_2D", "MEAN", "FULLY_CONNECTED"), True)


def test_a_file_of_old_that_names_no_task_is_a_classifier(bare, tmp_path, monkeypatch):
    whole = metadata.associated_files(IMAGES)
    left = {name: text for name, text in whole.items() if name != metadata.INPUTS}
    monkeypatch.setattr(metadata, "associated_files", lambda interface: left)
    path = tmp_path / "old.tflite"
    path.write_bytes(bare.read_bytes())
    metadata.write(path, IMAGES, name="a model")
    image = tmp_path / "image.png"
    keras.utils.save_img(image, np.full((20, 20, 3), 90), scale=False)
    predictor = Predictor.open(path)
    assert predictor.classes == CLASSES
    assert predictor.probabilities([image]).sum() == pytest.approx(1)


def test_a_file_without_labels_is_refused(bare, tmp_path):
    with pytest.raises(ValueError, match=r"bare.tflite holds no labels.txt.*Export the model again"):
        metadata.read_labels(bare)
    with pytest.raises(FileNotFoundError, match="no exported model at"):
        metadata.read_labels(tmp_path / "none.tflite")
    with pytest.raises(ValueError, match=r"holds no pixels.json"):
        metadata.read_pixels(tmp_path)
