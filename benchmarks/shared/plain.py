"""Families in plain Keras: a train_step of a few lines over a network of the zoo, as examples of keras.io have it."""

from __future__ import annotations

import math
from typing import Any

import keras
import tensorflow as tf
from keras import ops

from pipelines.codebook import open_codebook
from pipelines.creation import configuration
from pipelines.drawer import WholeSequence
from zoo.core import registry
from zoo.dalle import layout_of

HALF = 127.5


def learner(run: Any, data: Any, model: keras.Model) -> keras.Model:
    """The model of a run, to be trained by its train_function on the batches of our objective."""
    family = run.model.partition("_")[0]
    if family == "gan":
        found, config = configuration(run, data)
        judge = registry.build(found, config, name=model.name, task="discriminate", classes=None)
        made: keras.Model = Gan(model, judge, config.latent, wasserstein=run.model == "gan_wgan_gp")
        made.compile()
        return made
    if run.task == "text_to_image":
        made = Drawing(model.input, model.output)
        made.encoder = open_codebook(run.drawing.codes_from).encoder
        made.encoder.trainable = False
        made.sequence = WholeSequence(layout_of(model), dropout=0.0)
    else:
        kinds = {"vae": Variational, "dalle": Discrete, "clip": Contrastive, "blip": Captioner}
        made = (VectorQuantized if run.model == "vae_vq" else kinds[family])(model.input, model.output)
    made.compile(keras.optimizers.Adam(2e-4))
    return made


class Gan(keras.Model):
    """A generator and a discriminator that take turns."""

    def __init__(self, generator: keras.Model, discriminator: keras.Model, latent: int, *, wasserstein: bool):
        super().__init__()
        self.generator, self.discriminator, self.latent = generator, discriminator, latent
        self.wasserstein, self.turns = wasserstein, 0
        self.makes, self.judges = (keras.optimizers.Adam(2e-4, beta_1=0.5) for _ in range(2))
        self.losses_seen = [keras.metrics.Mean(name) for name in ("discriminator", "generator")]
        self.steps = tf.Variable(0, dtype=tf.int64, trainable=False)

    def train_step(self, data):
        real = tf.cast(data[0]["image"], tf.float32)
        count = tf.shape(real)[0]
        made = self.generator(tf.random.normal((count, self.latent)), training=True)
        with tf.GradientTape() as tape:
            seen, faked = self.discriminator(real, training=True), self.discriminator(made, training=True)
            if self.wasserstein:
                loss = tf.reduce_mean(faked) - tf.reduce_mean(seen) + 10.0 * self._penalty(real, made)
            else:
                loss = tf.reduce_mean(tf.nn.softplus(-seen)) + tf.reduce_mean(tf.nn.softplus(faked))
        variables = self.discriminator.trainable_variables
        self.judges.apply_gradients(zip(tape.gradient(loss, variables), variables, strict=True))
        self.losses_seen[0].update_state(loss)
        self.steps.assign_add(1)
        if not self.wasserstein:
            self._make(count)
        else:
            tf.cond(self.steps % 5 == 0, lambda: self._make(count), lambda: 0.0)
        return {metric.name: metric.result() for metric in self.losses_seen}

    def _make(self, count):
        with tf.GradientTape() as tape:
            faked = self.discriminator(
                self.generator(tf.random.normal((count, self.latent)), training=True), training=True
            )
            loss = -tf.reduce_mean(faked) if self.wasserstein else tf.reduce_mean(tf.nn.softplus(-faked))
        variables = self.generator.trainable_variables
        self.makes.apply_gradients(zip(tape.gradient(loss, variables), variables, strict=True))
        self.losses_seen[1].update_state(loss)
        return loss

    def _penalty(self, real, made):
        share = tf.random.uniform((tf.shape(real)[0], 1, 1, 1))
        between = share * real + (1 - share) * made
        with tf.GradientTape() as tape:
            tape.watch(between)
            logits = self.discriminator(between, training=True)
        slopes = tape.gradient(logits, between) * HALF
        return tf.reduce_mean((tf.sqrt(tf.reduce_sum(slopes**2, axis=(1, 2, 3)) + 1e-12) - 1) ** 2)


class _Plain(keras.Model):
    """Keras' own step for what the loss_of(inputs, targets, weights) of a subclass gives."""

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.seen = keras.metrics.Mean("loss")

    def train_step(self, data):
        inputs, targets, weights = keras.utils.unpack_x_y_sample_weight(data)
        with tf.GradientTape() as tape:
            loss = self.loss_of(inputs, targets, weights)
        variables = self.trainable_variables
        self.optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables, strict=True))
        self.seen.update_state(loss)
        return {"loss": self.seen.result()}


class Variational(_Plain):
    """A negative ELBO with Bernoulli pixels."""

    def loss_of(self, inputs, targets, weights):
        found = self(inputs["image"], training=True)
        pixels = tf.cast(inputs["image"], tf.float32) / 255
        errors = tf.nn.sigmoid_cross_entropy_with_logits(labels=pixels, logits=found["logits"])
        mean, logs = found["mean"], found["log_variance"]
        divergence = 0.5 * tf.reduce_sum(mean**2 + tf.exp(logs) - 1 - logs, axis=-1)
        return tf.reduce_mean(tf.reduce_sum(errors, axis=(1, 2, 3)) + divergence)


class VectorQuantized(_Plain):
    """Squared errors and the commitment; the codebook follows its averages in the layer itself."""

    def loss_of(self, inputs, targets, weights):
        found = self(inputs["image"], training=True)
        pixels = tf.cast(inputs["image"], tf.float32) / 255
        errors = tf.reduce_mean((tf.sigmoid(found["logits"]) - pixels) ** 2)
        return errors + 0.25 * tf.reduce_mean((found["encoded"] - tf.stop_gradient(found["quantized"])) ** 2)


class Discrete(_Plain):
    """A negative ELBO with DALL-E's logit-Laplace pixels; the layer itself draws the codes."""

    def loss_of(self, inputs, targets, weights):
        found = self(inputs["image"], training=True)
        shares = 0.1 + 0.8 * tf.cast(inputs["image"], tf.float32) / 255
        mean, log_spread = tf.split(found["statistics"], 2, axis=-1)
        odds = tf.math.log(shares / (1 - shares))
        errors = tf.abs(odds - mean) * tf.exp(-log_spread) + log_spread + tf.math.log(2 * shares * (1 - shares))
        logs = tf.nn.log_softmax(found["logits"])
        divergence = tf.reduce_sum(tf.exp(logs) * (logs + math.log(logs.shape[-1])), axis=(1, 2, 3))
        return tf.reduce_mean(tf.reduce_sum(errors, axis=(1, 2, 3)) + divergence)


class Drawing(_Plain):
    """Cross-entropies of captions and of the codes of their images."""

    encoder: keras.Model
    sequence: WholeSequence

    def loss_of(self, inputs, targets, weights):
        codes = self.encoder(inputs["image"], training=False)
        tokens = self.sequence(inputs["token_ids"], inputs["padding_mask"], codes, inputs["chance"])
        before = tokens[:, :-1]
        logits = self({"token_ids": before, "padding_mask": tf.ones_like(before)}, training=True)
        losses = ops.sparse_categorical_crossentropy(tokens[:, 1:], logits, from_logits=True)
        count = codes.shape[1] * codes.shape[2]
        return tf.reduce_mean(losses[:, :-count]) / 8 + tf.reduce_mean(losses[:, -count:]) * 7 / 8


class Contrastive(_Plain):
    """The mean of two cross-entropies, of images over texts and of texts over images."""

    def loss_of(self, inputs, targets, weights):
        logits = self(inputs, training=True)["logits"]
        own = tf.range(tf.shape(logits)[0])
        both = [
            tf.reduce_mean(ops.sparse_categorical_crossentropy(own, each, from_logits=True))
            for each in (logits, tf.transpose(logits))
        ]
        return (both[0] + both[1]) / 2


class Captioner(_Plain):
    """Cross-entropy of the next token, padding left out."""

    def loss_of(self, inputs, targets, weights):
        logits = self(inputs, training=True)
        losses = ops.sparse_categorical_crossentropy(targets, logits, from_logits=True)
        return tf.reduce_sum(losses * weights) / tf.reduce_sum(weights)
