"""Batches through a tf.data service of this machine, with one worker and with two."""

import contextlib
import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf

from pipelines import data_service
from pipelines.cluster import Cluster
from pipelines.feed import Feed, feed
from pipelines.run import Phase
from pipelines.train import fit
from tests.pipelines import toy

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
            assert {len(each) for each in found} == {BATCH}


def trained(batches):
    """The weights after two epochs, and how many steps each had."""
    keras.utils.set_random_seed(0)
    model = toy.model()
    given = feed(batches)
    fit(model, [Phase(2, 1e-2, unfreeze="all")], given, progress=False)
    return model.get_weights(), given.steps


def test_a_fit_through_one_worker_is_the_fit_without():
    plain, steps = trained(toy.dataset(32))
    with service(1) as address:
        served, of_service = trained(data_service.same_batches(feed(toy.dataset(32)), address))
    assert of_service == steps == 2
    for found, wanted in zip(served, plain, strict=True):
        np.testing.assert_array_equal(found, wanted)


@pytest.mark.slow
def test_a_fit_through_two_workers_has_as_many_steps_in_each_epoch():
    with service(2) as address:
        for _ in range(5):
            weights, steps = trained(data_service.same_examples(toy.dataset(90), address))
            assert steps == 6
            assert all(np.isfinite(each).all() for each in weights)


def test_several_machines_do_not_share_examples_in_any_order(monkeypatch):
    monkeypatch.setenv("TF_CONFIG", Cluster(("a:1", "b:1"), 0).to_json())
    with pytest.raises(ValueError, match="Use same_batches"):
        data_service.same_examples(squares(), "grpc://nowhere:1")
