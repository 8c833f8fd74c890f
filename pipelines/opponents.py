"""A generator with its discriminator: one graph to train, of which the generator is kept; and the steps of both."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import tensorflow as tf

from pipelines import replicas
from pipelines.adversary import Adversary
from pipelines.clipping import Clip
from pipelines.ema import MovingAverage
from pipelines.engine import SUM, Batch, Engine
from pipelines.iterated import Iterated
from pipelines.objectives.adversarial import adversarial, gradient_penalty
from pipelines.optimizer import GroupOptimizer
from pipelines.parts import dense, with_one
from pipelines.slopes import for_slopes
from zoo.layers.spectral import SpectralConv2D

HALF = 127.5  # of 0..255: what makes -1..1 of it, on which slopes are measured

Inputs = Mapping[str, tf.Tensor]


@dataclass(frozen=True, eq=False)
class Match:
    """Who plays against whom, and how. It is no layer, so that Keras takes neither for a part of another model.

    Inputs are "image", "latent" and, of classes, "labels", the same for real and made images. `for_slopes` is the
    discriminator again, for the gradient penalty.
    """

    generator: keras.Model
    discriminator: keras.Model
    adversary: Adversary
    for_slopes: keras.Model

    def make(self, inputs: Inputs) -> tf.Tensor:
        """Images (B, H, W, C) in 0..255 of the latents (B, Z) and labels among the inputs; in training."""
        wanted = self.generator.input
        given = {name: inputs[name] for name in wanted} if isinstance(wanted, Mapping) else inputs["latent"]
        return self.generator(given, training=True)

    def judge(self, image: tf.Tensor, inputs: Inputs, *, of_slopes: bool = False) -> tf.Tensor:
        """Logits (B, 1) of images, real where over 0; in training."""
        labels = {"labels": inputs["labels"]} if "labels" in inputs else {}
        given = {"image": image, **labels} if isinstance(self.discriminator.input, Mapping) else image
        return (self.for_slopes if of_slopes else self.discriminator)(given, training=True)

    def discriminator_loss(self, made: tf.Tensor, inputs: Inputs, shares: tf.Tensor) -> tf.Tensor:
        """What the discriminator is to make small on real and made images; `shares` (B,) in 0..1 are the penalty's."""
        real, made = tf.cast(inputs["image"], tf.float32), tf.stop_gradient(made)
        loss = adversarial(self.adversary.game).discriminator(*self._judge_both(real, made, inputs))
        weight = self.adversary.gradient_penalty
        if not weight:
            return loss
        return loss + gradient_penalty(
            lambda unit: self.judge((unit + 1) * HALF, inputs, of_slopes=True),
            real / HALF - 1, made / HALF - 1, shares, weight=weight,
        )  # fmt: skip

    def _judge_both(self, real: tf.Tensor, made: tf.Tensor, inputs: Inputs) -> Sequence[tf.Tensor]:
        """Logits of both, at once where that is faster and the same: where no statistics or draws hang on a batch."""
        if self.discriminator.non_trainable_variables:
            return self.judge(real, inputs), self.judge(made, inputs)
        twice = {"labels": tf.tile(inputs["labels"], [2])} if "labels" in inputs else {}
        return tf.split(self.judge(tf.concat([real, made], axis=0), twice), 2)

    def generator_loss(self, made: tf.Tensor, inputs: Inputs) -> tf.Tensor:
        """What the generator is to make small."""
        return adversarial(self.adversary.game).generator(self.judge(made, inputs))


@keras.saving.register_keras_serializable("zoo")
class Opponents(keras.Model):
    """A functional model that gives {"image": made of "latent", "real": logits of "image", "made": logits of those}.

    Its loss is that of both. An AdversarialEngine trains it; "loss" is then the discriminator's.
    """

    match: Match

    @property
    def averaged(self) -> keras.Model:
        """What a MovingAverage is of: the generator, which alone is kept."""
        return self.match.generator

    def play(self, match: Match) -> None:
        """Take a match, from the next step on; in the scope of the model's strategy."""
        self.match = match
        self.of_generator = keras.metrics.Mean("generator_loss")

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        """The loss of the discriminator and that of the generator together, without a penalty."""
        losses = adversarial(self.match.adversary.game)
        return losses.discriminator(y_pred["real"], y_pred["made"]) + losses.generator(y_pred["made"])

    def compute_metrics(self, x, y, y_pred, sample_weight=None):
        """None besides the two losses."""
        return super().compute_metrics(x, y_pred, y_pred, sample_weight)  # targets have another form

    def save_weights(self, filepath, overwrite=True, **options):
        """Write the generator's weights."""
        self.match.generator.save_weights(filepath, overwrite=overwrite, **options)


def opponents(generator: keras.Model, discriminator: keras.Model, adversary: Adversary) -> Opponents:
    """A model to give to `pipelines.train.fit`, with `AdversarialEngine`; the layers that learn are those of the two.

    Make it in the scope of the generator's strategy.

    Raises:
        ValueError: the two are not for one another, or not for such a game.
    """
    _check(generator, discriminator, adversary)
    named = [model.input if isinstance(model.input, Mapping) else None for model in (generator, discriminator)]
    inputs = dict(named[0]) if named[0] else {"latent": generator.input}
    inputs["image"] = named[1]["image"] if named[1] else discriminator.input

    def judged(image: Any) -> Any:
        if named[1] is None:
            return _again(discriminator, image)
        return _again(discriminator, {**named[1], "image": image, "labels": inputs["labels"]})

    outputs = {"image": generator.output, "real": judged(inputs["image"]), "made": judged(generator.output)}
    model = Opponents(inputs, outputs, name=generator.name)
    again = for_slopes(discriminator) if adversary.gradient_penalty else discriminator
    model.play(Match(generator, discriminator, adversary, again))
    return model


def _again(model: keras.Model, inputs: Any) -> Any:
    """What a model's own layers give of other inputs, in the graph of those: not as a layer around them."""
    return model.call(inputs)  # __call__ would make a layer of the model


def _check(generator: keras.Model, discriminator: keras.Model, adversary: Adversary) -> None:
    seen = discriminator.input["image"] if isinstance(discriminator.input, Mapping) else discriminator.input
    if generator.output.shape[1:] != seen.shape[1:]:
        raise ValueError(
            f"{generator.name!r} makes images {tuple(generator.output.shape[1:])}, its discriminator takes "
            f"{tuple(seen.shape[1:])}."
        )
    layers = list(discriminator._flatten_layers())
    normed = [each.name for each in layers if isinstance(each, keras.layers.BatchNormalization)]
    if adversary.gradient_penalty and normed:
        raise ValueError(
            f"Adversary(gradient_penalty={adversary.gradient_penalty:g}) is of each image by itself, and batch norm in "
            f"the discriminator ({normed[0]} and others) mixes those of a batch. Train gan_wgan_gp, or norm='layer'."
        )
    bounded = adversary.gradient_penalty or any(isinstance(each, SpectralConv2D) for each in layers)
    if adversary.game == "wasserstein" and not bounded:
        raise ValueError(
            "Adversary(game='wasserstein') needs a discriminator without steep slopes: gradient_penalty=10, or "
            "spectral normalization as in gan_projection."
        )


class AdversarialEngine(Engine):
    """The steps of Opponents: the discriminator learns from each batch, the generator after so many of its steps.

    The generator learns from the images that the discriminator has just learned from, as in the code of DCGAN's
    authors: making others would take a seventh of a step.

    On several devices all losses are means over all examples. In half precision a step of the one may be skipped and
    that of the other not.

    Raises:
        ValueError: batches are to be divided, which a game of two does not do.
    """

    loss_falls = False

    def __init__(
        self,
        model: Opponents,
        groups: Mapping[str, Sequence[keras.Variable]],
        *,
        accumulate: int = 1,
        clip: Clip | None = None,
        average: MovingAverage | None = None,
        penalty: Callable[[], tf.Tensor] | None = None,
    ):
        _refuse_parts(accumulate)
        super().__init__(model, groups, clip=clip, average=average, penalty=penalty)
        self._match, self._of_generator = model.match, model.of_generator
        own = {id(variable) for variable in model.match.generator.variables}
        places = range(len(self._variables))
        self._makers = [place for place in places if id(self._variables[place]) in own]
        self._judges = [place for place in places if id(self._variables[place]) not in own]
        self._turns = {True: self._train, False: Iterated(self._train_whole)}
        self._both = True  # while a graph is traced: whether the generator has its turn

    def divide(self, accumulate: int) -> None:
        _refuse_parts(accumulate)

    def train(self, iterator: Any, *wishes: bool) -> Any:
        """A step of the discriminator on the next batch and, if it is its turn, of the generator."""
        self._both = self._is_turn()
        self._train = self._turns[self._both]
        return super().train(iterator, *wishes)

    def _is_turn(self) -> bool:
        """Whether the discriminator has made all but the last of its steps since the generator's last one."""
        every = self._match.adversary.critic_steps
        if every == 1:
            return True
        optimizer = self._model.optimizer
        grouped = getattr(optimizer, "inner_optimizer", optimizer)
        assert isinstance(grouped, GroupOptimizer)
        done = int(keras.ops.convert_to_numpy(grouped.of(self._variables[self._judges[0]]).iterations))
        return done % every == every - 1

    def _follow(self) -> None:
        if self._both:  # else the generator is what it was
            super()._follow()

    def _train_replica(self, batch: Batch, wishes: tf.Tensor) -> tuple[tf.Tensor, ...]:
        count = tf.shape(batch[0]["image"])[0]
        if self._replicas == 1:
            return self._play(batch, wishes, count)
        return with_one(lambda some: self._play(some, wishes, count), batch)

    def _play(self, batch: Batch, wishes: tf.Tensor, count: tf.Tensor) -> tuple[tf.Tensor, ...]:
        """Both turns on a replica's part of a batch, of which `count` examples count."""
        inputs, shares, _ = keras.utils.unpack_x_y_sample_weight(batch)
        kept, match = self._values_to_keep(), self._match
        examples = tf.cast(count, tf.float32)
        with replicas.own_random_numbers(self._generators), tf.GradientTape() as making:
            made = match.make(inputs)
        loss, found, norms, skipped = self._move(
            lambda: match.discriminator_loss(made, inputs, shares), tf.GradientTape(), self._judges, examples, wishes
        )
        self._model._loss_tracker.update_state(loss, sample_weight=examples)
        if self._both:
            loss, more, others, also = self._move(
                lambda: match.generator_loss(made, inputs), making, self._makers, examples, wishes[:0]
            )
            self._of_generator.update_state(loss, sample_weight=examples)
            found, norms, skipped = tf.concat([found[:1] + more, found[1:]], axis=0), norms + others, skipped | also
        for variable, value in kept:
            variable.assign(tf.where(skipped, value, tf.convert_to_tensor(variable.value)))
        return found[0], norms, skipped, found[1:]

    def _move(
        self,
        loss: Callable[[], tf.Tensor],
        tape: tf.GradientTape,
        places: Sequence[int],
        examples: tf.Tensor,
        wishes: tf.Tensor,
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
        """A step of one of the two: its own loss, that of all replicas before their wishes, the norms, if skipped.

        The tape may know already how the images were made.
        """
        optimizer, chosen = self._model.optimizer, [self._variables[place] for place in places]
        context = tf.distribute.get_replica_context()
        with replicas.own_random_numbers(self._generators), tape:
            own = loss()
            together = context.all_reduce(SUM, examples) if self._replicas > 1 else examples
            share = own * examples / together
            if self._penalty is not None:
                share += self._penalty() / self._replicas
            scaled = optimizer.scale_loss(share)
        gradients = dense(tape.gradient(scaled, chosen), chosen)
        sums = context.all_reduce(SUM, [tf.concat([[share], wishes], axis=0), *gradients])
        return own, sums[0], *self._apply(sums[1:], places)


def _refuse_parts(accumulate: int) -> None:
    if accumulate > 1:
        raise ValueError("The batches of a GAN are not divided into micro-batches; take smaller ones.")
