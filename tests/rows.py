"""One row per variant: how to make it tiny, how many parameters it was published with, which packs prove it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from tests.generative_rows import GENERATIVE
from tests.pair_rows import PAIRS
from tests.row import Row
from tests.sequence_rows import SEQUENCES
from zoo.efficientnet import FAMILY as EFFICIENTNET
from zoo.inception import FAMILY as INCEPTION
from zoo.mobilenet import FAMILY as MOBILENET

_RESNET = {"depths": (1, 1, 1, 1), "width": 8, "size": 32}
_VIT = {"width": 16, "depth": 2, "heads": 2, "mlp_width": 32}
_HF_VIT = {"width": 64, "depth": 3, "heads": 4, "mlp_width": 128}
_ALEXNET = {"filters": (6, 8, 8, 8, 8), "hidden": 16, "size": 64}
_VGG = {"depths": (1, 1, 1, 1, 1), "width": 8, "hidden": 16, "size": (32, 64)}
_DENSENET = {"depths": (2, 1, 1, 1), "growth": 4, "size": 32}
_DEEP_RESNET = {**_RESNET, "stem": (4, 4, 8)}
_RESNEXT = {**_RESNET, "groups": 4}
_CONVNEXT = {"depths": (1, 2, 1, 1), "widths": (8, 12, 16, 20), "size": 32}


def _mobilenet(variant: str, parameters: int, *packs: str, **needing_options: Mapping[str, Any]) -> Row:
    stages = MOBILENET.variants[variant].stages
    tiny = {"stages": (stages[0], stages[2], stages[-1]), "size": 32}
    return Row(variant, parameters, tiny, {**{pack: {} for pack in packs}, **needing_options})


def _vit(variant: str, parameters: int, *packs: str, patch: int = 16, **needing_options: Mapping[str, Any]) -> Row:
    tiny = {**_VIT, "size": (patch, 3 * patch)}
    return Row(variant, parameters, tiny, {**{pack: {} for pack in packs}, **needing_options})


def _inception(variant: str, parameters: int, size: int, *packs: str) -> Row:
    """Two blocks in a stage, with a sixteenth of the channels."""

    def narrow(units):
        return tuple(unit._replace(filters=max(1, unit.filters // 16)) for unit in units)

    def thin(stage):
        blocks = tuple(
            tuple(replace(branch, units=narrow(branch.units), fork=narrow(branch.fork)) for branch in block)
            for block in stage.blocks[:2]
        )
        return replace(stage, units=narrow(stage.units), blocks=blocks, auxiliary=tuple(range(len(stage.auxiliary))))

    config = INCEPTION.variants[variant]
    tiny = {"stem": narrow(config.stem), "stages": tuple(map(thin, config.stages)), "size": size}
    return Row(variant, parameters, tiny, {pack: {} for pack in packs})


def _efficientnet(variant: str, parameters: int, *packs: str) -> Row:
    first, *_, last = EFFICIENTNET.variants[variant].stages
    second = EFFICIENTNET.variants[variant].stages[1]
    tiny = {"stages": (first, second, last), "depth": 0.1, "width": 0.5, "neck": 64, "size": 32}
    return Row(variant, parameters, tiny, {pack: {} for pack in packs})


_ALL = (
    Row("mlp", 1_472_522, {"widths": (8, 4), "size": 8}),
    Row("cnn", 1_147_466, {"widths": (4, 6, 8), "hidden": 8, "size": 16}),
    Row("lenet5", 61_706, {"filters": (2, 3), "widths": (8, 4), "size": 16}),
    Row("alexnet", 61_100_840, _ALEXNET, {"tv_alexnet": {}}),
    Row("vgg11", 132_863_336, _VGG),
    Row("vgg13", 133_047_848, _VGG),
    Row("vgg16", 138_357_544, _VGG, {"tv_vgg16": {}}),
    Row("vgg19", 143_667_240, _VGG),
    Row("vgg11_bn", 132_868_840, _VGG),
    Row("vgg13_bn", 133_053_736, _VGG),
    Row("vgg16_bn", 138_365_992, _VGG, {"tv_vgg16_bn": {}}),
    Row("vgg19_bn", 143_678_248, _VGG),
    _inception("inception_v1", 6_624_904, 32, "tv_googlenet", "extra_tv_googlenet"),
    _inception("inception_v3", 23_834_568, 75, "tv_inception_v3", "timm_inception_v3", "extra_timm_inception_v3"),
    Row("densenet121", 7_978_856, _DENSENET, {"tv_densenet121": {}, "extra_timm_densenet121": {}}),
    Row("densenet161", 28_681_000, _DENSENET),
    Row("densenet169", 14_149_480, _DENSENET),
    Row("densenet201", 20_013_928, _DENSENET),
    Row("resnet18", 11_689_512, _RESNET, {"tv_resnet18": {}}),
    Row("resnet26", 15_995_176, _RESNET),
    Row("resnet34", 21_797_672, _RESNET),
    Row("resnet50", 25_557_032, _RESNET, {"tv_resnet50": {}, "timm_resnet50": {}}),
    Row("resnet101", 44_549_160, _RESNET),
    Row("resnet152", 60_192_808, _RESNET),
    Row("resnet200", 64_673_832, _RESNET),
    Row("resnet18d", 11_708_744, _DEEP_RESNET),
    Row("resnet26d", 16_014_408, _DEEP_RESNET, {"extra_timm_resnet26d": {}}),
    Row("resnet34d", 21_816_904, _DEEP_RESNET),
    Row("resnet50d", 25_576_264, _DEEP_RESNET),
    Row("resnet101d", 44_568_392, _DEEP_RESNET),
    Row("resnet152d", 60_212_040, _DEEP_RESNET),
    Row("resnet200d", 64_693_064, _DEEP_RESNET),
    Row("wide_resnet50_2", 68_883_240, _RESNET),
    Row("wide_resnet101_2", 126_886_696, _RESNET),
    Row("resnext50_32x4d", 25_028_904, _RESNEXT, {"extra_timm_resnext50_32x4d": {}}),
    Row("resnext50d_32x4d", 25_048_136, {**_DEEP_RESNET, **_RESNEXT}),
    Row("resnext101_32x4d", 44_177_704, _RESNEXT),
    Row("resnext101_32x8d", 88_791_336, _RESNEXT),
    Row("resnext101_64x4d", 83_455_272, _RESNEXT),
    _efficientnet("efficientnet_b0", 5_288_548, "timm_efficientnet_b0", "timm_tf_efficientnet_b0"),
    _efficientnet("efficientnet_b1", 7_794_184, "extra_tv_efficientnet_b1"),
    _efficientnet("efficientnet_b2", 9_109_994),
    _efficientnet("efficientnet_b3", 12_233_232),
    _efficientnet("efficientnet_b4", 19_341_616),
    _efficientnet("efficientnet_b5", 30_389_784),
    _efficientnet("efficientnet_b6", 43_040_704),
    _efficientnet("efficientnet_b7", 66_347_960),
    _efficientnet("efficientnet_lite0", 4_652_008, "timm_efficientnet_lite0", "timm_tf_efficientnet_lite0"),
    _efficientnet("efficientnet_lite1", 5_416_680),
    _efficientnet("efficientnet_lite2", 6_092_072),
    _efficientnet("efficientnet_lite3", 8_197_096),
    _efficientnet("efficientnet_lite4", 13_006_568),
    _efficientnet("efficientnet_v2_b0", 7_139_704),
    _efficientnet("efficientnet_v2_b1", 8_141_052),
    _efficientnet("efficientnet_v2_b2", 10_096_086),
    _efficientnet("efficientnet_v2_b3", 14_358_406, "extra_timm_tf_efficientnetv2_b3"),
    _efficientnet("efficientnet_v2_s", 21_458_488, "timm_tf_efficientnetv2_s", "extra_tv_efficientnet_v2_s"),
    _efficientnet("efficientnet_v2_m", 54_139_356),
    _efficientnet("efficientnet_v2_l", 118_515_272),
    _efficientnet("efficientnet_v2_rw_t", 13_649_388, "timm_efficientnetv2_rw_t"),
    _efficientnet("efficientnet_v2_rw_s", 23_941_296),
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
    Row("convnext_atto", 3_695_520, _CONVNEXT),
    Row("convnext_femto", 5_217_784, _CONVNEXT),
    Row("convnext_pico", 9_045_672, _CONVNEXT),
    Row("convnext_nano", 15_593_560, _CONVNEXT),
    Row(
        "convnext_tiny",
        28_589_128,
        _CONVNEXT,
        {
            "timm_convnext_tiny": {},
            "extra_tv_convnext_tiny": {},
            "extra_hf_convnext": {"depths": (1, 2, 1, 1), "widths": (12, 20, 36, 60)},
        },
    ),
    Row("convnext_small", 50_223_688, _CONVNEXT),
    Row("convnext_base", 88_591_464, _CONVNEXT),
    Row("convnext_large", 197_767_336, _CONVNEXT),
    Row("convnext_xlarge", 350_196_968, _CONVNEXT),
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
    _vit("vit_base16_clip", 86_568_424),
    _vit(
        "vit_base32_clip",
        88_225_000,
        patch=32,
        extra_timm_vit_xsmall_patch16_clip_224={"patch": 16, "width": 256, "depth": 10, "heads": 4, "mlp_width": 1024},
    ),
    _vit("vit_large14_clip", 304_204_776, patch=14),
    _vit("deit_tiny16", 5_717_416),
    _vit("deit_small16", 22_050_664),
    _vit("deit_base16", 86_567_656),
    _vit(
        "deit_tiny16_distilled",
        5_910_800,
        "timm_deit_tiny_distilled_patch16_224",
        "extra_timm_deit_tiny_distilled_patch16_224",
        extra_hf_deit_teacher={"patch": 8, "width": 40, "depth": 2, "heads": 5, "mlp_width": 72},
    ),
    _vit("deit_small16_distilled", 22_436_432),
    _vit("deit_base16_distilled", 87_338_192),
)

ROWS = {row.variant: row for row in (*_ALL, *SEQUENCES, *PAIRS, *GENERATIVE)}
# Of most dialects a pack that is sooner done stays in the default suite.
SLOW_PACKS = frozenset(
    {
        "extra_timm_densenet121",
        "extra_timm_inception_v3",
        "extra_timm_resnext50_32x4d",
        "extra_tv_efficientnet_b1",
        "extra_tv_efficientnet_v2_s",
        "extra_tv_googlenet",
        "timm_deit_tiny_distilled_patch16_224",
        "timm_efficientnetv2_rw_t",
        "timm_mobilenetv2_100",
        "timm_mobilenetv3_large_100",
        "timm_tf_efficientnet_b0",
        "timm_tf_efficientnet_lite0",
        "timm_tf_efficientnetv2_s",
        "timm_vit_base_patch16_224",
        "timm_vit_small_patch16_224",
        "timm_vit_tiny_patch16_224",
        "tv_inception_v3",
        "tv_resnet50",
        "tv_vgg16",
        "tv_vgg16_bn",
    }
)
