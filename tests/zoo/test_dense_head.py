"""The dense layers of AlexNet and VGG on maps of any size, against each publisher's arithmetic in NumPy."""

from __future__ import annotations

import math

import keras
import numpy as np
import pytest
from keras import layers
from safetensors.numpy import save_file

import zoo
from zoo.layers.dense_head import pooled_to

CLASSES, HIDDEN, WIDTH = 3, 8, 2
ALEXNET = {"filters": (4, 4, 4, 4, WIDTH), "hidden": HIDDEN}
VGG = {"depths": (1, 1, 1, 1, 1), "width": 1, "hidden": HIDDEN}


def checkpoint(convolutions: dict[str, tuple[int, ...]], dense: dict[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    """Random tensors in the layout of PyTorch, a bias with each weight."""
    random = np.random.default_rng(0)
    tensors = {}
    for module, shape in {**convolutions, **dense}.items():
        tensors[f"{module}.weight"] = random.standard_normal(shape) * math.sqrt(2 / math.prod(shape[1:]))
        tensors[f"{module}.bias"] = 0.1 * random.standard_normal(shape[0])
    return {name: array.astype("float32") for name, array in tensors.items()}


def alexnet() -> dict[str, np.ndarray]:
    convolutions = {"features.0": (4, 3, 11, 11), "features.3": (4, 4, 5, 5)}
    convolutions |= {f"features.{index}": (4, 4, 3, 3) for index in (6, 8)} | {"features.10": (WIDTH, 4, 3, 3)}
    dense = {"classifier.1": (HIDDEN, WIDTH * 36), "classifier.4": (HIDDEN, HIDDEN), "classifier.6": (CLASSES, HIDDEN)}
    return checkpoint(convolutions, dense)


def vgg(dense: dict[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    channels = (3, 1, 2, 4, 8, 8)
    convolutions = {f"features.{3 * index}": (channels[index + 1], channels[index], 3, 3) for index in range(5)}
    return checkpoint(convolutions, dense)


def logits_and_map(variant: str, tensors: dict[str, np.ndarray], folder, **options) -> tuple[np.ndarray, np.ndarray]:
    """What the model answers to two images, and the map under its head."""
    save_file(tensors, folder / "weights.safetensors")
    model = zoo.create(variant, weights=folder / "weights.safetensors", **options)
    body = zoo.create(variant, weights=folder / "weights.safetensors", task="features", **options)
    images = np.random.default_rng(1).integers(0, 256, (2, *model.input.shape[1:]), "uint8")
    return np.asarray(model(images, training=False)), np.asarray(body(images, training=False))


def adaptive_average(x: np.ndarray, height: int, width: int) -> np.ndarray:
    """Averages over the windows that PyTorch documents: (B, H, W, C) -> (B, height, width, C)."""
    _, rows, columns, _ = x.shape
    return np.stack(
        [
            np.stack([x[:, top:bottom, left:right].mean((1, 2)) for left, right in windows(columns, width)], axis=1)
            for top, bottom in windows(rows, height)
        ],
        axis=1,
    )


def windows(length: int, count: int) -> list[tuple[int, int]]:
    return [(index * length // count, -(-(index + 1) * length // count)) for index in range(count)]


def relu(x: np.ndarray) -> np.ndarray:
    return np.maximum(x, 0)


def torchvision_head(x: np.ndarray, tensors: dict[str, np.ndarray], cells: int, *modules: str) -> np.ndarray:
    x = adaptive_average(x, cells, cells).transpose(0, 3, 1, 2).reshape(len(x), -1)
    *hidden, last = [(tensors[f"{module}.weight"].T, tensors[f"{module}.bias"]) for module in modules]
    for weight, bias in hidden:
        x = relu(x @ weight + bias)
    return x @ last[0] + last[1]


def timm_head(x: np.ndarray, tensors: dict[str, np.ndarray]) -> np.ndarray:
    _, height, width, _ = x.shape
    if min(height, width) < 7:
        x = adaptive_average(x, max(7, height), max(7, width))
    patches = np.lib.stride_tricks.sliding_window_view(x, (7, 7), axis=(1, 2))  # (B, h, w, C, 7, 7)
    x = relu(np.einsum("bhwcyx,ocyx->bhwo", patches, tensors["pre_logits.fc1.weight"]) + tensors["pre_logits.fc1.bias"])
    x = relu(x @ tensors["pre_logits.fc2.weight"][..., 0, 0].T + tensors["pre_logits.fc2.bias"])
    return x.mean((1, 2)) @ tensors["head.fc.weight"].T + tensors["head.fc.bias"]


def agree(found: np.ndarray, wanted: np.ndarray) -> None:
    assert np.abs(wanted[0] - wanted[1]).max() > 1e-3  # the head sees the image
    np.testing.assert_allclose(found, wanted, atol=1e-5 * np.abs(wanted).max())


@pytest.mark.parametrize("size", [(63, 63), (224, 224), (95, 300), (330, 257)])
def test_alexnet_pools_any_map_to_6x6_as_torchvision_does(size, tmp_path):
    tensors = alexnet()
    logits, x = logits_and_map("alexnet", tensors, tmp_path, size=size, **ALEXNET)
    agree(logits, torchvision_head(x, tensors, 6, "classifier.1", "classifier.4", "classifier.6"))


@pytest.mark.parametrize("size", [(32, 32), (224, 224), (97, 330), (352, 288)])
def test_vgg_pools_any_map_to_7x7_as_torchvision_does(size, tmp_path):
    tensors = vgg(
        {"classifier.0": (HIDDEN, 8 * 49), "classifier.3": (HIDDEN, HIDDEN), "classifier.6": (CLASSES, HIDDEN)}
    )
    logits, x = logits_and_map("vgg11", tensors, tmp_path, size=size, **VGG)
    agree(logits, torchvision_head(x, tensors, 7, "classifier.0", "classifier.3", "classifier.6"))


@pytest.mark.parametrize("size", [(32, 32), (224, 224), (170, 300), (256, 352)])
def test_vgg_slides_over_any_map_as_timm_does(size, tmp_path):
    tensors = vgg(
        {"pre_logits.fc1": (HIDDEN, 8, 7, 7), "pre_logits.fc2": (HIDDEN, HIDDEN, 1, 1), "head.fc": (CLASSES, HIDDEN)}
    )
    logits, x = logits_and_map("vgg11", tensors, tmp_path, size=size, **VGG)
    agree(logits, timm_head(x, tensors))


def test_alexnet_refuses_an_image_that_its_strides_use_up():
    with pytest.raises(ValueError, match="at least 63 pixels on each side, got 62x224"):
        zoo.create("alexnet", size=(62, 224), **ALEXNET)


def test_alexnet_drops_before_the_dense_layers_and_vgg_after():
    def order(variant: str, **options) -> list[str]:
        names = [layer.name for layer in zoo.create(variant, size=64, **options).layers]
        return [name.removeprefix("head_") for name in names if "dense" in name or "dropout" in name]

    assert order("alexnet", **ALEXNET) == ["dropout1", "dense1", "dropout2", "dense2"]
    assert order("vgg11", **VGG) == ["dense1", "dropout1", "dense2", "dropout2"]
    assert order("vgg11", dropout=0.0, **VGG) == ["dense1", "dense2"]


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (3, 1), (2, 2), (7, 9)])
def test_maps_of_any_size_are_pooled_in_a_graph_as_they_are_eagerly(shape):
    map_ = keras.Input((*shape, 3))
    model = keras.Model(map_, pooled_to(map_, 4, 7))
    x = np.random.default_rng(0).standard_normal((2, *shape, 3)).astype("float32")
    found = model.predict_on_batch(x)
    assert found.shape == (2, 4, 7, 3)
    np.testing.assert_allclose(found, layers.AdaptiveAveragePooling2D((4, 7))(x), atol=1e-6)
