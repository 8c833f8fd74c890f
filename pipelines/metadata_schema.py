"""TFLite's own metadata as bytes: the tables of metadata_schema.fbs, version 1.0.0, that we fill in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import flatbuffers
import numpy as np

from pipelines.interface import IMAGE, PADDING, Interface

# Numbers of the enums and unions in the schema.
TENSOR_AXIS_LABELS = 2
IMAGE_PROPERTIES = 2
RGB = 1
NORMALIZATION_OPTIONS = 1

DESCRIPTIONS = {
    "token_ids": "The text's tokens, by their numbers in the tokenizer.",
    PADDING: "1 for a token, 0 for padding.",
    "segment_ids": "The text that a token belongs to, 0 or 1.",
    "decoder_token_ids": "The tokens written so far.",
    f"decoder_{PADDING}": "1 for a token written, 0 for padding.",
}
KINDS = {"classify": "Image classifier", "multi_label": "Multi-label image classifier"}


def model_metadata(
    name: str, takes: Sequence[str], gives: Sequence[str], interface: Interface, *, labels: str
) -> bytes:
    """The ModelMetadata table of a model with these inputs and outputs; `labels` is the file of the classes."""
    builder = flatbuffers.Builder(1024)
    inputs = [_image(builder) if one == IMAGE and interface.pixels else _tensor(builder, one) for one in takes]
    outputs = [
        _tensor(builder, one, labels if interface.classes and one == "logits" else None, said=_said(one, interface))
        for one in gives
    ]
    subgraph = _table(builder, {2: _vector(builder, inputs), 3: _vector(builder, outputs)})
    other = f"Model for {interface.task}"
    kind = KINDS.get(interface.task, other) if interface.pixels else other
    root = _table(
        builder,
        {
            0: builder.CreateString(name),
            1: builder.CreateString(f"{kind} exported by TransferZoo."),
            3: _vector(builder, [subgraph]),
            7: builder.CreateString("1.0.0"),  # the oldest parser that understands these fields
        },
    )
    builder.Finish(root, b"M001")
    return bytes(builder.Output())


def _image(builder: flatbuffers.Builder) -> int:
    """TensorMetadata of an input: RGB 0..255 that needs no normalization outside of the graph."""
    content = _table(builder, {1: _table(builder, {}, {0: RGB})}, {0: IMAGE_PROPERTIES})
    mean, std = (builder.CreateNumpyVector(np.array([value], np.float32)) for value in (0.0, 1.0))
    unit = _table(builder, {1: _table(builder, {0: mean, 1: std})}, {0: NORMALIZATION_OPTIONS})
    text = builder.CreateString("RGB, 0..255; the graph normalizes it.")
    return _table(builder, {0: builder.CreateString(IMAGE), 1: text, 3: content, 4: _vector(builder, [unit])})


def _said(output: str, interface: Interface) -> str:
    """What an output means."""
    if output == "values" and interface.targets:
        return f"Numbers in their own units: {', '.join(interface.targets)}."
    if output != "logits":
        return ""
    if interface.activation == "sigmoid":
        return "One logit a class; the sigmoid of each is the probability that the class holds, whatever the others."
    return "One logit a class; their softmax is the probability."


def _tensor(builder: flatbuffers.Builder, name: str, labels: str | None = None, *, said: str = "") -> int:
    """TensorMetadata of any other tensor; `labels` is the file with the names of its last axis."""
    slots = {0: builder.CreateString(name)}
    if name in DESCRIPTIONS or said:
        slots[1] = builder.CreateString(said or DESCRIPTIONS[name])
    if labels:
        text = builder.CreateString("The classes, in the order of the logits.")
        file = _table(builder, {0: builder.CreateString(labels), 1: text}, {2: TENSOR_AXIS_LABELS})
        slots[6] = _vector(builder, [file])
    return _table(builder, slots)


def _table(builder: flatbuffers.Builder, offsets: Mapping[int, int], numbers: Mapping[int, int] | None = None) -> int:
    """A table from its slots: offsets of strings, vectors and tables, and one-byte numbers."""
    builder.StartObject(1 + max([*offsets, *(numbers or {})]))
    for slot, offset in offsets.items():
        builder.PrependUOffsetTRelativeSlot(slot, offset, 0)
    for slot, number in (numbers or {}).items():
        builder.PrependUint8Slot(slot, number, 0)
    return builder.EndObject()


def _vector(builder: flatbuffers.Builder, tables: Sequence[int]) -> int:
    """A vector of tables."""
    builder.StartVector(4, len(tables), 4)
    for table in reversed(tables):
        builder.PrependUOffsetTRelative(table)
    return builder.EndVector()
