"""Export with proof: every file is run on real images and compared with Keras before it gets its name."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import keras
import numpy as np

from pipelines import child, convert
from pipelines.agreement import Format, Tolerance, accuracy
from pipelines.convert import Job
from pipelines.proof import ExportedFile, ExportError, Proof, file_name, keras_logits

if TYPE_CHECKING:
    import rich.table

FORMATS: tuple[Format, ...] = get_args(Format)
REPORT = "export.json"
WORKSPACE = ".export-"  # and the number of the process that works there

__all__ = ["FORMATS", "ExportError", "ExportReport", "ExportedFile", "export"]


@dataclass(frozen=True)
class ExportReport:
    """What was exported, and the proof: `images` test images went through Keras and every file."""

    rows: tuple[ExportedFile, ...]
    keras_accuracy: float | None
    images: int
    tolerance: Tolerance
    versions: dict[str, str]

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

    All or nothing: `out` holds the files of one export that passed, or of none. Files of an earlier
    export are replaced, and removed where this one fails or does not make them.

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
    with _workspace(out) as workspace:
        try:
            failures = _convert(model, formats, workspace, classes=classes, calibration=calibration)
            rows = _checked(proof, formats, workspace, failures)
        except ExportError:
            _remove_earlier(out, workspace)
            raise
        report = ExportReport(rows, accuracy(logits, labels), len(images), proof.tolerance, _versions())
        _publish(report, out, workspace)
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


@contextlib.contextmanager
def _workspace(out: Path) -> Iterator[Path]:
    """A directory to work in, on the same disk as `out`; those of dead processes are removed."""
    out.mkdir(parents=True, exist_ok=True)
    for left in out.glob(f"{WORKSPACE}[0-9]*-*"):
        if not _alive(int(left.name.split("-")[1])):
            shutil.rmtree(left, ignore_errors=True)
    workspace = Path(tempfile.mkdtemp(prefix=f"{WORKSPACE}{os.getpid()}-", dir=out))
    try:
        yield workspace
    finally:
        shutil.rmtree(workspace, ignore_errors=True)


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # alive, and another user's
        return True
    return True


def _publish(report: ExportReport, out: Path, workspace: Path) -> None:
    """Gives the files their names; export.json comes last, so that what has one is whole."""
    (workspace / REPORT).write_text(report.to_json(), "utf-8")
    _remove_earlier(out, workspace)
    for row in report.rows:
        os.replace(workspace / row.file, out / row.file)
    os.replace(workspace / REPORT, out / REPORT)


def _remove_earlier(out: Path, workspace: Path) -> None:
    """Moves an earlier export away, the report first: a directory cannot be replaced in one step."""
    earlier = workspace / "earlier"
    earlier.mkdir()
    for name in (REPORT, *map(file_name, FORMATS)):
        with contextlib.suppress(FileNotFoundError):
            os.replace(out / name, earlier / name)


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
