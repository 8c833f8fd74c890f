"""Feeds: a batch hangs on its number and the seed alone, whatever came before, in any process, on any devices."""

import functools
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from pipelines.batches import balanced, gathered, shuffled
from pipelines.feed import Feed, feed, key, planned
from tests.pipelines import toy
from tests.pipelines.feeds import FEEDS, SEED, SHARED, batches
from tests.pipelines.graphs import serial_operations


@pytest.fixture(scope="module")
def known(tmp_path_factory):
    """The function from a feed's name to the feed, and what it gives in its first three epochs."""

    @functools.cache
    def make(name: str) -> tuple[Feed, list]:
        found = FEEDS[name](tmp_path_factory.mktemp("feed"))
        return found, batches(found, 0, 3 * found.steps)

    return make


@pytest.fixture(params=FEEDS)
def made(request, known) -> tuple[str, Feed, list]:
    return request.param, *known(request.param)


def same(a, b) -> bool:
    return len(a) == len(b) and all(
        np.array_equal(x, y) and x.dtype == y.dtype
        for one, other in zip(a, b, strict=True)
        for x, y in zip(one, other, strict=True)
    )


def test_from_any_number_on_a_feed_gives_what_it_would_have_given(made):
    _, found, whole = made
    for number in (1, 2 * found.steps - 1, 2 * found.steps + 1):
        assert same(batches(found, number, len(whole)), whole[number:])


def test_another_feed_of_the_seed_gives_the_same_and_epochs_differ(made, tmp_path):
    name, found, whole = made
    assert same(batches(FEEDS[name](tmp_path), 2, 4), whole[2:4])
    epochs = [whole[found.steps * number : found.steps * (number + 1)] for number in range(3)]
    assert not any(same(epochs[a], epochs[b]) for a, b in ((0, 1), (0, 2), (1, 2)))
    assert same([[np.asarray(x) for x in tf.nest.flatten(batch)] for batch in found.epoch(1)], epochs[1])


def test_tf_data_makes_several_at_a_time_where_operations_are_deterministic(made):
    """An operation with a state, such as a check at run time, would have it make one after the other."""
    name, found, _ = made
    assert serial_operations(found.start(0)) == set(), name


@pytest.mark.parametrize(("count", "batch"), [(7, 3), (20, 20), (5, 8), (9, 1)])
def test_each_example_occurs_at_most_once_an_epoch_and_all_do_in_time(count, batch):
    found = shuffled(count, lambda rows: rows, batch=batch, seed=0)
    size = min(batch, count)
    assert found.steps == count // size
    whole = [row for (rows,) in batches(found, 0, 40 * found.steps) for row in rows]
    epochs = np.split(np.array(whole), 40)
    assert all(len(set(epoch)) == len(epoch) == found.steps * size for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) > 30
    assert set(np.concatenate(epochs)) == set(range(count))


def test_seeds_give_other_orders():
    orders = {
        tuple(np.concatenate(list(shuffled(30, lambda rows: rows, batch=5, seed=seed).epoch().as_numpy_iterator())))
        for seed in (0, 1, 2, 2**32 - 1, -1)
    }
    assert len(orders) == 5


def test_keys_of_different_numbers_differ():
    keys = [key(seed, purpose, number) for seed in (0, 1) for purpose in (0, 1) for number in (0, 1, 2**40)]
    draws = [float(tf.random.stateless_uniform((), found)) for found in keys]
    assert len({tuple(found.numpy()) for found in keys}) == len(set(draws)) == 12


def test_a_late_start_reads_nothing_of_what_came_before():
    """Batch 5,000,003 of epochs of 1,000,000: at once, and it takes but the examples of its own."""
    taken = []

    def take(rows):
        tf.py_function(lambda found: taken.append(found.numpy().tolist()), [rows], [])
        return rows

    far = gathered(lambda _: tf.reshape(tf.range(2_000_000), (-1, 2)), take, steps=1_000_000, seed=0)
    (row,) = far.start(5_000_003).take(1)
    assert row.numpy().tolist() == [6, 7] == taken[0]
    assert len(taken) < 100  # and some of those to come


def test_a_map_is_given_the_batch_and_its_number():
    numbers = planned(lambda _: tf.range(3), steps=3, seed=0).map(lambda batch, number: (batch, number))
    assert [tuple(map(int, pair)) for pair in numbers.start(4).take(3)] == [(1, 4), (2, 5), (0, 6)]


def test_a_finite_set_is_a_feed_that_goes_on_in_the_middle():
    found = feed(tf.data.Dataset.range(5).batch(2))
    assert found.steps == 3
    assert feed(found) is found
    assert [batch.tolist() for batch in found.start(4).take(3).as_numpy_iterator()] == [[2, 3], [4], [0, 1]]
    with pytest.raises(ValueError, match="never ends"):
        feed(toy.dataset().repeat())


def test_a_balanced_plan_is_of_numbers_from_the_labels():
    labels = np.array([7, 7, 9, 7, 7, 7, 7, 9, 7, 7])
    (rows,) = {tuple(balanced(labels, 2)(key(number)).numpy().ravel()) for number in [SEED]}
    assert sorted(labels[list(rows)]) == [7] * 5 + [9] * 5
    assert sorted(np.bincount(rows, minlength=10)[[2, 7]]) == [2, 3]


@pytest.mark.slow
def test_devices_share_each_batch_in_any_process(known, tmp_path):
    command = [sys.executable, "-m", "tests.pipelines.feeds", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    with np.load(tmp_path / "devices.npz") as shared:
        for name in SHARED:
            found, whole = known(name)
            for number, batch in enumerate(whole[found.steps - 1 : found.steps + 2]):
                for place, values in enumerate(batch):
                    np.testing.assert_array_equal(shared[f"{name}/{number}/{place}"], values)
