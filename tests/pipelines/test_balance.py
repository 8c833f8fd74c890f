"""A discrete VAE's codes begin as vectors of the first batch and are held in balance while it trains."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

import zoo
from pipelines import sources
from pipelines.autoencoding import Autoencoding
from pipelines.codebook_engine import CodebookEngine
from pipelines.data import Images
from pipelines.images import ImageDataset
from pipelines.objectives.reconstruction import reconstruct
from pipelines.recipes import from_scratch
from pipelines.run import Run
from pipelines.train import train

CODES, BATCH = 12, 8


def data() -> ImageDataset:
    """Smooth images, in memory."""
    low = np.random.default_rng(0).integers(0, 256, (60, 4, 4, 3), dtype="uint8")
    images = low.repeat(4, axis=1).repeat(4, axis=2)
    found = sources.from_arrays(images, np.arange(60) % 2, classes=("even", "odd"), split=(0.6, 0.2, 0.2))
    return ImageDataset(found, Images("digits", augment="none"))


def model(seed: int = 0) -> keras.Model:
    keras.utils.set_random_seed(seed)
    return zoo.create("dalle_tiny", task="reconstruct", size=16, codes=CODES, code_width=8, channels_width=8)


def begun(given: Autoencoding | None = None, learned: keras.Model | None = None):
    """A learner that takes steps too small to see, its engine's step, and batches' inputs."""
    asked = reconstruct(data(), given, epochs=2)
    learner = asked.learner(model() if learned is None else learned)
    learner.compile(keras.optimizers.SGD(1e-12), loss=asked.loss(), weighted_metrics=[])
    feed = asked.complete(data().training_set(learner, batch=BATCH, seed=0), seed=0, training=True)
    engine = CodebookEngine(learner, {})
    batches = engine.batches(feed.start(0))
    return learner, lambda: engine.train(batches), iter(feed.start(0))


def codes(learner: keras.Model, inputs) -> np.ndarray:
    return np.argmax(learner(inputs)["logits"], axis=-1)


def test_the_first_step_makes_codes_of_vectors_of_its_batch():
    fresh = model()
    learner, step, batches = begun(Autoencoding(balance=1e-9), fresh)
    inputs, _ = next(batches)
    balance = learner.get_layer("neck_balance")
    features = keras.Model(fresh.input, fresh.get_layer("encoder.head_act").output)(inputs["image"])
    vectors = np.unique(np.asarray(features).reshape(-1, features.shape[-1]), axis=0)
    before = len(np.unique(codes(learner, inputs)))
    step()
    kernel, bias = (np.asarray(weight, "float64") for weight in (balance.head.kernel, balance.head.bias))
    sharpness = np.square(kernel[0, 0] / 2).sum(axis=0) / -bias  # of 2 s v and -s |v|^2
    np.testing.assert_allclose(sharpness, sharpness[0], rtol=1e-4)
    for center in (kernel[0, 0] / 2 / sharpness).T:
        assert np.abs(vectors - center).max(axis=1).min() < 1e-4
    assert before < len(np.unique(codes(learner, inputs))) == CODES


def test_a_rare_code_is_lifted_and_a_frequent_one_falls_ever_less():
    learner, step, _ = begun()
    balance = learner.get_layer("neck_balance")
    balance.begun.assign(1.0)
    moves = []
    for _ in range(2):
        before = np.array(balance.head.bias)
        step()
        moves.append(np.array(balance.head.bias) - before)
        shares = np.asarray(balance.shares)
        left = 1 - (len(moves) - 1) / (2 * 4)  # four steps an epoch
        np.testing.assert_allclose(moves[-1], -left * np.log(CODES * shares + 0.01), rtol=1e-4, atol=1e-5)
    assert ((moves[0] > 0) == (shares * CODES + 0.01 < 1)).sum() >= CODES - 2


def test_a_model_that_learned_before_keeps_its_codes():
    learned = model()
    learned.get_layer("encoder.head_logits").bias.assign(np.linspace(0, 1, CODES))
    learner, step, _ = begun(Autoencoding(balance=1e-9), learned)
    before = np.array(learner.get_layer("encoder.head_logits").kernel)
    step()
    np.testing.assert_allclose(learner.get_layer("encoder.head_logits").kernel, before, atol=1e-6)


def test_without_balance_or_training_nothing_moves_by_itself():
    learner, step, batches = begun(Autoencoding(balance=0.0))
    assert "neck_balance" not in {layer.name for layer in learner.layers}
    frozen, step, batches = begun()
    frozen.get_layer("encoder.head_logits").trainable = False
    before = np.array(frozen.get_layer("encoder.head_logits").bias)
    step()
    np.testing.assert_allclose(frozen.get_layer("encoder.head_logits").bias, before, atol=1e-9)
    inputs, _ = next(batches)
    frozen(inputs, training=False)
    assert float(tf.convert_to_tensor(frozen.get_layer("neck_balance").begun)) == 0


@pytest.mark.slow
def test_most_codes_stay_in_use_on_real_images(tmp_path):
    """The built-in digits; without balance hardly any are."""
    used = {}
    for balance in (1.0, 0.0):
        run = Run(
            "dalle_tiny",
            Images("digits"),
            from_scratch(epochs=8),
            tmp_path / str(balance),
            batch=32,
            task="reconstruct",
            overrides={"size": 16},
            autoencoding=Autoencoding(balance=balance),
        )
        used[balance] = train(run, progress=False).scores.used
    assert used[1.0] > 64 > 4 * used[0.0]
