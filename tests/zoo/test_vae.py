"""Autoencoders: what they draw in training, codebooks and their moving averages, and what is refused."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

import zoo
from tests.parity import packs
from zoo.core.registry import load_family
from zoo.layers.codebook import CodeVectors, VectorQuantizer
from zoo.layers.latent import GumbelSample, NormalSample
from zoo.weights import CheckpointError, WeightsMismatch

SMALL = {"widths": (4, 6), "latent": 3, "size": (12, 20)}


def images(model: keras.Model, count: int = 2) -> np.ndarray:
    shape = model.input["image"].shape if isinstance(model.input, dict) else model.input.shape
    return np.random.default_rng(0).uniform(0, 255, (count, *shape[1:])).astype("float32")


def test_a_reconstruction_is_the_decoders_of_the_encoders():
    whole, encoder, decoder = (
        zoo.create("vae_conv", task=task, **SMALL) for task in ("reconstruct", "encode", "decode")
    )
    known = {weight.path: weight for weight in whole.weights}
    for weight in (*encoder.weights, *decoder.weights):
        weight.assign(known.pop(weight.path))
    assert known == {}
    x = images(whole)
    found, latent = whole(x), encoder(x)
    np.testing.assert_array_equal(found["mean"], latent["mean"])
    np.testing.assert_allclose(decoder(latent["mean"]), found["image"], rtol=1e-5)
    np.testing.assert_allclose(found["image"], 255 * keras.ops.sigmoid(found["logits"]), rtol=1e-5)
    assert not np.array_equal(whole(x, training=True)["image"], whole(x, training=True)["image"])


def test_the_draw_has_the_mean_and_the_variance_asked_for():
    mean, log_variance = np.full((20_000, 2), [1.0, -2.0], "float32"), np.full((20_000, 2), [0.0, 2.0], "float32")
    draw = np.asarray(NormalSample(seed=1)(mean, log_variance, training=True))
    np.testing.assert_allclose(draw.mean(axis=0), [1.0, -2.0], atol=0.06)
    np.testing.assert_allclose(draw.std(axis=0), [1.0, np.e], rtol=0.02)


def test_a_gumbel_draw_takes_each_code_as_often_as_its_probability():
    shares = np.array([0.5, 0.3, 0.2], "float32")
    logits = np.broadcast_to(np.log(shares), (20_000, 3))
    draw = np.asarray(GumbelSample(0.1, seed=1)(logits, training=True))
    np.testing.assert_allclose(draw.sum(axis=-1), 1.0, rtol=1e-4)
    np.testing.assert_allclose(np.bincount(draw.argmax(axis=-1)) / 20_000, shares, atol=0.012)
    assert np.median(draw.max(axis=-1)) > 0.99  # at this temperature nearly one code
    assert (np.asarray(GumbelSample()(logits[:4])) == 0).all()
    with pytest.raises(ValueError, match="temperature=0 must be over 0"):
        GumbelSample(0)


def test_shares_of_codes_are_mixtures_of_their_vectors():
    layer = CodeVectors(4, 3)
    codes = np.array([[1, 3], [0, 2]])
    one_hot = np.eye(4, dtype="float32")[codes]
    np.testing.assert_array_equal(layer(codes), layer(one_hot))
    half = layer(np.full((1, 4), 0.25, "float32"))
    np.testing.assert_allclose(half[0], np.asarray(layer.embeddings).mean(axis=0), rtol=1e-6)


@pytest.mark.parametrize("decay", [0.0, 0.9])
def test_every_vector_becomes_the_nearest_of_the_codebook(decay):
    layer, x = VectorQuantizer(7, 3, decay=decay), np.random.default_rng(0).standard_normal((2, 4, 5, 3))
    layer.build(x.shape)
    book = np.random.default_rng(1).standard_normal((7, 3))
    if decay:
        layer.sums.assign(book * np.asarray(layer.counts)[:, None])
    else:
        layer.vectors.assign(book)
    found = layer(x.astype("float32"))
    nearest = ((x[..., None, :] - book) ** 2).sum(axis=-1).argmin(axis=-1)
    np.testing.assert_array_equal(found["codes"], nearest)
    np.testing.assert_allclose(found["quantized"], book[nearest], rtol=1e-4)
    np.testing.assert_allclose(found["passed"], found["quantized"], rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(layer(found["codes"], reverse=True), found["quantized"])


def test_the_gradient_passes_straight_through_and_one_of_the_distance_reaches_the_codebook():
    layer, x = VectorQuantizer(5, 2, decay=0.0), tf.random.stateless_normal((1, 2, 3, 2), [0, 0])
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(x)
        found = layer(x, training=True)
        loss = tf.reduce_sum(found["passed"] ** 3)
        distance = tf.reduce_sum((found["quantized"] - tf.stop_gradient(x)) ** 2)
    np.testing.assert_allclose(tape.gradient(loss, x), 3 * found["quantized"] ** 2, rtol=1e-4)
    assert tape.gradient(loss, layer.vectors) is None
    by_code = np.zeros((5, 2))
    np.add.at(by_code, np.asarray(found["codes"]).ravel(), np.asarray(2 * (found["quantized"] - x)).reshape(-1, 2))
    gradient = tf.convert_to_tensor(tape.gradient(distance, layer.vectors))
    np.testing.assert_allclose(gradient, by_code, rtol=1e-4, atol=1e-5)


def test_the_codebook_follows_the_mean_of_what_comes_to_each_code():
    layer, x = VectorQuantizer(2, 1, decay=0.75), np.array([[[[1.0]], [[2.0]], [[-6.0]]]], "float32")
    layer.build(x.shape)
    layer.sums.assign([[4.0], [-3.0]])
    layer.counts.assign([2.0, 1.0])  # at 2 and -3
    assert np.asarray(layer(x)["codes"]).ravel().tolist() == [0, 0, 1]
    np.testing.assert_allclose(layer.counts, [2.0, 1.0])  # in inference nothing moves
    layer(x, training=True)
    np.testing.assert_allclose(layer.counts, [0.75 * 2 + 0.25 * 2 / 3, 0.75 + 0.25 / 3])
    np.testing.assert_allclose(layer.sums, [[0.75 * 4 + 0.25 * 3 / 3], [0.75 * -3 + 0.25 * -6 / 3]])
    np.testing.assert_allclose(layer.codebook, [[1.95], [-3.3]], rtol=1e-4)
    assert layer.trainable_weights == []


def test_a_codebook_can_be_of_any_precision():
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = zoo.create("vae_vq", codes=8, **SMALL)
    finally:
        keras.config.set_dtype_policy("float32")
    quantizer = model.get_layer("neck_codebook")
    before = np.array(quantizer.sums)
    found = model(images(model), training=True)
    assert quantizer.sums.dtype == found["quantized"].dtype == "float32"
    assert np.abs(before - quantizer.sums).max() > 0


@pytest.mark.parametrize("task", ["reconstruct", "encode", "decode"])
def test_labels_are_seen(task):
    model = zoo.create("vae_conditional", task=task, labels=3, **SMALL)
    random = np.random.default_rng(0)
    for weight in model.weights:
        weight.assign(random.standard_normal(weight.shape) * 0.3)
    name, spec = next((name, spec) for name, spec in model.input.items() if name != "labels")
    one = random.standard_normal((1, *spec.shape[1:])).astype("float32")
    answer = model({name: np.repeat(one, 2, axis=0), "labels": np.array([0, 2])})
    first = np.asarray(next(iter(answer.values())) if isinstance(answer, dict) else answer)
    assert np.abs(first[0] - first[1]).max() > 1e-3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": 30}, "halves an image 2 times, so its sides must divide by 4; got 30x30. Give size=32"),
        ({"kernel": 5}, "kernel=5 must be 3 or 4"),
        ({"widths": ()}, r"widths=\(\) must hold at least one"),
        ({"codes": 1}, "codes at least 2"),
        ({"codes": 4, "labels": 3}, "do not go together"),
        ({"codes": 4, "decay": 1.0}, "decay=1.0 must be"),
        ({"latent": 0}, "latent=0 must be a whole number over 0"),
    ],
)
def test_what_cannot_be_built_is_said(options, message):
    with pytest.raises(ValueError, match=message):
        zoo.create("vae_conv", **options)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"latent": 4}, "latent=4, but the tensors beside it tell 8"),
        ({"size": 32}, "size=2,048, but the tensors beside it tell 1568"),
        ({"size": 30}, "size=30 does not halve 2 times"),
        ({"h2": 2.5}, "h2=2.5 must be a whole number"),
        ({"dropout": 0.1}, "known here: c, latent, size, h1, h2"),
    ],
)
def test_a_vae_described_wrongly_is_refused(changes, message):
    pack = packs.load("vae_conv")
    shapes = {name: shape for name, shape, _ in pack.tensors}
    with pytest.raises(CheckpointError, match=message):
        load_family("vae").from_hub({**pack.config, "args": {**pack.config["args"], **changes}}, shapes)
    with pytest.raises(CheckpointError, match="args=None must be an object"):
        load_family("vae").from_hub({**pack.config, "args": None}, shapes)


def test_a_checkpoint_of_another_latent_is_refused(tmp_path):
    folder = packs.load("vae_conv").write(tmp_path)
    assert zoo.create("vae_conv", weights=folder / "model.safetensors").count_params() == 48_785
    with pytest.raises(
        WeightsMismatch, match=r"head_mean/kernel takes \(1568, 5\), the checkpoint has 'fc_mu\.weight'"
    ):
        zoo.create("vae_conv", latent=5, weights=folder / "model.safetensors")
