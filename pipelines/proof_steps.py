"""Writes text with the exported parts of a language model, and compares it token for token with Keras.

Keras writes without a cache, a whole pass for every token: what the parts keep is then held against what it stands for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from pipelines import metadata
from pipelines.agreement import Agreement, Format, Limit
from pipelines.expected import Expected
from pipelines.exported import TFLiteFile, run_tflite
from pipelines.exported_steps import ENCODER, STEP, Writer
from pipelines.interface import Interface, call, fit_length, input_tensors, mask_of, predict
from pipelines.latency import median_milliseconds
from pipelines.tflite import part_name
from pipelines.writers import parts

TEXTS = 4  # that are written
TOKENS = 24  # of each, after its prompt

Arrays = Mapping[str, np.ndarray]


@dataclass(frozen=True, kw_only=True)
class WritingProof:
    """What a language model in float32 writes after the first half of a few samples."""

    model: keras.Model
    interface: Interface
    samples: Arrays

    @cached_property
    def rows(self) -> np.ndarray:
        """The samples that are gone on with: the first that hold a token."""
        mask = mask_of(self.samples)
        count = len(self.samples[f"{self._prefix}token_ids"])
        return np.arange(count)[:TEXTS] if mask is None else np.flatnonzero(mask.any(axis=1))[:TEXTS]

    @cached_property
    def prompts(self) -> list[list[int]]:
        """The tokens to go on from: the first half of each sample, at least one."""
        ids, mask = self.samples[f"{self._prefix}token_ids"], mask_of(self.samples)
        texts = [ids[row] if mask is None else ids[row][mask[row].astype(bool)] for row in self.rows]
        room = max(1, self.interface.steps // 2)
        return [text[: max(1, min(len(text) // 2, room))].tolist() for text in texts]

    @cached_property
    def encoder(self) -> tuple[keras.Model, Interface] | None:
        """What text hangs on, as a model, if it hangs on anything."""
        return parts(self.model, self.interface).get(ENCODER)

    @cached_property
    def given(self) -> dict[str, np.ndarray]:
        """What the texts hang on: the encoder's inputs, or nothing."""
        if self.encoder is None:
            return {}
        part, interface = self.encoder
        return fit_length({name: self.samples[name][self.rows] for name in part.input}, interface.lengths)

    @cached_property
    def written(self) -> np.ndarray:
        """The prompts with the most probable token after each other, (N, T); all are gone on with to one length."""
        longest = max(map(len, self.prompts))
        total = min(self.interface.steps, longest + TOKENS)
        ids = np.zeros((len(self.prompts), total), "int32")
        sizes = [len(prompt) for prompt in self.prompts]
        for row, prompt in zip(ids, self.prompts, strict=True):
            row[: len(prompt)] = prompt
        for place in range(min(sizes), total):
            logits = self._logits(ids, place)[:, place - 1]
            ids[:, place] = np.where([place >= size for size in sizes], logits.argmax(-1), ids[:, place])
        return ids

    @cached_property
    def expected(self) -> Expected:
        """The logits (N, T, vocabulary) after every token of the written texts."""
        return Expected(outputs={"logits": self._logits(self.written, self.written.shape[1])}, task="causal_lm")

    def compare(self, logits: np.ndarray, limit: Limit) -> tuple[Agreement, list[str]]:
        """How far the logits of a step are from these, and what is too far; if nothing is rounded, any other token."""
        agreement = self.expected.compare({"logits": logits}, limit)
        problems = agreement.problems(limit)
        if limit.agreement == 1:
            same = logits.argmax(-1)[:, :-1] == self.written[:, 1:]
            own = np.array([np.arange(1, same.shape[1] + 1) >= len(prompt) for prompt in self.prompts])
            if not same[own].all():
                problems.append(f"it writes {np.count_nonzero(~same & own)} of {own.sum()} tokens otherwise than Keras")
        return agreement, problems

    def encoded(self) -> Expected:
        """What Keras' encoder gives."""
        part, interface = self.encoder or parts(self.model, self.interface)[ENCODER]
        return Expected(outputs=predict(part, self.given, interface.task), task="features")

    def logits_of_files(self, form: Format, directory: Path) -> tuple[np.ndarray, float]:
        """Those of FORMAT_step.tflite after every token, and milliseconds for one."""
        encoder = directory / part_name(form, ENCODER) if self.given else None
        writer = Writer.of_tflite(directory / part_name(form, STEP), encoder)
        logits = writer.forced(self.written, self.given)

        def token() -> None:
            writer.position = 0
            writer.feed(0)

        return logits, median_milliseconds(token)

    def encoded_by_file(self, form: Format, directory: Path) -> tuple[dict[str, np.ndarray], float]:
        """What FORMAT_encoder.tflite gives, and milliseconds for one text."""
        path = directory / part_name(form, ENCODER)
        answer, one = TFLiteFile(path), {name: values[0] for name, values in self.given.items()}
        return run_tflite(path, self.given), median_milliseconds(lambda: answer(one))

    def foreign_operators(self, form: Format, directory: Path) -> list[str]:
        """Operators of the parts that TFLite does not have."""
        paths = [directory / part_name(form, name) for name in ([STEP, ENCODER] if self.given else [STEP])]
        found = (metadata.operators(path).items() for path in paths)
        return sorted({name for operators in found for name, builtin in operators if not builtin})

    @property
    def _prefix(self) -> str:
        return "decoder_" if "decoder_token_ids" in self.model.input else ""

    def _logits(self, ids: np.ndarray, place: int) -> np.ndarray:
        """Of the whole model after every token of (N, T), of which the first `place` count."""
        mask = np.broadcast_to(np.arange(ids.shape[1]) < place, ids.shape).astype("int32")
        written = {f"{self._prefix}token_ids": ids, f"{self._prefix}padding_mask": mask}
        others = {name: values[self.rows] for name, values in self.samples.items() if name not in written}
        inputs = {**others, **self.given, **written}
        kinds = input_tensors(self.model)
        return self._run(**{name: tf.constant(values, kinds[name].dtype) for name, values in inputs.items()}).numpy()

    @cached_property
    def _run(self) -> Callable:
        """The whole model as a function that is traced once."""
        return tf.function(lambda **inputs: call(self.model, inputs, self.interface.task)["logits"])
