"""Batches through a tf.data service of this machine, with one worker and with two."""

import contextlib
import itertools

import numpy as np
import pytest
import tensorflow as tf

from pipelines import data_service
from pipelines.feed import Feed, feed

EXAMPLES, BATCH = 24, 4


@contextlib.contextmanager
def service(workers):
    """The address of a dispatcher with so many workers."""
    experimental = tf.data.experimental.service
    dispatcher = experimental.DispatchServer()
    place = dispatcher.target.split("://")[1]
    running = [experimental.WorkerServer(experimental.WorkerConfig(dispatcher_address=place)) for _ in range(workers)]
    yield dispatcher.target
    for each in running:
        each._stop()
    dispatcher._stop()


def squares():
    numbers = tf.data.Dataset.range(EXAMPLES)
    return numbers.map(lambda n: (tf.cast(n, tf.float32) ** 2, n)).batch(BATCH)


def labels(batches):
    return [label.numpy().tolist() for _, label in batches]


def test_one_worker_gives_the_same_batches_in_the_same_order_from_any_number_on():
    plain = feed(squares())
    with service(1) as address:
        remote = data_service.same_batches(plain, address)
        assert isinstance(remote, Feed)
        assert remote.steps == plain.steps == EXAMPLES // BATCH
        for number in (0, 4):
            expected = labels(plain.start(number).take(9))
            assert labels(remote.start(number).take(9)) == expected
        (square, label), *_ = remote.start(0).take(1)
        np.testing.assert_array_equal(square, label.numpy().astype("float32") ** 2)


def test_a_second_worker_is_noticed():
    with service(2) as address:
        remote = data_service.same_batches(feed(squares()), address)
        with pytest.raises(tf.errors.InvalidArgumentError, match="has several workers"):
            labels(remote.start(0).take(50_000))  # the second one is known after some seconds


def test_two_workers_share_the_examples_of_an_epoch():
    with service(2) as address:
        for _ in range(2):
            found = labels(data_service.same_examples(squares(), address))
            assert sorted(itertools.chain(*found)) == list(range(EXAMPLES))
