"""curated.csv: every tag names a variant, a place, a licence; and what is pinned stays pinned."""

from __future__ import annotations

import re
from collections import Counter

import pytest

import zoo
from zoo.core.family import Pretrained
from zoo.core.registry import families, load_family
from zoo.weights import curated
from zoo.weights.curated import LICENCES, find_tag, published, to_csv

LINES = published()
UNPINNED = 136  # of the tags on the Hub; `python -m zoo.weights.pin` brings it to 0. It rises with new tags alone


@pytest.mark.parametrize("values", [[line.name for line in LINES], [line.uri for line in LINES]], ids=["names", "URIs"])
def test_nothing_is_there_twice(values):
    assert [value for value, count in Counter(values).items() if count > 1] == []


def test_every_line_belongs_to_a_variant_of_its_family():
    assert [line.name for line in LINES if line.variant not in load_family(line.family).variants] == []


def test_every_dialect_is_one_of_its_family():
    assert [line.name for line in LINES if line.dialect not in ("", *load_family(line.family).dialects)] == []


@pytest.mark.parametrize("family", families())
def test_a_family_offers_the_lines_that_are_its_own(family):
    assert set(load_family(family).pretrained) == {line.name for line in LINES if line.family == family}


def test_variants_without_published_weights_are_known():
    """Nobody publishes safetensors of these under a licence of ours, or of this width or layout at all."""
    without = {"alexnet", "cnn", "inception_v1", "lenet5", "mlp", "vit_large14", "resnet200"}
    never = re.compile(r"mobilenet_v1_0\d\d|mobilenet_v2_0(35|75)|rnn_.*|transformer_.*|(gan|vae|dalle)_.*")
    pickled = re.compile(r"clip_.*|blip_.*|bert_(tiny|mini|small|medium)|t5_v1_1_.*|(flan_)?t5_(xl|xxl|3b|11b)")
    found = set(zoo.variants()) - {line.variant for line in LINES}
    assert {name for name in found if not never.fullmatch(name) and not pickled.fullmatch(name)} <= without


@pytest.mark.parametrize("line", LINES, ids=lambda line: line.name)
def test_every_value_is_of_its_form(line):
    assert re.fullmatch(r"hf://[\w-]+/[\w.-]+|keras://\w+|bundled://[\w.]+", line.uri)
    assert re.fullmatch(r"[a-z0-9_]+", line.tag)
    assert re.fullmatch(r"([0-9a-f]{40})?", line.revision)
    assert re.fullmatch(r"([0-9a-f]{64})?", line.sha256)
    assert line.licence in LICENCES
    assert line.classes in (None, 2, 512, 768, 1000)  # no classifier, SST-2, a projection of CLIP, ImageNet
    assert (line.top1 is None) == (line.top1_size is None)
    assert line.top1 is None or (50 < line.top1 < 91 and line.classes == 1000 and 192 <= line.top1_size <= 600)


def test_published_accuracies():
    """Of timm's results-imagenet.csv, of torchvision's and of keras.io's tables."""
    said = {
        "resnet50.a1_in1k": (80.382, 224),
        "resnet18.tv_in1k": (69.752, 224),
        "efficientnet_b0.ra_in1k": (77.698, 224),
        "efficientnet_lite4.tf_in1k": (81.54, 380),
        "mobilenet_v2.bundled": (71.878, 224),
        "vit_base16.augreg2_in21k_ft_in1k": (85.108, 224),
        "deit_tiny16.fb_in1k": (72.19, 224),
        "inception_v3.keras": (77.9, 299),
    }
    assert {name: (find_tag(name).top1, find_tag(name).top1_size) for name in said} == said


def test_the_number_of_unpinned_tags_only_falls():
    assert sum(not line.is_pinned for line in LINES) <= UNPINNED


def test_a_pinned_tag_is_opened_at_its_revision():
    revision, sha256 = "767268603ca0cb0bfe326fa87277f19c419566ef", "773525d5821de224f8f30c33377b7a795d7863e08522698200"
    entry = curated.curated("resnet")["resnet50.a1_in1k"]
    assert entry == Pretrained(
        f"hf://timm/resnet50.a1_in1k@{revision}", "Apache-2.0", sha256=entry.sha256, classes=1000
    )
    assert entry.sha256.startswith(sha256)
    assert curated.curated("resnet")["resnet101.a1_in1k"].uri == "hf://timm/resnet101.a1_in1k"  # not pinned


def test_what_is_written_is_what_was_read():
    assert to_csv(LINES) == curated.PATH.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ("resnet50.a1", "Did you mean 'resnet50.a1_in1k' or 'resnet50.tv_in1k' or 'resnet50.keras'"),
        ("resnet50", "Did you mean 'resnet50.a1_in1k'"),
        ("mobilenetv2.bundled", "Did you mean 'mobilenet_v2.bundled'"),
        ("qwerty", "No checkpoint is known as 'qwerty'. A tag reads variant.tag"),
    ],
)
def test_an_unknown_tag(asked, words):
    with pytest.raises(ValueError, match=re.escape(words)):
        find_tag(asked)
