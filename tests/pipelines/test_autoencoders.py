"""Autoencoders learn by the bound alone, on any number of devices, and their scores are those of the formulas."""

from __future__ import annotations

import dataclasses
import math
import shutil
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

import zoo
from pipelines.autoencoder import decoder_of, encoder_of
from pipelines.autoencoding import Autoencoding
from pipelines.checkpoints import Checkpoints
from pipelines.codebook_engine import CodebookEngine
from pipelines.data import Images
from pipelines.loop import Settings
from pipelines.objectives import counters, read_scores, variational
from pipelines.objectives.bound import Bound, settled
from pipelines.objectives.reconstruction import importance
from pipelines.run import Phase, Run
from pipelines.train import fit
from tests.pipelines import autoencoders as small
from zoo.layers.latent import NormalSample

ONE = tf.distribute.get_strategy()


def batch_of(kind, given=None, number=0):
    """A learner, its objective and a batch."""
    asked = small.objective(given)
    learner = asked.learner(small.model(kind))
    feed = asked.complete(small.data().training_set(learner, batch=small.BATCH, seed=0), seed=0, training=True)
    return learner, asked, next(iter(feed.start(number)))


@pytest.mark.parametrize("kind", ["normal", "labelled"])
def test_a_step_is_that_of_a_plain_loop(kind):
    """A VAE written down with the encoder, the decoder's graph and a tape, at a third of the warm-up."""
    given = Autoencoding(beta=3.0, warm_up=1.0)
    learner, asked, (inputs, elapsed) = batch_of(kind, given, number=4)
    total = 4 * small.EPOCHS
    np.testing.assert_allclose(elapsed, np.full(small.BATCH, 4 / total), rtol=1e-6)
    learner.compile(keras.optimizers.SGD(1e-4), loss=asked.loss(), weighted_metrics=[])
    whole = small.model(kind)
    x = {name: inputs[name] for name in (("image", "labels") if kind == "labelled" else ("image",))}
    noise = counters.normal(inputs["draws"], 3)
    pixels = inputs["image"] / 255
    encoder, decoder = encoder_of(whole), decoder_of(whole)
    with tf.GradientTape() as tape:
        found = encoder(x if kind == "labelled" else x["image"])
        mean, log_variance = found["mean"], found["log_variance"]
        latent = mean + tf.exp(log_variance / 2) * noise
        shares = decoder({"latent": latent, "labels": x["labels"]} if kind == "labelled" else latent) / 255
        likelihood = -tf.reduce_sum(
            pixels * tf.math.log(shares) + (1 - pixels) * tf.math.log(1 - shares), axis=(1, 2, 3)
        )
        divergence = -0.5 * tf.reduce_sum(1 + log_variance - mean**2 - tf.exp(log_variance), axis=1)
        loss = tf.reduce_mean(likelihood + 3.0 * (4 / total) * divergence)
    variables = whole.trainable_variables
    gradients = map(tf.convert_to_tensor, tape.gradient(loss, variables))  # those of embeddings are slices
    wanted = [np.asarray(v - 1e-4 * g) for v, g in zip(variables, gradients, strict=True)]

    engine = CodebookEngine(learner, {"all": learner.trainable_variables})
    step = engine.train(iter(tf.data.Dataset.from_tensors((inputs, elapsed))))
    np.testing.assert_allclose(step.loss, float(loss), rtol=1e-5)
    for variable, value in zip(learner.trainable_variables, wanted, strict=True):
        np.testing.assert_allclose(variable, value, rtol=1e-4, atol=1e-6)
    results = engine.results()
    np.testing.assert_allclose(results["reconstruction"], np.mean(likelihood), rtol=1e-5)
    np.testing.assert_allclose(results["divergence"], np.mean(divergence), rtol=1e-4)


@pytest.mark.slow
def test_a_discrete_vae_draws_softer_codes_early():
    learner, _, (inputs, elapsed) = batch_of("gumbel")
    sharp = {**inputs, "elapsed": tf.ones_like(elapsed)}
    temperature = learner.get_layer("neck_temperature")
    np.testing.assert_allclose(temperature(tf.constant([0.0, 0.25, 0.5, 1.0])), [1, 0.53125, 0.0625, 0.0625], rtol=1e-5)
    early, late = (learner(each, training=True)["statistics"] for each in (inputs, sharp))
    assert np.abs(early - late).max() > 1e-5
    again = learner(inputs, training=True)["statistics"]
    np.testing.assert_array_equal(early, again)  # what is drawn hangs on the inputs alone


@pytest.mark.slow
@pytest.mark.parametrize(("devices", "batch"), [(2, 8), (4, 6)], ids=["two", "four, of which one has no examples"])
def test_any_devices_and_micro_batches_learn_what_one_device_does(tmp_path, devices, batch):
    done = subprocess.run(
        [sys.executable, "-m", "tests.pipelines.autoencoders", str(tmp_path / "found.npz"), str(devices), str(batch)],
        capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    found = np.load(tmp_path / "found.npz")
    for kind in ("normal", "codebook", "gumbel"):
        start = small.values(small.objective().learner(small.model(kind)))
        assert np.abs(found[f"{kind}.one"] - start).max() > 1e-4
        for case in ("several", "micro"):
            for part in ("", ".losses", ".metrics"):
                one, several = found[f"{kind}.one{part}"], found[f"{kind}.{case}{part}"]
                np.testing.assert_allclose(several, one, rtol=2e-4, atol=2e-6, err_msg=f"{kind} {case} {part}")


def test_the_codebook_moves_once_a_step_by_the_whole_batch_and_dead_codes_begin_again():
    learner, asked, batch = batch_of("codebook")
    learner.compile(keras.optimizers.SGD(0.0), loss=asked.loss(), weighted_metrics=[])
    layer = learner.get_layer("neck_codebook")
    vectors = np.asarray(learner(batch[0])["encoded"]).reshape(-1, 3)
    book = np.full((6, 3), 50.0)  # far from all but two
    book[0], book[1] = vectors[0], vectors[-1]
    layer.counts.assign(np.full(6, 1 / 6))
    layer.sums.assign(book / 6)
    codes = np.asarray(learner(batch[0])["codes"]).ravel()
    shares = np.bincount(codes, minlength=6) / len(codes)
    sums = np.stack([vectors[codes == code].sum(axis=0) for code in range(6)]) / len(codes)
    engine = CodebookEngine(learner, {}, accumulate=2)
    engine.train(iter(tf.data.Dataset.from_tensors(batch)))
    np.testing.assert_allclose(layer.counts, 0.7 / 6 + 0.3 * shares, rtol=1e-4)
    np.testing.assert_allclose(layer.sums, 0.7 * book / 6 + 0.3 * sums, rtol=1e-3, atol=1e-6)
    layer.counts.assign([1 / 6, 1 / 6, 1e-3, 1 / 6, 1 / 6, 1 / 6])
    layer.sums.assign(np.asarray(layer.counts)[:, None] * book)
    engine.train(iter(tf.data.Dataset.from_tensors(batch)))
    np.testing.assert_allclose(layer.codebook[2], vectors[int(2 * 0.6180339887 % 1 * len(vectors))], rtol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_half_precision_learns_the_same_but_for_rounding(precision):
    exact, steps = small.stepped("codebook", ONE)
    learner, half = small.stepped("codebook", ONE, precision=precision, scale=128.0 if precision == "float16" else 0.0)
    assert not any(step.skipped for step in half)
    np.testing.assert_allclose([s.loss for s in half], [s.loss for s in steps], rtol=0.03)
    assert np.abs(small.values(learner) - small.values(exact)).max() < 0.05


def test_a_step_that_half_precision_skips_leaves_the_codebook_as_it_is():
    learner, steps = small.stepped("codebook", ONE, precision="float16", scale=2.0**100)
    assert all(step.skipped for step in steps)
    fresh = small.model("codebook")
    for name in ("counts", "sums"):
        found, before = (getattr(each.get_layer("neck_codebook"), name) for each in (learner, fresh))
        np.testing.assert_array_equal(found, before)


def test_a_linear_model_with_its_exact_posterior_reaches_the_log_likelihood():
    """x = w z + noise, of which all is known: two points of Gauss and Hermite are exact for squares."""
    w, deviation = np.array([0.6, -1.1, 0.4, 0.2]), 0.3
    x = np.array([0.5, -0.2, 0.9, 0.1])
    variance = 1 / (1 + w @ w / deviation**2)
    mean, log_variance = np.array([[variance * w @ x / deviation**2]]), np.array([[math.log(variance)]])
    covariance = np.outer(w, w) + deviation**2 * np.eye(4)
    exact = -0.5 * (x @ np.linalg.solve(covariance, x) + np.linalg.slogdet(2 * np.pi * covariance)[1])
    sample, likelihoods = NormalSample(), []
    for noise in (-1.0, 1.0):
        latent = np.asarray(sample(mean, log_variance, noise=np.array([[noise]])))
        means = (latent * w).reshape(1, 2, 2, 1)
        likelihoods.append(variational.gaussian(x.reshape(1, 2, 2, 1), means, deviation=deviation))
    divergence = variational.normal_divergence(mean, log_variance)
    bound = -variational.negative_elbo(tf.add_n(likelihoods) / 2, divergence)
    np.testing.assert_allclose(bound, exact, rtol=1e-5)


def test_many_draws_find_the_log_likelihood_of_one_latent():
    """Against the integral over the latent, step by step."""
    keras.utils.set_random_seed(1)
    model = zoo.create("vae_conv", task="reconstruct", size=4, channels=1, widths=(3,), latent=1)
    for weight in model.weights:
        weight.assign(0.5 * np.random.default_rng(2).standard_normal(weight.shape))
    loss, asked = Bound(), small.objective()
    learner = asked.learner(model)
    image = np.random.default_rng(0).uniform(0, 255, (2, 4, 4, 1)).astype("float32")
    draws = tf.random.stateless_uniform((200, 2), (1, 2), minval=None, maxval=None, dtype=tf.int32)
    inputs = {"image": tf.repeat(image, 100, axis=0), "draws": draws, "elapsed": tf.ones(200)}
    places = np.linspace(-8, 8, 2001, dtype="float32")[:, None]
    shares = np.asarray(decoder_of(model)(places), "float64") / 255
    logs = [(x * np.log(shares) + (1 - x) * np.log(1 - shares)).sum(axis=(1, 2, 3)) for x in image / 255]
    prior = -0.5 * places[:, 0] ** 2 - 0.5 * math.log(2 * math.pi)
    exact = [np.log(np.exp(each + prior).sum() * 16 / 2000) for each in logs]
    hundreds = importance(learner, inputs, loss, samples=200).reshape(2, 100)  # whose mean deviates by some 0.007
    np.testing.assert_allclose(np.log(np.exp(hundreds).mean(axis=1)), exact, atol=0.03)
    many = {"image": tf.repeat(image, 500, axis=0), "draws": tf.reshape(tf.range(2000), (1000, 2))}
    parts = loss.parts(many["image"], learner({**many, "elapsed": tf.ones(1000)}))
    elbo = -sum(np.asarray(part) for part in parts.values())
    assert (elbo.reshape(2, 500).mean(axis=1) < exact).all()


def fitted(folder, *, go_on=False):
    """The weights of a short fit with a codebook, or of one that goes on."""
    asked = small.objective()
    learner = asked.learner(small.model("codebook"))
    data, states = small.data(), Checkpoints(folder, keep=99)
    keras.utils.set_random_seed(0)
    history = fit(
        learner, (Phase(1, 1e-2, unfreeze="all"), Phase(1, 1e-3, unfreeze="all")),
        asked.complete(data.training_set(learner, batch=small.BATCH, seed=0), seed=0, training=True),
        asked.complete(data.evaluation_set(learner, "validation", batch=small.BATCH), seed=0, training=False),
        loss=asked.loss(), metrics=asked.metrics, progress=False, checkpoints=states,
        resumed=states.latest() if go_on else None, settings=Settings(save_steps=1, engine=CodebookEngine),
    )  # fmt: skip
    return learner.get_weights(), [tuple(epoch.metrics.values()) for epoch in history.epochs]


def test_it_goes_on_bit_by_bit(tmp_path):
    weights, told = fitted(tmp_path / "whole")
    shutil.copytree(tmp_path / "whole", tmp_path / "cut")
    for number in Checkpoints(tmp_path / "cut").numbers()[3:]:
        shutil.rmtree(tmp_path / "cut" / f"checkpoint-{number:06}")
    again, retold = fitted(tmp_path / "cut", go_on=True)
    assert retold == told
    for one, other in zip(weights, again, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param("normal", marks=pytest.mark.slow),
        "codebook",
        pytest.param("labelled", marks=pytest.mark.slow),
        pytest.param("gumbel", marks=pytest.mark.slow),
    ],
)
def test_scores_pictures_and_parts(kind, tmp_path):
    model, data, asked = small.model(kind), small.data(), small.objective()
    batches = asked.complete(data.evaluation_set(model, "test", batch=5), seed=0, training=False)
    before = model.to_json()
    scores = asked.score(model, batches, "test")
    assert scores.examples == 12
    np.testing.assert_allclose(scores.elbo, -(scores.reconstruction + scores.divergence))
    assert read_scores(scores.to_json()) == scores
    assert asked.score(model, batches, "test") == scores  # the same is drawn
    assert (scores.used is None) == (kind in ("normal", "labelled"))
    asked.draw(model, tmp_path, "final")
    drawn = {path.name for path in (tmp_path / "pictures").iterdir()}
    more = {"final_samples.png", "final_traversals.png", "final_latents.png"}
    assert drawn == {"final_reconstructions.png"} | (more if kind in ("normal", "labelled") else set())
    assert model.to_json() == before
    keras.models.model_from_json(before)


@pytest.mark.parametrize("kind", ["normal", "codebook", pytest.param("gumbel", marks=pytest.mark.slow)])
def test_the_encoder_and_the_decoder_are_the_model(kind):
    model = small.model(kind)
    image = np.random.default_rng(0).uniform(0, 255, (3, 8, 8, 3)).astype("float32")
    found = encoder_of(model)(image)
    latent = found["mean"] if kind == "normal" else found
    np.testing.assert_allclose(decoder_of(model)(latent), model(image)["image"], rtol=1e-5, atol=1e-3)


@pytest.mark.parametrize(
    ("kind", "given", "match"),
    [
        ("codebook", Autoencoding(beta=2.0), "beta=2.0.*says nothing to a VQ-VAE"),
        ("normal", Autoencoding(temperature=0.5), "says nothing to a VAE, whose options are"),
        ("normal", Autoencoding(likelihood="logit_laplace"), "is not what a VAE gives; it has bernoulli or gaussian"),
        ("gumbel", Autoencoding(likelihood="bernoulli"), "it has logit_laplace"),
        ("normal", Autoencoding(deviation=0.2), "is of likelihood='gaussian'"),
        ("gumbel", Autoencoding(samples=5), "samples=5"),
    ],
)
def test_options_of_another_kind_are_refused(kind, given, match):
    with pytest.raises(ValueError, match=match):
        settled(kind, given)


@pytest.mark.parametrize(
    "wrong", [{"likelihood": "poisson"}, {"beta": -1}, {"warm_up": 2}, {"deviation": 0}, {"samples": 0}, {"beta": True}]
)
def test_values_out_of_range_are_refused(wrong):
    with pytest.raises(ValueError, match=f"Autoencoding\\({next(iter(wrong))}="):
        Autoencoding(**wrong)


def test_a_run_tells_its_options(tmp_path):
    phases = (Phase(1, 1e-3, unfreeze="all"),)
    run = Run("vae_conv", Images("digits"), phases, tmp_path, autoencoding=Autoencoding(beta=4.0))
    assert run.task == "reconstruct"
    assert Run.from_json(run.to_json()) == run
    old = run.to_json().replace('"autoencoding"', '"autoencoding_of_old"')
    with pytest.raises(ValueError, match="autoencoding_of_old"):
        Run.from_json(old)
    plain = dataclasses.replace(run, model="lenet", task=None, autoencoding=None)
    assert plain.task is None
