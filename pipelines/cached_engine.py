"""Micro-batches under a loss that compares all examples of a batch: with the gradients of their answers kept.

Paper: https://arxiv.org/abs/2101.06983 (GradCache). The answers of all micro-batches are computed first, without what a
gradient needs; the loss is of all of them together; then each is computed again, and the loss's gradient of its answers
goes on through it. The step is that of the whole batch, for a third more computation.
"""

from __future__ import annotations

from collections.abc import Sequence

import keras
import tensorflow as tf

from pipelines import replicas
from pipelines.engine import Batch, Engine
from pipelines.parts import after, dense, of_any

EMBEDDINGS = ("image_embedding", "text_embedding")


class CachedEngine(Engine):
    """Steps of a model that gives embeddings, on which alone its loss hangs; it has no batch statistics."""

    takes_whole = True

    def _gradients(self, parts: Sequence[Batch]) -> tuple[list[tf.Tensor], tf.Tensor]:
        if len(parts) == 1:
            return super()._gradients(parts)
        states = []
        answers: list[dict[str, tf.Tensor]] = []
        for part in parts:
            states.append([tf.identity(generator.state.value) for generator in self._generators])
            last = list(answers[-1].values()) if answers else []
            answers.append(self._embeddings(after(part, last)))
        whole = {name: tf.concat([answer[name] for answer in answers], axis=0) for name in EMBEDDINGS}
        loss, cached, gradients = self._of_embeddings(parts, whole)
        sizes = [tf.shape(answer[EMBEDDINGS[0]])[0] for answer in answers]
        pieces = [tf.split(each, sizes) for each in cached]
        for part, state, *piece in zip(parts, states, *pieces, strict=True):
            for generator, value in zip(self._generators, state, strict=True):
                generator.state.assign(value)
            with tf.GradientTape() as tape:
                found = self._embeddings(after(part, gradients))
                told = tf.add_n([tf.reduce_sum(found[n] * each) for n, each in zip(EMBEDDINGS, piece, strict=True)])
            more = dense(tape.gradient(told, self._variables), self._variables)
            gradients = [a + b for a, b in zip(gradients, more, strict=True)]
        return gradients, loss

    def _embeddings(self, part: Batch) -> dict[str, tf.Tensor]:
        """Those of a micro-batch, in training."""
        inputs, _, _ = keras.utils.unpack_x_y_sample_weight(part)
        with replicas.own_random_numbers(self._generators):
            found = of_any(lambda some: self._answer(some, training=True), inputs)
        return {name: tf.cast(found[name], tf.float32) for name in EMBEDDINGS}

    def _of_embeddings(
        self, parts: Sequence[Batch], whole: dict[str, tf.Tensor]
    ) -> tuple[tf.Tensor, list[tf.Tensor], list[tf.Tensor]]:
        """The replica's part in the loss, its gradient by the embeddings, and by the variables not through them."""
        model, embeddings = self._model, [whole[name] for name in EMBEDDINGS]
        targets = tf.concat([keras.utils.unpack_x_y_sample_weight(part)[1] for part in parts], axis=0)
        (share,), mass = self._shares([(whole, targets)])
        with tf.GradientTape() as tape:
            tape.watch(embeddings)
            given = dict(zip(EMBEDDINGS, embeddings, strict=True))
            loss = share * model.compute_loss(None, targets, given, None, training=True)
            model._loss_tracker.update_state(loss * self._replicas, sample_weight=mass / self._replicas)
            if self._penalty is not None:
                loss += self._penalty() / self._replicas
            scaled = model.optimizer.scale_loss(loss)
        cached, found = tape.gradient(scaled, [embeddings, self._variables])
        return loss, cached, dense(found, self._variables)
