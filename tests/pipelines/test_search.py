"""Classes told in words and images found by texts: in Python and on the command line, with what is kept beside them."""

from __future__ import annotations

import json
import os
import shutil

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import save_file

import zoo
from pipelines import search
from pipelines.matching import Matcher, images_and_classes
from pipelines.recipes import feature_extraction
from pipelines.run import Images, Run
from pipelines.tokenizers import open_tokenizer
from pipelines.train import train
from tests.pipelines import make_clip_reference as reference
from tests.pipelines import shapes
from tests.pipelines.clip_files import files
from tests.pipelines.test_zero_shot import SIZES


@pytest.fixture(scope="module")
def matcher(tmp_path_factory):
    return Matcher(
        zoo.create("clip_vit_base32", task="contrast", **SIZES), open_tokenizer(files(tmp_path_factory.mktemp("t")))
    )


@pytest.fixture
def folder(tmp_path):
    return shapes.write(tmp_path, count=5, size=16).parent / "images"


class Counting:
    """A matcher that counts the images it looks at."""

    def __init__(self, matcher):
        self.looked_at, self._matcher, self.digest = 0, matcher, matcher.digest

    def images(self, paths):
        self.looked_at += len(paths)
        return self._matcher.images(paths)


def test_the_nearest_images_are_those_by_brute_force(matcher, folder):
    index = search.build(matcher, folder)
    query = matcher.texts(["a cat"])[0]
    alike = {f"{n:03d}.png": float(matcher.images([folder / f"{n:03d}.png"])[0] @ query) for n in range(5)}
    found = index.nearest(query, top=3)
    assert [name for name, _ in found] == sorted(alike, key=lambda name: -alike[name])[:3]
    assert dict(found) == pytest.approx({name: alike[name] for name, _ in found}, abs=1e-5)
    assert index.nearest(matcher.images([folder / "002.png"])[0], top=1)[0][1] == pytest.approx(1, abs=1e-5)


def test_pictures_in_memory_are_those_of_their_files(matcher, folder):
    paths = sorted(folder.iterdir())
    pictures = np.stack([np.asarray(Image.open(path)) for path in paths])
    np.testing.assert_allclose(matcher.pictures(pictures), matcher.images(paths), atol=1e-6)
    grey = pictures[..., :1]
    np.testing.assert_array_equal(matcher.pictures(grey), matcher.pictures(grey.repeat(3, axis=-1)))


def test_only_what_is_new_or_changed_is_looked_at(matcher, folder):
    counting, told = Counting(matcher), []
    search.build(counting, folder, tell=told.append)
    search.build(counting, folder, tell=told.append)
    assert (counting.looked_at, told) == (5, [5])
    shutil.copy(folder / "000.png", folder / "new.png")
    (folder / "001.png").unlink()
    os.utime(folder / "002.png", ns=(1, 1))
    index = search.build(counting, folder)
    assert counting.looked_at == 7
    assert index.names == ("000.png", "002.png", "003.png", "004.png", "new.png")
    np.testing.assert_allclose(index.embeddings[0], index.embeddings[4], atol=1e-6)


def test_an_index_of_another_model_or_a_damaged_one_is_not_taken(matcher, folder):
    search.build(matcher, folder)
    path = search.index_path(matcher, folder)
    path.write_bytes(path.read_bytes()[:100])
    counting = Counting(matcher)
    search.build(counting, folder)
    changed = zoo.create("clip_vit_base32", task="contrast", **SIZES)
    changed.get_layer("image.head_projection").kernel.assign_add(np.full((1, 1), 1e-3))
    other = Counting(Matcher(changed, matcher.tokenizer))
    search.build(other, folder)
    same = Matcher(matcher.model, matcher.tokenizer)
    assert (counting.looked_at, other.looked_at) == (5, 5)
    assert same.digest == matcher.digest != other.digest


def test_a_broken_image_is_left_out(matcher, folder, caplog):
    (folder / "003.png").write_bytes(b"nothing")
    assert "003.png" not in search.build(matcher, folder).names
    assert "1 images cannot be decoded and are left out: 003.png" in caplog.text
    assert len(search.build(matcher, folder).names) == 4


def test_folders_without_images_are_refused(matcher, tmp_path):
    with pytest.raises(FileNotFoundError, match="There is no folder"):
        search.build(matcher, tmp_path / "nowhere")
    with pytest.raises(ValueError, match="There is no image in"):
        search.build(matcher, tmp_path)
    with pytest.raises(ValueError, match="A text is empty"):
        matcher.texts([" "])


def test_words_of_a_command_are_images_if_they_look_like_it(folder):
    image = str(folder / "000.png")
    assert images_and_classes([image, "cat", "dog"], []) == ([image], ["cat", "dog"])
    assert images_and_classes(["cat", "missing.jpg"], []) == (["missing.jpg"], ["cat"])
    assert images_and_classes(["a b"], ["cat"]) == (["a b"], ["cat"])
    for words, classes, missing in (([image], [], "classes"), (["cat"], [], "images"), ([], ["cat"], "images")):
        with pytest.raises(ValueError, match=f"there are no {missing}"):
            images_and_classes(words, classes)


def checkpoint(folder):
    """A CLIP in Hub layout; what is known of it."""
    known = json.loads(reference.FILE.read_text())
    save_file(reference.weights(known["shapes"]), files(folder) / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(reference.config()))
    return known


def test_a_checkpoint_tells_classes_as_transformers_does(tmp_path):
    """The probabilities are those of transformers 5 for a small CLIP, which make_clip_reference.py wrote down."""
    known = checkpoint(tmp_path)
    for number, image in enumerate(reference.images()):
        Image.fromarray(image).save(tmp_path / f"{number}.png")
    paths = [tmp_path / f"{number}.png" for number in range(4)]
    matcher = Matcher.open(tmp_path)
    found = matcher.probabilities(paths, reference.CLASSES, templates=reference.TEMPLATES)
    np.testing.assert_allclose(found, known["probabilities"], atol=2e-5)
    assert np.ptp(found, axis=1).min() > 0.01


@pytest.mark.slow
def test_a_linear_probe_trains_a_head_on_the_image_tower(tmp_path):
    checkpoint(tmp_path)
    shapes.write(tmp_path, count=24, size=16)
    for number in range(24):
        kind = tmp_path / "classes" / list(shapes.COLORS)[number // 6]
        kind.mkdir(parents=True, exist_ok=True)
        shutil.move(tmp_path / f"images/{number:03d}.png", kind)
    data = Images(str(tmp_path / "classes"), augment="none")
    run = Run(f"{tmp_path}/", data, feature_extraction(epochs=3, learning_rate=0.05), tmp_path / "run", batch=8)
    bundle = train(run, progress=False)
    model, tower = bundle.load_model(), zoo.from_checkpoint(f"{tmp_path}/", task="image_features")
    assert (bundle.task, len(bundle.classes), model.output_shape) == ("classify", 4, (None, 4))
    known = {weight.path: np.asarray(weight) for weight in tower.weights}
    kept = [weight for weight in model.weights if weight.path in known]
    assert len(kept) == len(model.weights) - 2  # a kernel and a bias
    assert all(np.array_equal(weight, known[weight.path]) for weight in kept)
