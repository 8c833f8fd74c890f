"""What is stored is read again, by one's own process and by others, or is computed again."""

import threading
import time

import ml_dtypes
import numpy as np
import pytest
import tensorflow as tf

from pipelines import features
from pipelines.features import NoRoom

TOKENS = (False, True, False)
LENGTHS = np.array([3, 1, 4, 2, 0])


def values(count: int = 5) -> list[np.ndarray]:
    random = np.random.default_rng(0)
    maps = random.normal(size=(count, 2, 3)).astype("float32")
    tokens = random.normal(size=(count, 4, 2)).astype(ml_dtypes.bfloat16)
    tokens[np.arange(4) >= LENGTHS[:, np.newaxis]] = 0
    return [maps, tokens, np.arange(count, dtype="int32")]


class Computing:
    """Gives the values in two batches, and counts how often it is asked."""

    def __init__(self):
        self.times = 0

    def __call__(self):
        self.times += 1
        for part in (slice(0, 3), slice(3, None)):
            width = LENGTHS[part].max()
            yield [array[part][:, :width] if i == 1 else array[part] for i, array in enumerate(values())], LENGTHS[part]


def taken(rows, numbers, length: int = 4) -> list[np.ndarray]:
    found = tf.data.Dataset.from_tensors(np.array(numbers)).map(lambda each: rows.take(each, length))
    return [tensor.numpy() for tensor in next(iter(found))]


@pytest.mark.parametrize("budget", [0, None])
def test_examples_are_had_by_their_numbers(tmp_path, budget):
    compute = Computing()
    for _ in range(2):
        rows = features.rows(tmp_path, "key", compute, tokens=TOKENS, budget=budget)
        numbers = [4, 0, 2, 2]
        for found, whole in zip(taken(rows, numbers), values(), strict=True):
            assert found.dtype == whole.dtype
            np.testing.assert_array_equal(found, whole[numbers])
        np.testing.assert_array_equal(taken(rows, [0, 2], 3)[1], values()[1][[0, 2], :3])
    assert compute.times == 1
    features.rows(tmp_path, "other", compute, tokens=TOKENS)
    assert compute.times == 2


@pytest.mark.parametrize("damage", ["flip", "cut", "index", "gone"])
def test_what_is_damaged_is_computed_again(tmp_path, damage):
    compute = Computing()
    features.rows(tmp_path, "key", compute, tokens=TOKENS)
    path = tmp_path / "key" / ("index.json" if damage == "index" else "1.bin")
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content[:-2] if damage == "cut" else content)
    if damage == "gone":
        path.unlink()
    rows = features.rows(tmp_path, "key", compute, tokens=TOKENS)
    assert compute.times == 2
    np.testing.assert_array_equal(taken(rows, [1, 2])[1], values()[1][[1, 2]])


def test_two_that_want_the_same_compute_it_once(tmp_path):
    compute, waits = Computing(), []

    def slowly():
        time.sleep(0.3)
        yield from compute()

    def ask():
        features.rows(tmp_path, "key", slowly, tokens=TOKENS, between=lambda: waits.append(compute.times))

    threads = [threading.Thread(target=ask) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert compute.times == 1
    assert 0 in waits  # one waited, and could have been asked to end


def test_what_is_interrupted_leaves_nothing_and_what_a_dead_process_left_is_removed(tmp_path):
    def stop():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        features.rows(tmp_path, "key", Computing(), tokens=TOKENS, between=stop)
    assert [path.name for path in tmp_path.iterdir()] == ["key.lock"]
    left = tmp_path / ".1.partial.key"
    left.mkdir()
    features.rows(tmp_path, "key", Computing(), tokens=TOKENS)
    assert not left.exists()


def test_a_disk_without_room_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(features, "_ROOM", 0.0)
    with pytest.raises(NoRoom, match="over half of what is free"):
        features.rows(tmp_path, "key", Computing(), tokens=TOKENS)
    (tmp_path / "file").write_text("")
    with pytest.raises(NoRoom, match="cannot be written"):
        features.rows(tmp_path / "file", "key", Computing(), tokens=TOKENS)


def test_a_folder_keeps_what_is_read(tmp_path):
    for key in ("one", "two"):
        features.rows(tmp_path, key, Computing(), tokens=TOKENS)
    features.keep_only(tmp_path, ["two"])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["two", "two.lock"]
