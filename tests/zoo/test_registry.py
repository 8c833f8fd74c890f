"""Names, options and their errors."""

from __future__ import annotations

import pytest

import zoo
from zoo.core.family import Pixels
from zoo.core.registry import configure, families, find_family, load_family
from zoo.layers.pixels import pixels_of


def test_a_typo_gets_the_nearest_names_of_the_family():
    with pytest.raises(
        ValueError, match=r"No architecture named 'resnet5O'\. Did you mean 'resnet50'.*Family resnet has"
    ):
        zoo.create("resnet5O")


def test_an_unknown_name_gets_the_families():
    with pytest.raises(ValueError, match=r"No architecture named 'alphago'.*Families: .*lenet, mlp, mobilenet.*vit"):
        zoo.create("alphago")


def test_a_name_need_not_begin_with_its_file():
    assert find_family("deit_small16") is load_family("vit")
    assert find_family("lenet5") is load_family("lenet")


def test_patterns_families_and_tasks_select_variants():
    assert zoo.variants("resnet1*", family="resnet") == (
        "resnet18",
        "resnet101",
        "resnet152",
        "resnet18d",
        "resnet101d",
        "resnet152d",
    )
    assert zoo.variants("*distilled", family="vit") == (
        "deit_tiny16_distilled",
        "deit_small16_distilled",
        "deit_base16_distilled",
    )
    assert zoo.variants(family="mlp", task="features") == ()
    assert set(zoo.variants()) == {name for member in families() for name in zoo.variants(family=member)}
    assert zoo.variants("bert_base*", task="answer") == ("bert_base", "bert_base_cased", "bert_base_multilingual")
    with pytest.raises(ValueError, match=r"No family named 'resent'\. Did you mean 'resnet'"):
        zoo.variants(family="resent")
    with pytest.raises(ValueError, match=r"No task named 'clasify'\. Did you mean 'classify'\? Tasks: classify, "):
        zoo.variants(task="clasify")


def test_an_unknown_option_gets_the_nearest_ones():
    with pytest.raises(ValueError, match=r"no option 'dropuot' here\. Did you mean 'dropout'\? Options: depths, "):
        zoo.create("resnet18", dropuot=0.1)


def test_a_task_that_the_family_lacks():
    with pytest.raises(ValueError, match=r"'mlp' has no task 'features'\. It has: classify"):
        zoo.create("mlp", task="features")


@pytest.mark.parametrize("classes", [0, -3, 2.5, "10", 10**7])
def test_classes_that_are_no_sensible_number(classes):
    with pytest.raises(ValueError, match=r"between 1 and 1,000,000"):
        zoo.create("mlp", classes=classes)


@pytest.mark.parametrize("size", [0, -1, 5000, 2.5, (32,) * 3, (32, 0)])
def test_sizes_out_of_range(size):
    with pytest.raises(ValueError, match="1 to 4096 pixels"):
        zoo.create("mlp", size=size)


def test_options_from_json_are_frozen():
    config = configure(
        load_family("mlp").variants["mlp"], size=(8, 4), widths=[3, 2], pixels={"size": 9, "mean": [1, 2, 3]}
    )
    assert config.widths == (3, 2)
    assert config.pixels == Pixels(size=(8, 4), mean=(1, 2, 3))
    hash(config)


def test_fields_of_pixels_are_options_too():
    model = zoo.create("resnet18", size=(32, 48), crop=1.0, interpolation="bicubic", depths=(1,), width=8)
    pixels = pixels_of(model)
    assert (pixels.size, pixels.crop, pixels.interpolation) == ((32, 48), 1.0, "bicubic")
    assert pixels.mean == Pixels().mean
    assert model.input_shape == (None, 32, 48, 3)


@pytest.mark.parametrize("crop", [0.0, -1.0, 1.5])
def test_crops_out_of_range(crop):
    with pytest.raises(ValueError, match="at most 1"):
        zoo.create("mlp", crop=crop)
