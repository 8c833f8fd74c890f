import numpy as np
import pytest

from pipelines import splits

SHARES = {"train": 0.7, "validation": 0.15, "test": 0.15}


def names(count, prefix="image"):
    return [f"{prefix}{index}" for index in range(count)]


@pytest.mark.parametrize("sizes", [(40, 60, 100), (3, 3, 200), (5, 7, 11)])
def test_every_example_is_in_one_part_and_every_class_in_all(sizes):
    labels = np.repeat(["a", "b", "c"], sizes)
    parts = splits.stratified(labels, names(len(labels)), shares=SHARES, seed=0)
    assert sorted(np.concatenate(list(parts.values()))) == list(range(len(labels)))
    assert all(set(labels[indexes]) == {"a", "b", "c"} for indexes in parts.values())


def test_shares_are_kept_within_each_class():
    labels = np.repeat(["a", "b"], [1000, 200])
    parts = splits.stratified(labels, names(1200), shares=SHARES, seed=1)
    counts = {part: [int(np.sum(labels[indexes] == name)) for name in "ab"] for part, indexes in parts.items()}
    assert counts == {"train": [700, 140], "validation": [150, 30], "test": [150, 30]}


def test_roundings_of_many_small_classes_cancel_out():
    labels = np.repeat([f"class{index}" for index in range(200)], 10)  # 1.5 of each for validation and test
    parts = splits.stratified(labels, names(2000), shares=SHARES, seed=0)
    assert len(parts["train"]) == 1400
    assert abs(len(parts["validation"]) - 300) < 30


@pytest.mark.parametrize(("count", "wanted"), [(1, (1, 0, 0)), (2, (1, 0, 1)), (3, (1, 1, 1))])
def test_the_smallest_classes(count, wanted):
    for seed in range(20):
        parts = splits.stratified(["a"] * count, names(count), shares=SHARES, seed=seed)
        assert tuple(map(len, parts.values())) == wanted


def test_parts_without_a_share_stay_empty():
    shares = {"train": 0.8, "validation": 0.2, "test": 0.0}
    parts = splits.stratified(["a"] * 20, names(20), shares=shares, seed=0)
    assert tuple(map(len, parts.values())) == (16, 4, 0)


def test_a_seed_decides_the_split_and_the_order_of_the_files_does_not():
    labels, files = np.repeat(["a", "b"], 50), names(100)
    order = np.random.default_rng(0).permutation(100)

    def tested_files(seed, indexes):
        parts = splits.stratified(labels[indexes], [files[i] for i in indexes], shares=SHARES, seed=seed)
        return {files[indexes[i]] for i in parts["test"]}

    assert tested_files(0, np.arange(100)) == tested_files(0, order)
    assert tested_files(0, np.arange(100)) != tested_files(1, np.arange(100))


def test_removing_one_file_moves_hardly_any_other():
    labels, files = ["a"] * 200, names(200)
    before = splits.stratified(labels, files, shares=SHARES, seed=0)
    after = splits.stratified(labels[:-1], files[:-1], shares=SHARES, seed=0)
    moved = sum(len(set(after[part]) - set(before[part])) for part in SHARES)
    assert moved <= 2
