"""Export with proof: every file is run on real samples and compared with Keras before it gets its name."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import keras
import numpy as np

from pipelines import child, convert, tflite
from pipelines.agreement import FORMATS, VALUES, Format, Tolerance
from pipelines.convert import Job
from pipelines.expected import Expected
from pipelines.exportable import (
    Samples,
    check_classes,
    check_formats,
    checked_task,
    file_lengths,
    fit_labels,
    named_samples,
    plural,
    usual_formats,
)
from pipelines.interface import (
    Interface,
    fit_length,
    mask_of,
    named_targets,
    outputs_of_tokens,
    predict,
    served_pixels,
    unit_of,
)
from pipelines.proof import ExportedFile, ExportError, Proof, file_name
from pipelines.publish import earlier_rows, publish, workspace_in
from pipelines.twins import float32_twin
from pipelines.writers import parts
from zoo.core.family import Task

if TYPE_CHECKING:
    import rich.table

__all__ = ["FORMATS", "ExportError", "ExportReport", "ExportedFile", "export", "usual_formats"]


@dataclass(frozen=True)
class ExportReport:
    """What was exported, and the proof: so many test samples went through Keras and every file.

    `unit` is what a sample is: image, text, series or row. `identity` is the hash of what all rows have in common:
    the model, its classes, the test samples.
    """

    rows: tuple[ExportedFile, ...]
    keras_accuracy: float | None
    samples: int
    tolerance: Tolerance
    versions: dict[str, str]
    identity: str
    task: Task = "classify"
    unit: str = "image"
    lengths: Mapping[str, int] = dataclasses.field(default_factory=dict)

    def to_json(self) -> str:
        """The report as JSON text, as export.json holds it."""
        return json.dumps(dataclasses.asdict(self), indent=2) + "\n"

    def table(self) -> rich.table.Table:
        """The report for a terminal."""
        from rich.table import Table

        each = f"an {self.unit}" if self.unit == "image" else f"a {self.unit}"
        table = Table(title=f"Compared with Keras on {self.samples:,} {plural(self.unit)}")
        table.add_column("file", no_wrap=True)
        largest = "largest difference" if self.task in VALUES else "largest logit difference"
        same = "same labels" if self.task == "multi_label" else "same top-1"
        for title in ("MB", largest, same, "accuracy", f"ms {each}"):
            table.add_column(title, justify="right")
        table.add_row("Keras model", "", "", "", _percent(self.keras_accuracy), "", end_section=True)
        for row in self.rows:
            shares = _percent(row.agreement), _percent(row.accuracy)
            table.add_row(
                row.file,
                f"{row.megabytes:.{2 if row.megabytes >= 0.1 else 4}f}",
                f"{row.logit_difference:.2g}",
                *shares,
                f"{row.milliseconds:.2f}",
            )
        return table


def export(
    model: keras.Model,
    formats: Sequence[Format] | None = None,
    *,
    out: str | Path,
    task: Task = "classify",
    classes: Sequence[str] = (),
    images: np.ndarray | None = None,
    samples: Samples | None = None,
    labels: np.ndarray | None = None,
    calibration: Samples | None = None,
    length: int | None = None,
    steps: int = 0,
    files: Mapping[str, str] | None = None,
    tolerance: Tolerance | None = None,
    apart: bool = True,
) -> ExportReport:
    """Writes a model as SavedModel and TFLite files that answer as Keras does, and export.json about them.

    `samples` are test samples as the model takes them: an array (N, ...), or arrays by the names of its inputs;
    `images` are those of an image model, RGB 0..255 (N, H, W, 3). `labels` are their right answers, for the accuracy:
    class numbers (N,), of several labels 0 and 1 (N, classes), or for each token (N, T), or the first and last token of
    an answer (N, 2); below 0 they do not count. `calibration` are about 100 training samples that set the ranges of
    int8. `classes` names the logits of task="classify", "multi_label" and "tag"; `files` are texts that belong into the
    exported files, by file name: tokenizer.json.

    The SavedModel's serving_default takes the model's inputs by name, any number and any length of them, and gives
    "logits" (with "probability" of classes), "values" of task="regress" and "forecast", or what the model names. For
    images there are serve_uint8 (the same of uint8) and serve_jpeg (encoded images of any size, "encoded" -> "label",
    "score", "scores"; of several labels "labels" (N, classes), "" where the score is under 0.5, and "scores"), since a
    signature has one dtype. The .tflite files take one sample, texts of `length` tokens (that of the samples if not
    given; these are cut or padded to it), images float32 or, in int8, uint8.

    With `steps`, a language model is also exported as what writes text token by token and keeps so many tokens: the
    signature "step" and FORMAT_step.tflite (not of int8), and where there is an encoder "encoder" and
    FORMAT_encoder.tflite; `pipelines.exported_steps.Writer` runs them. What they write must be what Keras writes.

    The converter, which may end its process, has one of its own; not with `apart=False`, in a process that may end.

    All or nothing: either all `formats` (`usual_formats` if none is named) are there at the end, or none of them. Files
    that an earlier export made of the same model, on the same test samples, stay; those of another model are removed.

    Raises:
        ValueError: the model, the classes and the samples do not fit together.
        ExportError: a file cannot be made, needs operators that TFLite lacks, or disagrees with Keras.
    """
    task = checked_task(model, task)
    check_classes(model, task, tuple(classes))
    unit = unit_of(model)
    formats = usual_formats(model) if formats is None else formats
    check_formats(formats, calibrated=calibration is not None, unit=unit)
    shown = named_samples(model, _one_of(images, samples, unit), what="images" if unit == "image" else "samples")
    lengths = file_lengths(model, shown, length)
    shown = fit_length(shown, lengths)
    if "int8" in formats and calibration is not None:
        calibration = fit_length(named_samples(model, calibration, what=f"calibration {plural(unit)}"), lengths)
    interface = Interface(
        task=task,
        classes=tuple(classes),
        pixels=served_pixels(model),
        lengths=lengths,
        files=dict(files or {}),
        steps=steps,
        targets=named_targets(model),
    )
    if steps:
        parts(model, interface)  # refuses a model that cannot write, before anything is computed
    expected = Expected(
        outputs=predict(model, shown, task),
        task=task,
        unit=plural(unit),
        mask=mask_of(shown),
        of_tokens=outputs_of_tokens(model, task),
        labels=fit_labels(model, labels, shown, task),
    )
    if not expected.finite():
        raise ValueError(f"The logits of {model.name!r} are not all finite numbers: its training has diverged.")
    proof = Proof(
        model=model,
        twin=float32_twin(model),
        interface=interface,
        samples=shown,
        expected=expected,
        tolerance=tolerance or Tolerance(),
    )
    return _exported(proof, formats, Path(out), calibration, apart=apart)


def _exported(
    proof: Proof, formats: Sequence[Format], out: Path, calibration: Samples | None, *, apart: bool
) -> ExportReport:
    """The report of files that passed, each under its name.

    Raises:
        ExportError: a file cannot be made or disagrees with Keras.
    """
    identity = _identity(proof)
    others = tuple(row for row in earlier_rows(out, identity) if row.format not in formats)
    report = ExportReport(
        rows=others,
        keras_accuracy=proof.expected.accuracy,
        samples=len(next(iter(proof.samples.values()))),
        tolerance=proof.tolerance,
        versions=_versions(),
        identity=identity,
        task=proof.interface.task,
        unit=unit_of(proof.model),
        lengths=proof.interface.lengths,
    )
    with workspace_in(out) as workspace:
        try:
            failures = _convert(proof, formats, workspace, calibration=calibration, apart=apart)
            made = _checked(proof, formats, workspace, failures)
        except ExportError:
            publish(report.to_json(), others, made=(), out=out, workspace=workspace)
            raise
        rows = sorted((*others, *made), key=lambda row: FORMATS.index(row.format))
        report = dataclasses.replace(report, rows=tuple(rows))
        publish(report.to_json(), report.rows, made=made, out=out, workspace=workspace)
    return report


def _convert(
    proof: Proof, formats: Sequence[Format], workspace: Path, *, calibration: Samples | None, apart: bool
) -> dict[str, str]:
    """Makes all files in the workspace; what went wrong, by format."""
    interface = proof.interface
    proof.model.save(workspace / convert.MODEL)
    if isinstance(calibration, Mapping):
        np.savez(workspace / tflite.CALIBRATION, allow_pickle=False, **calibration)
    Job(
        tuple(formats),
        interface.classes,
        _modules(proof.model),
        task=interface.task,
        lengths=interface.lengths,
        files=interface.files,
        steps=interface.steps,
    ).write(workspace)
    ending = child.run("pipelines.convert", workspace, apart=apart)
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
                rows += [proof.check(form, workspace), *proof.check_parts(form, workspace)]
            except ExportError as error:
                failures[form] = str(error)
    if failures:
        listed = "\n".join(f"  {file_name(form)}: {failures[form]}" for form in formats if form in failures)
        raise ExportError(f"Nothing was exported, because not every file passed:\n{listed}")
    return tuple(rows)


def _identity(proof: Proof) -> str:
    """The hash of everything that the files of one report have in common."""
    digest = hashlib.sha256()
    for text in (proof.model.to_json(), repr(proof.interface), repr(proof.tolerance)):
        digest.update(text.encode())
    for array in (*proof.model.get_weights(), *proof.samples.values(), proof.expected.labels):
        digest.update(b"-" if array is None else np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def _modules(model: keras.Model) -> tuple[str, ...]:
    """The modules that define the model's own layers."""
    names = {type(layer).__module__ for layer in model._flatten_layers()}
    return tuple(sorted(name for name in names if name.split(".")[0] != "keras"))


def _one_of(images: np.ndarray | None, samples: Samples | None, unit: str) -> Samples:
    """The test samples, under either name."""
    if (images is None) == (samples is None) or (images is not None and unit != "image"):
        name = "images=" if unit == "image" else "samples="
        raise ValueError(f"Give the test {plural(unit)} as {name}; they are the proof.")
    return samples if images is None else images  # type: ignore[return-value]  # one of the two is given


def _percent(share: float | None) -> str:
    return "" if share is None else f"{share:.2%}"


def _versions() -> dict[str, str]:
    import tensorflow as tf

    return {"keras": keras.version(), "tensorflow": tf.__version__}
