"""Generation: images like those of the training split, by a game of two networks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from pipelines import adversary
from pipelines.creation import configuration
from pipelines.datasets import Dataset, Part
from pipelines.latents import draw
from pipelines.objectives.generation_scores import GenerationScores, score
from pipelines.objectives.losses import WeightedMean
from pipelines.objectives.objective import Objective
from pipelines.run import Run
from zoo.core import registry


class _NoLoss(WeightedMean):
    """In the place of a loss of targets: a GAN has its own."""

    def __init__(self) -> None:
        super().__init__("none")

    def call(self, y_true, y_pred):
        return tf.zeros(tf.shape(y_pred)[:1])


def generate(data: Dataset, run: Run | None = None) -> Objective:
    """Images (B, H, W, C) in 0..255, with or without labels (B,), against what is made of random latents.

    Without a run models are scored, not trained.
    """

    def evaluate(model: keras.Model, batches: tf.data.Dataset, part: Part) -> GenerationScores:
        return score(model, batches)

    if run is None:
        return Objective(loss=_NoLoss, metrics=list, score=evaluate, validates=False)
    from pipelines.opponents import AdversarialEngine, opponents  # which needs the losses beside this

    family, config = configuration(run, data)
    chosen = run.adversary or adversary.usual(run.model)

    def learner(model: keras.Model) -> keras.Model:
        judge = registry.build(family, config, name=model.name, task="discriminate", classes=None)
        return opponents(model, judge, chosen)

    def pictures(model: keras.Model, folder: Path, name: str) -> None:
        draw(model, folder, name, classes=len(data.classes))

    return Objective(
        loss=_NoLoss, metrics=list, score=evaluate, target=with_draws(config), learner=learner,
        engine=AdversarialEngine, draw=pictures, validates=False,
    )  # fmt: skip


def with_draws(config: Any) -> Callable[[Any, tf.Tensor], Any]:
    """What makes a batch (images, labels) to one of inputs with latents, and of the shares of a gradient penalty."""

    def target(batch: Any, key: tf.Tensor) -> tuple[dict[str, tf.Tensor], tf.Tensor]:
        image, labels = batch[:2]
        count = image.shape[0] or tf.shape(image)[0]
        first, second = tf.unstack(tf.random.split(key, 2))
        inputs = {"image": image, "latent": tf.random.stateless_normal((count, config.latent), first)}
        if config.labels:
            inputs["labels"] = tf.cast(labels, tf.int32)
        return inputs, tf.random.stateless_uniform((count,), second)

    return target
