"""Inception: keras.applications' numbers, pools at the edges, auxiliary classifiers."""

from __future__ import annotations

import math

import keras
import numpy as np
import pytest

import zoo
from tests.parity import packs
from tests.rows import ROWS
from zoo.core.registry import load_family
from zoo.core.skeleton import skeleton
from zoo.layers.auxiliary import without_auxiliary
from zoo.layers.convolution import ConvNorm
from zoo.layers.inception_blocks import PooledConvNorm, max_pool
from zoo.weights import CheckpointError, WeightsMismatch
from zoo.weights.translate import make_plan

FAMILY = load_family("inception")


def shapes_only(name: str, **options) -> keras.Model:
    """A model without its variables' values."""
    return skeleton(lambda: zoo.create(name, **options))


def randomize(model: keras.Model) -> None:
    """Weights that pass an image on, whose every batch norm differs."""
    random = np.random.default_rng(0)
    for variable in model.weights:
        if variable.path.endswith(("gamma", "moving_variance")):
            variable.assign(random.uniform(0.5, 1.5, variable.shape))
        else:
            scale = math.sqrt(2 / math.prod(variable.shape[:-1])) if len(variable.shape) > 1 else 0.1
            variable.assign(scale * random.standard_normal(variable.shape))


def image_of(model: keras.Model) -> np.ndarray:
    return np.random.default_rng(1).uniform(0, 255, (2, *model.input.shape[1:])).astype("float32")


def test_a_model_of_keras_applications_gives_its_own_numbers():
    keras.layers.Conv2D(1, 1)  # so that the names of theirs do not start from the first
    shape = (75, 92, 3)
    theirs = keras.applications.InceptionV3(weights=None, input_shape=shape, classes=6, classifier_activation=None)
    randomize(theirs)
    ours = zoo.create("inception_v3", weights=theirs, size=shape[:2])
    image = image_of(ours)
    expected = np.asarray(theirs(keras.applications.inception_v3.preprocess_input(image.copy()), training=False))
    found = np.asarray(ours(image, training=False))
    np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("side", [2, 3])
@pytest.mark.parametrize("size", [(6, 8), (7, 9), (6, 9), (7, 8), (2, 3)])
def test_windows_of_hanging_pools_start_inside_and_end_anywhere(side, size):
    image = np.random.default_rng(0).uniform(0, 1, (1, *size, 2)).astype("float32")
    rows, columns = (range(0, math.ceil((length - side) / 2) * 2 + 1, 2) for length in size)  # torch's ceil_mode
    expected = [[image[0, i : i + side, j : j + side].max((0, 1)) for j in columns] for i in rows]
    found = max_pool(image, side, hanging=True, name="stage1_pool")
    np.testing.assert_array_equal(found[0], expected)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("count_padding", [False, True])
def test_pooling_after_the_convolution_is_pooling_before_it(count_padding, training):
    random = np.random.default_rng(0)
    image = random.normal(size=(2, 3, 5, 6)).astype("float32")
    layer = PooledConvNorm(4, 1, count_padding=count_padding, name="pool_conv")
    expected = ConvNorm(4, 1, name="conv")
    for each in (layer, expected):
        each.build(image.shape)
    for variable in layer.variables:
        variable.assign(random.uniform(0.5, 2, variable.shape))
    expected.set_weights(layer.get_weights())
    pooled = _average_pooled(image, count_padding=count_padding)
    np.testing.assert_allclose(layer(image, training=training), expected(pooled, training=training), atol=1e-5)


def _average_pooled(image: np.ndarray, *, count_padding: bool) -> np.ndarray:
    """Means of 3x3 windows, at the edges of 9 values with zeros or of those that there are."""
    padded = np.pad(image, ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=0 if count_padding else np.nan)
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(1, 2))
    return np.nanmean(windows, axis=(-2, -1)).astype("float32")


@pytest.mark.parametrize(
    ("name", "size", "levels"),
    [
        ("inception_v1", (96, 130), [(48, 65, 64), (24, 32, 192), (12, 16, 480), (6, 8, 832), (3, 4, 1024)]),
        ("inception_v3", (75, 140), [(35, 67, 64), (15, 31, 192), (7, 15, 288), (3, 7, 768), (1, 3, 2048)]),
    ],
)
def test_levels_end_before_the_pooling_that_opens_the_next(name, size, levels):
    """v3's are those of timm's features_only."""
    maps = zoo.taps(shapes_only(name, size=size), ["stem", "stage1", "stage2", "stage3", "stage4"]).output
    assert [tuple(level.shape[1:]) for level in maps.values()] == levels


def test_the_auxiliary_logits_of_v1_are_those_that_torch_computes(tmp_path):
    """From the tensors as published: pooled to 4x4, convolved, flattened in the order C, H, W."""
    pack = packs.load("tv_googlenet")
    tensors = pack.weights()
    model = zoo.create("inception_v1", weights=pack.write(tmp_path), auxiliary=True, size=(64, 128))
    image = image_of(model)
    answers = model(image, training=False)
    assert set(answers) == {"logits", "auxiliary1", "auxiliary2"}
    for name, block in (("1", "stage3_block0"), ("2", "stage3_block3")):
        inner = keras.Model(model.input, model.get_layer(f"{block}_out").output)
        x = np.asarray(inner(image, training=False)).transpose(0, 3, 1, 2)
        x = x.reshape(*x.shape[:3], 4, 2).mean(-1)  # (4, 8) -> (4, 4): windows of 1x2
        x = np.einsum("bchw,oc->bohw", x, tensors[f"aux{name}.conv.conv.weight"][:, :, 0, 0])
        norm = {key: tensors[f"aux{name}.conv.bn.{key}"][:, None, None] for key in ("weight", "bias")}
        mean, variance = (tensors[f"aux{name}.conv.bn.running_{key}"][:, None, None] for key in ("mean", "var"))
        x = np.maximum((x - mean) / np.sqrt(variance + 1e-3) * norm["weight"] + norm["bias"], 0).reshape(2, -1)
        x = np.maximum(x @ tensors[f"aux{name}.fc1.weight"].T + tensors[f"aux{name}.fc1.bias"], 0)
        expected = x @ tensors[f"aux{name}.fc2.weight"].T + tensors[f"aux{name}.fc2.bias"]
        np.testing.assert_allclose(answers[f"auxiliary{name}"], expected, atol=1e-5 * np.abs(expected).max())


def test_the_auxiliary_logits_of_v3_are_a_convolution_of_the_whole_map():
    model = zoo.create("inception_v3", **{**ROWS["inception_v3"].tiny, "size": 299}, auxiliary=True, classes=3)
    randomize(model)
    layers = {layer.name.removeprefix("head_auxiliary1_"): layer for layer in model.layers}
    inner = keras.Model(model.input, layers["pool"].input)
    image = image_of(model)
    x = np.asarray(inner(image, training=False))
    assert x.shape[1:3] == (17, 17)
    x = np.stack([[x[:, i : i + 5, j : j + 5].mean((1, 2)) for j in range(0, 13, 3)] for i in range(0, 13, 3)], axis=1)
    x = x.transpose(2, 1, 0, 3)
    for number, pattern in ((1, "bhwc,xyco->bhwo"), (2, "bhwc,hwco->bo")):
        x = np.einsum(pattern, x, np.asarray(layers[f"conv{number}"].kernel))
        norm = layers[f"conv{number}"].norm
        scale = np.asarray(norm.gamma) / np.sqrt(np.asarray(norm.moving_variance) + 1e-3)
        x = np.maximum((x - np.asarray(norm.moving_mean)) * scale + np.asarray(norm.beta), 0)
    expected = x @ np.asarray(layers["head_logits_auxiliary1"].kernel) + np.asarray(
        layers["head_logits_auxiliary1"].bias
    )
    found = model(image, training=False)["auxiliary1"]
    np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize(("name", "pack"), [("inception_v1", "tv_googlenet"), ("inception_v3", "tv_inception_v3")])
@pytest.mark.parametrize("auxiliary", [True, False])
def test_auxiliary_tensors_are_all_used_or_all_ignored(name, pack, auxiliary):
    shapes = {tensor: shape for tensor, shape, _ in packs.load(pack).tensors}
    model = shapes_only(name, auxiliary=auxiliary)
    plan = make_plan(model, shapes, FAMILY.dialects["torch_v1" if name == "inception_v1" else "torch"])
    used = {tensor for source, _ in plan.sources.values() for tensor in source.names}
    published = {tensor for tensor in shapes if tensor.lower().startswith("aux") and "num_batches" not in tensor}
    assert plan.problems == 0
    assert published & used == (published if auxiliary else set())


def test_a_checkpoint_without_auxiliary_tensors_does_not_fill_such_a_model(tmp_path):
    with pytest.raises(WeightsMismatch, match=r"head_auxiliary1_.*first looked for 'AuxLogits.conv0"):
        zoo.create("inception_v3", weights=packs.load("timm_inception_v3").write(tmp_path), auxiliary=True)


def test_all_three_losses_of_v1_train_what_lies_before_their_heads():
    tiny = {**ROWS["inception_v1"].tiny, "auxiliary": True, "classes": 3, "dropout": 0.0}
    model = zoo.create("inception_v1", **tiny)
    weights = {"logits": 1.0, "auxiliary1": 0.3, "auxiliary2": 0.3}
    loss = {name: keras.losses.SparseCategoricalCrossentropy(from_logits=True) for name in weights}
    model.compile("sgd", loss=loss, loss_weights=weights, run_eagerly=True)
    image, labels = image_of(model), {name: np.array([0, 2]) for name in weights}
    logits = model(image, training=False)
    parts = {name: float(loss[name](labels[name], logits[name])) for name in weights}
    found = model.evaluate(image, labels, verbose=0, return_dict=True)["loss"]
    assert found == pytest.approx(sum(weights[name] * parts[name] for name in weights), rel=1e-5)
    before = [np.array(variable) for variable in model.trainable_weights]
    model.fit(image, labels, verbose=0)
    still = [v.path for v, old in zip(model.trainable_weights, before, strict=True) if np.array_equal(old, v)]
    assert still == []


def test_plain_labels_train_all_losses_and_metrics_see_the_logits_alone(tmp_path):
    model = zoo.create("inception_v1", **{**ROWS["inception_v1"].tiny, "auxiliary": True, "classes": 3})
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("sgd", loss=loss, metrics=["accuracy"], run_eagerly=True)
    image, labels = image_of(model), np.array([0, 2])
    answers = model(image, training=False)
    parts = {name: float(loss(labels, value)) for name, value in answers.items()}
    found = model.evaluate(image, labels, verbose=0, return_dict=True)
    assert found["loss"] == pytest.approx(parts["logits"] + 0.3 * (parts["auxiliary1"] + parts["auxiliary2"]), rel=1e-5)
    assert found["accuracy"] == np.mean(np.argmax(answers["logits"], -1) == labels)
    np.testing.assert_array_equal(without_auxiliary(model)(image, training=False), answers["logits"])
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert again.evaluate(image, labels, verbose=0, return_dict=True)["loss"] == pytest.approx(found["loss"], rel=1e-5)


def test_images_too_small_say_what_is_needed():
    assert shapes_only("inception_v1", size=(15, 40), task="features").output.shape[1:] == (1, 1, 1024)
    with pytest.raises(ValueError, match="size=14 is too small: this network takes 15 pixels"):
        shapes_only("inception_v1", size=14)
    with pytest.raises(ValueError, match=r"size=\(75, 74\) is too small: this network takes 75 pixels"):
        shapes_only("inception_v3", size=(75, 74))
    with pytest.raises(ValueError, match="with its auxiliary classifiers takes 299 pixels"):
        shapes_only("inception_v3", size=298, auxiliary=True)


@pytest.mark.parametrize(("transform", "mean"), [(True, (127.5,) * 3), (False, (123.675, 116.28, 103.53))])
def test_transform_input_of_torchvision_becomes_pixels(transform, mean):
    config = {**packs.load("tv_googlenet").config, "torchvision_args": {"transform_input": transform}}
    found = FAMILY.from_hub(config, {"fc.weight": (1000, 1024)})
    assert found.variant == "inception_v1"
    assert found.config.pixels.mean == pytest.approx(mean)
    assert found.config.pixels.std == pytest.approx((127.5,) * 3 if transform else (58.395, 57.12, 57.375))


def test_transform_input_is_exact_for_any_normalization_before_it():
    config = {
        "library_name": "torchvision",
        "architecture": "googlenet",
        "mean": [0.1, 0.2, 0.3],
        "std": [0.5, 0.6, 0.7],
    }
    pixels = FAMILY.from_hub({**config, "torchvision_args": {"transform_input": True}}, {}).config.pixels
    image = np.array([10.0, 100.0, 200.0])
    normalized = (image / 255 - config["mean"]) / config["std"]
    usual_mean, usual_std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    expected = normalized * (usual_std / 0.5) + (usual_mean - 0.5) / 0.5
    np.testing.assert_allclose((image - pixels.mean) / pixels.std, expected, rtol=1e-12)


def test_what_changes_the_graph_is_refused_and_other_architectures_are_left_to_others():
    config = {"library_name": "torchvision", "architecture": "inception_v3", "torchvision_args": {"blocks": 3}}
    with pytest.raises(CheckpointError, match="blocks"):
        FAMILY.from_hub(config, {})
    assert FAMILY.from_hub({"architecture": "inception_v4"}, {}) is None
