"""Strategies of writing: how the next token is chosen from what a model says of every token."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


def _check_positive(strategy: object, *names: str) -> None:
    for name in names:
        value = getattr(strategy, name)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < float("inf"):
            raise ValueError(f"{type(strategy).__name__}({name}={value!r}) must be a number over 0.")


@dataclass(frozen=True)
class Greedy:
    """Always the most probable token."""

    repetition_penalty: float = 1.0  # over 1: less of the tokens that are there already, the prompt's included

    def __post_init__(self) -> None:
        _check_positive(self, "repetition_penalty")


@dataclass(frozen=True)
class Sample:
    """A token at random, by its probability; the same for the same seed.

    The random numbers of a text hang on the seed and on its prompt; copies of a prompt get different ones.
    """

    temperature: float = 1.0  # under 1: the probable ones still more often; over 1: less often
    top_k: int | None = None  # of so many most probable tokens
    top_p: float | None = None  # of the fewest tokens whose probabilities add up to this
    repetition_penalty: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        _check_positive(self, "temperature", "repetition_penalty")
        if self.top_k is not None and (type(self.top_k) is not int or self.top_k < 1):
            raise ValueError(f"Sample(top_k={self.top_k!r}) must be a whole number over 0.")
        if self.top_p is not None and not 0 < self.top_p <= 1:
            raise ValueError(f"Sample(top_p={self.top_p!r}) must be over 0 and at most 1.")
        if type(self.seed) is not int or self.seed < 0:
            raise ValueError(f"Sample(seed={self.seed!r}) must be a whole number from 0.")


@dataclass(frozen=True)
class Beam:
    """The best of the texts that a search finds which keeps so many at a time.

    A text's score is the sum of the logarithms of its tokens' probabilities, divided by its length to the power of
    `length_penalty`: over 0 favours long texts, under 0 short ones. `early_stopping` ends the search when as many
    texts have ended as are kept, else when no other is likely to become better.
    """

    beams: int = 4
    length_penalty: float = 1.0
    early_stopping: bool = False
    repetition_penalty: float = 1.0

    def __post_init__(self) -> None:
        _check_positive(self, "repetition_penalty")
        if type(self.beams) is not int or not 1 <= self.beams <= 1_000:
            raise ValueError(f"Beam(beams={self.beams!r}) must be a whole number from 1 to 1,000.")


Strategy = Greedy | Sample | Beam
STRATEGIES: dict[str, Strategy] = {"greedy": Greedy(), "sample": Sample(), "beam": Beam()}


def strategy_of(strategy: Strategy | str) -> Strategy:
    """A strategy, also by its name.

    Raises:
        ValueError: there is none of that name.
    """
    if isinstance(strategy, str) and strategy in STRATEGIES:
        return STRATEGIES[strategy]
    if not isinstance(strategy, Greedy | Sample | Beam):
        known = ", ".join(STRATEGIES)
        raise ValueError(f"No strategy {strategy!r}. Strategies: {known}, or Greedy, Sample and Beam with options.")
    return strategy


class Chooser:
    """Chooses the next token of each text of a batch, greedily or at random."""

    def __init__(self, strategy: Greedy | Sample, prompts: Sequence[Sequence[int]]):
        self.strategy = strategy
        seed = strategy.seed if isinstance(strategy, Sample) else 0
        copies = [sum(list(other) == list(prompt) for other in prompts[:text]) for text, prompt in enumerate(prompts)]
        self.random = [
            np.random.default_rng([seed, copy, *prompt]) for copy, prompt in zip(copies, prompts, strict=True)
        ]

    def choose(self, text: int, logits: np.ndarray, before: Sequence[int]) -> int:
        """The token after `before`, the tokens of the text so far, from the logits (vocabulary,)."""
        logits = penalized(logits, before, self.strategy.repetition_penalty)
        if isinstance(self.strategy, Greedy):
            return int(logits.argmax())
        tokens, probabilities = candidates(logits, self.strategy)
        reached = np.cumsum(probabilities, dtype="float64")
        drawn = self.random[text].random() * reached[-1]
        return int(tokens[min(np.searchsorted(reached, drawn, side="right"), len(tokens) - 1)])


def penalized(logits: np.ndarray, before: Sequence[int], penalty: float) -> np.ndarray:
    """Logits with those of tokens that are there already divided by the penalty, negative ones multiplied."""
    if penalty == 1:
        return logits
    there = np.unique(np.asarray(before, "int64"))
    found = logits[there]
    changed = logits.copy()
    changed[there] = np.where(found < 0, found * np.float32(penalty), found / np.float32(penalty))
    return changed


def candidates(logits: np.ndarray, strategy: Sample) -> tuple[np.ndarray, np.ndarray]:
    """The tokens that may be drawn, in order of their ids, and their probabilities, which need not add up to 1.

    First the temperature, then top-k, then top-p; tokens that are as probable as the last of the top k stay.
    """
    logits = logits / np.float32(strategy.temperature)
    tokens = np.arange(len(logits))
    if strategy.top_k is not None and strategy.top_k < len(logits):
        tokens = np.flatnonzero(logits >= np.partition(logits, -strategy.top_k)[-strategy.top_k])
    probabilities = np.exp(logits[tokens] - logits[tokens].max())
    if strategy.top_p is not None and strategy.top_p < 1:
        order = np.argsort(probabilities, kind="stable")  # the least probable first
        reached = np.cumsum(probabilities[order] / probabilities.sum())
        kept = reached > 1 - strategy.top_p
        kept[-1] = True
        order = np.sort(order[kept])
        tokens, probabilities = tokens[order], probabilities[order]
    return tokens, probabilities


def log_probabilities(logits: np.ndarray) -> np.ndarray:
    """The logarithms of the probabilities: (..., vocabulary)."""
    shifted = logits - logits.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
