import numpy as np
import pytest
import tensorflow_datasets as tfds

from pipelines import decoding, sources
from pipelines.run import Images
from tests.pipelines.pictures import pattern


class TinyPictures(tfds.core.GeneratorBasedBuilder):
    """20 + 6 pictures of two classes, their phase is their number."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        features = {
            "image": tfds.features.Image(shape=(None, None, 3), encoding_format="png"),
            "label": tfds.features.ClassLabel(names=["zebra", "ant"]),
        }
        keys = ("image", "label")
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features), supervised_keys=keys)

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples(0, 20), "test": self._generate_examples(20, 26)}

    def _generate_examples(self, start, stop):
        for number in range(start, stop):
            yield number, {"image": pattern(10, 12, phase=number), "label": number % 2}


class TinyTexts(TinyPictures):
    """The same without pictures."""

    def _info(self):
        features = tfds.features.FeaturesDict({"text": tfds.features.Text()})
        return tfds.core.DatasetInfo(builder=self, features=features)

    def _generate_examples(self, start, stop):
        for number in range(start, stop):
            yield number, {"text": str(number)}


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    folder = str(tmp_path_factory.mktemp("tfds"))
    for name in ("tiny_pictures", "tiny_texts"):
        tfds.builder(name, data_dir=folder).download_and_prepare()
    return folder


def load(data_dir, name="tiny_pictures", **options):
    return sources.load(Images(f"tfds:{name}", data_dir=data_dir, **options), seed=0)


def numbers(examples):
    """Which pictures these are; checks that each has its own label (0 is zebra: even)."""
    known = np.stack([pattern(10, 12, phase=number) for number in range(26)])
    found = []
    for encoded, label in zip(examples.images, examples.labels, strict=True):
        found.append(int(np.flatnonzero((known == decoding.decode(encoded).numpy()).all(axis=(1, 2, 3)))[0]))
        assert found[-1] % 2 == label
    return sorted(found)


def test_own_splits_are_kept_and_the_missing_one_is_split_off(data_dir):
    data = load(data_dir)
    assert data.classes == ("zebra", "ant")
    assert numbers(data.test) == list(range(20, 26))
    assert sorted(numbers(data.train) + numbers(data.validation)) == list(range(20))
    assert 2 <= len(data.validation) <= 5


def test_split_expressions_replace_them(data_dir):
    data = load(data_dir, train="train[:50%]", validation="train[50%:]", test="test[:4]")
    assert len(data.train) == 10
    assert len(data.test) == 4
    assert sorted(numbers(data.train) + numbers(data.validation)) == list(range(20))


def test_images_stay_encoded(data_dir):
    data = load(data_dir)
    assert all(isinstance(image, bytes) and image.startswith(b"\x89PNG") for image in data.train.images)


def test_splits_that_overlap_are_refused(data_dir):
    with pytest.raises(ValueError, match="in train and in validation"):
        load(data_dir, validation="train[50%:]")


@pytest.mark.parametrize("split", ["dev", "train[:x]", "train[:0]"])
def test_an_impossible_split_is_named(data_dir, split):
    with pytest.raises(ValueError, match=r"split '(dev|train\[:x\]|train\[:0\])'"):
        load(data_dir, train=split)


def test_an_unknown_name_gets_the_nearest_one(data_dir):
    with pytest.raises(ValueError, match=r"no 'tiny_picture'.*tiny_pictures"):
        load(data_dir, "tiny_picture")
    with pytest.raises(ValueError, match=r"no 'tiny_pictures:9\.9\.9'"):
        load(data_dir, "tiny_pictures:9.9.9")


def test_a_set_that_is_not_there_is_not_fetched_offline(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"HF_HUB_OFFLINE.*data_dir"):
        load(str(tmp_path))


def test_a_set_without_labelled_images_is_refused(data_dir):
    with pytest.raises(ValueError, match="not a set of images with one class each"):
        load(data_dir, "tiny_texts")


def test_a_corrupt_image_is_named_by_its_id(data_dir, monkeypatch):
    """Truncated in memory: tfds checks its own files, but not what they were made from."""
    from pipelines import tfds_sets

    whole = tfds_sets.objects
    monkeypatch.setattr(tfds_sets, "objects", lambda images: whole([images[0][:60], *images[1:]]))
    with pytest.raises(ValueError, match=r"2 of 26 images cannot be decoded.*tiny_pictures-train"):
        load(data_dir)
