"""The losses of generative models against their formulas, sums by hand and densities that must add to 1."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from pipelines.objectives import variational
from pipelines.objectives.adversarial import adversarial, gradient_penalty

REAL, MADE = np.array([[0.5], [-2.0]], "float32"), np.array([[3.0], [0.0]], "float32")


def log_sigmoid(x):
    return -np.log1p(np.exp(-x))


@pytest.mark.parametrize(
    ("name", "discriminator", "generator"),
    [
        (
            "non_saturating",
            -log_sigmoid(REAL).mean() - np.log(1 - 1 / (1 + np.exp(-MADE))).mean(),
            -log_sigmoid(MADE).mean(),
        ),
        ("wasserstein", 1.5 - -0.75, -1.5),
        ("hinge", (0.5 + 3.0) / 2 + (4.0 + 1.0) / 2, -1.5),
    ],
)
def test_games(name, discriminator, generator):
    game = adversarial(name)
    np.testing.assert_allclose(game.discriminator(REAL, MADE), discriminator, rtol=1e-5)
    np.testing.assert_allclose(game.generator(MADE), generator, rtol=1e-5)
    assert np.isfinite(game.discriminator(1e4 * REAL, 1e4 * MADE))
    with pytest.raises(ValueError, match="Known: non_saturating, wasserstein, hinge"):
        adversarial("minimax")


def test_the_penalty_is_of_the_slope_between_the_images():
    """Of a quadratic the slope is known: twice the place times the factor."""
    real, made = tf.ones((2, 2, 2, 1)), -tf.ones((2, 2, 2, 1))
    shares = tf.constant([1.0, 0.75])  # at 1 and at 0.5
    factor = tf.Variable(0.75)
    with tf.GradientTape() as tape:
        penalty = gradient_penalty(lambda x: factor * tf.reduce_sum(x**2, axis=(1, 2, 3))[:, None], real, made, shares)
    slopes = np.array([2 * 0.75 * 1.0, 2 * 0.75 * 0.5]) * 2  # four pixels: the root of 4
    np.testing.assert_allclose(penalty, 10 * ((slopes - 1) ** 2).mean(), rtol=1e-5)
    by_factor = 10 * (2 * (slopes - 1) * slopes / 0.75).mean()
    np.testing.assert_allclose(tape.gradient(penalty, factor), by_factor, rtol=1e-4)  # through the gradient


def test_a_flat_discriminator_is_penalized_without_nan():
    weight = tf.Variable(tf.zeros((4, 1)))
    with tf.GradientTape() as tape:
        penalty = gradient_penalty(
            lambda x: tf.reshape(x, (-1, 4)) @ weight, tf.ones((1, 2, 2, 1)), tf.zeros((1, 2, 2, 1)), tf.ones(1)
        )
    np.testing.assert_allclose(penalty, 10.0, rtol=1e-4)
    assert np.isfinite(tape.gradient(penalty, weight)).all()
    with pytest.raises(ValueError, match="must be of the same shape"):
        gradient_penalty(lambda x: x, tf.ones((1, 2, 2, 1)), tf.ones((1, 4, 2, 1)), tf.ones(1))
    with pytest.raises(ValueError, match="weight=-1"):
        gradient_penalty(lambda x: x, tf.ones((1, 2)), tf.ones((1, 2)), tf.ones(1), weight=-1)


def test_likelihoods_are_those_of_the_distributions():
    pixels, logits = np.array([0.0, 1.0, 0.25]).reshape(1, 1, 3, 1), np.array([-1.0, 2.0, 0.5]).reshape(1, 1, 3, 1)
    chance = 1 / (1 + np.exp(-logits))
    wanted = -(pixels * np.log(chance) + (1 - pixels) * np.log(1 - chance)).sum()
    np.testing.assert_allclose(variational.bernoulli(pixels, logits), [wanted], rtol=1e-5)
    wanted = (((pixels - logits) / 0.5) ** 2 / 2 + np.log(0.5 * np.sqrt(2 * np.pi))).sum()
    np.testing.assert_allclose(variational.gaussian(pixels, logits, deviation=0.5), [wanted], rtol=1e-5)
    with pytest.raises(ValueError, match="deviation=0 must be over 0"):
        variational.gaussian(pixels, logits, deviation=0)


def test_the_density_of_a_pixel_adds_to_one():
    shares = ((np.arange(20_000) + 0.5) / 20_000).reshape(-1, 1, 1, 1)
    statistics = np.broadcast_to(np.array([0.4, -0.3]), (20_000, 1, 1, 2))  # mean and logarithm of the spread
    density = np.exp(-np.asarray(variational.logit_laplace(shares, statistics), "float64"))
    np.testing.assert_allclose(density.mean(), 1.0, rtol=2e-3)


def test_divergences():
    mean, log_variance = np.array([[0.5, -1.0]]), np.array([[0.3, -0.7]])
    draw = mean + np.exp(0.5 * log_variance) * np.random.default_rng(0).standard_normal((400_000, 2))
    log_own = -0.5 * ((draw - mean) ** 2 / np.exp(log_variance) + log_variance)
    by_sampling = (log_own + 0.5 * draw**2).sum(axis=1).mean()
    np.testing.assert_allclose(variational.normal_divergence(mean, log_variance), [by_sampling], rtol=0.01)
    np.testing.assert_allclose(variational.codes_divergence(tf.zeros((1, 2, 2, 8))), [0.0], atol=1e-6)
    certain = 100.0 * np.eye(8)[[[[3, 5]]]]
    np.testing.assert_allclose(variational.codes_divergence(tf.constant(certain)), [2 * np.log(8)], rtol=1e-5)


def test_the_bound_weighs_the_divergence_and_warms_up():
    likelihood, divergence = tf.constant([3.0, 5.0]), tf.constant([1.0, 2.0])
    np.testing.assert_allclose(variational.negative_elbo(likelihood, divergence, weight=4.0), 4 + 4 * 1.5)
    weights = [float(variational.warm_up(tf.constant(step), steps=4, weight=2.0)) for step in (0, 1, 4, 9)]
    assert weights == [0.0, 0.5, 2.0, 2.0]
    assert float(variational.warm_up(tf.constant(0), steps=0)) == 1.0
    with pytest.raises(ValueError, match="steps=-1"):
        variational.warm_up(tf.constant(0), steps=-1)


@pytest.mark.parametrize("learned", [True, False])
def test_each_part_of_the_quantization_moves_its_own_side(learned):
    encoded, quantized = tf.Variable([[1.0, 2.0]]), tf.Variable([[0.0, 4.0]])
    with tf.GradientTape(persistent=True) as tape:
        loss = variational.quantization(encoded, quantized, commitment=0.5, learned=learned)
    np.testing.assert_allclose(loss, (0.5 + learned) * 2.5)
    np.testing.assert_allclose(tape.gradient(loss, encoded), 0.5 * np.array([[1.0, -2.0]]))
    to_codebook = tape.gradient(loss, quantized)
    np.testing.assert_allclose(0.0 if to_codebook is None else to_codebook, learned * np.array([[-1.0, 2.0]]))


def test_perplexity_counts_the_codes_in_use():
    np.testing.assert_allclose(variational.perplexity(tf.constant([[0, 1], [2, 3]]), 16), 4.0, rtol=1e-5)
    np.testing.assert_allclose(variational.perplexity(tf.constant([5, 5, 5]), 16), 1.0, rtol=1e-5)
