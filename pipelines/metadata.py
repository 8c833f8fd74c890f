"""What a .tflite file says about itself: its operators, and the labels and pixels written into it.

The metadata follows TFLite's own format (metadata_schema.fbs, version 1.0.0), which Android's and
MediaPipe's image classifiers read; labels.txt and pixels.json are appended as a zip archive, so
`unzip model.tflite` shows them too. A SavedModel holds the same two files in assets.extra/.
"""

from __future__ import annotations

import dataclasses
import json
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

from pipelines.files import replacing
from zoo.core.family import Pixels

LABELS = "labels.txt"
PIXELS = "pixels.json"
ENTRY = b"TFLITE_METADATA"

# Numbers of the enums and unions in metadata_schema.fbs.
TENSOR_AXIS_LABELS = 2
IMAGE_PROPERTIES = 2
RGB = 1
NORMALIZATION_OPTIONS = 1


def operators(path: str | Path) -> dict[str, bool]:
    """The operators of a .tflite file by name; True where every TFLite runtime has the operator.

    False are custom operators and those of TensorFlow ("Flex"), which need a larger runtime.
    """
    model = schema.Model.GetRootAs(Path(path).read_bytes())
    names = {number: name for name, number in vars(schema.BuiltinOperator).items() if not name.startswith("_")}
    found = {}
    for index in range(model.OperatorCodesLength()):
        code = model.OperatorCodes(index)
        number = max(code.BuiltinCode(), code.DeprecatedBuiltinCode())
        if number == schema.BuiltinOperator.CUSTOM:
            found[code.CustomCode().decode()] = False
        else:
            found[names[number]] = True
    return found


def write(path: str | Path, *, classes: Sequence[str], pixels: Pixels, name: str) -> None:
    """Writes metadata, labels and pixels into a .tflite file, in place of any that it holds."""
    path = Path(path)
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(path.read_bytes()))
    model.metadata = model.metadata or []
    entry = next((entry for entry in model.metadata if entry.name == ENTRY), None)
    if entry is None:
        model.buffers.append(schema.BufferT())
        entry = schema.MetadataT(name=ENTRY, buffer=len(model.buffers) - 1)
        model.metadata.append(entry)
    model.buffers[entry.buffer].data = np.frombuffer(_model_metadata(name), np.uint8)
    with replacing(path) as temporary:
        temporary.write_bytes(pack(model))
        with zipfile.ZipFile(temporary, "a") as archive:
            for member, text in associated_files(classes, pixels).items():
                archive.writestr(zipfile.ZipInfo(member), text)  # a fixed date: the same export gives the same bytes


def pack(model: schema.ModelT) -> bytes:
    """The bytes of a .tflite file with this content."""
    builder = _AlignedBuilder(4096)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def associated_files(classes: Sequence[str], pixels: Pixels) -> dict[str, str]:
    """The text files that go into every exported form, by name."""
    return {
        LABELS: "".join(f"{label}\n" for label in classes),
        PIXELS: json.dumps({**dataclasses.asdict(pixels), "size": pixels.shape}) + "\n",
    }


def read_labels(path: str | Path) -> tuple[str, ...]:
    """The class names inside an exported .tflite file or SavedModel directory, in the order of the logits.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it holds no labels.
    """
    return tuple(_associated_text(path, LABELS).split("\n")[:-1])


def read_pixels(path: str | Path) -> Pixels:
    """How an image must look for an exported .tflite file or SavedModel directory.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it does not say.
    """
    values = json.loads(_associated_text(path, PIXELS))
    return Pixels(**{**values, **{name: tuple(values[name]) for name in ("size", "mean", "std")}})


def _associated_text(path: str | Path, member: str) -> str:
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"There is no exported model at {path}. Write one with pipelines.export.")
    missing = f"{path} holds no {member}: it was not written by pipelines.export. Export the model again."
    if path.is_dir():
        beside = path / "assets.extra" / member
        if not beside.is_file():
            raise ValueError(missing)
        return beside.read_text("utf-8")
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.read(member).decode()
    except (zipfile.BadZipFile, KeyError):
        raise ValueError(missing) from None


class _AlignedBuilder(flatbuffers.Builder):
    """Puts byte vectors on 16-byte boundaries: the schema demands it of weights, the generated code forgets it."""

    def CreateNumpyVector(self, x: np.ndarray) -> int:
        if x.dtype == np.uint8:
            self.Prep(16, x.nbytes)
        return super().CreateNumpyVector(x)


def _model_metadata(name: str) -> bytes:
    """The ModelMetadata table of a classifier of one image, as bytes."""
    builder = flatbuffers.Builder(1024)
    labels = _table(
        builder,
        {0: builder.CreateString(LABELS), 1: builder.CreateString("The classes, in the order of the logits.")},
        {2: TENSOR_AXIS_LABELS},
    )
    subgraph = _table(builder, {2: _vector(builder, _image(builder)), 3: _vector(builder, _logits(builder, labels))})
    root = _table(
        builder,
        {
            0: builder.CreateString(name),
            1: builder.CreateString("Image classifier exported by TransferZoo."),
            3: _vector(builder, subgraph),
            7: builder.CreateString("1.0.0"),  # the oldest parser that understands these fields
        },
    )
    builder.Finish(root, b"M001")
    return bytes(builder.Output())


def _image(builder: flatbuffers.Builder) -> int:
    """TensorMetadata of the input: RGB 0..255 that needs no normalization outside of the graph."""
    content = _table(builder, {1: _table(builder, {}, {0: RGB})}, {0: IMAGE_PROPERTIES})
    mean, std = (builder.CreateNumpyVector(np.array([value], np.float32)) for value in (0.0, 1.0))
    unit = _table(builder, {1: _table(builder, {0: mean, 1: std})}, {0: NORMALIZATION_OPTIONS})
    text = builder.CreateString("RGB, 0..255; the graph normalizes it.")
    return _table(builder, {0: builder.CreateString("image"), 1: text, 3: content, 4: _vector(builder, unit)})


def _logits(builder: flatbuffers.Builder, labels: int) -> int:
    """TensorMetadata of the output."""
    text = builder.CreateString("One logit a class; their softmax is the probability.")
    return _table(builder, {0: builder.CreateString("logits"), 1: text, 6: _vector(builder, labels)})


def _table(builder: flatbuffers.Builder, offsets: Mapping[int, int], numbers: Mapping[int, int] | None = None) -> int:
    """A table from its slots: offsets of strings, vectors and tables, and one-byte numbers."""
    builder.StartObject(1 + max([*offsets, *(numbers or {})]))
    for slot, offset in offsets.items():
        builder.PrependUOffsetTRelativeSlot(slot, offset, 0)
    for slot, number in (numbers or {}).items():
        builder.PrependUint8Slot(slot, number, 0)
    return builder.EndObject()


def _vector(builder: flatbuffers.Builder, table: int) -> int:
    """A vector of one table."""
    builder.StartVector(4, 1, 4)
    builder.PrependUOffsetTRelative(table)
    return builder.EndVector()
