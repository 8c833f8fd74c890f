import shutil

import numpy as np
import pytest
from sklearn.datasets import load_digits

from pipelines import sources
from pipelines.run import Images
from tests.pipelines.pictures import class_folder, encoded, pattern

PARTS = ("train", "validation", "test")


def load(source, *, seed=0, **options):
    return sources.load(Images(str(source), **options), seed=seed)


def files(data, root):
    """part -> {path relative to root: class}."""
    return {
        part: {
            str(path).removeprefix(f"{root}/"): data.classes[label]
            for path, label in zip(getattr(data, part).images, getattr(data, part).labels, strict=True)
        }
        for part in PARTS
    }


def sizes(data):
    return tuple(len(getattr(data, part)) for part in PARTS)


# Folders


def test_a_class_folder_is_split_by_class(tmp_path):
    data = load(class_folder(tmp_path, count=20))
    assert data.classes == ("cat", "dog")
    found = files(data, tmp_path)
    assert all(path.split("/")[0] == name for part in PARTS for path, name in found[part].items())
    assert sum(map(len, found.values())) == len(set().union(*found.values())) == 40
    assert sizes(data)[0] == 28
    for part in PARTS:
        assert set(found[part].values()) == {"cat", "dog"}


def test_the_same_folder_elsewhere_is_split_the_same_and_a_seed_changes_it(tmp_path):
    here = class_folder(tmp_path / "here", count=20)
    there = shutil.copytree(here, tmp_path / "there")
    assert files(load(here), here) == files(load(there), there)
    assert files(load(here), here) != files(load(here, seed=1), here)


def test_only_images_count_whatever_their_names(tmp_path):
    root = class_folder(tmp_path / "Tiere ö 动物", classes=("Käse", "猫"), count=3)
    (root / "猫" / "deep" / "er").mkdir(parents=True)
    (root / "猫" / "deep" / "er" / "PHOTO.JPEG").write_bytes(encoded(pattern(), "JPEG"))
    (root / "猫" / "A.WebP").write_bytes(encoded(pattern(), "WEBP"))
    (root / "猫" / "link.jpg").symlink_to(class_folder(tmp_path / "far") / "cat" / "cat0.jpg")
    for name in (".DS_Store", "._x.jpg", "notes.txt", "Thumbs.db"):
        (root / "猫" / name).write_bytes(b"no image")
    (root / ".hidden").mkdir()
    found = files(load(root, split=(1, 0, 0)), root)["train"]
    assert sorted(path for path in found if path.startswith("猫")) == [
        *("猫/A.WebP", "猫/deep/er/PHOTO.JPEG", "猫/link.jpg", "猫/猫0.jpg", "猫/猫1.jpg", "猫/猫2.jpg")
    ]
    assert len(found) == 9


@pytest.mark.parametrize("validation", ["validation", "valid", "val"])
def test_folders_of_parts_are_kept(tmp_path, validation):
    for part, count in (("train", 5), (validation, 2), ("test", 3)):
        class_folder(tmp_path / part, count=count)
    found = files(load(tmp_path), tmp_path)
    assert {part: {path.split("/")[0] for path in found[part]} for part in PARTS} == {
        **{"train": {"train"}, "validation": {validation}, "test": {"test"}}
    }
    assert [len(found[part]) for part in PARTS] == [10, 4, 6]


def test_what_is_not_given_is_split_off_the_training_part(tmp_path):
    class_folder(tmp_path / "train", count=34)
    class_folder(tmp_path / "test", count=5)
    data = load(tmp_path, split=(0.6, 0.25, 0.15))
    assert sizes(data) == (48, 20, 10)  # 0.6 : 0.25 of 68
    assert all("/train/" in path for path in data.validation.images)
    assert not set(data.train.images) & set(data.validation.images)


def test_a_class_may_be_called_train(tmp_path):
    data = load(class_folder(tmp_path, classes=("bus", "train", "tram")))
    assert data.classes == ("bus", "train", "tram")


def test_explicit_folders_replace_the_own_division(tmp_path):
    whole = class_folder(tmp_path / "whole", count=10)
    other = class_folder(tmp_path / "other", count=4)
    data = load(whole, test=str(other))
    assert sum(sizes(data)[:2]) == 20
    assert {str(other) in path for path in data.test.images} == {True}
    alone = load(whole, train=str(other), split=(0.5, 0.25, 0.25))
    assert sizes(alone) == (4, 2, 2)
    assert all(str(other) in path for part in PARTS for path in getattr(alone, part).images)


def test_a_share_of_zero_leaves_a_part_empty(tmp_path):
    data = load(class_folder(tmp_path, count=10), split=(0.8, 0.2, 0))
    assert sizes(data) == (16, 4, 0)


# Files and arrays


def write_csv(path, rows, header="path,label,split"):
    path.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return path


def test_a_csv_with_and_without_split(tmp_path):
    class_folder(tmp_path, count=6)
    rows = [
        f"{name}/{name}{i}.jpg,{name},{('train', 'train', 'train', 'train', 'val', 'test')[i]}"
        for name in ("cat", "dog")
        for i in range(6)
    ]
    found = files(load(write_csv(tmp_path / "all.csv", rows)), tmp_path)
    assert found["validation"] == {"cat/cat4.jpg": "cat", "dog/dog4.jpg": "dog"}
    assert found["test"] == {"cat/cat5.jpg": "cat", "dog/dog5.jpg": "dog"}
    short = [row.rsplit(",", 1)[0] for row in rows]
    data = load(write_csv(tmp_path / "short.csv", short, "path,label"))
    assert sum(sizes(data)) == 12
    assert data.classes == ("cat", "dog")


def test_numbers_as_labels_are_ordered_by_value(tmp_path):
    class_folder(tmp_path, count=11)
    rows = [f"cat/cat{i}.jpg,{i}" for i in range(11)]
    data = load(write_csv(tmp_path / "x.csv", rows, "path,label"), split=(1, 0, 0))
    assert data.classes == tuple(map(str, range(11)))


@pytest.mark.parametrize("labels", [np.arange(12) % 3, np.array(["x", "y", "z"] * 4), (np.arange(12) % 3)[:, None]])
def test_an_npz_holds_images_and_labels(tmp_path, labels):
    images = np.random.default_rng(0).integers(0, 256, (12, 5, 6), dtype=np.uint8)
    np.savez(tmp_path / "a.npz", images=images, labels=labels)
    data = load(tmp_path / "a.npz", split=(0.5, 0.25, 0.25))
    assert data.classes == (("x", "y", "z") if labels.dtype.kind == "U" else ("0", "1", "2"))
    for part in PARTS:
        examples = getattr(data, part)
        for image, label in zip(examples.images, examples.labels, strict=True):
            place = int(np.flatnonzero((images == image[..., 0]).all(axis=(1, 2)))[0])
            assert label == place % 3
    assert sum(sizes(data)) == 12


def test_an_npz_may_name_its_classes_in_an_order_of_its_own(tmp_path):
    images = np.full((8, 4, 4, 3), 200, np.uint8)
    np.savez(tmp_path / "a.npz", images=images, labels=np.arange(8) % 2, classes=["zebra", "ant"])
    data = load(tmp_path / "a.npz", split=(1, 0, 0))
    assert data.classes == ("zebra", "ant")
    np.testing.assert_array_equal(data.train.labels, np.arange(8) % 2)


def test_arrays_in_memory_are_split_like_files():
    images = np.random.default_rng(0).uniform(0, 255, (40, 4, 4, 3)).astype(np.float32)
    data = sources.from_arrays(images, np.arange(40) % 2, classes=("a", "b"))
    assert sizes(data)[0] == 28
    assert data.train.images.dtype == np.uint8
    again = sources.from_arrays(images, np.arange(40) % 2, classes=("a", "b"))
    np.testing.assert_array_equal(data.test.images, again.test.images)


def test_the_digits_are_scikit_learns():
    data = load("digits")
    assert data.classes == tuple("0123456789")
    assert sum(sizes(data)) == 1797
    assert abs(sizes(data)[0] - 0.7 * 1797) < 6
    original = load_digits()
    for image, label in zip(data.test.images[:20], data.test.labels[:20], strict=True):
        place = np.flatnonzero((np.round(original.images * 255 / 16) == image[..., 0]).all(axis=(1, 2)))[0]
        assert label == original.target[place]


# Corrupt files


@pytest.fixture
def damaged(tmp_path):
    root = class_folder(tmp_path / "damaged", count=8)
    jpeg = (root / "cat" / "cat0.jpg").read_bytes()
    broken = {
        "cat/cat0.jpg": jpeg[: len(jpeg) // 2],
        "cat/cut.png": encoded(pattern(), "PNG")[:-300],
        "dog/empty.jpg": b"",
        "dog/text.jpg": b"<html>404</html>",
    }
    for name, content in broken.items():
        (root / name).write_bytes(content)
    return root, sorted(broken)


def test_corrupt_files_are_named(damaged):
    root, broken = damaged
    with pytest.raises(ValueError, match=r"4 of 19 images cannot be decoded.*--skip-corrupt") as error:
        load(root)
    assert all(name in str(error.value) for name in broken)


def test_corrupt_files_are_skipped_if_asked(damaged):
    root, broken = damaged
    data = load(root, skip_corrupt=True)
    assert sorted(data.skipped) == broken
    found = set().union(*files(data, root).values())
    assert len(found) == 15
    assert not found & set(broken)


@pytest.mark.parametrize("options", [{}, {"label_delim": "|"}])
def test_a_part_of_corrupt_files_alone_is_named(tmp_path, options):
    for name in ("a", "b"):
        (tmp_path / f"{name}.png").write_bytes(b"no image")
    (tmp_path / "labels.csv").write_text("path,label\na.png,cat\nb.png,dog\n")
    with pytest.raises(ValueError, match=r"None of the images for train can be decoded: 'a\.png', 'b\.png'"):
        sources.load(Images(str(tmp_path / "labels.csv"), skip_corrupt=True, **options), seed=0)
