"""The Frechet distance against closed forms, and scores of images that are made."""

import numpy as np
import pytest
import tensorflow as tf

import zoo
from pipelines import frechet
from pipelines.frechet import Moments
from pipelines.objectives import read_scores
from pipelines.objectives.generation_scores import GenerationScores, score


def moments(mean, covariance) -> Moments:
    """Those that are given."""
    return Moments(2, np.asarray(mean, float), np.asarray(covariance, float))


def test_of_independent_numbers_it_is_that_of_means_and_deviations():
    first, second = moments([1.0, 2.0, 0.0], np.diag([4.0, 1.0, 9.0])), moments([0.0, 2.0, 3.0], np.diag([1.0, 1, 16]))
    # (1 - 0)**2 + (0 - 3)**2, and (2 - 1)**2 + (1 - 1)**2 + (3 - 4)**2 of the standard deviations
    assert frechet.distance(first, second) == pytest.approx(10 + 2)
    assert frechet.distance(second, first) == pytest.approx(12)


def test_of_covariances_that_do_not_commute():
    """Of 2 x 2 matrices the root of a product P has the trace (tr P + 2 det(P)**0.5)**0.5."""
    first, second = np.array([[2.0, 0.9], [0.9, 1.0]]), np.array([[1.0, -0.4], [-0.4, 3.0]])
    product = first @ second
    root = np.sqrt(np.trace(product) + 2 * np.sqrt(np.linalg.det(product)))
    expected = np.trace(first) + np.trace(second) - 2 * root
    assert frechet.distance(moments([0, 0], first), moments([0, 0], second)) == pytest.approx(expected)


def test_of_the_same_it_is_nothing_even_where_a_feature_never_varies():
    features = np.random.default_rng(0).normal(size=(50, 4))
    features[:, 2] = 1.0
    found = Moments.of(features)
    np.testing.assert_allclose(found.covariance, np.cov(features, rowvar=False), atol=1e-12)
    assert frechet.distance(found, Moments.of(iter(np.split(features, 5)))) == pytest.approx(0, abs=1e-9)


def test_what_has_no_spread_is_refused():
    with pytest.raises(ValueError, match="at least two vectors"):
        Moments.of(np.zeros((1, 3)))
    with pytest.raises(ValueError, match="no number"):
        Moments.of(np.array([[1.0, np.nan], [0, 1]]))
    with pytest.raises(ValueError, match="3 and 2 numbers"):
        frechet.distance(Moments.of(np.eye(3)), Moments.of(np.eye(2)))


def test_what_a_generator_makes_is_nearest_to_itself():
    generator = zoo.create("gan_dcgan", size=8, depth=2, width=4, latent=6, channels=1)
    from pipelines.latents import drawn, made

    own = made(generator, drawn(64, 6, seed=5)) / 2 + 60
    labels = np.zeros(64, np.int32)

    def scored(images: np.ndarray) -> GenerationScores:
        return score(generator, tf.data.Dataset.from_tensor_slices((images, labels)).batch(20))

    near, far = scored(made(generator, drawn(64, 6, seed=5))), scored(own)
    assert near.examples == 64 and near.frechet_distance < far.frechet_distance / 3
    assert read_scores(near.to_json()) == near
    assert "64 test images" in near.summary("images")
