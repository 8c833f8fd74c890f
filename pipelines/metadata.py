"""What a .tflite file says about itself: its operators, and the labels, pixels or tokenizer written into it.

The metadata follows TFLite's own format (metadata_schema.fbs, version 1.0.0), which Android's and
MediaPipe's image classifiers read; labels.txt, pixels.json, inputs.json and tokenizer.json are appended as a zip
archive, so `unzip model.tflite` shows them too. A SavedModel holds the same files in assets.extra/.
"""

from __future__ import annotations

import dataclasses
import json
import zipfile
from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

from pipelines import metadata_schema
from pipelines.files import replacing
from pipelines.interface import Interface
from zoo.core.family import Pixels, Task

LABELS = "labels.txt"
PIXELS = "pixels.json"
INPUTS = "inputs.json"
TOKENIZER = "tokenizer.json"
ENTRY = b"TFLITE_METADATA"


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


def write(path: str | Path, interface: Interface, *, name: str) -> None:
    """Writes metadata and what the interface holds into a .tflite file, in place of any that are there."""
    path = Path(path)
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(path.read_bytes()))
    model.metadata = model.metadata or []
    entry = next((entry for entry in model.metadata if entry.name == ENTRY), None)
    if entry is None:
        model.buffers.append(schema.BufferT())
        entry = schema.MetadataT(name=ENTRY, buffer=len(model.buffers) - 1)
        model.metadata.append(entry)
    takes, gives = _tensor_names(model)
    data = metadata_schema.model_metadata(name, takes, gives, interface, labels=LABELS)
    model.buffers[entry.buffer].data = np.frombuffer(data, np.uint8)
    with replacing(path) as temporary:
        temporary.write_bytes(pack(model))
        with zipfile.ZipFile(temporary, "a") as archive:
            for member, text in associated_files(interface).items():
                archive.writestr(zipfile.ZipInfo(member), text)  # a fixed date: the same export gives the same bytes


def _tensor_names(model: schema.ModelT) -> tuple[list[str], list[str]]:
    """The names of the inputs and of the outputs, by which the signature calls them, in the order of the graph."""
    graph, (signature,) = model.subgraphs[0], model.signatureDefs
    takes, gives = (
        {tensor.tensorIndex: tensor.name.decode() for tensor in tensors}
        for tensors in (signature.inputs, signature.outputs)
    )
    return [takes[index] for index in graph.inputs], [gives[index] for index in graph.outputs]


def pack(model: schema.ModelT) -> bytes:
    """The bytes of a .tflite file with this content."""
    builder = _AlignedBuilder(4096)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def associated_files(interface: Interface) -> dict[str, str]:
    """The text files that go into every exported form, by name."""
    described: dict[str, Any] = {"task": interface.task, "lengths": dict(interface.lengths)}
    if interface.activation:
        described["activation"] = interface.activation
    if interface.targets:
        described["targets"] = interface.targets
    files = {INPUTS: json.dumps(described) + "\n", **interface.files}
    if interface.classes:
        files[LABELS] = "".join(f"{label}\n" for label in interface.classes)
    if interface.pixels:
        files[PIXELS] = pixels_text(interface.pixels)
    return files


def pixels_text(pixels: Pixels) -> str:
    """The text of pixels.json, which `read_pixels` reads."""
    return json.dumps({**dataclasses.asdict(pixels), "size": pixels.shape}) + "\n"


def read_labels(path: str | Path) -> tuple[str, ...]:
    """The class names inside an exported .tflite file or SavedModel directory, in the order of the logits.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it holds no labels, because it is no classifier or not ours.
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


def read_task(path: str | Path) -> Task:
    """What an exported .tflite file or SavedModel directory was trained for.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it does not say.
    """
    return json.loads(_associated_text(path, INPUTS))["task"]


def read_activation(path: str | Path) -> str | None:
    """What makes probabilities of the logits of an exported model, softmax or sigmoid; None where nothing does.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it does not say.
    """
    return json.loads(_associated_text(path, INPUTS)).get("activation")


def read_targets(path: str | Path) -> tuple[str, ...]:
    """The names of the numbers that an exported regression gives; none of other models.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it does not say.
    """
    return tuple(json.loads(_associated_text(path, INPUTS)).get("targets", ()))


def read_lengths(path: str | Path) -> dict[str, int]:
    """The tokens (or steps) that an exported .tflite file takes, by input; a SavedModel was proved on as many.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it does not say.
    """
    return json.loads(_associated_text(path, INPUTS))["lengths"]


def read_file(path: str | Path, name: str) -> str:
    """The text of a file inside an exported .tflite file or SavedModel directory, such as tokenizer.json.

    Raises:
        FileNotFoundError: there is no such model.
        ValueError: it holds no such file.
    """
    return _associated_text(path, name)


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
