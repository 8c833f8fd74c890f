"""catalog.json: fresh, exact, and readable without Keras."""

from __future__ import annotations

import subprocess
import sys

import pytest

import zoo
from zoo.core.catalog import PATH, Entry, describe, entries, write
from zoo.core.registry import families, load_family


def named(name: str) -> Entry:
    return next(entry for entry in entries() if entry.name == name)


def test_it_lists_every_variant_of_every_family_in_order():
    assert tuple(entry.name for entry in entries()) == zoo.variants()


@pytest.mark.parametrize("family", families())
def test_it_repeats_what_the_family_declares(family):
    declared = load_family(family)
    for entry in (entry for entry in entries() if entry.family == family):
        tags = {tag.name: (tag.address, tag.licence, tag.classes) for tag in entry.tags}
        assert tags == {
            name: (weights.uri, weights.licence, weights.classes)
            for name, weights in declared.pretrained.items()
            if name.rpartition(".")[0] == entry.name
        }
        config = declared.variants[entry.name]
        assert (entry.paper, entry.tasks, entry.classes) == (declared.paper, declared.tasks, declared.classes)
        if entry.takes in ("images", "pairs"):
            pixels = config.pixels
            assert (entry.size, entry.crop, entry.interpolation) == (pixels.shape, pixels.crop, pixels.interpolation)
        else:
            assert (entry.size, entry.crop, entry.interpolation) == (None, None, None)
        if entry.takes != "images":
            assert entry.length == getattr(config, "length", None)


def test_published_numbers_of_parameters():
    parameters = {entry.name: entry.parameters for entry in entries()}
    published = {"lenet5": 61_706, "resnet18": 11_689_512, "resnet50": 25_557_032, "mobilenet_v2": 3_504_872}
    assert published.items() <= parameters.items()


@pytest.mark.parametrize(
    ("name", "published"),
    [  # GFLOPS of torchvision's documentation, which are multiply-accumulates
        ("alexnet", 0.714),
        ("vgg16", 15.470),
        ("resnet18", 1.814),
        ("resnet50", 4.089),
        ("resnext50_32x4d", 4.230),
        ("densenet121", 2.834),
        ("inception_v1", 1.498),
        ("inception_v3", 5.713),
        ("mobilenet_v2", 0.301),
        ("mobilenet_v3_large", 0.217),
        ("efficientnet_b0", 0.386),
        ("convnext_tiny", 4.456),
        ("vit_base16", 17.564),  # with the products of attention; timm's model card says 16.9 without
        ("vit_base32", 4.409),
    ],
)
def test_published_multiply_accumulates(name, published):
    assert named(name).macs == pytest.approx(published * 1e9, rel=0.002)


@pytest.mark.parametrize(
    ("variant", "width", "blocks", "mlp", "vocabulary"),
    [
        ("bert_base", 768, 12, 3072, 0),
        ("distilbert_base", 768, 6, 3072, 0),
        ("gpt2", 768, 12, 3072, 50_257),  # its logits come from the table of token vectors
    ],
)
def test_multiply_accumulates_of_512_tokens(variant, width, blocks, mlp, vocabulary):
    """Four projections, two layers of the MLP and two products of attention a block; BERT's pooler sees one token."""
    length = 512
    block = length * (4 * width * width + 2 * width * mlp) + 2 * length * length * width
    pooler = width * width if variant == "bert_base" else 0
    assert named(variant).macs == blocks * block + length * width * vocabulary + pooler
    assert named(variant).counted_length == length


def test_exports_of_a_text_model_are_as_large_as_measured():
    """bert_tiny at 64 tokens, with the converter of TensorFlow: 17,322,616 bytes; with dynamic ranges 4,403,120."""
    sizes = named("bert_tiny").sizes
    assert sizes.float32 == pytest.approx(17_322_616, rel=0.05)
    assert sizes.int8 == pytest.approx(4_403_120, rel=0.05)


@pytest.mark.parametrize("name", ["lenet5", "resnet18", "vit_tiny16", "bert_tiny", "gpt2"])
def test_an_entry_is_what_the_graph_gives(name):
    found = named(name)
    assert describe(name, family=found.family) == Entry(**{**vars(found), "tags": ()})


def test_the_best_tag_is_the_one_of_the_highest_accuracy():
    best = named("resnet50").best
    assert best is not None and (best.tag, best.top1) == ("a1_in1k", 80.382)
    assert named("lenet5").best is None


@pytest.mark.slow
def test_the_whole_file_is_fresh(tmp_path):
    write(tmp_path / "catalog.json")
    assert (tmp_path / "catalog.json").read_text() == PATH.read_text(), "run: python -m zoo.core.catalog"


def test_reading_it_imports_no_keras():
    code = (
        "import sys; from zoo.core.catalog import entries; assert len(entries()) > 20; "
        "print({'keras', 'tensorflow', 'numpy'} & set(sys.modules))"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "set()"
