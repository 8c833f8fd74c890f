"""Language modelling: masked tokens, the next token, or a second text token by token; by cross-entropy a token."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from pipelines.datasets import Part, TextDataset, Vocabulary
from pipelines.objectives.losses import CrossEntropy, cross_entropies
from pipelines.objectives.objective import Objective, accuracy
from pipelines.objectives.scores import Scores, number

CHOSEN = 0.15  # share of the tokens to guess, and of those the shares that become a mask or any token:
MASKED, REPLACED = 0.8, 0.1  # https://arxiv.org/abs/1810.04805

Completed = tuple[dict[str, tf.Tensor], tf.Tensor, tf.Tensor]  # inputs, targets (B, T), weights (B, T)


@dataclass(frozen=True)
class LanguageScores(Scores):
    """Scores a token: the mean cross-entropy in nats, its exponential, and how often the likeliest token is right.

    `exact` is the share of texts that greedy decoding would write as they are, to the last token; None where
    no text is written.
    """

    kind = "language"

    tokens: int
    loss: float
    perplexity: float
    accuracy: float
    exact: float | None = None

    def summary(self, unit: str) -> str:
        exact = "" if self.exact is None else f"; {self.exact:.2%} are written exactly as they should be"
        return (
            f"Perplexity **{number(self.perplexity)}** (loss {self.loss:.4f}), token accuracy {self.accuracy:.2%} on "
            f"{self.tokens:,} tokens of {self.examples:,} {unit} never trained on{exact}."
        )


def masked_lm(data: TextDataset) -> Objective:
    """Guess the tokens that were hidden: logits (B, T, vocabulary)."""
    vocabulary = data.vocabulary
    if vocabulary.mask is None:
        raise ValueError(
            "The tokenizer has no mask token, which task='masked_lm' needs. Train one on the data "
            "(--tokenizer wordpiece), or choose task='causal_lm'."
        )
    return _objective(lambda inputs, draw: hide(inputs, draw, vocabulary))


def causal_lm(data: TextDataset) -> Objective:
    """Say the next token: logits (B, T, vocabulary)."""
    return _objective(lambda inputs, draw: shift(inputs))


def seq2seq(data: TextDataset) -> Objective:
    """Write a second text, given its true beginning: logits (B, T, vocabulary)."""
    start = data.vocabulary.start
    if start is None:
        raise ValueError("The tokenizer has no token with which a decoder begins, which task='seq2seq' needs.")
    return _objective(lambda batch, draw: force(*batch, start=start), writes=True)


def hide(inputs: dict[str, tf.Tensor], draw: tf.Tensor, vocabulary: Vocabulary) -> Completed:
    """Hide 15 % of the tokens, never special ones or padding: 80 % behind the mask, 10 % behind any other token.

    `draw` holds the two numbers that decide which. The weights are 1 at the hidden tokens.
    """
    tokens = inputs["token_ids"]
    special = tf.reduce_any(tokens[..., None] == tf.constant(vocabulary.specials, tokens.dtype), axis=-1)
    chances = tf.random.stateless_uniform((3, *tf.unstack(tf.shape(tokens))), draw)
    chosen = (chances[0] < CHOSEN) & (inputs["padding_mask"] > 0) & ~special
    ordinary = np.setdiff1d(np.arange(vocabulary.size), vocabulary.specials)
    place = tf.minimum(tf.cast(chances[2] * len(ordinary), tf.int32), len(ordinary) - 1)
    other = tf.gather(tf.constant(ordinary, tokens.dtype), place)
    shown = tf.where(chances[1] < MASKED + REPLACED, other, tokens)
    shown = tf.where(chances[1] < MASKED, tf.cast(vocabulary.mask, tokens.dtype), shown)
    return {**inputs, "token_ids": tf.where(chosen, shown, tokens)}, tokens, tf.cast(chosen, tf.float32)


def shift(inputs: dict[str, tf.Tensor]) -> Completed:
    """The target of each token is the one after it; the weights are 1 where both are tokens."""
    after = [(0, 0), (0, 1)]
    mask = inputs["padding_mask"]
    weights = tf.pad(mask[:, :-1] * mask[:, 1:], after)
    return inputs, tf.pad(inputs["token_ids"][:, 1:], after), tf.cast(weights, tf.float32)


def force(inputs: dict[str, tf.Tensor], targets: tf.Tensor, weights: tf.Tensor, *, start: int) -> Completed:
    """Give the decoder the true tokens, one place later and after `start`."""
    before = [(0, 0), (1, 0)]
    tokens = tf.pad(targets[:, :-1], before, constant_values=start)
    mask = tf.pad(tf.cast(weights[:, :-1] > 0, tokens.dtype), before, constant_values=1)
    return {**inputs, "decoder_token_ids": tokens, "decoder_padding_mask": mask}, targets, weights


def _objective(target: Callable[[Any, tf.Tensor], Completed], *, writes: bool = False) -> Objective:
    def evaluate(model: keras.Model, batches: tf.data.Dataset, part: Part) -> LanguageScores:
        return score(model, batches, writes=writes)

    return Objective(loss=CrossEntropy, metrics=accuracy, score=evaluate, target=target)


def score(model: keras.Model, batches: tf.data.Dataset, *, writes: bool) -> LanguageScores:
    """Scores over all tokens of all batches, whatever their lengths.

    Greedy decoding writes a text exactly if, and only if, each token is the likeliest after the true ones before it.
    """

    @tf.function(input_signature=batches.element_spec, autograph=False)
    def sums(inputs, targets, weights):
        logits = tf.cast(model(inputs, training=False), tf.float32)
        losses = cross_entropies(targets, logits)
        right = tf.argmax(logits, axis=-1, output_type=targets.dtype) == targets
        exact = tf.reduce_all(right | (weights == 0), axis=-1)
        counted = tf.stack([tf.ones_like(weights), losses, tf.cast(right, tf.float32)]) * weights
        return tf.reduce_sum(counted, axis=(1, 2)), tf.reduce_sum(tf.cast(exact, tf.float32)), tf.shape(targets)[0]

    token_sums, exact, examples = np.zeros(3), 0.0, 0
    for batch in batches:
        found, right, rows = sums(*batch)
        token_sums += np.asarray(found, "float64")
        exact, examples = exact + float(right), examples + int(rows)
    tokens = token_sums[0]
    loss = float(token_sums[1] / max(tokens, 1))
    return LanguageScores(
        examples=examples,
        tokens=int(tokens),
        loss=loss,
        perplexity=math.exp(min(loss, 700)),
        accuracy=float(token_sums[2] / max(tokens, 1)),
        exact=exact / max(examples, 1) if writes else None,
    )
