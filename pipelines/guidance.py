"""Guidance without a classifier: what a model says after a prompt, pushed away from what it says after another one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipelines.steps import Arrays, Steps, Texts


@dataclass(frozen=True)
class Guidance:
    """How far logits go from those after `prompts`, which say nothing, toward those after the prompts, and beyond.

    Paper: https://arxiv.org/abs/2207.12598. The logits are none + scale * (own - none): with a `scale` of 1 they are
    the prompt's own, with 0 those without it. There is one of the prompts for each text, as token ids.

    Raises:
        ValueError: the scale is no number of at least 0.
    """

    scale: float
    prompts: Sequence[Sequence[int]]

    def __post_init__(self) -> None:
        if isinstance(self.scale, bool) or not isinstance(self.scale, int | float) or not 0 <= self.scale < math.inf:
            raise ValueError(f"Guidance(scale={self.scale!r}) must be a number of at least 0; 1 is none, 3 is usual.")


class Guided:
    """The Steps of N texts from those of 2 N: the texts, and behind them what guides each."""

    def __init__(self, steps: Steps, scale: float, prompts: Texts):
        self.steps, self.scale, self.prompts = steps, np.float32(scale), prompts

    def begin(self, texts: Texts, given: Arrays) -> np.ndarray:
        twice = {name: np.concatenate([array, array]) for name, array in given.items()}
        return self._guided(self.steps.begin([*texts, *self.prompts], twice))

    def extend(self, tokens: np.ndarray) -> np.ndarray:
        return self._guided(self.steps.extend(np.concatenate([tokens, tokens])))

    def select(self, rows: np.ndarray) -> None:
        self.steps.select(np.concatenate([rows, rows + len(self.prompts)]))
        self.prompts = [self.prompts[row] for row in rows]

    def close(self) -> None:
        self.steps.close()

    def _guided(self, logits: np.ndarray) -> np.ndarray:
        own, none = np.split(logits, 2)
        return none + self.scale * (own - none)
