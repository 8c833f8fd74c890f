"""What a family makes of a Hub's config.json and the shapes beside it; nothing is built."""

from __future__ import annotations

import pytest

from tests.parity import packs
from zoo.core.registry import load_family
from zoo.weights import CheckpointError

MOBILENET, VIT = load_family("mobilenet"), load_family("vit")
GIGANTIC = 10**9


def match(family, name: str, **changes):
    """The match of a pack's config.json with some values changed, and of its shapes."""
    pack = packs.load(name)
    return family.from_hub({**pack.config, **changes}, {tensor: shape for tensor, shape, _ in pack.tensors})


@pytest.mark.parametrize(
    ("architecture", "stem", "variant", "width", "padding", "epsilon"),
    [
        ("mobilenetv1_100", 32, "mobilenet_v1", 1.0, "symmetric", 1e-5),
        ("mobilenetv1_125", 40, "mobilenet_v1_125", 1.25, "symmetric", 1e-5),
        ("mobilenetv2_035", 16, "mobilenet_v2_035", 0.35, "symmetric", 1e-5),
        ("mobilenetv2_130", 40, "mobilenet_v2_130", 1.3, "symmetric", 1e-5),
        ("mobilenetv2_120d", 32, "mobilenet_v2_120d", 1.2, "symmetric", 1e-5),
        ("mobilenetv3_small_050", 16, "mobilenet_v3_small_050", 0.5, "symmetric", 1e-5),
        ("mobilenetv3_large_150d", 24, "mobilenet_v3_large_150d", 1.5, "symmetric", 1e-5),
        ("tf_mobilenetv3_large_075", 16, "mobilenet_v3_large_075", 0.75, "same", 1e-3),
        ("tf_mobilenetv3_small_minimal_100", 16, "mobilenet_v3_small_minimal", 1.0, "same", 1e-3),
    ],
)
def test_timm_tells_width_and_conventions_by_name(architecture, stem, variant, width, padding, epsilon):
    found = MOBILENET.from_hub({"architecture": architecture, "num_classes": 9}, {"conv_stem.weight": (stem, 3, 3, 3)})
    assert (found.variant, found.classes, found.task) == (variant, 9, "classify")
    assert (found.config.width, found.config.padding, found.config.epsilon) == (width, padding, epsilon)


@pytest.mark.parametrize("architecture", ["mobilenetv3_rw", "mobilenetv4_conv_small", "mobilenetv2_300d", "resnet18"])
def test_what_the_family_does_not_know_is_left_to_others(architecture):
    assert MOBILENET.from_hub({"architecture": architecture}, {}) is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"architecture": "mobilenetv2_999"}, "channels of the stem=320, but the tensors beside it tell 16"),
        ({"num_classes": 8}, "8 classes"),
        ({"num_classes": GIGANTIC}, "num_classes"),
        ({"model_args": {"output_stride": 8}}, "output_stride"),
    ],
)
def test_a_mobilenet_described_wrongly_is_refused(changes, message):
    with pytest.raises(CheckpointError, match=message):
        match(MOBILENET, "extra_timm_mobilenetv2_035", **changes)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [({"reduced_tail": True}, "reduced_tail"), ({"width_mult": -1}, "width_mult=-1"), ({"width_mult": 8}, "stem=128")],
)
def test_torchvision_arguments_unknown_or_absurd_are_refused(arguments, message):
    with pytest.raises(CheckpointError, match=message):
        match(MOBILENET, "extra_tv_mobilenet_v3_small", torchvision_args=arguments)


def test_timm_tells_the_size_of_a_vit_by_name_and_the_image_by_its_arguments():
    found = match(VIT, "extra_timm_deit_tiny_distilled_patch16_224")
    assert (found.variant, found.classes, found.config.distilled) == ("deit_tiny16_distilled", 5, True)
    assert (found.config.width, found.config.depth, found.config.heads) == (192, 12, 3)
    elsewhere = match(
        VIT,
        "extra_timm_vit_tiny_patch16_224",
        pretrained_cfg={"input_size": [3, 224, 224]},
        model_args={"img_size": [48, 80]},
    )
    assert elsewhere.config.pixels.size == (48, 80)


@pytest.mark.parametrize(
    ("pack", "changes", "message"),
    [
        ("extra_timm_vit_tiny_patch16_224", {"architecture": "vit_large_patch16_224"}, "width=1,024"),
        ("extra_timm_vit_tiny_patch16_224", {"architecture": "vit_tiny_patch8_224"}, "patch=8"),
        ("extra_timm_vit_tiny_patch16_224", {"architecture": "deit_tiny_distilled_patch16_224"}, "positions=17"),
        ("extra_timm_vit_tiny_patch16_224", {"pretrained_cfg": {"input_size": [3, 96, 96]}}, "positions=37"),
        ("extra_timm_vit_tiny_patch16_224", {"global_pool": "avg"}, "global_pool='avg'"),
        ("hf_vit_cls", {"num_hidden_layers": 1_000_000}, "num_hidden_layers=1000000"),
        ("hf_vit_cls", {"num_hidden_layers": 4}, "blocks=4"),
        ("hf_vit_cls", {"hidden_size": -64}, "hidden_size=-64"),
        ("hf_vit_cls", {"hidden_size": GIGANTIC}, "hidden_size"),
        ("hf_vit_cls", {"hidden_size": 16_000}, "width=16,000"),
        ("hf_vit_cls", {"intermediate_size": 60_000}, "MLP=60,000"),
        ("hf_vit_cls", {"image_size": 4096}, "positions=65,537"),
        ("hf_vit_cls", {"image_size": [64, 64, 64]}, "image_size"),
        ("hf_vit_cls", {"image_size": 8}, "patch"),
        ("hf_vit_cls", {"patch_size": 0}, "patch_size=0"),
        ("hf_vit_cls", {"patch_size": [16, 8]}, "patch_size"),
        ("hf_vit_cls", {"num_attention_heads": 7}, "7 heads"),
        ("hf_vit_cls", {"num_channels": 4}, "num_channels=4"),
        ("hf_vit_cls", {"hidden_act": "mish"}, "hidden_act='mish'"),
        ("hf_vit_cls", {"layer_norm_eps": "tiny"}, "layer_norm_eps"),
        ("hf_vit_model", {"pooler_act": "relu"}, "pooler_act='relu'"),
    ],
)
def test_a_vit_described_wrongly_is_refused(pack, changes, message):
    with pytest.raises(ValueError, match=message):
        match(VIT, pack, **changes)


def test_tensors_without_axes_are_refused_not_crashed_on():
    shapes = {tensor: () for tensor, _, _ in packs.load("hf_vit_cls").tensors}
    with pytest.raises(CheckpointError, match="width=64, but the tensors beside it tell None"):
        VIT.from_hub(packs.load("hf_vit_cls").config, shapes)


def test_transformers_tells_the_task_and_the_pooler_by_its_tensors():
    classifier, model = match(VIT, "hf_vit_cls"), match(VIT, "hf_vit_model")
    assert (classifier.task, classifier.classes, classifier.config.pooler) == ("classify", 10, 0)
    assert (model.task, model.classes, model.config.pooler) == ("features", None, 64)
