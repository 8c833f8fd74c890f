"""From a PNG file to the five most probable classes as torchvision has them, through our own decoding and resizing.

The answers are torchvision's with the weights as published; ours are those that we bundle, rounded to float16.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import zoo
from pipelines import decoding
from zoo.layers.pixels import pixels_of

pytestmark = pytest.mark.parity

ANSWERS = json.loads(Path(__file__).with_name("real_weights.json").read_text(encoding="utf-8"))
MOBILENET = ANSWERS["checkpoints"]["mobilenet_v2_imagenet"]
PHOTOS = tuple(MOBILENET["photos"])
SIZE, RESIZED = 224, 256  # pixels


@pytest.fixture(scope="module")
def model():
    return zoo.create("mobilenet_v2", weights="bundled")


def photo(name: str) -> Path:
    """A photo of scikit-image's, which is not imported for it."""
    package = importlib.util.find_spec("skimage")
    assert package is not None and package.submodule_search_locations, "pip install scikit-image"
    file = Path(package.submodule_search_locations[0], "data", f"{name}.png")
    assert hashlib.sha256(file.read_bytes()).hexdigest() == ANSWERS["photos"][name]["sha256_of_file"]
    return file


def ours(name: str, model) -> np.ndarray:
    """The photo as the model takes it, (224, 224, 3), 0..255."""
    encoded = photo(name).read_bytes()
    return decoding.resize_and_crop(decoding.decode(encoded), pixels_of(model)).numpy()


def pillows(name: str) -> np.ndarray:
    """The same by Pillow, as torchvision does it: the short side resized, the centre cut out."""
    image = Image.open(photo(name)).convert("RGB")
    width, height = (side * RESIZED // min(image.size) for side in image.size)
    left, top = round((width - SIZE) / 2), round((height - SIZE) / 2)
    resized = image.resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(resized.crop((left, top, left + SIZE, top + SIZE)), "float32")


@pytest.mark.parametrize("name", PHOTOS)
def test_our_preprocessing_is_pillows_to_a_grey_level(name, model):
    difference = np.abs(ours(name, model) - pillows(name))
    assert difference.mean() < 1 and difference.max() <= 2  # of 255


@pytest.mark.parametrize("name", PHOTOS)
def test_what_enters_the_network_is_what_torchvision_normalized(name, model):
    """`samples` are single values, by their place in (3, 224, 224)."""
    wanted = MOBILENET["photos"][name]["input"]
    found = np.asarray(model.get_layer("stem_pixels")(ours(name, model)[None]))[0].transpose(2, 0, 1)
    assert found.mean() == pytest.approx(wanted["mean"], abs=1 / 255)
    assert found.std() == pytest.approx(wanted["std"], abs=1 / 255)
    for place, value in wanted["samples"]:
        assert found.ravel()[place] == pytest.approx(value, abs=2 / 255 / 0.224)  # two grey levels


@pytest.mark.parametrize("name", PHOTOS)
def test_the_five_best_classes_are_torchvisions(name, model):
    wanted, tolerance = MOBILENET["photos"][name], MOBILENET["tolerance"]
    logits = np.asarray(model(ours(name, model)[None], training=False))[0].astype("float64")
    probabilities = np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()
    best = np.argsort(-probabilities)[:5]
    assert best.tolist() == [row["class_id"] for row in wanted["top5"]]
    difference = np.abs(probabilities[best] - [row["probability"] for row in wanted["top5"]]).max()
    logit_difference = np.abs(logits[best] - wanted["logits"]["at_top5"]).max()
    print(f"{name}: probability {difference:.2g}, logit {logit_difference:.2g}")
    assert difference <= tolerance["probability_abs"]
