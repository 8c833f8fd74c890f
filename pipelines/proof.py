"""Runs each converted file on real samples and compares its answers with those of the Keras model."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import keras
import numpy as np

from pipelines import child, metadata
from pipelines.agreement import Agreement, Format, Limit, Tolerance
from pipelines.expected import Expected
from pipelines.exported import open_tflite, run_tflite
from pipelines.exported_steps import ENCODER, STEP
from pipelines.interface import IMAGE, Interface, fit_length, mask_of, predict
from pipelines.latency import median_milliseconds
from pipelines.objectives.labelling import THRESHOLD, sigmoid
from pipelines.proof_steps import WritingProof
from pipelines.saved_model_answers import WRITE, WRITTEN, answered, ask
from pipelines.tflite import part_name

SERVED = 32  # images on which the SavedModel's uint8 and encoded signatures are compared
SHORT = 3  # texts on which its other lengths are


class ExportError(ValueError):
    """A format cannot be exported: it cannot be made, or does not answer as Keras does."""


@dataclass(frozen=True)
class ExportedFile:
    """One format: where it is, how big and fast, and how far from Keras.

    `logit_difference` is the largest, in the logits' unit (or the values', where the model answers with values);
    `relative_difference` the same as a share of the standard deviation of Keras' logits; `noise` as in `Limit`.
    `agreement` is None for values. `milliseconds` are for one sample on two threads.
    """

    format: Format
    file: str
    megabytes: float
    logit_difference: float
    relative_difference: float
    noise: float
    agreement: float | None
    accuracy: float | None
    milliseconds: float


def file_name(form: Format) -> str:
    """What the file (or directory) of a format is called."""
    return "saved_model" if form == "saved_model" else f"{form}.tflite"


@dataclass(frozen=True, kw_only=True)
class Proof:
    """The test samples and Keras' own answers to them; `check` holds files against these.

    `twin` is the model in float32: the model itself, unless that computes in half precision.
    """

    model: keras.Model
    twin: keras.Model
    interface: Interface
    samples: Mapping[str, np.ndarray]
    expected: Expected
    tolerance: Tolerance

    def check(self, form: Format, directory: Path) -> ExportedFile:
        """What was measured of the file of a format in a directory.

        Raises:
            ExportError: the file cannot be run everywhere, or disagrees with Keras.
        """
        path = directory / file_name(form)
        answers, milliseconds = self._saved_model(path) if form == "saved_model" else self._tflite(path)
        agreement, problems = self._compared(form, answers)
        if problems:
            raise ExportError("; ".join(problems))
        return _row(form, path, agreement, milliseconds)

    def check_parts(self, form: Format, directory: Path) -> list[ExportedFile]:
        """The same of the files that write text, in a format that has them; Keras in float32 is what they are held to.

        Raises:
            ExportError: as above, or they write other tokens.
        """
        if not self.interface.steps or form in ("saved_model", "int8"):
            return []
        self._refuse(self.writing.foreign_operators(form, directory))
        limit, rows = self.tolerance.limit(form, self.interface.task), []
        logits, milliseconds = self.writing.logits_of_files(form, directory)
        agreement, problems = self.writing.compare(logits, limit)
        rows.append(_row(form, directory / part_name(form, STEP), agreement, milliseconds))
        if self.writing.given:
            outputs, milliseconds = self.writing.encoded_by_file(form, directory)
            agreement = self.writing.encoded().compare(outputs, self.tolerance.limit(form, "features"))
            problems += agreement.problems(self.tolerance.limit(form, "features"))
            rows.append(_row(form, directory / part_name(form, ENCODER), agreement, milliseconds))
        if problems:
            raise ExportError(f"the files that write text: {'; '.join(problems)}")
        return rows

    @cached_property
    def writing(self) -> WritingProof:
        """What the model writes."""
        return WritingProof(model=self.twin, interface=self.interface, samples=self.samples)

    def _compared(self, form: Format, answers: dict[str, np.ndarray]) -> tuple[Agreement, list[str]]:
        """How far the answers are from the model's, and what is too far."""
        limit = self.tolerance.limit(form, self.interface.task)
        if self.twin is self.model:
            agreement = self.expected.compare(answers, limit)
            return agreement, agreement.problems(limit)
        in_float32 = self._of_twin(self.samples).compare(answers, limit)
        problems = [f"against the model in float32, {problem}" for problem in in_float32.problems(limit)]
        rounding = self.tolerance.reduced if form in ("saved_model", "float32", "float16") else limit
        agreement = self.expected.compare(answers, rounding)
        return agreement, problems + agreement.problems(rounding)

    def _of_twin(self, samples: Mapping[str, np.ndarray]) -> Expected:
        """What the model in float32 answers to other samples than the expected ones."""
        outputs = predict(self.twin, samples, self.interface.task)
        labels = self.expected.labels if samples is self.samples else None
        return dataclasses.replace(self.expected, outputs=outputs, mask=mask_of(samples), labels=labels)

    def _tflite(self, path: Path) -> tuple[dict[str, np.ndarray], float]:
        """Outputs, and milliseconds for one sample."""
        self._refuse([name for name, builtin in metadata.operators(path).items() if not builtin])
        labels = metadata.read_labels(path) if self.interface.classes else ()
        if labels != self.interface.classes:
            raise ExportError(f"the labels inside are {labels}, not {self.interface.classes}")
        answer, one = open_tflite(path), {name: values[0] for name, values in self.samples.items()}
        return run_tflite(path, self.samples), median_milliseconds(lambda: answer(one))

    def _refuse(self, operators: Sequence[str]) -> None:
        if operators:
            raise ExportError(
                f"needs operators that TFLite does not have: {', '.join(operators)}. Replace the layers that they come "
                "from: FlexResizeBicubic, for example, is Resizing(interpolation='bicubic'), and 'bilinear' is built in"
            )

    def _saved_model(self, path: Path) -> tuple[dict[str, np.ndarray], float]:
        """Outputs of serving_default and milliseconds for one sample, after everything else agreed."""
        asked = {"serving_default.samples": self.samples, **self._shorter()}
        if self.interface.pixels:
            raw = np.clip(np.rint(self.samples[IMAGE][:SERVED]), 0, 255).astype(np.uint8)
            asked |= {"serve_uint8": {IMAGE: raw}, "serve_jpeg": {"encoded": raw}}
        if self.interface.steps:
            asked[WRITE] = {**self.writing.given, WRITTEN: self.writing.written}
        for name, samples in asked.items():
            ask(path.parent, name, samples)
        ending = child.run("pipelines.saved_model_answers", path.parent)
        if ending.code:
            raise ExportError(f"TensorFlow alone cannot run it: {ending}")
        problems = []
        for name, samples in asked.items():
            if name != "serving_default.samples":
                problems += [f"{name}: {problem}" for problem in self._served(name, samples, path.parent)]
        if problems:
            raise ExportError("; ".join(problems))
        answers = answered(path.parent, "serving_default.samples")
        return self._outputs(answers), float(answers["milliseconds"])

    def _shorter(self) -> dict[str, Mapping[str, np.ndarray]]:
        """A few samples cut to half the length, where the model takes any."""
        first = {name: values[:SHORT] for name, values in self.samples.items()}
        cut = fit_length(first, {name: max(1, length // 2) for name, length in self.interface.lengths.items()})
        mask = mask_of(cut)
        fits = bool(self.interface.lengths) and (mask is None or bool(mask.any()))
        return {"serving_default.shorter": cut} if fits else {}

    def _outputs(self, answers: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Those that the Keras model has too."""
        return {name: answers[name] for name in self.expected.outputs}

    def _served(self, name: str, samples: Mapping[str, np.ndarray], directory: Path) -> Sequence[str]:
        """How the answers to other samples than the test samples differ from those of Keras."""
        from pipelines.decoding import seen as shown

        answers, limit = answered(directory, name), self.tolerance.exact
        if name == WRITE:
            return self.writing.compare(answers["logits"], limit)[1]
        if name != "serve_jpeg":
            return self._of_twin(samples).compare(self._outputs(answers), limit).problems(limit)
        seen = {IMAGE: np.stack([shown(one, self.interface.pixels).numpy() for one in samples["encoded"]])}
        expected = self._of_twin(seen)
        if self.interface.task not in ("classify", "multi_label"):
            return expected.compare(self._outputs(answers), limit).problems(limit)
        activation = _softmax if self.interface.task == "classify" else sigmoid
        return self._score_problems(answers, activation(expected.outputs["logits"]), limit)

    def _score_problems(self, answers: Mapping[str, np.ndarray], expected: np.ndarray, limit: Limit) -> Sequence[str]:
        """How serve_jpeg's scores for encoded images differ from Keras' for the same pixels."""
        scores, problems = answers["scores"], []
        difference = float(np.abs(scores - expected).max())
        if limit.difference is not None and not difference <= limit.difference:
            problems.append(f"a score differs by {difference:.3g} (at most {limit.difference:g})")
        if self.interface.task == "multi_label":
            named = np.where(scores >= THRESHOLD, np.array(self.interface.classes), "")
            same = np.array_equal(answers["labels"], named)
            return problems if same else [*problems, "the labels are not those whose scores are 0.5 or more"]
        best = scores.argmax(-1)
        if list(answers["label"]) != [self.interface.classes[index] for index in best]:
            problems.append("a label is not that of the best score")
        if not np.array_equal(answers["score"], scores.max(-1)):
            problems.append("a score is not the best of the scores")
        return problems


def _row(form: Format, path: Path, agreement: Agreement, milliseconds: float) -> ExportedFile:
    return ExportedFile(
        format=form,
        file=path.name,
        megabytes=_megabytes(path),
        logit_difference=agreement.logit_difference,
        relative_difference=agreement.difference,
        noise=agreement.noise,
        agreement=agreement.agreement,
        accuracy=agreement.accuracy,
        milliseconds=milliseconds,
    )


def _softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def _megabytes(path: Path) -> float:
    """Size of a file, or of all files in a directory."""
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    return sum(file.stat().st_size for file in files) / 1e6
