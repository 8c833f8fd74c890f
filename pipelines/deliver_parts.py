"""Exports the parts of an autoencoder: encoder and decoder beside what gives images back, each with its own proof."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np

from pipelines.agreement import FORMATS, Format, Tolerance
from pipelines.autoencoder import answers, decoder_of, encoder_of, kind_of
from pipelines.export import ExportReport, export
from pipelines.sampling import Drawn
from zoo.core.family import Task

FOLDERS: dict[str, Task] = {"encoder": "encode", "decoder": "decode"}  # of the parts, in that of the bundle
_OF_CODES: tuple[Format, ...] = ("saved_model", "float32")  # rounding makes other codes, and so other images


@dataclass(frozen=True, eq=False)
class Part:
    """A model, and what it is tried on."""

    model: keras.Model
    task: Task
    proof: dict[str, np.ndarray]
    calibration: dict[str, np.ndarray] | None
    formats: tuple[Format, ...]  # the usual ones


def export_parts(
    model: keras.Model,
    formats: Sequence[Format] | None,
    *,
    out: Path,
    proof: Drawn,
    calibration: Drawn | None,
    tolerance: Tolerance | None,
) -> ExportReport:
    """Write what gives images back into `out`, the encoder and the decoder into folders there; a report of all files.

    Codes are exact or wrong: where there is a codebook, int8 and the like are for the decoder alone.

    Raises:
        ExportError: a file cannot be made or disagrees with Keras.
    """
    found = parts(model, _given(model, proof), _given(model, calibration) if calibration else None)
    asked = {name: [form for form in formats or part.formats if form in part.formats] for name, part in found.items()}
    if formats is not None and not all(asked.values()):
        name = next(name for name, chosen in asked.items() if not chosen)
        raise ValueError(
            f"The {name or 'whole'} of {model.name!r} is not exported as {', '.join(formats)}, but as "
            f"{', '.join(found[name].formats)}."
        )
    reports = {
        name: export(
            part.model,
            asked[name],
            out=out / name,
            task=part.task,
            samples=part.proof,
            calibration=part.calibration if "int8" in asked[name] else None,
            tolerance=tolerance,
        )
        for name, part in found.items()
    }
    rows = [
        dataclasses.replace(row, file=f"{name}/{row.file}" if name else row.file)
        for name, report in reports.items()
        for row in report.rows
    ]
    return dataclasses.replace(reports[""], rows=tuple(rows))


def parts(
    model: keras.Model, proof: dict[str, np.ndarray], calibration: dict[str, np.ndarray] | None
) -> dict[str, Part]:
    """The whole, "encoder" and "decoder" of a model with task="reconstruct"."""
    encoder, decoder = encoder_of(model), decoder_of(model)
    whole = keras.Model(model.input, {"image": model.output["image"]}, name=model.name)
    exact = FORMATS[:-1] if kind_of(model) == "normal" else _OF_CODES
    images = (*exact, "int8") if kind_of(model) == "normal" and not isinstance(model.input, Mapping) else exact
    return {
        "": Part(whole, "reconstruct", proof, calibration, images),
        "encoder": Part(encoder, "encode", proof, calibration, exact),
        "decoder": Part(decoder, "decode", _between(encoder, decoder, proof), None, FORMATS[:-1]),
    }


def _between(encoder: keras.Model, decoder: keras.Model, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What a decoder takes of some images."""
    found = answers(encoder, inputs)
    taken = {"latent": found["mean"]} if "mean" in found else {"codes": found["codes"]}
    return {**taken, **({"labels": inputs["labels"]} if isinstance(decoder.input, Mapping) else {})}


def _given(model: keras.Model, drawn: Drawn) -> dict[str, np.ndarray]:
    """Images, and labels where a model takes them."""
    if not isinstance(model.input, Mapping):
        return drawn.inputs
    assert drawn.labels is not None
    return {**drawn.inputs, "labels": drawn.labels.astype(np.int32)}
