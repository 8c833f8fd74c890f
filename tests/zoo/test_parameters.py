"""Variants at full size have exactly as many trainable parameters as published."""

from __future__ import annotations

import math
import re

import pytest

import zoo
from tests.rows import ROWS
from zoo.core.catalog import entries
from zoo.core.skeleton import skeleton

# Deeper, wider or larger than a variant of the same blocks that is built in the default suite.
ALIKE = re.compile(
    r"(wide_resnet|resnext|resnet)(101|152|200).*|resnet34d|vgg(13|19).*|densenet(161|169|201)"
    r"|efficientnet_(b[1-7]|lite[1-4]|v2_b[123]|v2_[ml]|v2_rw_s)|mobilenet_v._(025|050|075|125|140)|mobilenet_v2_110d"
    r"|convnext_(nano|small|base|large|xlarge)|(vit|deit)_(base|large)(8|16|32|14)"
    r"|bert_(mini|small|medium|large|base_.*|large_.*|minilm_l12)|(xlm_)?roberta_large|distilbert_base_.*"
    r"|clip_vit_(base16|large14|.*_.*)|blip_large"
    r"|gpt2_(medium|large|xl)|(flan_)?t5_(v1_1_)?(base|large|x+l|3b|11b)"
)


def parameters(name: str, **options) -> int:
    """Trainable parameters, counted from shapes: no weight is allocated."""
    model = skeleton(lambda: zoo.create(name, **options))
    return sum(math.prod(weight.shape) for weight in model.trainable_weights)


def test_the_catalog_tells_the_published_parameters_of_all():
    assert {entry.name: entry.parameters for entry in entries()} == {
        row.variant: row.parameters for row in ROWS.values()
    }


@pytest.mark.parametrize(
    "row",
    [
        pytest.param(row, id=row.variant, marks=pytest.mark.slow if ALIKE.fullmatch(row.variant) else ())
        for row in ROWS.values()
    ],
)
def test_parameters_are_as_published(row):
    assert parameters(row.variant) == row.parameters


def test_widths_between_the_published_ones_round_to_eights():
    assert parameters("mobilenet_v2", width=1.3, classes=6) == 3_731_782  # torchvision's, width_mult=1.3
    assert parameters("mobilenet_v3_large", width=0.25, classes=6, scaling="uniform", narrow_stem=True) == 297_926


def test_other_classes_change_the_classifier_alone():
    assert parameters("mobilenet_v2") - parameters("mobilenet_v2", classes=10) == 990 * 1281
    assert parameters("deit_tiny16_distilled") - parameters("deit_tiny16_distilled", classes=10) == 2 * 990 * 193
