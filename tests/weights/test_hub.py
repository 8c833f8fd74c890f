"""What config.json says, and the absurd things it may say."""

from __future__ import annotations

import copy
import json

import numpy as np
import pytest

import zoo
from tests.weights.files import TIMM_CONFIG, hub_directory
from zoo.core.family import HubMatch, Pixels
from zoo.core.registry import families, load_family
from zoo.weights import hub
from zoo.weights.errors import CheckpointError

TIMM = {
    "architecture": "resnet18",
    "num_classes": 10,
    "pretrained_cfg": {
        "input_size": [3, 160, 192],
        "interpolation": "bicubic",
        "crop_pct": 0.95,
        "mean": [0.5, 0.25, 0.125],
        "std": [1.0, 0.5, 0.25],
        "num_classes": 1000,
    },
    "model_args": {"img_size": 160},
}
TRANSFORMERS = {
    "model_type": "vit",
    "architectures": ["ViTForImageClassification"],
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "hidden_act": "gelu",
    "layer_norm_eps": 1e-12,
    "image_size": 32,
    "patch_size": 8,
    "num_channels": 3,
    "qkv_bias": True,
    "id2label": {"0": "a", "1": "b"},
    "preprocessor": {
        "image_mean": [0.5, 0.5, 0.5],
        "image_std": [0.5, 0.5, 0.5],
        "resample": 2,
        "size": {"height": 32},
    },
}
SHAPES = {  # of all that these two could be: what is beside the one wrong value agrees
    "fc.weight": (10, 512),
    "conv_stem.weight": (32, 3, 3, 3),
    "classifier.weight": (10, 1280),
    "head.weight": (10, 192),
    "patch_embed.proj.weight": (192, 3, 16, 16),
    "pos_embed": (1, 121, 192),
    **{f"blocks.{block}.mlp.fc1.weight": (768, 192) for block in range(12)},
    "vit.embeddings.patch_embeddings.projection.weight": (32, 3, 8, 8),
    "vit.embeddings.position_embeddings": (1, 17, 32),
    **{f"vit.encoder.layer.{block}.intermediate.dense.weight": (64, 32) for block in range(2)},
}
ABSURD = [
    -1, 0, 0.5, 10**6, 10**9, 10**400, -(10**400), 1e308, float("nan"), float("inf"), True, False, None, "", "12",
    "x" * 10_000, [], [1, 2], [[[[]]]], {}, {"a": {"b": 1}}, [0, 0, 0], [None] * 3, [1e400, 1, 1],
]  # fmt: skip


def test_a_timm_config():
    published = hub.published_image_model(TIMM)
    assert published == hub.PublishedImageModel(
        library="timm",
        architecture="resnet18",
        pixels=Pixels(
            size=(160, 192), crop=0.95, interpolation="bicubic", mean=(127.5, 63.75, 31.875), std=(255.0, 127.5, 63.75)
        ),
        classes=10,  # of this checkpoint, not of the one it was tuned from
    )


def test_defaults_are_those_of_imagenet():
    published = hub.published_image_model({"architecture": "resnet18", "library_name": "torchvision"})
    assert (published.library, published.classes) == ("torchvision", None)
    assert (published.pixels.size, published.pixels.crop, published.pixels.interpolation) == (224, 0.875, "bilinear")
    assert published.pixels.mean == pytest.approx(Pixels().mean) and published.pixels.std == pytest.approx(Pixels().std)


def test_a_transformers_preprocessor():
    pixels = hub.transformers_pixels({"preprocessor": {"image_mean": [0, 0.5, 1], "resample": 3}}, 48)
    assert pixels == Pixels(48, crop=1.0, interpolation="bicubic", mean=(0.0, 127.5, 255.0), std=(127.5,) * 3)
    assert hub.transformers_pixels({}, 32).interpolation == "bilinear"


@pytest.mark.parametrize(
    ("size", "usual", "resize"),
    [
        (None, "cover", "cover"),
        (None, "squash", "squash"),
        (48, "squash", "squash"),
        ({"shortest_edge": 48}, "squash", "cover"),
        ({"height": 48, "width": 48}, "cover", "squash"),
    ],
)
def test_a_preprocessor_tells_whether_images_are_squashed(size, usual, resize):
    config = {"preprocessor": {} if size is None else {"size": size}}
    assert hub.transformers_pixels(config, 48, resize=usual).resize == resize


def test_another_librarys_config_is_none():
    assert hub.published_image_model(TRANSFORMERS) is None


def test_torchvision_arguments_that_change_the_numbers_are_refused():
    config = {"library_name": "torchvision", "architecture": "resnet18", "torchvision_args": {"num_classes": 5}}
    assert load_family("resnet").from_hub(config, {}).variant == "resnet18"
    config["torchvision_args"]["replace_stride_with_dilation"] = [False, True, True]
    with pytest.raises(CheckpointError, match="replace_stride_with_dilation"):
        load_family("resnet").from_hub(config, {})


def changed(config: dict, *path: str, value: object) -> dict:
    config = copy.deepcopy(config)
    inner = config
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    return config


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("num_classes",), 10**9),
        (("num_classes",), -1),
        (("num_classes",), True),
        (("num_classes",), "10"),
        (("num_classes",), [10]),
        (("num_classes",), 10.0),
        (("num_classes",), 10**400),
        (("pretrained_cfg",), "x"),
        (("pretrained_cfg",), [1]),
        (("model_args",), ["img_size"]),
        (("model_args",), {"depth": 10**6}),
        (("pretrained_cfg", "input_size"), [3, 10**6, 10**6]),
        (("pretrained_cfg", "input_size"), [3, -224, 224]),
        (("pretrained_cfg", "input_size"), [3, 224]),
        (("pretrained_cfg", "input_size"), 224),
        (("pretrained_cfg", "input_size"), [3, 0, 0]),
        (("pretrained_cfg", "input_size"), [3, [224], 224]),
        (("pretrained_cfg", "std"), [0, 0, 0]),
        (("pretrained_cfg", "std"), [0.5, 0.5]),
        (("pretrained_cfg", "std"), 0.5),
        (("pretrained_cfg", "mean"), [float("nan")] * 3),
        (("pretrained_cfg", "mean"), [float("inf")] * 3),
        (("pretrained_cfg", "mean"), "0.5"),
        (("pretrained_cfg", "mean"), [True] * 3),
        (("pretrained_cfg", "crop_pct"), 0),
        (("pretrained_cfg", "crop_pct"), "0.9"),
        (("pretrained_cfg", "crop_pct"), 10**400),
        (("pretrained_cfg", "interpolation"), "lanczos"),
        (("pretrained_cfg", "interpolation"), ["bicubic"]),
    ],
)
def test_absurd_values_are_named(path, value):
    with pytest.raises(CheckpointError) as error:
        hub.published_image_model(changed(TIMM, *path, value=value))
    assert path[-1] in str(error.value) or "options unknown here: ['depth']" in str(error.value)
    assert len(str(error.value)) < 300


@pytest.mark.parametrize("value", [None, "x", True, 1.5, [1], 10**400, float("nan"), -1, 101])
def test_whole_refuses_what_is_no_whole_number_within_bounds(value):
    with pytest.raises(CheckpointError, match=r"config\.json: depth=.* must be a whole number from 0 to 100"):
        hub.whole({"depth": value}, "depth", 0, 100)


def test_numbers_within_bounds():
    assert hub.whole({"depth": 100}, "depth", 0, 100) == 100
    assert hub.whole({}, "depth", 0, 100, default=7) == 7
    assert hub.number({"epsilon": 1}, "epsilon", 0, 1) == 1.0
    for value in (float("nan"), float("inf"), 10**400, True, "1", None):
        with pytest.raises(CheckpointError, match="epsilon"):
            hub.number({"epsilon": value}, "epsilon", 0, 1)


def test_agree():
    hub.agree("depth", 12, 12)
    with pytest.raises(CheckpointError, match="depth=1,000,000, but the tensors beside it tell 12"):
        hub.agree("depth", 10**6, 12)
    with pytest.raises(CheckpointError, match="tell None"):
        hub.agree("depth", 1, None)


def paths(config: dict, before: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    found = []
    for key, value in config.items():
        found += [(*before, key), *(paths(value, (*before, key)) if isinstance(value, dict) else [])]
    return found


@pytest.mark.parametrize("family", [name for name in families() if load_family(name).from_hub])
@pytest.mark.parametrize("config", [TIMM, TRANSFORMERS], ids=["timm", "transformers"])
def test_no_value_anywhere_crashes_a_family(family, config):
    """Every key with every absurd value: a HubMatch, None or a CheckpointError, nothing else."""
    from_hub = load_family(family).from_hub
    names = [name for name in ("resnet18", "mobilenetv2_100", "vit_tiny_patch16_224") if "architecture" in config]
    for base in [changed(config, "architecture", value=name) for name in names] or [config]:
        for path in paths(base):
            for value in ABSURD:
                try:
                    match = from_hub(changed(base, *path, value=value), SHAPES)
                    assert match is None or isinstance(match, HubMatch)
                except ValueError as error:
                    assert "config.json" in str(error) or "pixels hold no patch" in str(error)


def test_config_json_damaged_at_random_is_refused_or_read(tmp_path):
    text = json.dumps(TIMM_CONFIG).encode()
    hub_directory(tmp_path, config=TIMM_CONFIG)
    random = np.random.default_rng(11)
    refused = 0
    for _ in range(300):
        damaged = bytearray(text)
        for place in random.integers(len(text), size=random.integers(1, 4)):
            damaged[place] = int(random.integers(256))
        (tmp_path / "config.json").write_bytes(
            damaged[: random.integers(1, len(text)) if random.random() < 0.2 else None]
        )
        try:
            config = hub.read_config(tmp_path)
            load_family("resnet").from_hub(config, {"fc.weight": (10, 64)})
        except CheckpointError as error:
            refused += 1
            assert str(error)
    assert refused > 200


def test_a_million_layers_are_refused_before_anything_is_built(tmp_path):
    config = {**TRANSFORMERS, "num_hidden_layers": 10**6}
    with pytest.raises(CheckpointError, match="num_hidden_layers"):
        zoo.from_checkpoint(hub_directory(tmp_path, config=config))
