"""Beam search as transformers does it, its length penalty and its end included."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

import numpy as np

from pipelines.steps import Arrays, Steps
from pipelines.strategies import Beam, log_probabilities, penalized

_NONE = np.float32(-1e9)  # the score of a text that is not there


@dataclass
class _Search:
    """The texts of one prompt: those that are written on, and the best that have ended."""

    beam: Beam
    prompt: tuple[int, ...]  # what the repetition penalty counts besides what is written
    running: list[tuple[int, ...]] = field(init=False)  # new tokens
    scores: np.ndarray = field(init=False)  # of the running ones, (beams,)
    best: list[tuple[int, ...]] = field(init=False)
    best_scores: np.ndarray = field(init=False)
    ended: np.ndarray = field(init=False)  # which of the best have ended, (beams,)
    hopeful: bool = True  # a running text may still become better than the worst of the best

    def __post_init__(self) -> None:
        beams = self.beam.beams
        self.running, self.best = [()] * beams, [()] * beams
        self.scores = np.full(beams, _NONE)
        self.scores[0] = 0  # all begin alike, so one is enough
        self.best_scores = np.full(beams, _NONE)
        self.ended = np.zeros(beams, bool)

    def advance(self, logits: np.ndarray, stop: Collection[int], *, last: bool) -> tuple[np.ndarray, np.ndarray, bool]:
        """Go on by one token, from the logits (beams, vocabulary) after each running text.

        Returns the tokens (beams,) of the texts that are running now, the places (beams,) that the texts had which
        they go on from, and whether any of the candidates could go on. `last`: with this token all texts end.
        """
        beams, vocabulary = logits.shape
        scores = log_probabilities(logits)
        for row, text in enumerate(self.running):
            scores[row] = penalized(scores[row], (*self.prompt, *text), self.beam.repetition_penalty)
        total = (scores + self.scores[:, None]).ravel()
        kept = min(max(2, 1 + len(stop)) * beams, total.size)
        order = _largest(total, kept)
        candidates = [(*self.running[index // vocabulary], int(index % vocabulary)) for index in order]
        ends = np.array([last or text[-1] in stop for text in candidates])
        following = total[order] + ends * _NONE
        chosen = _largest(following, beams)
        self._collect(candidates, total[order], ends & (np.arange(kept) < beams))
        self.running = [candidates[index] for index in chosen]
        self.scores = following[chosen]
        self._look_ahead(len(self.running[0]))
        return order[chosen] % vocabulary, order[chosen] // vocabulary, not ends.all()

    def _collect(self, candidates: list[tuple[int, ...]], total: np.ndarray, ended: np.ndarray) -> None:
        """Put candidates that have ended among the best."""
        scores = total / np.float32(len(candidates[0]) ** self.beam.length_penalty)
        full = self.beam.early_stopping and self.ended.all()
        scores = scores + (full + (not self.hopeful) + ~ended) * _NONE
        merged = np.concatenate([self.best_scores, scores])
        order = _largest(merged, self.beam.beams)
        texts = [*self.best, *candidates]
        self.best = [texts[index] for index in order]
        self.best_scores = merged[order]
        self.ended = np.concatenate([self.ended, ended])[order]

    def _look_ahead(self, length: int) -> None:
        possible = self.scores[0] / np.float32(length**self.beam.length_penalty)
        worst = np.where(self.ended, self.best_scores.min(), _NONE)
        self.hopeful = self.hopeful and bool((possible > worst).any())


def search(
    steps: Steps,
    texts: Sequence[Sequence[int]],
    given: Arrays,
    beam: Beam,
    *,
    new_tokens: int,
    stop: Collection[int],
) -> list[list[int]]:
    """The best continuation of each text, as far as the search finds it, with its stop token if it has one."""
    searches = [_Search(beam, tuple(text)) for text in texts]
    logits = steps.begin(texts, given)
    steps.select(np.repeat(np.arange(len(texts)), beam.beams))
    logits = np.repeat(logits, beam.beams, axis=0)
    for written in range(1, new_tokens + 1):
        rows = np.split(logits, len(texts))
        found = [one.advance(row, stop, last=written == new_tokens) for one, row in zip(searches, rows, strict=True)]
        hopeful = any(one.hopeful for one in searches)
        full = beam.early_stopping and all(one.ended.all() for one in searches)
        if not hopeful or full or not any(open_ for _, _, open_ in found):
            break
        first = beam.beams * np.arange(len(texts))
        steps.select(np.concatenate([places + start for (_, places, _), start in zip(found, first, strict=True)]))
        logits = steps.extend(np.concatenate([tokens for tokens, _, _ in found]))
    return [list(one.best[0]) for one in searches]


def _largest(values: np.ndarray, count: int) -> np.ndarray:
    """Where the largest values are, the largest first; of equal ones the first."""
    if count < len(values):
        near = np.flatnonzero(values >= np.partition(values, -count)[-count])
    else:
        near = np.arange(len(values))
    return near[np.argsort(-values[near], kind="stable")][:count]
