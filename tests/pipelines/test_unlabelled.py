"""Images without labels, grey images, and Fashion-MNIST from its idx files."""

import gzip

import numpy as np
import pytest
from PIL import Image

import zoo
from pipelines import decoding, idx_files, images
from pipelines.data import Images
from zoo.core.family import Pixels


@pytest.fixture
def flat(tmp_path):
    """Twenty images in a folder without sub-folders."""
    draw = np.random.default_rng(0)
    folder = tmp_path / "flat"
    folder.mkdir()
    for place in range(20):
        Image.fromarray(draw.integers(0, 255, (20, 24, 3), np.uint8)).save(folder / f"{place}.png")
    return folder


def test_a_flat_folder_serves_what_needs_no_classes(flat):
    found = images.load(Images(str(flat)), task="generate", seed=0)
    assert found.task == "generate" and found.classes == ()
    assert {part: len(each) for part, each in found.parts.items()} == {"train": 14, "validation": 3, "test": 3}
    with pytest.raises(ValueError, match="no sub-folders"):
        images.load(Images(str(flat)), seed=0)


def test_one_class_is_enough_to_learn_what_it_looks_like(flat, tmp_path):
    (tmp_path / "whole").mkdir()
    flat.rename(tmp_path / "whole" / "only")
    found = images.load(Images(str(tmp_path / "whole")), task="reconstruct", seed=0)
    assert found.classes == ("only",) and found.task == "reconstruct"


def test_files_without_labels(flat, tmp_path):
    table = flat / "all.csv"
    table.write_text("path\n" + "".join(f"{place}.png\n" for place in range(20)), encoding="utf-8")
    assert len(images.load(Images(str(table)), task="generate", seed=0).parts["train"]) == 14
    np.savez(tmp_path / "all.npz", images=np.random.default_rng(0).integers(0, 255, (20, 8, 8), np.uint8))
    assert images.load(Images(str(tmp_path / "all.npz")), task="generate", seed=0).classes == ()
    with pytest.raises(ValueError, match="path and label"):
        images.load(Images(str(table)), seed=0)


def test_an_empty_folder_is_named(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="empty' holds no images"):
        images.load(Images(str(tmp_path / "empty")), task="generate", seed=0)


def test_a_model_of_one_channel_sees_grey(flat):
    found = images.load(Images(str(flat), augment="none"), task="generate", seed=0)
    model = zoo.create("gan_dcgan", task="discriminate", size=16, depth=2, width=8, channels=1)
    feed, test = found.training_set(model, batch=8, seed=0), found.evaluation_set(model, "test", batch=8)
    assert feed.spec[0].shape == (8, 16, 16, 1)
    (shown, _), *_ = test.as_numpy_iterator()
    color, _ = next(images.evaluation_set(found.parts["test"], Pixels(size=16, crop=1.0), batch=8).as_numpy_iterator())
    np.testing.assert_array_equal(shown[..., 0], np.round(color @ np.float32(decoding.LUMA)))


@pytest.fixture
def fashion(tmp_path):
    """Four idx files with thirty images a part, three of each class."""
    draw = np.random.default_rng(0)
    for stem, packed in (("train", True), ("t10k", False)):
        pictures = draw.integers(0, 255, (30, 28, 28), np.uint8)
        contents = {
            f"{stem}-images-idx3-ubyte": b"\0\0\x08\x03" + np.array([30, 28, 28], ">i4").tobytes() + pictures.tobytes(),
            f"{stem}-labels-idx1-ubyte": b"\0\0\x08\x01" + np.array([30], ">i4").tobytes() + bytes(range(10)) * 3,
        }
        for name, content in contents.items():
            path = tmp_path / (f"{name}.gz" if packed else name)
            path.write_bytes(gzip.compress(content) if packed else content)
    return tmp_path


def test_fashion_mnist_from_its_files(fashion):
    found = idx_files.fashion_mnist(str(fashion))
    train, test = found["train"](), found["test"]()
    assert train.images.shape == (30, 28, 28, 1) and train.classes == idx_files.CLASSES
    assert list(test.labels[:10]) == list(idx_files.CLASSES) and test.names[3] == "test/3"
    split = images.load(Images("fashion_mnist", data_dir=str(fashion)), task="generate", seed=0).parts
    assert len(split["test"]) == 30 and len(split["train"]) + len(split["validation"]) == 30


def test_a_damaged_file_is_named(fashion):
    path = fashion / "train-images-idx3-ubyte.gz"
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(ValueError, match=r"train-images-idx3-ubyte\.gz' cannot be unpacked"):
        idx_files.fashion_mnist(str(fashion))["train"]()
    path.write_bytes(gzip.compress(b"\0\0\x08\x03" + bytes(20)))
    with pytest.raises(ValueError, match="no whole idx file"):
        idx_files.fashion_mnist(str(fashion))["train"]()
