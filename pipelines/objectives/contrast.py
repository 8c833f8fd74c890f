"""Images and their captions brought together: each is to be told from all others of the batch by its counterpart."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
import tensorflow as tf
from keras import ops

from pipelines.datasets import Part
from pipelines.objectives.objective import Objective, WeightedMetric
from pipelines.objectives.retrieval import RetrievalScores, score
from pipelines.replicas import SUM
from zoo.layers.contrast import Similarity

NUMBERS = ("image_number", "caption_number")  # what tells which images and which captions are the same


def contrast() -> Objective:
    """Batches of pipelines.pairs -> (inputs, (B, 2) numbers of the image and of the caption)."""
    from pipelines.cached_engine import CachedEngine  # which has losses of this package

    def evaluate(model: keras.Model, batches: tf.data.Dataset, part: Part) -> RetrievalScores:
        return score(model, batches)

    return Objective(
        loss=SymmetricCrossEntropy,
        metrics=list,
        score=evaluate,
        target=_divided,
        learner=contrastive,
        engine=CachedEngine,
    )


def _divided(batch: Mapping[str, tf.Tensor], key: tf.Tensor) -> tuple[dict[str, tf.Tensor], tf.Tensor]:
    inputs = {name: values for name, values in batch.items() if name not in NUMBERS}
    return inputs, tf.stack([batch[name] for name in NUMBERS], axis=1)


@keras.saving.register_keras_serializable("zoo")
class SymmetricCrossEntropy(keras.losses.Loss):
    """Of shares (N, M) that add up to 1 a row, and logits of the same shape: -sum(shares * log softmax), (N,)."""

    def __init__(self, name: str = "symmetric_cross_entropy"):
        super().__init__(name)

    def call(self, y_true, y_pred):
        return -ops.sum(y_true * ops.log_softmax(y_pred, axis=-1), axis=-1)


@keras.saving.register_keras_serializable("zoo")
class Contrastive(keras.Model):
    """A functional model of task="contrast" that learns from the whole batch of all devices.

    Its loss is the mean of two cross-entropies, of each image over all captions and of each caption over all images:
    https://arxiv.org/abs/2103.00020. Where an image or a caption is there more than once, all of its counterparts are
    right, in equal shares (https://arxiv.org/abs/2204.03610): captions of one image are never told from each other.
    The metric "accuracy" is the share whose likeliest counterpart in the batch is right, the mean of both ways.
    """

    compares = True  # all examples of a batch with one another

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self._right = WeightedMetric(_given, "accuracy")

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        """The part of a replica's images and captions in the loss of all of them."""
        compare = similarity_of(self)
        images, texts = y_pred["image_embedding"], y_pred["text_embedding"]
        all_images, all_texts, numbers = gathered(images), gathered(texts), gathered(y)
        right = shares(y, numbers)
        by_image, by_text = compare(images, all_texts), tf.transpose(compare(all_images, texts))
        found = (self.loss.call(right, by_image) + self.loss.call(right, by_text)) / 2
        self._right.update_state(None, (_hits(right, by_image) + _hits(right, by_text)) / 2)
        examples = tf.cast(tf.shape(found)[0], found.dtype)
        return tf.math.divide_no_nan(tf.reduce_sum(found), examples) / _replicas()

    def compute_metrics(self, x, y, y_pred, sample_weight=None):
        """The compiled metrics of the image's embedding, which are none: the loss has seen to its own."""
        return super().compute_metrics(x, y, y_pred["image_embedding"], sample_weight)

    def save_weights(self, filepath, overwrite=True, **options):
        """Write the weights of the model that it learns for."""
        keras.Model(self.input, self.output).save_weights(filepath, overwrite=overwrite, **options)


def contrastive(model: keras.Model) -> Contrastive:
    """What is trained in the stead of a model that gives embeddings of images and texts; it shares all layers.

    Raises:
        ValueError: the model gives none.
    """
    similarity_of(model)
    return Contrastive(model.input, model.output, name=model.name)


def similarity_of(model: keras.Model) -> Similarity:
    """The layer by which a model compares images with texts.

    Raises:
        ValueError: it has none.
    """
    found = next((layer for layer in model.layers if isinstance(layer, Similarity)), None)
    given = getattr(model, "output", None)  # Keras' sequential models have none
    if found is None or not isinstance(given, Mapping) or not {"image_embedding", "text_embedding"} <= set(given):
        raise ValueError(f'{model.name!r} does not compare images with texts. Build it with task="contrast", as clip.')
    return found


def shares(numbers: tf.Tensor, others: tf.Tensor) -> tf.Tensor:
    """The share of each counterpart in what is right: (N, 2) and (M, 2) numbers -> (N, M), rows adding up to 1."""
    same = tf.reduce_any(tf.equal(numbers[:, tf.newaxis], others[tf.newaxis]), axis=-1)
    right = tf.cast(same, tf.float32)
    return right / tf.reduce_sum(right, axis=1, keepdims=True)


def gathered(local: tf.Tensor) -> tf.Tensor:
    """The rows of all replicas, in their order, with a gradient from the losses of all of them: (n, ...) -> (N, ...).

    Each puts its own in their place among zeros, and the sum is differentiated as it is. TensorFlow's all_gather takes
    for its gradient the pieces of all replicas, not their sum.
    """
    context = tf.distribute.get_replica_context()
    if context is None or context.num_replicas_in_sync == 1:
        return local
    place = context.replica_id_in_sync_group
    own = tf.one_hot(place, context.num_replicas_in_sync, dtype=tf.int32) * tf.shape(local)[0]
    counts = context.all_reduce(SUM, own)
    before, after = tf.reduce_sum(counts[:place]), tf.reduce_sum(counts[place + 1 :])
    return context.all_reduce(SUM, tf.pad(local, [[before, after], *[[0, 0]] * (len(local.shape) - 1)]))


def _replicas() -> int:
    context = tf.distribute.get_replica_context()
    return 1 if context is None else context.num_replicas_in_sync


def _hits(right: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """1 where the largest logit of a row is of a right one: (N,)."""
    best = tf.argmax(logits, axis=1, output_type=tf.int32)
    return tf.cast(tf.gather(right, best, batch_dims=1) > 0, tf.float32)


def _given(_: Any, values: tf.Tensor) -> tf.Tensor:
    return values
