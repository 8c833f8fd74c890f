"""VGG: the names of each publisher for every depth, keras.applications, and images of other sizes."""

from __future__ import annotations

import keras
import numpy as np
import pytest

import zoo
from zoo.core.registry import load_family
from zoo.core.skeleton import skeleton
from zoo.weights import CheckpointError
from zoo.weights.translate import variables

FAMILY = load_family("vgg")
TINY = {"width": 1, "hidden": 4, "classes": 3}


@pytest.mark.parametrize(("depth", "classes"), [(16, 5), (19, None)])
def test_weights_of_keras_applications_give_its_numbers(depth, classes):
    """With the head, whose dense layer is as large as the map, and without it."""
    shape = (32, 64, 3)
    head = {"classes": classes, "classifier_activation": None} if classes else {"include_top": False}
    theirs = getattr(keras.applications, f"VGG{depth}")(weights=None, input_shape=shape, **head)
    random = np.random.default_rng(0)
    for variable in theirs.weights:
        if variable.path.endswith("bias"):  # the kernels are random already
            variable.assign(0.1 * random.standard_normal(variable.shape))
    images = random.integers(0, 256, (2, *shape)).astype("float32")
    wanted = np.asarray(theirs(getattr(keras.applications, f"vgg{depth}").preprocess_input(images.copy())))
    task = "classify" if classes else "features"
    ours = zoo.create(f"vgg{depth}", weights=theirs, size=shape[:2], task=task)
    assert np.abs(wanted[0] - wanted[1]).max() > 1e-3
    np.testing.assert_allclose(np.asarray(ours(images)), wanted, atol=1e-5 * np.abs(wanted).max())


@pytest.mark.parametrize(
    ("variant", "layer", "module"),
    [
        ("vgg11", "stage1_conv1", "features.0"),
        ("vgg11", "stage5_conv8", "features.18"),
        ("vgg13", "stage3_conv5", "features.10"),
        ("vgg16", "stage5_conv13", "features.28"),
        ("vgg19", "stage4_conv12", "features.25"),
        ("vgg11_bn", "stage2_bn2", "features.5"),
        ("vgg16_bn", "stage5_conv13", "features.40"),
        ("vgg19_bn", "stage5_bn16", "features.50"),
    ],
)
def test_counters_of_torchvision_and_timm(variant, layer, module):
    """The numbers stand in the state dicts of torchvision's models."""
    paths = {path for _, path, _ in variables(skeleton(lambda: zoo.create(variant)))}
    assert layer in paths
    for publisher in ("torchvision", "timm"):
        dialect = FAMILY.dialects[f"{publisher}_bn" if variant.endswith("bn") else publisher]
        assert dialect.source(layer, "Conv2D", "bias").names == (f"{module}.bias",)


def test_timm_slides_and_torchvision_pools():
    timm = FAMILY.from_hub({"architecture": "vgg13", "num_classes": 9}, {"head.fc.weight": (9, 4096)})
    torchvision = FAMILY.from_hub(
        {"library_name": "torchvision", "architecture": "vgg19_bn", "torchvision_args": {"dropout": 0.1}}, {}
    )
    assert (timm.variant, timm.classes, timm.config.head) == ("vgg13", 9, "sliding")
    assert (torchvision.variant, torchvision.config.head) == ("vgg19_bn", "pooled")
    assert FAMILY.from_hub({"architecture": "repvgg_a0"}, {}) is None


def test_a_vgg_described_wrongly_is_refused():
    with pytest.raises(CheckpointError, match="9 classes"):
        FAMILY.from_hub({"architecture": "vgg13", "num_classes": 9}, {"head.fc.weight": (8, 4096)})
    with pytest.raises(CheckpointError, match="features"):
        arguments = {"torchvision_args": {"features": None}}
        FAMILY.from_hub({"library_name": "torchvision", "architecture": "vgg11", **arguments}, {})


def test_the_three_heads_are_one_at_224_pixels():
    pooled, *others = (zoo.create("vgg11_bn", head=head, **TINY) for head in ("pooled", "sliding", "whole"))
    image = np.random.default_rng(0).integers(0, 256, (1, 224, 224, 3), "uint8")
    wanted = np.asarray(pooled(image, training=False))
    for model in others:
        for variable, value in zip(model.weights, pooled.get_weights(), strict=True):
            variable.assign(value.reshape(variable.shape))
        np.testing.assert_allclose(model(image, training=False), wanted, atol=1e-5 * np.abs(wanted).max())


def test_every_stage_halves_the_image():
    model = zoo.create("vgg16", size=(96, 130), **TINY)
    maps = {name: tuple(tap.shape[1:3]) for name, tap in zoo.taps(model).output.items() if name != "head"}
    assert maps == {"stage1": (48, 65), "stage2": (24, 32), "stage3": (12, 16), "stage4": (6, 8), "stage5": (3, 4)}


def test_wrong_options_say_what_is_known():
    with pytest.raises(ValueError, match=r"head='average' is unknown here\. Known: pooled, sliding, whole"):
        zoo.create("vgg11", head="average", **TINY)
    with pytest.raises(ValueError, match=r"'vgg11' halves an image 5 times: it takes at least 32 pixels.*got 31x64"):
        zoo.create("vgg11", size=(31, 64), **TINY)
