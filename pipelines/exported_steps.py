"""Writes text with an exported language model: a token in, the logits of the next one out, and what is kept between."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import numpy as np

from pipelines.exported import Arrays, SavedModelFile, open_saved_model, open_tflite, padded

STEP, ENCODER = "step", "encoder"  # in the names of files, and as signatures of a SavedModel
EMPTY = -1  # the position of a place in the cache that holds no token

Call = Callable[[Arrays], Mapping[str, np.ndarray]]


class Writer:
    """The step of an exported language model, and what it keeps of the tokens before.

    `shapes` are those of the step's inputs. `encode` turns what the text hangs on into some of these inputs.
    """

    def __init__(self, step: Call, shapes: Mapping[str, tuple[int, ...]], *, encode: Call | None = None):
        self._step, self._encode = step, encode
        self._empty = {
            name: np.full(shape, EMPTY, "int32") if name == "cache_positions" else np.zeros(shape, "float32")
            for name, shape in shapes.items()
            if name not in ("token_ids", "positions")
        }
        self.length = shapes["cache_positions"][0] if "cache_positions" in shapes else None
        self.position, self._kept = 0, dict(self._empty)

    @classmethod
    def of_tflite(cls, step: str | Path, encoder: str | Path | None = None) -> Writer:
        """From FORMAT_step.tflite and, where there is one, FORMAT_encoder.tflite.

        Raises:
            FileNotFoundError: there is no such file.
        """
        opened = open_tflite(step)
        return cls(opened, opened.shapes, encode=open_tflite(encoder) if encoder else None)

    @classmethod
    def of_saved_model(cls, model: str | Path | SavedModelFile) -> Writer:
        """From a SavedModel with the signature "step".

        Raises:
            FileNotFoundError: there is no SavedModel.
            ValueError: it has no such signature.
        """
        opened = model if isinstance(model, SavedModelFile) else open_saved_model(model)
        if STEP not in opened.signatures:
            raise ValueError(f"'{opened.path}' cannot write text: it has no signature {STEP!r}.")

        def one(signature: str) -> Call:
            def call(sample: Arrays) -> dict[str, np.ndarray]:
                batch = {name: np.asarray(values)[np.newaxis] for name, values in sample.items()}
                return {name: values[0] for name, values in opened(signature, batch).items()}

            return call

        encode = one(ENCODER) if ENCODER in opened.signatures else None
        return cls(one(STEP), opened.shapes(STEP), encode=encode)  # type: ignore[arg-type]  # its shapes are fixed

    def begin(self, given: Arrays) -> None:
        """Forget what was written. `given` is what the text hangs on, without a batch: the encoder's inputs."""
        self.position, self._kept = 0, dict(self._empty)
        if self._encode:
            context = self._empty.get("padding_mask")
            fitted = {
                name: values if context is None else padded(values, context.shape) for name, values in given.items()
            }
            found = {**fitted, **self._encode(fitted)}
            self._kept |= {name: values for name, values in found.items() if name in self._empty}

    def feed(self, token: int) -> np.ndarray:
        """The logits (vocabulary,) of what follows one more token.

        Raises:
            ValueError: the cache holds no more tokens.
        """
        if self.length is not None and self.position >= self.length:
            raise ValueError(f"The cache of this step holds {self.length} tokens. Export with a greater length.")
        now = {"token_ids": np.array([token], "int32"), "positions": np.array([self.position], "int32")}
        found = self._step({**now, **self._kept})
        self._kept |= {name: values for name, values in found.items() if name != "logits"}
        self.position += 1
        return found["logits"]

    def greedy(self, prompt: Iterable[int], count: int, given: Arrays | None = None) -> list[int]:
        """The `count` tokens that follow a prompt, each the most probable one."""
        self.begin(given or {})
        for token in prompt:
            logits = self.feed(token)
        written = [int(logits.argmax())]
        while len(written) < count:
            written.append(int(self.feed(written[-1]).argmax()))
        return written

    def forced(self, texts: np.ndarray, given: Arrays) -> np.ndarray:
        """The logits after every token of texts (N, T), given what they hang on: (N, T, vocabulary)."""
        rows = []
        for index, text in enumerate(texts):
            self.begin({name: values[index] for name, values in given.items()})
            rows.append(np.stack([self.feed(int(token)) for token in text]))
        return np.stack(rows)
