"""catalog.json: fresh, exact, and readable without Keras."""

from __future__ import annotations

import subprocess
import sys

import pytest

import zoo
from zoo.core.catalog import PATH, describe, entries, write
from zoo.core.registry import families, load_family


def test_it_lists_every_variant_of_every_family_in_order():
    assert tuple(entry.name for entry in entries()) == zoo.variants()


@pytest.mark.parametrize("family", families())
def test_it_repeats_what_the_family_declares(family):
    declared = load_family(family)
    for entry in (entry for entry in entries() if entry.family == family):
        tags = {f"{entry.name}.{tag.name}": (tag.uri, tag.licence, tag.classes) for tag in entry.tags}
        assert tags == {
            name: (weights.uri, weights.licence, weights.classes)
            for name, weights in declared.pretrained.items()
            if name.rpartition(".")[0] == entry.name
        }
        assert (entry.paper, entry.tasks, entry.classes) == (declared.paper, declared.tasks, declared.classes)
        assert entry.size == declared.variants[entry.name].pixels.shape


def test_published_numbers_of_parameters():
    parameters = {entry.name: entry.parameters for entry in entries()}
    published = {"lenet5": 61_706, "resnet18": 11_689_512, "resnet50": 25_557_032, "mobilenet_v2": 3_504_872}
    assert published.items() <= parameters.items()


@pytest.mark.parametrize("name", ["lenet5", "resnet18"])
def test_an_entry_is_what_the_graph_gives(name):
    entry = next(entry for entry in entries() if entry.name == name)
    assert describe(name, family=entry.family) == entry


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
