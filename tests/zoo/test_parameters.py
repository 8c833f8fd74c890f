"""Variants at full size have exactly as many trainable parameters as published."""

from __future__ import annotations

import math

import pytest

import zoo
from tests.rows import ROWS
from zoo.core.skeleton import skeleton


def parameters(name: str, **options) -> int:
    """Trainable parameters, counted from shapes: no weight is allocated."""
    model = skeleton(lambda: zoo.create(name, **options))
    return sum(math.prod(weight.shape) for weight in model.trainable_weights)


@pytest.mark.parametrize("row", ROWS.values(), ids=list(ROWS))
def test_parameters_are_as_published(row):
    assert parameters(row.variant) == row.parameters


def test_widths_between_the_published_ones_round_to_eights():
    assert parameters("mobilenet_v2", width=1.3, classes=6) == 3_731_782  # torchvision's, width_mult=1.3
    assert parameters("mobilenet_v3_large", width=0.25, classes=6, scaling="uniform", narrow_stem=True) == 297_926


def test_other_classes_change_the_classifier_alone():
    assert parameters("mobilenet_v2") - parameters("mobilenet_v2", classes=10) == 990 * 1281
    assert parameters("deit_tiny16_distilled") - parameters("deit_tiny16_distilled", classes=10) == 2 * 990 * 193
