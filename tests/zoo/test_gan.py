"""Generators and discriminators: sizes, labels, norms, and what is refused."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

import zoo
from tests.parity import packs
from zoo.core.registry import load_family
from zoo.layers.spectral import SpectralConv2D
from zoo.weights import CheckpointError, WeightsMismatch

SMALL = {"width": 4, "depth": 2, "latent": 5, "size": (12, 20), "channels": 1}
GAN = load_family("gan")


def scattered(model: keras.Model) -> keras.Model:
    """The model with large random weights: what is drawn for training leaves every logit near 0."""
    random = np.random.default_rng(0)
    for weight in model.trainable_weights:
        weight.assign(random.standard_normal(weight.shape) * 0.3)
    return model


@pytest.mark.parametrize(
    ("size", "depth", "channels", "first"), [(28, 2, 1, 7), ((32, 64), 5, 4, (1, 2)), (48, 4, 3, 3)]
)
def test_images_are_of_any_size_that_halves_often_enough(size, depth, channels, first):
    options = {"width": 4, "depth": depth, "size": size, "channels": channels}
    generator = zoo.create("gan_dcgan", **options)
    image = np.asarray(generator(np.random.default_rng(0).standard_normal((2, 100)).astype("float32")))
    sides = (size, size) if isinstance(size, int) else size
    assert image.shape == (2, *sides, channels)
    assert 0 <= image.min() < image.max() <= 255
    kernel = generator.get_layer("generator.stem_deconv").kernel.shape
    assert kernel[:2] == ((first, first) if isinstance(first, int) else first)
    assert zoo.create("gan_dcgan", task="discriminate", **options)(image).shape == (2, 1)


@pytest.mark.parametrize("variant", ["gan_conditional", "gan_projection"])
@pytest.mark.parametrize("task", ["generate", "discriminate"])
def test_the_label_is_seen(variant, task):
    model = scattered(zoo.create(variant, task=task, labels=3, **SMALL))
    name, spec = next((name, spec) for name, spec in model.input.items() if name != "labels")
    one = np.random.default_rng(1).standard_normal((1, *spec.shape[1:])).astype("float32")
    answers = np.asarray(model({name: np.repeat(one, 3, axis=0), "labels": np.arange(3)}))
    assert min(np.abs(answers[a] - answers[b]).max() for a, b in ((0, 1), (1, 2), (0, 2))) > 1e-4


def test_a_projection_is_added_to_the_logit():
    model = scattered(zoo.create("gan_projection", task="discriminate", labels=3, spectral=False, **SMALL))
    x = {"image": np.random.default_rng(1).uniform(0, 255, (3, 12, 20, 1)), "labels": np.array([2, 0, 2])}
    inside = {name: model.get_layer(f"discriminator.{name}").output for name in ("stage2_act", "head_flat")}
    found = keras.Model(model.input, inside)(x)
    vectors = np.asarray(model.get_layer("discriminator.head_labels").embeddings)[x["labels"]]
    projection = (vectors * np.asarray(found["stage2_act"]).sum(axis=(1, 2))).sum(axis=-1, keepdims=True)
    np.testing.assert_allclose(model(x), np.asarray(found["head_flat"]) + projection, rtol=1e-4)


def test_norms_are_those_asked_for():
    def kinds(**options):
        model = zoo.create("gan_wgan_gp", task="discriminate", **SMALL, **options)
        return {type(layer).__name__ for layer in model.layers if "Norm" in type(layer).__name__}

    assert kinds() == set()
    assert kinds(norm="layer") == {"LayerNormalization"}
    assert kinds(norm="batch") == {"BatchNormalization"}


def test_a_spectral_kernel_is_divided_by_its_largest_singular_value():
    layer = SpectralConv2D(6, 3, name="stage1_conv")
    x = np.random.default_rng(0).standard_normal((2, 8, 8, 4)).astype("float32")
    layer.build(x.shape)
    before = np.array(layer.kernel)
    for _ in range(60):
        layer(x[:, :3, :3], training=True)
    np.testing.assert_array_equal(layer.kernel, before)  # kept as it is
    largest = np.linalg.svd(before.reshape(-1, 6), compute_uv=False)[0]
    wanted = keras.ops.conv(x, before / largest) + layer.bias
    np.testing.assert_allclose(layer(x), wanted, rtol=1e-4, atol=1e-5)


def test_the_gradient_goes_through_the_division():
    """Along the kernel itself nothing changes: twice the kernel is the same layer."""
    layer = SpectralConv2D(5, 2, use_bias=False)
    x = np.random.default_rng(0).standard_normal((2, 4, 4, 3)).astype("float32")
    layer.build(x.shape)
    for _ in range(30):
        layer(x, training=True)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(tf.square(layer(x, training=True)))
    (gradient,) = tape.gradient(loss, layer.trainable_variables)
    along = float(tf.reduce_sum(gradient * layer.kernel))
    assert abs(along) < 1e-3 * float(tf.norm(gradient) * tf.norm(layer.kernel))
    assert float(tf.norm(gradient)) > 0.1


def test_torchs_spectral_norm_loads(tmp_path):
    """`weight_orig` divided by the length of its product with `weight_v`, as torch.nn.utils.spectral_norm computes."""
    random = np.random.default_rng(0)
    shapes = {"main.0": (4, 1, 4, 4), "main.2": (8, 4, 4, 4), "main.4": (1, 8, 3, 5)}
    tensors = {}
    for name, shape in shapes.items():
        right = random.standard_normal(int(np.prod(shape[1:])))
        tensors[f"{name}.weight_orig"] = random.standard_normal(shape)
        tensors |= {f"{name}.weight_v": right / np.linalg.norm(right), f"{name}.weight_u": np.ones(shape[0])}
        tensors[f"{name}.bias"] = random.standard_normal(shape[0])
    np.savez(tmp_path / "critic.npz", **tensors)
    model = zoo.create("gan_wgan_gp", task="discriminate", spectral=True, weights=tmp_path / "critic.npz", **SMALL)
    plain = zoo.create("gan_wgan_gp", task="discriminate", **SMALL)
    for layer, (name, shape) in zip([each for each in plain.layers if each.weights], shapes.items(), strict=True):
        weight = tensors[f"{name}.weight_orig"]
        largest = np.linalg.norm(weight.reshape(shape[0], -1) @ tensors[f"{name}.weight_v"])
        layer.kernel.assign((weight / largest).transpose(2, 3, 1, 0))
        layer.bias.assign(tensors[f"{name}.bias"])
    image = random.uniform(0, 255, (2, 12, 20, 1)).astype("float32")
    np.testing.assert_allclose(model(image), plain(image), rtol=1e-4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": 28}, "sides must divide by 16; got 28x28. Give size=32"),
        ({"size": (64, 40)}, r"got 64x40\. Give size=\(64, 3?[24]"),
        ({"norm": "group"}, "norm='group' is unknown here. Known: batch, layer, none"),
        ({"labelled": "projection"}, "labels=0 must be"),
        ({"labels": -1}, "labels=-1 must be"),
        ({"width": 0}, "must hold whole numbers over 0"),
        ({"task": "reconstruct"}, "It has: generate, discriminate"),
    ],
)
def test_what_cannot_be_built_is_said(options, message):
    with pytest.raises(ValueError, match=message):
        zoo.create("gan_dcgan", **options)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"ngf": 32}, "ngf=32, but the tensors beside it tell 64"),
        ({"nz": 99}, "nz=99, but the tensors beside it tell 100"),
        ({"nc": 1}, "nc=1, but the tensors beside it tell 3"),
        ({"ngf": "64"}, "ngf='64' must be a whole number"),
        ({"ndf": 64}, "args=.* known here: nz, nc, ngf"),
    ],
)
def test_a_generator_described_wrongly_is_refused(changes, message):
    pack = packs.load("dcgan_generator")
    shapes = {name: shape for name, shape, _ in pack.tensors}
    with pytest.raises(CheckpointError, match=message):
        GAN.from_hub({**pack.config, "args": {**pack.config["args"], **changes}}, shapes)
    with pytest.raises(CheckpointError, match="no convolutions"):
        GAN.from_hub(pack.config, {})


def test_a_discriminator_is_no_generator(tmp_path):
    random = np.random.default_rng(0)
    shapes = {"main.0.weight": (4, 1, 4, 4), "main.2.weight": (8, 4, 4, 4), "main.5.weight": (1, 8, 3, 5)}
    tensors = {name: random.standard_normal(shape) for name, shape in shapes.items()}
    for leaf in ("weight", "bias", "running_mean", "running_var"):
        tensors[f"main.3.{leaf}"] = random.uniform(0.5, 1.0, 8)
    np.savez(tmp_path / "some.npz", **tensors)
    assert zoo.create("gan_dcgan", task="discriminate", weights=tmp_path / "some.npz", **SMALL).count_params()
    with pytest.raises(WeightsMismatch, match="nothing was loaded"):
        zoo.create("gan_dcgan", task="generate", weights=tmp_path / "some.npz", **SMALL)
