"""What a user may get wrong about a source, and what the message must say."""

import numpy as np
import pytest

from tests.pipelines.pictures import class_folder
from tests.pipelines.test_sources import load, write_csv


def npz(path, **arrays):
    np.savez(path / "a.npz", **arrays)
    return path / "a.npz"


IMAGES, LABELS = np.full((4, 5, 5, 3), 99, np.uint8), np.array([0, 1, 0, 1])


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"images": IMAGES / 255.0, "labels": LABELS}, r"look like 0\.\.1.*0\.\.255"),
        ({"images": IMAGES.astype(float) * 99, "labels": LABELS}, r"0\.\.255, got float64 from 9801"),
        ({"images": IMAGES * np.nan, "labels": LABELS}, "nan"),
        ({"images": IMAGES[0, 0], "labels": LABELS}, r"\(5, 3\)"),
        ({"images": np.concatenate([IMAGES, IMAGES], axis=-1), "labels": LABELS}, r"\(4, 5, 5, 6\)"),
        ({"images": IMAGES, "labels": LABELS[:3]}, r"4 images but labels of shape \(3,\)"),
        ({"images": IMAGES, "labels": LABELS / 2}, "float64"),
        ({"images": IMAGES, "labels": LABELS, "classes": ["only"]}, "go from 0 to 1, but classes has 1"),
        ({"images": IMAGES, "labels": LABELS, "classes": ["a", "a"]}, "twice"),
        ({"images": IMAGES, "labels": ["a", "b", "a", "c"], "classes": ["a", "b"]}, r"\['c'\] are not among"),
        ({"images": IMAGES, "labels": LABELS, "classes": ["a", "b", "c"]}, "no image to train on of 'c'"),
        ({"pictures": IMAGES, "labels": LABELS}, r"needs the arrays images and labels.*pictures"),
        ({"images": np.array([{}, {}], dtype=object), "labels": LABELS}, "cannot be read"),
    ],
)
def test_arrays_that_do_not_fit_say_why(tmp_path, arrays, message):
    with pytest.raises(ValueError, match=message):
        load(npz(tmp_path, **arrays), split=(1, 0, 0))


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut", b"text"])
def test_a_file_that_is_no_npz_is_named(tmp_path, content):
    (tmp_path / "a.npz").write_bytes(content)
    with pytest.raises(ValueError, match=r"a\.npz"):
        load(tmp_path / "a.npz")


def test_a_truncated_npz_is_named(tmp_path):
    path = npz(tmp_path, images=np.random.default_rng(0).integers(0, 256, (50, 9, 9)), labels=np.arange(50) % 2)
    content = path.read_bytes()
    path.write_bytes(content[:100] + content[400:])
    with pytest.raises(ValueError, match=r"a\.npz"):
        load(path)


def test_a_missing_source_says_what_could_be_given(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere.*sub-folder a class.*tfds:NAME"):
        load(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match="nowhere"):
        load(class_folder(tmp_path / "here"), test=str(tmp_path / "nowhere"))
    (tmp_path / "x.txt").write_text("x")
    with pytest.raises(ValueError, match=r"neither a folder nor a \.csv or \.npz"):
        load(tmp_path / "x.txt")


def test_folders_that_cannot_be_learned_from_say_why(tmp_path):
    with pytest.raises(ValueError, match="no sub-folders"):
        (tmp_path / "flat").mkdir()
        load(tmp_path / "flat")
    root = class_folder(tmp_path / "empty")
    (root / "bird").mkdir()
    with pytest.raises(ValueError, match=r"no image in the class folders \['bird'\]"):
        load(root)
    with pytest.raises(ValueError, match=r"at least two classes.*'cat'"):
        load(class_folder(tmp_path / "one", classes=("cat",)))
    with pytest.raises(ValueError, match="too few images to split: none of 2 is left for validation"):
        load(class_folder(tmp_path / "few", count=1))


def test_parts_that_do_not_belong_together_say_why(tmp_path):
    class_folder(tmp_path / "train", count=3)
    class_folder(tmp_path / "test", classes=("cat", "dog", "emu"), count=1)
    with pytest.raises(ValueError, match="test has classes that train does not have: 'emu'"):
        load(tmp_path)
    with pytest.raises(ValueError, match=r"cat0\.jpg' is in train and in test"):
        load(tmp_path / "train", test=str(tmp_path / "train"))
    with pytest.raises(ValueError, match="is itself divided into"):
        load(tmp_path / "train", test=str(tmp_path))
    class_folder(tmp_path / "val")
    class_folder(tmp_path / "valid")
    with pytest.raises(ValueError, match="two folders for the validation part"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("header", "rows", "error", "message"),
    [
        ("file,label", ["cat/cat0.jpg,cat"], ValueError, r"header with path and label.*file"),
        ("path,label", ["cat/none.jpg,cat", "cat/cat0.jpg,dog"], FileNotFoundError, r"1 files .*none\.jpg.*relative"),
        ("path,label", ["cat/cat0.jpg,"], ValueError, r"row 2.*label ''"),
        ("path,label,split", ["cat/cat0.jpg,cat,dev"], ValueError, r"row 2.*split 'dev'.*train"),
        ("path,label,split", ["cat/cat0.jpg,cat,test"], ValueError, "none of them to train on"),
        ("path,label", [], ValueError, "0 rows"),
        ("path,label", ["cat/cat0.jpg,cat", "cat/../cat/cat0.jpg,dog"], ValueError, "twice in train"),
    ],
)
def test_a_csv_with_a_mistake_says_where(tmp_path, header, rows, error, message):
    class_folder(tmp_path)
    with pytest.raises(error, match=message):
        load(write_csv(tmp_path / "x.csv", rows, header))


def test_a_csv_in_another_encoding_is_named(tmp_path):
    (tmp_path / "x.csv").write_bytes("path,label\nk\xe4se.jpg,a\n".encode("latin-1"))
    with pytest.raises(ValueError, match=r"x\.csv' is not a CSV file in UTF-8"):
        load(tmp_path / "x.csv")
