"""DenseNet: keras.applications' numbers, torchvision's older names, the maps of each level."""

from __future__ import annotations

import math
import re

import keras
import numpy as np
import pytest
from keras.src.applications.densenet import DenseNet  # keras.applications exports the deep ones alone

import zoo
from tests.parity import packs
from zoo.core.registry import load_family
from zoo.core.skeleton import skeleton
from zoo.weights import CheckpointError
from zoo.weights.translate import make_plan

FAMILY = load_family("densenet")


def shapes_only(name: str, **options) -> keras.Model:
    """A model without its variables' values."""
    return skeleton(lambda: zoo.create(name, **options))


def test_a_model_of_keras_applications_gives_its_own_numbers():
    """A shallow one, by the function that builds theirs of every depth."""
    theirs = DenseNet([2, 1, 3, 1], weights=None, input_shape=(47, 65, 3), classes=6, classifier_activation=None)
    random = np.random.default_rng(0)
    for variable in theirs.weights:
        if variable.path.endswith(("gamma", "moving_variance")):
            variable.assign(random.uniform(0.5, 1.5, variable.shape))
        else:
            scale = math.sqrt(2 / math.prod(variable.shape[:-1])) if len(variable.shape) > 1 else 0.1
            variable.assign(scale * random.standard_normal(variable.shape))
    ours = zoo.create("densenet121", depths=(2, 1, 3, 1), weights=theirs, size=(47, 65))
    image = random.uniform(0, 255, (2, 47, 65, 3)).astype("float32")
    expected = np.asarray(theirs(keras.applications.densenet.preprocess_input(image.copy()), training=False))
    found = np.asarray(ours(image, training=False))
    np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max())


def test_the_names_of_the_published_files_mean_the_same_tensors():
    shapes = {name: shape for name, shape, _ in packs.load("tv_densenet121").tensors}
    published = {re.sub(r"(denselayer\d+\.(?:norm|conv))", r"\1.", name): shape for name, shape in shapes.items()}
    assert "features.denseblock4.denselayer16.norm.2.running_var" in published
    model = shapes_only("densenet121", size=32)
    today = make_plan(model, shapes, FAMILY.dialects["torch"])
    at_first = make_plan(model, published, FAMILY.dialects["torch_dotted"])
    assert today.problems == at_first.problems == 0
    for variable, (source, _) in today.sources.items():
        (name,) = at_first.sources[variable][0].names
        assert re.sub(r"(norm|conv)\.(?=\d)", r"\1", name) == source.names[0]


def test_levels_are_halved_and_end_before_their_transition():
    """The levels of timm's features_only, whose last is normalized: the neck here."""
    levels = zoo.taps(shapes_only("densenet121", size=(64, 96)), ["stem", "stage1", "stage2", "stage3", "neck"]).output
    shapes = [tuple(level.shape[1:]) for level in levels.values()]
    assert shapes == [(32, 48, 64), (16, 24, 256), (8, 12, 512), (4, 6, 1024), (2, 3, 1024)]


def test_a_block_keeps_what_came_in_and_adds_its_growth():
    model = zoo.create("densenet121", depths=(2, 1), growth=3, size=(11, 16), classes=2)
    inner = keras.Model(model.input, [model.get_layer(f"stage1_{layer}").output for layer in ("pool", "block1_out")])
    before, after = (np.asarray(value) for value in inner(np.full((1, 11, 16, 3), 90.0, "float32")))
    assert after.shape[-1] == before.shape[-1] + 2 * 3
    np.testing.assert_array_equal(after[..., :6], before)


def test_the_smallest_image_passes_and_a_smaller_one_says_what_is_needed():
    assert shapes_only("densenet121", size=(29, 40), task="features").output.shape[1:] == (1, 1, 1024)
    with pytest.raises(ValueError, match=r"size=\(28, 40\) is too small: it takes 29 pixels"):
        shapes_only("densenet121", size=(28, 40))


def test_config_json_names_the_variant_and_refuses_what_changes_the_graph():
    shapes = {"classifier.weight": (1000, 2208)}
    found = FAMILY.from_hub({"library_name": "torchvision", "architecture": "densenet161"}, shapes)
    assert (found.variant, found.config.growth) == ("densenet161", 48)
    assert FAMILY.from_hub({"architecture": "densenetblur121d"}, {}) is None
    arguments = {"torchvision_args": {"bn_size": 2}}
    with pytest.raises(CheckpointError, match="bn_size"):
        FAMILY.from_hub({"library_name": "torchvision", "architecture": "densenet121", **arguments}, {})
