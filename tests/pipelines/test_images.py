import functools

import numpy as np
import pytest
import tensorflow as tf

from pipelines import decoding, image_memory, images
from pipelines.sources import Examples
from tests.pipelines.pictures import encoded, pattern
from zoo.core.family import Pixels

PIXELS = Pixels(size=16)
COUNT = 22


def pictures() -> list[np.ndarray]:
    return [pattern(24, 32, phase=index / 3) for index in range(COUNT)]


@pytest.fixture(scope="module", params=["paths", "bytes", "arrays", "gray arrays"])
def examples(request, tmp_path_factory) -> Examples:
    labels = np.arange(COUNT) % 3
    if request.param == "arrays":
        return Examples(np.stack(pictures()), labels)
    if request.param == "gray arrays":
        return Examples(np.stack(pictures())[..., :1], labels)
    files = [encoded(picture, "PNG") for picture in pictures()]
    if request.param == "bytes":
        return Examples(files, labels)
    folder = tmp_path_factory.mktemp("Bilder ö 图")
    for index, data in enumerate(files):
        (folder / f"é{index}.png").write_bytes(data)
    return Examples([str(folder / f"é{index}.png") for index in range(COUNT)], labels)


def as_arrays(dataset):
    batches = list(dataset.as_numpy_iterator())
    return np.concatenate([image for image, _ in batches]), np.concatenate([label for _, label in batches])


def expected(examples) -> np.ndarray:
    return evaluated(gray=examples.images.dtype != object and examples.images.shape[-1] == 1)


@functools.cache
def evaluated(*, gray: bool) -> np.ndarray:
    shown = [np.repeat(picture[..., :1], 3, axis=-1) if gray else picture for picture in pictures()]
    return np.stack([decoding.resize_and_crop(picture, PIXELS) for picture in shown])


@pytest.mark.parametrize("budget", [0, 10**9])
def test_evaluation_is_in_order_and_complete(examples, budget):
    dataset = images.evaluation_set(examples, PIXELS, batch=8, cache_budget=budget)
    assert [len(label) for _, label in dataset.as_numpy_iterator()] == [8, 8, 6]
    for _ in range(2):  # the second time from the cache, if there is one
        found, labels = as_arrays(dataset)
        np.testing.assert_array_equal(found, expected(examples))
        np.testing.assert_array_equal(labels, examples.labels)
    assert found.dtype == np.float32
    assert labels.dtype == np.int32


@pytest.mark.parametrize("budget", [0, 10**9])
def test_training_without_augmentation_sees_the_images_of_evaluation_shuffled(examples, budget):
    dataset = images.training_set(examples, PIXELS, batch=COUNT, seed=3, augment="none", cache_budget=budget)
    found, labels = as_arrays(dataset.epoch())
    order = [int(np.abs(expected(examples) - image).sum(axis=(1, 2, 3)).argmin()) for image in found]
    assert sorted(order) == list(range(COUNT))
    assert order != list(range(COUNT))
    np.testing.assert_array_equal(found, expected(examples)[order])
    np.testing.assert_array_equal(labels, examples.labels[order])


@pytest.mark.parametrize(
    ("augment", "budget"),
    [
        ("light", 10**9),
        ("standard", 0),
        pytest.param("light", 0, marks=pytest.mark.slow),
        pytest.param("standard", 10**9, marks=pytest.mark.slow),
    ],
)
def test_a_seed_gives_the_same_epochs_and_every_epoch_is_another(augment, budget):
    examples = Examples([encoded(picture, "PNG") for picture in pictures()], np.arange(COUNT) % 3)

    def epochs(seed):
        dataset = images.training_set(examples, PIXELS, batch=4, seed=seed, augment=augment, cache_budget=budget)
        return [as_arrays(dataset.epoch(number)) for number in range(2)]

    first, again, other = epochs(5), epochs(5), epochs(6)
    for (images_a, labels_a), (images_b, labels_b) in zip(first, again, strict=True):
        np.testing.assert_array_equal(images_a, images_b)
        np.testing.assert_array_equal(labels_a, labels_b)
    assert np.abs(first[0][0] - first[1][0]).mean() > 1
    assert np.abs(first[0][0] - other[0][0]).mean() > 1


def test_crops_differ_from_epoch_to_epoch_for_the_same_image():
    one = Examples(pattern(24, 32)[np.newaxis], [0])
    dataset = images.training_set(one, PIXELS, batch=1, seed=0)
    first, second, third = (as_arrays(dataset.epoch(number))[0] for number in range(3))
    assert np.abs(first - second).mean() > 0.5
    assert np.abs(second - third).mean() > 0.5


def test_training_batches_are_all_of_one_size(examples):
    full = images.training_set(examples, PIXELS, batch=8, seed=0)
    assert full.steps == 2
    assert [len(label) for _, label in full.epoch().as_numpy_iterator()] == [8, 8]
    assert full.start(0).element_spec[0].shape == (8, 16, 16, 3)
    few = images.training_set(examples.take([0, 1, 2]), PIXELS, batch=8, seed=0)
    assert [len(label) for _, label in few.epoch().as_numpy_iterator()] == [3]


def test_a_strategy_gets_all_images_without_a_warning(examples, capfd):
    strategy = tf.distribute.MirroredStrategy(["CPU:0"])
    dataset = images.training_set(examples, PIXELS, batch=11, seed=0, augment="none")
    shared = strategy.experimental_distribute_dataset(dataset.epoch())
    assert sorted(int(label) for _, labels in shared for label in labels) == sorted(examples.labels)
    assert "auto_shard" not in capfd.readouterr().err.lower()


def test_images_that_fit_the_memory_are_read_once(tmp_path):
    paths = [tmp_path / f"{index}.png" for index in range(COUNT)]
    for path, picture in zip(paths, pictures(), strict=True):
        path.write_bytes(encoded(picture, "PNG"))
    examples = Examples([str(path) for path in paths], np.arange(COUNT))
    needed = COUNT * 18 * 24 * 3  # bytes, as decoding.scaled leaves pictures of 24 x 32 pixels
    kept, short, none = (
        images.training_set(examples, PIXELS, batch=11, seed=0, cache_budget=budget)
        for budget in (round(needed * 1.2), needed - 1, 0)
    )
    before = as_arrays(kept.epoch(1))
    for feed in (short, none):
        np.testing.assert_array_equal(as_arrays(feed.epoch(1))[0], before[0])
    for path in paths:
        path.unlink()
    for start in (0, 3):
        list(kept.start(start).take(2))
    np.testing.assert_array_equal(as_arrays(kept.epoch(1))[0], before[0])
    for feed in (short, none):
        with pytest.raises(tf.errors.NotFoundError):
            list(feed.epoch())


def test_longer_images_than_expected_do_not_fill_the_memory():
    wide = Examples([encoded(pattern(16, 64, phase=index), "PNG") for index in range(8)], np.arange(8))
    read = images._reader(wide, lambda image: decoding.scaled(image, PIXELS))
    size = decoding.training_size(PIXELS)
    exact = sum(np.prod(read(tf.constant(index)).shape) for index in range(8))
    assert exact > 8 * size[0] * size[1] * 3 * 1.5
    assert image_memory.keep(len(wide), read, size, int(exact) - 1) is None
    assert image_memory.keep(len(wide), read, size, int(exact)) is not None


@pytest.mark.parametrize("counts", [(3, 5, 14), (1, 1, 20), (0, 7, 15)])
def test_a_balanced_epoch_holds_each_class_equally_often(counts):
    labels = np.repeat(range(3), counts)
    examples = Examples(np.stack([pattern(8, 8, phase=index) for index in range(len(labels))]), labels)
    balanced = images.training_set(examples, Pixels(size=8), batch=5, seed=0, augment="none", balance=True)
    shown = as_arrays(images.evaluation_set(examples, Pixels(size=8), batch=22))[0]
    assert balanced.steps == len(labels) // 5
    epochs = []
    for number in range(4):
        found, drawn = as_arrays(balanced.epoch(number))
        seen = np.bincount(drawn, minlength=3)
        classes = np.count_nonzero(counts)
        assert set(seen[np.array(counts) > 0]) <= {len(drawn) // classes, -(-len(drawn) // classes)}
        order = [int(np.abs(shown - image).sum(axis=(1, 2, 3)).argmin()) for image in found]
        np.testing.assert_array_equal(labels[order], drawn)
        for label in range(3):
            often = np.bincount([index for index in order if labels[index] == label], minlength=len(labels))
            of_class = often[labels == label]
            assert not len(of_class) or of_class.max() - of_class.min() <= 1  # all in turn
        epochs.append(tuple(order))
    assert len(set(epochs)) == 4
    assert len({index for order in epochs for index in order}) > len(set(epochs[0]))


def test_no_examples_are_an_error(examples):
    with pytest.raises(ValueError, match="no examples"):
        images.training_set(examples.take([]), PIXELS, batch=8, seed=0)


def test_no_examples_are_evaluated_as_nothing(examples):
    assert list(images.evaluation_set(examples.take([]), PIXELS, batch=8)) == []


def test_a_sample_is_balanced_seeded_and_looks_as_in_evaluation(examples):
    found, labels = images.sample(examples, 9, pixels=PIXELS, seed=1)
    assert sorted(labels) == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    distance = np.abs(found[:, np.newaxis] - expected(examples)).sum(axis=(2, 3, 4))
    assert distance.min(axis=1).max() == 0
    chosen = distance.argmin(axis=1)
    assert len(set(chosen)) == 9
    np.testing.assert_array_equal(labels, examples.labels[chosen])
    np.testing.assert_array_equal(found, images.sample(examples, 9, pixels=PIXELS, seed=1)[0])
    assert np.abs(found - images.sample(examples, 9, pixels=PIXELS, seed=2)[0]).max() > 0
    assert len(images.sample(examples, 99, pixels=PIXELS, seed=1)[1]) == COUNT


def test_images_in_0_to_1_are_found():
    batch = np.random.default_rng(0).uniform(0, 1, (4, 8, 8, 3)).astype(np.float32)
    with pytest.raises(ValueError, match=r"0\.\.255"):
        images.check_range(tf.data.Dataset.from_tensors((batch, np.zeros(4))))
    with pytest.raises(ValueError, match=r"0\.\.255"):
        images.check_range(tf.data.Dataset.from_tensors(({"image": batch, "mask": np.ones((4, 3))}, np.zeros(4))))
    images.check_range(tf.data.Dataset.from_tensors((batch * 255, np.zeros(4))))
