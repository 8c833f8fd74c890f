"""Checkpoints on other images than they were trained on: other channels, other sizes."""

from __future__ import annotations

import logging
from pathlib import Path

import keras
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import zoo
from tests.weights.files import TIMM_CONFIG, TINY, hub_directory, torch_resnet
from zoo.core.family import Pixels
from zoo.layers.pixels import PixelInput, image_input, pixels_of
from zoo.weights.adapt import adapters, resize_grid
from zoo.weights.dialect import KERAS, Dialect, Rule, rgb_from_bgr
from zoo.weights.errors import WeightsMismatch
from zoo.weights.translate import make_plan, values

GRAPH = {name: TINY[name] for name in ("depths", "width")}
VIT = {"width": 12, "depth": 1, "heads": 2, "mlp_width": 16}
HALF = {"mean": [0.5] * 3, "std": [0.5] * 3}


def stem(model: keras.Model) -> np.ndarray:
    return np.asarray(model.get_layer("stem_conv").kernel)


def positions(model: keras.Model) -> np.ndarray:
    return np.asarray(model.get_layer("stem_positions").table)


def published_kernel(channels: int) -> np.ndarray:
    """What timm makes of the first kernel of torch_resnet() for so many channels: (h, w, channels, out)."""
    red, green, blue = np.moveaxis(torch_resnet()["conv1.weight"], 1, 0)  # each (out, h, w)
    kernels = {
        1: [red + green + blue],
        2: [1.5 * red, 1.5 * green],
        4: [0.75 * red, 0.75 * green, 0.75 * blue, 0.75 * red],
        7: [3 / 7 * color for color in (red, green, blue, red, green, blue, red)],
    }
    return np.stack(kernels[channels]).transpose(2, 3, 0, 1)


@pytest.mark.parametrize("channels", [1, 2, 4, 7])
def test_the_first_kernel_is_adapted_as_timm_does_and_told_once(tmp_path, caplog, channels):
    hub_directory(tmp_path, config=TIMM_CONFIG)
    model = zoo.create("resnet18", weights=tmp_path, channels=channels, **TINY)
    np.testing.assert_allclose(stem(model), published_kernel(channels), rtol=1e-6, atol=1e-6)
    assert model.input_shape == (None, 32, 32, channels)
    assert caplog.messages == [f"resnet18: stem_conv adapted from 3 to {channels} channels."]


def test_grey_and_doubled_images_get_the_logits_of_their_color(tmp_path):
    """One channel stands for three equal ones; six that repeat RGB are RGB, at half the weight each."""
    hub_directory(tmp_path, config=TIMM_CONFIG | {"pretrained_cfg": {"input_size": [3, 32, 32], **HALF}})
    color, grey, twice = (zoo.from_checkpoint(tmp_path, channels=channels, **GRAPH) for channels in (3, 1, 6))
    x = np.random.default_rng(0).uniform(0, 255, (2, 32, 32, 3)).astype("float32")
    near = {"rtol": 0, "atol": 1e-5 * np.abs(color(x)).max()}
    np.testing.assert_allclose(grey(x[..., :1]), color(np.repeat(x[..., :1], 3, axis=-1)), **near)
    np.testing.assert_allclose(twice(np.concatenate([x, x], axis=-1)), color(x), **near)
    assert np.abs(np.asarray(color(x)) - np.asarray(color(x[..., ::-1]))).max() > 0.1


def four_channels() -> dict[str, np.ndarray]:
    kernel = np.random.default_rng(5).normal(size=(8, 4, 7, 7)).astype("float32")
    return {**torch_resnet(), "conv1.weight": kernel}


def test_a_checkpoint_with_other_channels_loads_as_it_is(tmp_path, caplog):
    config = TIMM_CONFIG | {"pretrained_cfg": {"input_size": [4, 32, 32], "mean": [0.5], "std": [0.25]}}
    hub_directory(tmp_path, config=config, tensors=four_channels())
    kernel = four_channels()["conv1.weight"].transpose(2, 3, 1, 0)
    for model in (zoo.from_checkpoint(tmp_path, **GRAPH), zoo.create("resnet18", weights=tmp_path, **GRAPH)):
        assert np.array_equal(stem(model), kernel)
        assert (pixels_of(model).channels, pixels_of(model).mean) == (4, (127.5,) * 4)
    assert caplog.messages == []
    model = zoo.from_checkpoint(tmp_path, channels=3, **GRAPH)
    np.testing.assert_allclose(stem(model), kernel[:, :, :3] * (4 / 3), rtol=1e-6)


def test_channels_are_adapted_only_if_asked_for(tmp_path):
    hub_directory(tmp_path, tensors=four_channels())
    words = r"stem_conv/kernel takes \(7, 7, 3, 8\), the checkpoint has 'conv1.weight' \(8, 4, 7, 7\)"
    with pytest.raises(WeightsMismatch, match=words):
        zoo.create("resnet18", weights=tmp_path, **TINY)
    assert np.array_equal(
        stem(zoo.create("resnet18", weights=tmp_path, channels=4, **TINY)),
        four_channels()["conv1.weight"].transpose(2, 3, 1, 0),
    )
    hub_directory(tmp_path, tensors={**torch_resnet(), "conv1.weight": np.zeros((8, 3, 7, 5), "float32")})
    with pytest.raises(WeightsMismatch, match="Misshapen 1"):  # the height and width stay strict
        zoo.create("resnet18", weights=tmp_path, channels=4, **TINY)


def test_a_kernel_for_bgr_is_turned_before_it_is_adapted():
    image, x = image_input(Pixels(size=8, channels=5))
    x = keras.layers.ZeroPadding2D(1, name="stem_pad")(x)  # the first kernel is behind it
    model = keras.Model(image, keras.layers.Conv2D(2, 3, use_bias=False, name="stem_conv")(x))
    kernel = np.random.default_rng(0).normal(size=(3, 3, 3, 2)).astype("float32")
    dialect = Dialect(KERAS, (Rule("stem_conv", "conv1_conv", rgb_from_bgr),))
    plan = make_plan(
        model, {"conv1_conv/kernel": kernel.shape}, dialect, adapters=adapters(model, Pixels(), certain=True)
    )
    ((path, found),) = values(plan, {"conv1_conv/kernel": kernel})
    assert path == "stem_conv/kernel"
    np.testing.assert_allclose(found, kernel[:, :, [2, 1, 0, 2, 1]] * 0.6, rtol=1e-6)


@pytest.mark.parametrize(
    ("channels", "mean", "std"), [(1, [20], [2]), (2, [10, 20], [1, 2]), (5, [10, 20, 30, 10, 20], [1, 2, 3, 1, 2])]
)
def test_every_channel_gets_a_mean_and_a_deviation(channels, mean, std):
    layer = PixelInput(Pixels(size=4, mean=(10, 20, 30), std=(1, 2, 3), channels=channels))
    image = np.random.default_rng(0).integers(0, 256, (2, 4, 4, channels), "uint8")
    np.testing.assert_allclose(layer(image), (image - np.array(mean, float)) / std, rtol=1e-5)
    assert layer.compute_output_shape((None, 4, 4, channels)) == (None, 4, 4, channels)
    assert PixelInput.from_config(layer.get_config()).pixels == layer.pixels


def test_lenet_takes_grey_images_as_they_are():
    grey = zoo.create("lenet5", channels=1)
    assert grey.input_shape == (None, 32, 32, 1)
    assert grey.count_params() == zoo.create("lenet5").count_params()


@pytest.mark.parametrize("channels", [0, -1, 2.0, 5000, True])
def test_channels_out_of_range(channels):
    with pytest.raises(ValueError, match=r"channels=.* must be a whole number from 1 to 1024"):
        zoo.create("lenet5", channels=channels)


def map_of(height: int, width: int) -> np.ndarray:
    return (np.arange(height * width, dtype="float32") ** 2 % 7).reshape(height, width, 1)


TORCH = {  # torch.nn.functional.interpolate(map, size, mode="bicubic", antialias=True), torch 2.13
    (2, 3): [
        [0.062108, 2.959682],
        [0.340328, 3.010676],
        [1.074639, 3.145265],
        [1.808949, 3.279854],
        [2.08717, 3.330847],
    ],
    (4, 4): [[1.356507, 2.749064, 1.457515], [2.688768, 1.804565, 1.09386]],
    (3, 3): [
        [-0.075472, 0.216418, 1.0, 2.992537, 4.226415],
        [2.0, 1.910448, 2.0, 3.298508, 4.150943],
        [1.075472, 0.604478, 0.0, 0.604478, 1.075472],
    ],
}


@pytest.mark.parametrize("shape", TORCH)
def test_a_grid_is_resized_as_by_torch(shape):
    wanted = np.array(TORCH[shape])
    np.testing.assert_allclose(resize_grid(map_of(*shape), wanted.shape)[..., 0], wanted, atol=2e-6)


def vit_directory(folder: Path, *, size: tuple[int, int], distilled: bool = False, described: bool = True) -> Path:
    """A tiny checkpoint in the names of transformers, or with `described` False its tensors alone."""
    net = "deit" if distilled else "vit"
    random = np.random.default_rng(0)
    tokens = (size[0] // 4) * (size[1] // 4) + 1 + distilled

    def draw(*shape: int) -> np.ndarray:
        return random.normal(size=shape).astype("float32")

    tensors = {
        "embeddings.cls_token": draw(1, 1, 12),
        "embeddings.position_embeddings": draw(1, tokens, 12),
        "embeddings.patch_embeddings.projection.weight": draw(12, 3, 4, 4),
        "embeddings.patch_embeddings.projection.bias": draw(12),
        "layernorm.weight": draw(12),
        "layernorm.bias": draw(12),
    }
    if distilled:
        tensors["embeddings.distillation_token"] = draw(1, 1, 12)
    parts = {f"attention.attention.{name}": (12, 12) for name in ("query", "key", "value")}
    parts |= {"attention.output.dense": (12, 12), "intermediate.dense": (16, 12), "output.dense": (12, 16)}
    for name, shape in parts.items():
        tensors[f"encoder.layer.0.{name}.weight"] = draw(*shape)
        tensors[f"encoder.layer.0.{name}.bias"] = draw(shape[0])
    for name in ("layernorm_before", "layernorm_after"):
        tensors |= {f"encoder.layer.0.{name}.{leaf}": draw(12) for leaf in ("weight", "bias")}
    config = {"model_type": net, "hidden_size": 12, "num_hidden_layers": 1, "num_attention_heads": 2}
    config |= {"intermediate_size": 16, "patch_size": 4, "image_size": list(size)}
    return hub_directory(folder, config=config if described else None, tensors=tensors)


@pytest.mark.parametrize(("distilled", "kept"), [(False, 1), (True, 2)])
@pytest.mark.parametrize(("before", "after"), [((16, 16), (40, 24)), ((32, 12), (16, 20))])
def test_positions_are_resized_to_the_image(tmp_path, caplog, distilled, kept, before, after):
    vit_directory(tmp_path, size=before, distilled=distilled)
    own = positions(zoo.from_checkpoint(tmp_path))
    assert caplog.messages == []
    model = zoo.from_checkpoint(tmp_path, size=after)
    grids = [tuple(side // 4 for side in size) for size in (before, after)]
    wanted = resize_grid(own[kept:].reshape(*grids[0], 12), grids[1]).reshape(-1, 12)
    np.testing.assert_array_equal(positions(model), np.concatenate([own[:kept], wanted]))
    words = [f"{height}x{width}" for height, width in grids]
    assert caplog.messages == [f"{model.name}: stem_positions resized from {words[0]} to {words[1]} patches."]
    named = zoo.create(
        "deit_tiny16_distilled" if distilled else "vit_tiny16",
        weights=tmp_path,
        task="features",
        size=after,
        patch=4,
        **VIT,
    )
    np.testing.assert_array_equal(positions(named), positions(model))


def test_as_many_patches_in_another_grid_are_other_positions(tmp_path):
    """config.json says which grid the table has; without it, a table that fits stays as it is."""
    vit_directory(tmp_path / "described", size=(16, 16))
    own = positions(zoo.from_checkpoint(tmp_path / "described"))
    other = positions(zoo.from_checkpoint(tmp_path / "described", size=(8, 32)))
    np.testing.assert_array_equal(other[1:], resize_grid(own[1:].reshape(4, 4, 12), (2, 8)).reshape(-1, 12))
    vit_directory(tmp_path / "bare", size=(16, 16), described=False)
    bare = zoo.create("vit_tiny16", weights=tmp_path / "bare", task="features", size=(8, 32), patch=4, **VIT)
    np.testing.assert_array_equal(positions(bare), own)


def test_a_table_that_nothing_describes_is_square(tmp_path, caplog):
    vit_directory(tmp_path, size=(20, 20), described=False)
    zoo.create("vit_tiny16", weights=tmp_path, task="features", size=(16, 32), patch=4, **VIT)
    assert caplog.messages == ["vit_tiny16: stem_positions resized from 5x5 to 4x8 patches."]


def test_positions_are_resized_only_if_asked_for_and_only_whole_grids(tmp_path, caplog):
    vit_directory(tmp_path, size=(12, 20), described=False)
    options = {"weights": tmp_path, "task": "features", "patch": 4, **VIT}
    with pytest.raises(WeightsMismatch, match=r"stem_positions/table takes \(3137, 12\).*\(1, 16, 12\)"):
        zoo.create("vit_tiny16", **options)  # at the variant's own 224 pixels
    with pytest.raises(WeightsMismatch, match=r"stem_positions/table takes \(17, 12\).*\(1, 16, 12\)"):
        zoo.create("vit_tiny16", size=16, **options)  # 15 patches are no square
    with pytest.raises(WeightsMismatch, match="stem_positions/table"):
        zoo.create("vit_tiny16", size=(12, 24), **options, distilled=True)  # 14 patches neither
    assert zoo.create("vit_tiny16", size=(12, 20), **options).output_shape == (None, 16, 12)
    assert caplog.messages == []


def test_what_is_resized_is_checked_like_everything_else(tmp_path):
    vit_directory(tmp_path, size=(16, 16))
    tensors = {"embeddings.position_embeddings": np.full((1, 17, 12), np.nan, "float32")}
    save_file({**load_file(tmp_path / "model.safetensors"), **tensors}, tmp_path / "model.safetensors")
    with pytest.raises(WeightsMismatch, match=r"not hold finite.*position_embeddings"):
        zoo.from_checkpoint(tmp_path, size=32)
    tensors = {"embeddings.position_embeddings": np.zeros((1, 17, 13), "float32")}
    save_file({**load_file(tmp_path / "model.safetensors"), **tensors}, tmp_path / "model.safetensors")
    with pytest.raises(WeightsMismatch, match=r"stem_positions/table takes \(65, 12\).*\(1, 17, 13\)"):
        zoo.from_checkpoint(tmp_path, size=32)


@pytest.fixture(autouse=True)
def every_message(caplog):
    caplog.set_level(logging.INFO, logger="zoo")
