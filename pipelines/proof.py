"""Runs each converted file on real images and compares its answers with those of the Keras model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np

from pipelines import child, convert, metadata
from pipelines.agreement import Agreement, Format, Limit, Tolerance, compare
from pipelines.exported import open_file, predict_file
from pipelines.latency import median_milliseconds

SERVED = 32  # images on which the SavedModel's uint8 and encoded signatures are compared


class ExportError(ValueError):
    """A format cannot be exported: it cannot be made, or does not answer as Keras does."""


@dataclass(frozen=True)
class ExportedFile:
    """One format: where it is, how big and fast, and how far from Keras.

    `logit_difference` is the largest, in the logits' unit; `relative_difference` the same as a
    share of the standard deviation of Keras' logits; `noise` as in `Limit`. `milliseconds` are for
    one image on two threads.
    """

    format: Format
    file: str
    megabytes: float
    logit_difference: float
    relative_difference: float
    noise: float
    agreement: float
    accuracy: float | None
    milliseconds: float


def file_name(form: Format) -> str:
    """What the file (or directory) of a format is called."""
    return "saved_model" if form == "saved_model" else f"{form}.tflite"


def keras_logits(model: keras.Model, images: np.ndarray) -> np.ndarray:
    """What the Keras model answers: (N, H, W, 3) -> (N, classes) float32."""
    return np.asarray(model.predict(images.astype(np.float32), batch_size=32, verbose=0), np.float32)


@dataclass(frozen=True, kw_only=True)
class Proof:
    """The test images and Keras' own logits for them; `check` holds files against these.

    `twin` is the model in float32: the model itself, unless that computes in half precision.
    """

    model: keras.Model
    twin: keras.Model
    classes: tuple[str, ...]
    images: np.ndarray
    labels: np.ndarray | None
    logits: np.ndarray
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

    def _compared(self, form: Format, answers: np.ndarray) -> tuple[Agreement, list[str]]:
        """How far the answers are from the model's, and what is too far."""
        limit = self.tolerance.limit(form)
        if self.twin is self.model:
            agreement = compare(answers, self.logits, labels=self.labels, limit=limit)
            return agreement, agreement.problems(limit)
        in_float32 = compare(answers, keras_logits(self.twin, self.images), labels=self.labels, limit=limit)
        problems = [f"against the model in float32, {problem}" for problem in in_float32.problems(limit)]
        rounding = self.tolerance.quantized if limit is self.tolerance.quantized else self.tolerance.reduced
        agreement = compare(answers, self.logits, labels=self.labels, limit=rounding)
        return agreement, problems + agreement.problems(rounding)

    def _tflite(self, path: Path) -> tuple[np.ndarray, float]:
        """Logits, and milliseconds for one image."""
        foreign = [name for name, builtin in metadata.operators(path).items() if not builtin]
        if foreign:
            raise ExportError(
                f"needs operators that TFLite does not have: {', '.join(foreign)}. Replace the layers that they come "
                "from: FlexResizeBicubic, for example, is Resizing(interpolation='bicubic'), and 'bilinear' is built in"
            )
        labels = metadata.read_labels(path)
        if labels != self.classes:
            raise ExportError(f"the labels inside are {labels}, not {self.classes}")
        logits, answer = predict_file(path, self.images), open_file(path)
        return logits, median_milliseconds(lambda: answer(self.images[0]))

    def _saved_model(self, path: Path) -> tuple[np.ndarray, float]:
        """Logits and milliseconds of serving_default, after the other signatures agreed."""
        raw = np.clip(np.rint(self.images[:SERVED]), 0, 255).astype(np.uint8)
        np.save(path.parent / "images.npy", self.images)
        np.save(path.parent / "bytes.npy", raw)
        ending = child.run("pipelines.exported", path.parent)
        if ending.code:
            raise ExportError(f"TensorFlow alone cannot run it: {ending}")
        with np.load(path.parent / "answers.npz", allow_pickle=False) as archive:
            answers = dict(archive)
        limit = self.tolerance.exact
        as_bytes = compare(answers["bytes_logits"], keras_logits(self.twin, raw), labels=None, limit=limit)
        problems = [f"serve_uint8: {problem}" for problem in as_bytes.problems(limit)]
        problems += [f"serve_jpeg: {problem}" for problem in self._served_problems(raw, answers, limit)]
        if problems:
            raise ExportError("; ".join(problems))
        return answers["logits"], float(answers["milliseconds"])

    def _served_problems(self, raw: np.ndarray, answers: dict[str, np.ndarray], limit: Limit) -> Sequence[str]:
        """How serve_jpeg's scores for encoded images differ from Keras' for the same pixels."""
        from pipelines.decoding import resize_and_crop

        pixels = convert.served_pixels(self.model)
        seen = np.stack([resize_and_crop(image, pixels).numpy() for image in raw])
        scores, expected = answers["scores"], _softmax(keras_logits(self.twin, seen))
        problems = []
        difference = float(np.abs(scores - expected).max())
        if limit.difference is not None and not difference <= limit.difference:
            problems.append(f"a score differs by {difference:.3g} (at most {limit.difference:g})")
        best = scores.argmax(-1)
        if list(answers["label"]) != [self.classes[index] for index in best]:
            problems.append("a label is not that of the best score")
        if not np.array_equal(answers["score"], scores.max(-1)):
            problems.append("a score is not the best of the scores")
        return problems


def _softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def _megabytes(path: Path) -> float:
    """Size of a file, or of all files in a directory."""
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    return sum(file.stat().st_size for file in files) / 1e6
