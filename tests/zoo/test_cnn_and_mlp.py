"""What the plain networks let their user choose, in `cnn` and `mlp` alike, and what else an mlp takes and gives."""

from __future__ import annotations

import math

import keras
import numpy as np
import pytest

import zoo
from zoo.layers.scale import Scale
from zoo.layers.series import Windows
from zoo.layers.table import Columns, Number

TINY = {
    "cnn": {"widths": (4, 6), "hidden": 8, "size": (8, 12), "classes": 3},
    "mlp": {"widths": (6, 5), "size": (4, 6), "classes": 3},
}
BOTH = pytest.mark.parametrize("variant", TINY)
CROSS_ENTROPY = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
_erf = np.vectorize(math.erf)
FORMULAS = {
    "relu": lambda x: np.maximum(x, 0),
    "leaky_relu": lambda x: np.where(x > 0, x, 0.2 * x),
    "elu": lambda x: np.where(x > 0, x, np.expm1(x)),
    "tanh": np.tanh,
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "gelu": lambda x: 0.5 * x * (1 + _erf(x / np.sqrt(2))),
    "silu": lambda x: x / (1 + np.exp(-x)),
}


def build(variant: str, **options) -> keras.Model:
    return zoo.create(variant, **{**TINY[variant], **options})


def batch(model: keras.Model) -> tuple[np.ndarray, np.ndarray]:
    """Images and their classes, which show in the brightness."""
    random = np.random.default_rng(0)
    labels = random.integers(0, 3, 24)
    images = random.integers(0, 80, (24, *model.input.shape[1:])) + 80 * labels[:, None, None, None]
    return images.astype("uint8"), labels


def kernels(model: keras.Model) -> list[np.ndarray]:
    return [np.asarray(variable) for variable in model.weights if variable.path.endswith("kernel")]


def loss(model: keras.Model) -> float:
    """What training minimizes, without dropout: cross-entropy and penalties."""
    model.compile(loss=CROSS_ENTROPY, jit_compile=False)  # which would take longer to compile than to run
    return model.evaluate(*batch(model), verbose=0)


@BOTH
@pytest.mark.parametrize("activation", FORMULAS)
def test_activations_are_those_of_their_formulas(variant, activation):
    model = build(variant, activation=activation)
    layers = [layer for layer in model.layers if layer.name.endswith("_act")]
    x = np.linspace(-4, 4, 41, dtype="float32")
    assert len(layers) == {"cnn": 3, "mlp": 2}[variant]
    for layer in layers:
        np.testing.assert_allclose(layer(x), FORMULAS[activation](x.astype("float64")), atol=2e-6)


def test_a_cnn_is_convolution_relu_and_pooling_then_dense_layers():
    model = build("cnn", widths=(2, 3, 4), kernel=5, size=(9, 17), dropout=0.0)
    kernel1, bias1, *_, kernel4, bias4, kernel5, bias5 = (np.asarray(variable) for variable in model.weights)
    images, _ = batch(model)
    maps = zoo.taps(model)(images)
    assert [maps[stage].shape[1:] for stage in ("stage1", "stage2", "stage3")] == [(4, 8, 2), (2, 4, 3), (1, 2, 4)]

    padded = np.pad((images - 127.5) / 127.5, ((0, 0), (2, 2), (2, 2), (0, 0)))
    patches = np.lib.stride_tricks.sliding_window_view(padded, (5, 5), axis=(1, 2))  # (B, H, W, C, 5, 5)
    x = FORMULAS["relu"](np.einsum("bhwcyx,yxco->bhwo", patches, kernel1) + bias1)
    pooled = x[:, :8, :16].reshape(24, 4, 2, 8, 2, 2).max((2, 4))
    np.testing.assert_allclose(maps["stage1"], pooled, atol=1e-5)

    hidden = FORMULAS["relu"](np.asarray(maps["stage3"]).reshape(24, -1) @ kernel4 + bias4)
    np.testing.assert_allclose(model(images), hidden @ kernel5 + bias5, atol=1e-5)


def test_an_mlp_without_hidden_layers_is_linear():
    model = build("mlp", widths=())
    kernel, bias = (np.asarray(variable) for variable in model.weights)
    images, _ = batch(model)
    flat = ((images - 127.5) / 127.5).reshape(24, -1)
    np.testing.assert_allclose(model(images), flat @ kernel + bias, atol=1e-5)


def test_an_mlp_predicts_numbers_from_images_too():
    model = build("mlp", task="regress", classes=None, target=Scale(("age",), (30.0,), (10.0,)))
    classes = build("mlp", classes=1)
    classes.set_weights(model.get_weights())
    images, _ = batch(model)
    np.testing.assert_allclose(model(images), 30 + 10 * np.asarray(classes(images)), rtol=1e-6)


def test_an_mlp_takes_rows_or_windows_not_both():
    rows = Columns((Number("age"),))
    with pytest.raises(ValueError, match="columns= are of a table and series= is of a time series; give one of them"):
        zoo.create("mlp", columns=rows, series=Windows())
    assert zoo.create("mlp", columns=rows, classes=2).input.shape == (None, 1)
    assert zoo.create("mlp", series=Windows(), classes=2).input.shape == (None, 24, 1)


@BOTH
def test_penalties_add_to_the_training_loss_before_and_after_saving(variant, tmp_path):
    model = build(variant, l1=1e-3, l2=1e-2)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    plain = build(variant)
    plain.set_weights(model.get_weights())
    penalty = sum(1e-3 * np.abs(kernel).sum() + 1e-2 * (kernel**2).sum() for kernel in kernels(model))
    assert penalty > 0.1
    assert len(model.losses) == len(kernels(model))
    assert plain.losses == []
    assert loss(model) == pytest.approx(loss(plain) + penalty, rel=1e-5)
    assert loss(again) == pytest.approx(loss(model), rel=1e-6)


@BOTH
def test_batch_norm_stands_before_each_activation_in_place_of_the_bias(variant):
    model = build(variant, batch_norm=True, dropout=0.0)
    norms = [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]
    assert len(norms) == {"cnn": 3, "mlp": 2}[variant]
    assert [weight.path for weight in model.weights if weight.path.endswith("bias")] == ["head_logits/bias"]
    for norm in norms:
        before, after = (model.layers[model.layers.index(norm) + step] for step in (-1, 1))
        assert before.output is norm.input
        assert after.input is norm.output
        assert isinstance(before, (keras.layers.Conv2D, keras.layers.Dense))
        assert isinstance(after, keras.layers.Activation)


@BOTH
def test_dropout_drops_in_training_only(variant):
    model = build(variant, dropout=0.9)
    images, _ = batch(model)
    once, again = (np.asarray(model(images, training=False)) for _ in range(2))
    np.testing.assert_array_equal(once, again)
    assert np.abs(np.asarray(model(images, training=True)) - once).max() > 1e-3


@BOTH
def test_it_learns(variant):
    model = build(variant, activation="leaky_relu", dropout=0.1, batch_norm=True, l2=1e-4)
    model.compile(keras.optimizers.Adam(0.02), CROSS_ENTROPY, jit_compile=False)
    losses = [model.train_on_batch(*batch(model)) for _ in range(40)]
    assert losses[-1] < 0.3 * losses[0]


@BOTH
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"activation": "softplus"}, "activation='softplus' is unknown here. Known: relu, leaky_relu, elu"),
        ({"dropout": 1.0}, r"dropout=1\.0 must be at least 0 and below 1"),
        ({"l1": -1e-4}, r"l1=-0\.0001 must be 0 \(no penalty\) or more"),
        ({"l2": math.nan}, "l2=nan must be 0"),
        ({"widths": (8, 0)}, r"widths=\(8, 0\) must hold whole numbers over 0"),
        ({"widths": 8}, "widths=8 must hold"),
    ],
)
def test_wrong_options_say_what_is_known(variant, options, message):
    with pytest.raises(ValueError, match=message):
        build(variant, **options)


def test_an_image_too_small_to_be_halved_is_refused():
    with pytest.raises(ValueError, match="'cnn' halves an image 3 times, which takes 8 pixels on each side; got 7x32"):
        zoo.create("cnn", size=(7, 32))


@pytest.mark.parametrize("options", [{"kernel": 0}, {"hidden": -1}, {"kernel": 2.5}])
def test_sizes_that_no_layer_has_are_refused(options):
    ((name, value),) = options.items()
    with pytest.raises(ValueError, match=f"{name}={value} must be a whole number over 0"):
        build("cnn", **options)
