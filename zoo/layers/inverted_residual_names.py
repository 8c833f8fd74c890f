"""What timm, torchvision and keras.applications call the layers of networks of inverted residual blocks."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Literal

import numpy as np

from zoo.layers.inverted_residual import Block
from zoo.weights.dialect import Rule


def timm_rules() -> Iterator[Rule]:
    """The rules of timm's blocks: stages count from 0 there, and norms are numbered as our convolutions are."""
    names = {
        "conv": "conv",
        "bn": "bn1",
        "expand_conv1": "conv_pw",
        r"depthwise_conv\d": "conv_dw",
        "project_conv2": "conv_pw",
        "project_conv3": "conv_pwl",
        "fused_expand_conv1": "conv_exp",
        "fused_project_conv2": "conv_pwl",
        r"(?:fused_)?(?:expand|depthwise|project)_bn(\d)": r"bn\3",
        "squeeze_(reduce|expand)": r"se.conv_\3",
    }
    for ours, theirs in names.items():
        yield Rule(
            rf"stage(\d+)_block(\d+)_{ours}",
            lambda match, theirs=theirs: f"blocks.{int(match[1]) - 1}.{match[2]}.{match.expand(theirs)}",
        )


def torchvision_rules(block: Block, module: str, *, inner: Literal["conv", "block"]) -> Iterator[Rule]:
    """The rules of one of torchvision's blocks, which counts its layers from 0 in a sequence called `inner`."""
    if block.stage.kind == "convolution":
        yield from (Rule(f"{block.name}_conv", f"{module}.0"), Rule(f"{block.name}_bn", f"{module}.1"))
        return
    parts = {"expand": block.expanded, "depthwise": True, "squeeze": block.stage.squeeze, "project": True}
    for position, part in enumerate(name for name, present in parts.items() if present):
        conv, bn = f"{module}.{inner}.{position}.0", f"{module}.{inner}.{position}.1"
        if part == "project" and inner == "conv":  # V2 does not nest its linear convolution
            conv, bn = f"{module}.conv.{position}", f"{module}.conv.{position + 1}"
        if part == "squeeze":
            yield Rule(f"{block.name}_squeeze_reduce", f"{module}.{inner}.{position}.fc1")
            yield Rule(f"{block.name}_squeeze_expand", f"{module}.{inner}.{position}.fc2")
        else:
            yield Rule(rf"{block.name}_{part}_conv\d", conv)
            yield Rule(rf"{block.name}_{part}_bn\d", bn)


def torchvision_stage_rules(*, fused: bool) -> Iterator[Rule]:
    """The rules of torchvision's EfficientNets: stages are as ours, and the layers of a block are counted from 0.

    `fused` are the second version's blocks without a depthwise convolution.
    """
    block = r"stage(\d+)_block(\d+)_"
    if fused:
        yield Rule(block + "(conv|bn)", lambda match: _nested(match, 0))
        yield Rule(block + r"fused_\w+_(conv|bn)(\d)", lambda match: _nested(match, int(match[4]) - 1))
    yield Rule(block + r"(?:expand|depthwise)_(conv|bn)(\d)", lambda match: _nested(match, int(match[4]) - 1))
    yield Rule(block + r"project_(conv|bn)(\d)", lambda match: _nested(match, int(match[4])))  # after the squeeze
    for ours, theirs in {"reduce": "fc1", "expand": "fc2"}.items():
        yield Rule(rf"stage1_block(\d+)_squeeze_{ours}", rf"features.1.\1.block.1.{theirs}")  # it does not expand
        yield Rule(rf"{block}squeeze_{ours}", rf"features.\1.\2.block.2.{theirs}")


def _nested(match: re.Match[str], position: int) -> str:
    """A convolution or its norm at a position of a block's sequence."""
    return f"features.{match[1]}.{match[2]}.block.{position}.{('conv', 'bn').index(match[3])}"


def keras_stage_rules(depthwise: str) -> Iterator[Rule]:
    """The rules of the EfficientNets of keras.applications: blocks are letters, `depthwise` is that convolution."""
    names = {
        "(conv|bn)": r"project_\3",  # a fused block that does not expand
        r"(?:fused_)?(expand|project)_(conv|bn)\d": r"\3_\4",
        r"depthwise_conv\d": depthwise,
        r"depthwise_bn\d": "bn",
        "squeeze_(reduce|expand)": r"se_\3",
    }
    for ours, theirs in names.items():
        yield Rule(
            rf"stage(\d+)_block(\d+)_{ours}",
            lambda match, theirs=theirs: f"block{match[1]}{chr(ord('a') + int(match[2]))}_{match.expand(theirs)}",
        )


def keras_rules(blocks: Iterable[Block], *, generation: Literal[1, 2, 3]) -> Iterator[Rule]:
    """The rules of a MobileNet of keras.applications: blocks count through all stages, norms hang on convolutions."""
    for ours, theirs in _KERAS_ENDS[generation].items():
        yield Rule(ours, theirs, _dense if ours.startswith("head") else None)
    for number, block in enumerate(blocks):
        if block.stage.kind == "convolution":
            yield from (Rule(f"{block.name}_conv", "conv_1"), Rule(f"{block.name}_bn", "conv_1_bn"))
            continue
        prefix = {2: f"block_{number}", 3: f"expanded_conv_{number}"}.get(generation) if number else "expanded_conv"
        modules = {part: f"{prefix}_{part}" for part in ("expand", "depthwise", "project")}
        if generation == 1:
            modules = {"depthwise": f"conv_dw_{number + 1}", "project": f"conv_pw_{number + 1}"}
        for part, module in modules.items():
            yield Rule(rf"{block.name}_{part}_conv\d", module)
            yield Rule(rf"{block.name}_{part}_bn\d", f"{module}_{'BN' if generation == 2 else 'bn'}")
        yield Rule(f"{block.name}_squeeze_reduce", f"{prefix}_squeeze_excite_conv")
        yield Rule(f"{block.name}_squeeze_expand", f"{prefix}_squeeze_excite_conv_1")


_KERAS_ENDS: dict[int, dict[str, str]] = {
    1: {"stem_conv": "conv1", "stem_bn": "conv1_bn", "head_logits": "conv_preds"},
    2: {
        "stem_conv": "Conv1",
        "stem_bn": "bn_Conv1",
        "neck_conv": "Conv_1",
        "neck_bn": "Conv_1_bn",
        "head_logits": "predictions",
    },
    3: {"stem_conv": "conv", "stem_bn": "conv_bn", "head_dense": "conv_2", "head_logits": "logits"},
}


def _dense(array: np.ndarray) -> np.ndarray:
    """The kernel of a 1x1 convolution that works as a dense layer: (1, 1, in, out) -> (in, out)."""
    return array[0, 0] if array.ndim == 4 else array
