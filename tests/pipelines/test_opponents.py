"""A step of a GAN is that of a plain loop, on one device and on two; what cannot be played is refused."""

import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

import zoo
from pipelines.adversary import Adversary
from pipelines.hardware import choose_strategy
from pipelines.opponents import AdversarialEngine, opponents
from pipelines.run import Hardware
from tests.pipelines import games
from tests.pipelines.games import BATCH, CASES, DECAY, RATE, SIZES, STEPS

ROOT = Path(__file__).parents[2]


def cross_entropy(target: float, logits: tf.Tensor) -> tf.Tensor:
    """The mean over a batch, of logits (B, 1) that are all to mean the same."""
    wanted = tf.fill(tf.shape(logits), target)
    return tf.reduce_mean(tf.nn.sigmoid_cross_entropy_with_logits(wanted, logits))


def plain_losses(adversary: Adversary, judge, real: tf.Tensor, made: tf.Tensor, shares: tf.Tensor) -> tf.Tensor:
    """The discriminator's loss as its paper has it."""
    told, untold = judge(real), judge(made)
    if adversary.game == "non_saturating":
        return cross_entropy(1.0, told) + cross_entropy(0.0, untold)
    if adversary.game == "hinge":
        return tf.reduce_mean(tf.maximum(0.0, 1 - told)) + tf.reduce_mean(tf.maximum(0.0, 1 + untold))
    share = tf.reshape(shares, (-1, 1, 1, 1))
    between = share * real + (1 - share) * made
    with tf.GradientTape() as tape:
        tape.watch(between)
        logits = judge(between)
    slopes = tape.gradient(logits, between) * 127.5  # per unit of -1..1
    lengths = tf.sqrt(tf.reduce_sum(tf.square(slopes), axis=(1, 2, 3)))
    penalty = adversary.gradient_penalty * tf.reduce_mean(tf.square(lengths - 1))
    return tf.reduce_mean(untold) - tf.reduce_mean(told) + penalty


class PlainLoop:
    """The same training without anything of pipelines: two optimizers, turn by turn."""

    def __init__(self, name: str):
        self.adversary = CASES[name][2]
        self.match = games.pair(name).match
        generator, discriminator = self.match.generator, self.match.discriminator
        self.generator, self.discriminator = generator, discriminator
        faster = RATE * self.adversary.discriminator_rate
        self.optimizers = [keras.optimizers.SGD(rate, momentum=0.9) for rate in (faster, RATE)]
        self.averages = [np.array(weight) for weight in generator.trainable_variables]
        self.done = 0

    def step(self, inputs: dict, shares: tf.Tensor) -> tuple[float, ...]:
        """The losses of a batch, of one or two networks."""
        labels = {"labels": inputs["labels"]} if "labels" in inputs else None

        def make(latent: tf.Tensor) -> tf.Tensor:
            return self.generator({"latent": latent, **labels} if labels else latent, training=True)

        def judge(image: tf.Tensor) -> tf.Tensor:
            return self.discriminator({"image": image, **labels} if labels else image, training=True)

        with tf.GradientTape() as making:
            made = make(inputs["latent"])
        with tf.GradientTape() as tape:
            loss = plain_losses(self.adversary, judge, inputs["image"], tf.identity(made), shares)
        self.move(0, self.discriminator, tape, loss)
        self.done += 1
        if self.done % self.adversary.critic_steps:
            return (float(loss),)
        with making:
            told = judge(made)
            own = cross_entropy(1.0, told) if self.adversary.game == "non_saturating" else -tf.reduce_mean(told)
        self.move(1, self.generator, making, own)
        self.follow(self.done // self.adversary.critic_steps)
        return float(loss), float(own)

    def follow(self, turns: int) -> None:
        """Average the generator, which has had so many turns."""
        decay = min(DECAY, (1 + turns) / (10 + turns))
        now = [np.array(weight) for weight in self.generator.trainable_variables]
        self.averages = [decay * old + (1 - decay) * new for old, new in zip(self.averages, now, strict=True)]

    def move(self, which: int, network: keras.Model, tape: tf.GradientTape, loss: tf.Tensor) -> None:
        gradients = [tf.convert_to_tensor(each) for each in tape.gradient(loss, network.trainable_variables)]
        length = tf.linalg.global_norm(gradients)
        limited = [each * tf.minimum(1.0, 5.0 / length) for each in gradients]
        self.optimizers[which].apply(limited, network.trainable_variables)


@pytest.mark.parametrize(
    "name", [name if name == "wgan_gp" else pytest.param(name, marks=pytest.mark.slow) for name in CASES]
)
def test_steps_are_those_of_a_plain_loop(name):
    found = games.played(name, choose_strategy(Hardware("one")))
    loop = PlainLoop(name)
    losses = [loop.step(inputs, shares) for inputs, shares in games.batches(games.pair(name))]
    np.testing.assert_allclose(found["losses"], [sum(each) for each in losses], rtol=2e-4, atol=2e-5)
    own = [each[1] for each in losses if len(each) == 2]
    assert len(own) == STEPS // CASES[name][2].critic_steps
    expected = [np.mean([each[0] for each in losses]), np.mean(own)]
    np.testing.assert_allclose(found["results"], expected, rtol=2e-4, atol=2e-5)
    for network in (loop.generator, loop.discriminator):
        for variable in network.variables:
            np.testing.assert_allclose(
                found[variable.path.replace("/", "|")], variable, atol=2e-4, err_msg=variable.path
            )
    for variable, average in zip(loop.generator.trainable_variables, loop.averages, strict=True):
        np.testing.assert_allclose(
            found[f"average|{variable.path}".replace("/", "|")], average, atol=2e-4, err_msg=variable.path
        )


@pytest.mark.slow
@pytest.mark.parametrize(("devices", "batch"), [(2, BATCH), (4, 6)], ids=["two", "four, of which one has no examples"])
def test_any_devices_do_what_one_does(tmp_path, devices, batch):
    cases = ["dcgan/float32", "wgan_gp/float32", "projection/float32", "dcgan/float16"]
    command = [sys.executable, "-m", "tests.pipelines.games", str(tmp_path), str(devices), str(batch), *cases]
    subprocess.run(command, check=True, cwd=ROOT, timeout=900)
    for case in cases:
        name = case.replace("/", "-")
        one, many = (dict(np.load(tmp_path / f"{name}-{kind}.npz")) for kind in ("one", "mirrored"))
        assert (one.pop("replicas"), many.pop("replicas")) == (1, devices)
        assert not one["skipped"].any() or case.endswith("float16")
        atol = 2e-4 if case.endswith("float32") else 0.05
        for key, value in one.items():
            np.testing.assert_allclose(many[key], value, rtol=atol, atol=atol, err_msg=f"{case} {key}")


def both(variant: str, **options) -> list[keras.Model]:
    """A generator and a discriminator."""
    return [zoo.create(variant, task=task, **{**SIZES, **options}) for task in ("generate", "discriminate")]


def test_what_is_trained_is_the_generators_own_layers():
    generator, discriminator = both("gan_conditional", labels=3)
    model = opponents(generator, discriminator, Adversary())
    own = {id(weight) for network in (generator, discriminator) for weight in network.weights}
    assert {id(weight) for weight in model.weights} == own
    assert set(zoo.layer_groups(model)) >= {"generator.stem", "generator.stage2", "discriminator.stage1"}


def test_what_cannot_be_played_is_refused():
    generator, normed = both("gan_dcgan")
    with pytest.raises(ValueError, match="batch norm in the discriminator"):
        opponents(generator, normed, Adversary(gradient_penalty=10.0))
    with pytest.raises(ValueError, match="without steep slopes"):
        opponents(generator, normed, Adversary("wasserstein"))
    with pytest.raises(ValueError, match=r"makes images \(8, 8, 1\), its discriminator takes \(16, 16, 1\)"):
        opponents(generator, both("gan_dcgan", size=16)[1], Adversary())
    with pytest.raises(ValueError, match="not divided into micro-batches"):
        AdversarialEngine(opponents(generator, normed, Adversary()), {}, accumulate=2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"game": "chess"}, "is not one of 'non_saturating', 'wasserstein', 'hinge'"),
        ({"gradient_penalty": -1.0}, "must be 0 or more"),
        ({"critic_steps": 0}, "whole number of at least 1"),
        ({"discriminator_rate": 0.0}, "must be over 0"),
    ],
)
def test_wrong_adversaries_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Adversary(**options)


assert BATCH % 2 == 0, "two devices share a batch"
