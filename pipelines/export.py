"""Export with proof: every file is run on real images and compared with Keras before it gets its name."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import keras
import numpy as np

from pipelines import child, convert
from pipelines.agreement import FORMATS, Format, Tolerance, accuracy
from pipelines.convert import Job
from pipelines.proof import ExportedFile, ExportError, Proof, file_name, keras_logits
from pipelines.publish import earlier_rows, publish, workspace_in

if TYPE_CHECKING:
    import rich.table

__all__ = ["FORMATS", "ExportError", "ExportReport", "ExportedFile", "export"]


@dataclass(frozen=True)
class ExportReport:
    """What was exported, and the proof: `images` test images went through Keras and every file.

    `identity` is the hash of what all rows have in common: the model, its classes, the test images.
    """

    rows: tuple[ExportedFile, ...]
    keras_accuracy: float | None
    images: int
    tolerance: Tolerance
    versions: dict[str, str]
    identity: str

    def to_json(self) -> str:
        """The report as JSON text, as export.json holds it."""
        return json.dumps(dataclasses.asdict(self), indent=2) + "\n"

    def table(self) -> rich.table.Table:
        """The report for a terminal."""
        from rich.table import Table

        table = Table(title=f"Compared with Keras on {self.images:,} images")
        table.add_column("file")
        for title in ("MB", "largest logit difference", "same top-1", "accuracy", "ms an image"):
            table.add_column(title, justify="right")
        table.add_row("Keras model", "", "", "", _percent(self.keras_accuracy), "", end_section=True)
        for row in self.rows:
            shares = _percent(row.agreement), _percent(row.accuracy)
            table.add_row(
                row.file, f"{row.megabytes:.2f}", f"{row.logit_difference:.2g}", *shares, f"{row.milliseconds:.2f}"
            )
        return table


def export(
    model: keras.Model,
    formats: Sequence[Format] = FORMATS,
    *,
    out: str | Path,
    classes: Sequence[str],
    images: np.ndarray,
    labels: np.ndarray | None = None,
    calibration: np.ndarray | None = None,
    tolerance: Tolerance | None = None,
) -> ExportReport:
    """Writes a model as SavedModel and TFLite files that answer as Keras does, and export.json about them.

    The model takes RGB 0..255 (B, H, W, 3) and ends in logits (B, classes). `images` (N, H, W, 3) are
    test images as the model takes them, `labels` (N,) their class numbers; `calibration`
    (M, H, W, 3) are training images that set the ranges of int8.

    The SavedModel has a signature for each kind of input, since a signature has one dtype:
    serving_default (float32 "image" -> "logits", "probability"), serve_uint8 (the same of uint8)
    and serve_jpeg (encoded images of any size, "encoded" -> "label", "score", "scores"). The .tflite
    files take one image, float32 or, in int8, uint8.

    All or nothing: either all `formats` are there at the end, or none of them. Files that an earlier
    export made of the same model, on the same test images, stay; those of another model are removed.

    Raises:
        ValueError: the model, the classes and the images do not fit together.
        ExportError: a file cannot be made, needs operators that TFLite lacks, or disagrees with Keras.
    """
    out, classes = Path(out), tuple(classes)
    _check_model(model)
    _check_classes(model, classes)
    _check_images(model, "images", images)
    _check_labels(labels, images, classes)
    _check_formats(formats, model, calibration)
    logits = keras_logits(model, images)
    if not np.isfinite(logits).all():
        raise ValueError(f"The logits of {model.name!r} are not all finite numbers: its training has diverged.")
    proof = Proof(
        model=model,
        twin=convert.float32_twin(model),
        classes=classes,
        images=images,
        labels=labels,
        logits=logits,
        tolerance=tolerance or Tolerance(),
    )
    identity = _identity(proof)
    others = tuple(row for row in earlier_rows(out, identity) if row.format not in formats)
    report = ExportReport(others, accuracy(logits, labels), len(images), proof.tolerance, _versions(), identity)
    with workspace_in(out) as workspace:
        try:
            failures = _convert(model, formats, workspace, classes=classes, calibration=calibration)
            made = _checked(proof, formats, workspace, failures)
        except ExportError:
            publish(report.to_json(), others, made=(), out=out, workspace=workspace)
            raise
        rows = sorted((*others, *made), key=lambda row: FORMATS.index(row.format))
        report = dataclasses.replace(report, rows=tuple(rows))
        publish(report.to_json(), report.rows, made=made, out=out, workspace=workspace)
    return report


def _convert(
    model: keras.Model,
    formats: Sequence[Format],
    workspace: Path,
    *,
    classes: tuple[str, ...],
    calibration: np.ndarray | None,
) -> dict[str, str]:
    """Makes all files in the workspace; what went wrong, by format."""
    model.save(workspace / convert.MODEL)
    if calibration is not None:
        np.save(workspace / convert.CALIBRATION, calibration)
    Job(tuple(formats), classes, _modules(model)).write(workspace)
    ending = child.run("pipelines.convert", workspace)
    outcomes = convert.outcomes(workspace)
    failures = {form: error for form, error in outcomes.items() if error}
    if ending.code:
        reached = next((form for form in formats if form not in outcomes), formats[0])
        failures |= {form: "was not tried" for form in formats if form not in outcomes}
        failures[reached] = f"the conversion ended with {ending}"
    return failures


def _checked(
    proof: Proof, formats: Sequence[Format], workspace: Path, failures: dict[str, str]
) -> tuple[ExportedFile, ...]:
    """The files that were made, measured.

    Raises:
        ExportError: any format has failed; the message lists all that have.
    """
    rows, failures = [], dict(failures)
    for form in formats:
        if form not in failures:
            try:
                rows.append(proof.check(form, workspace))
            except ExportError as error:
                failures[form] = str(error)
    if failures:
        listed = "\n".join(f"  {file_name(form)}: {failures[form]}" for form in formats if form in failures)
        raise ExportError(f"Nothing was exported, because not every file passed:\n{listed}")
    return tuple(rows)


def _identity(proof: Proof) -> str:
    """The hash of everything that the files of one report have in common."""
    digest = hashlib.sha256()
    for text in (proof.model.to_json(), *proof.classes, repr(proof.tolerance)):
        digest.update(text.encode())
    for array in (*proof.model.get_weights(), proof.images, proof.labels):
        digest.update(b"-" if array is None else np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def _modules(model: keras.Model) -> tuple[str, ...]:
    """The modules that define the model's own layers."""
    names = {type(layer).__module__ for layer in model._flatten_layers()}
    return tuple(sorted(name for name in names if name.split(".")[0] != "keras"))


def _check_model(model: keras.Model) -> None:
    takes, gives = ([tuple(tensor.shape) for tensor in tensors] for tensors in (model.inputs, model.outputs))
    if [len(shape) for shape in takes] != [4] or [len(shape) for shape in gives] != [2]:
        raise ValueError(
            f"{model.name!r} must turn images (B, H, W, 3) into logits (B, classes), not {takes} into {gives}."
        )
    if None in takes[0][1:]:
        raise ValueError(f"{model.name!r} takes images {takes[0]}, but a .tflite file has one size. Build it with one.")
    last = model.outputs[0]._keras_history.operation
    if isinstance(last, keras.layers.Softmax) or getattr(last, "activation", None) is keras.activations.softmax:
        raise ValueError(
            f"{model.name!r} ends in a softmax ({last.name!r}), but export takes logits. "
            "Build it with classifier_activation=None, or with a last layer without activation."
        )
    own = {type(layer).__name__ for layer in model._flatten_layers() if type(layer).__module__ == "__main__"}
    if own:
        raise ValueError(
            f"The layers {', '.join(sorted(own))} are defined in the program itself, where the converter, a program "
            "of its own, does not find them. Move them to a module."
        )


def _check_classes(model: keras.Model, classes: tuple[str, ...]) -> None:
    width = model.outputs[0].shape[1]
    named = ", ".join(map(repr, classes[:10])) + (", ..." if len(classes) > 10 else "")
    if len(classes) != width:
        raise ValueError(f"{model.name!r} has {width} logits, but there are {len(classes)} classes: {named}.")
    if len(set(classes)) < len(classes) or any(not name or "\n" in name for name in classes):
        raise ValueError(f"Class names must differ and be one line each, got {named}.")


def _check_images(model: keras.Model, name: str, images: np.ndarray) -> None:
    wanted = ", ".join(map(str, model.inputs[0].shape[1:]))
    if not len(images) or images.shape[1:] != tuple(model.inputs[0].shape[1:]):
        raise ValueError(f"{model.name!r} takes {name} of shape (N, {wanted}), got {images.shape}.")
    low, high = float(images.min()), float(images.max())
    if not (low >= 0 and 1 < high <= 255):
        raise ValueError(f"The {name} must be RGB 0..255, but their values go from {low:g} to {high:g}.")


def _check_labels(labels: np.ndarray | None, images: np.ndarray, classes: tuple[str, ...]) -> None:
    if labels is None:
        return
    if labels.shape != images.shape[:1] or labels.min() < 0 or labels.max() >= len(classes):
        raise ValueError(
            f"There must be a label from 0 to {len(classes) - 1} for each of the {len(images)} images, "
            f"got {labels.shape} from {labels.min()} to {labels.max()}."
        )


def _check_formats(formats: Sequence[Format], model: keras.Model, calibration: np.ndarray | None) -> None:
    unknown = [form for form in formats if form not in FORMATS]
    if unknown or not formats or len(set(formats)) < len(formats):
        raise ValueError(f"The formats {list(formats)} must be some of {', '.join(FORMATS)}, each once.")
    if "int8" in formats:
        if calibration is None:
            raise ValueError("int8 needs calibration=: about 100 training images, which set the ranges of its numbers.")
        _check_images(model, "calibration images", calibration)


def _percent(share: float | None) -> str:
    return "" if share is None else f"{share:.2%}"


def _versions() -> dict[str, str]:
    import tensorflow as tf

    return {"keras": keras.version(), "tensorflow": tf.__version__}
