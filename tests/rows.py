"""One row per variant: how to make it tiny, how many parameters it was published with, which packs prove it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from zoo.mobilenet import FAMILY as MOBILENET


@dataclass(frozen=True)
class Row:
    """What the tests know of a variant.

    `tiny` are options that keep its structure and make it fast to build. `parameters` counts the
    trainable ones with the usual classes, as timm, torchvision or the paper do. `packs` are the parity
    packs of this variant, each with the options beyond the name that its checkpoint needs.
    """

    variant: str
    parameters: int
    tiny: Mapping[str, Any]
    packs: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


_RESNET = {"depths": (1, 1, 1, 1), "width": 8, "size": 32}
_VIT = {"width": 16, "depth": 2, "heads": 2, "mlp_width": 32}
_HF_VIT = {"width": 64, "depth": 3, "heads": 4, "mlp_width": 128}


def _mobilenet(variant: str, parameters: int, *packs: str, **needing_options: Mapping[str, Any]) -> Row:
    stages = MOBILENET.variants[variant].stages
    tiny = {"stages": (stages[0], stages[2], stages[-1]), "size": 32}
    return Row(variant, parameters, tiny, {**{pack: {} for pack in packs}, **needing_options})


def _vit(variant: str, parameters: int, *packs: str, patch: int = 16, **needing_options: Mapping[str, Any]) -> Row:
    tiny = {**_VIT, "size": (patch, 3 * patch)}
    return Row(variant, parameters, tiny, {**{pack: {} for pack in packs}, **needing_options})


_ALL = (
    Row("mlp", 1_472_522, {"widths": (8, 4), "size": 8}),
    Row("lenet5", 61_706, {"filters": (2, 3), "widths": (8, 4), "size": 16}),
    Row("resnet18", 11_689_512, _RESNET, {"tv_resnet18": {}}),
    Row("resnet34", 21_797_672, _RESNET),
    Row("resnet50", 25_557_032, _RESNET, {"tv_resnet50": {}, "timm_resnet50": {}}),
    Row("resnet101", 44_549_160, _RESNET),
    Row("resnet152", 60_192_808, _RESNET),
    _mobilenet("mobilenet_v1", 4_231_976, "timm_mobilenetv1_100"),
    _mobilenet("mobilenet_v1_025", 470_072),
    _mobilenet("mobilenet_v1_050", 1_331_592),
    _mobilenet("mobilenet_v1_075", 2_585_560),
    _mobilenet("mobilenet_v1_100h", 5_282_600),
    _mobilenet("mobilenet_v1_125", 6_270_840),
    _mobilenet("mobilenet_v2", 3_504_872, "tv_mobilenet_v2", "timm_mobilenetv2_100"),
    _mobilenet("mobilenet_v2_035", 1_677_128, "extra_timm_mobilenetv2_035"),
    _mobilenet("mobilenet_v2_050", 1_968_680),
    _mobilenet("mobilenet_v2_075", 2_636_424),
    _mobilenet("mobilenet_v2_110d", 4_516_520),
    _mobilenet("mobilenet_v2_120d", 5_831_144),
    _mobilenet("mobilenet_v2_140", 6_108_776),
    _mobilenet("mobilenet_v3_large", 5_483_032, "timm_mobilenetv3_large_100"),
    _mobilenet("mobilenet_v3_large_075", 3_993_528),
    _mobilenet("mobilenet_v3_large_150d", 14_622_320),
    _mobilenet("mobilenet_v3_large_minimal", 3_924_288),
    _mobilenet(
        "mobilenet_v3_small",
        2_542_856,
        "timm_mobilenetv3_small_100",
        extra_tv_mobilenet_v3_small={"width": 0.5},
    ),
    _mobilenet("mobilenet_v3_small_050", 1_593_224),
    _mobilenet("mobilenet_v3_small_075", 2_041_872, "extra_timm_tf_mobilenetv3_small_075"),
    _mobilenet("mobilenet_v3_small_minimal", 2_044_736),
    _vit(
        "vit_tiny16",
        5_717_416,
        "timm_vit_tiny_patch16_224",
        "extra_timm_vit_tiny_patch16_224",
        hf_vit_cls=_HF_VIT,
        hf_vit_model=_HF_VIT,
        extra_hf_vit={"width": 48, "depth": 2, "heads": 6, "mlp_width": 100, "patch": 8},
    ),
    _vit("vit_small8", 22_055_272, patch=8),
    _vit("vit_small16", 22_050_664, "timm_vit_small_patch16_224"),
    _vit("vit_small32", 22_878_952, patch=32),
    _vit("vit_base8", 86_576_872, patch=8),
    _vit("vit_base16", 86_567_656, "timm_vit_base_patch16_224"),
    _vit("vit_base32", 88_224_232, patch=32),
    _vit("vit_large14", 304_203_752, patch=14),
    _vit("vit_large16", 304_326_632),
    _vit("vit_large32", 306_535_400, patch=32),
    _vit("deit_tiny16", 5_717_416),
    _vit("deit_small16", 22_050_664),
    _vit("deit_base16", 86_567_656),
    _vit(
        "deit_tiny16_distilled",
        5_910_800,
        "timm_deit_tiny_distilled_patch16_224",
        "extra_timm_deit_tiny_distilled_patch16_224",
    ),
    _vit("deit_small16_distilled", 22_436_432),
    _vit("deit_base16_distilled", 87_338_192),
)

ROWS = {row.variant: row for row in _ALL}
SLOW_PACKS = frozenset({"timm_vit_base_patch16_224"})
