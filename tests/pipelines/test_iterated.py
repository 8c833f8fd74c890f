"""Graphs of iterators are found once for each, and take what each of them gives."""

import gc

import pytest
import tensorflow as tf

from pipelines.iterated import Iterated


def test_each_iterator_and_shape_has_its_graph():
    traced = []

    def added(iterator, *tensors):
        traced.append(len(tensors))
        return tf.reduce_sum(iterator.get_next()) + tf.add_n([tf.reduce_sum(each) for each in tensors])

    function = Iterated(added)
    one, two = tf.constant([1.0]), tf.constant([1.0, 1.0])
    for batch in (2, 2, 3):
        iterator = iter(tf.data.Dataset.range(12, output_type=tf.float32).batch(batch, drop_remainder=True))
        found = [float(function(iterator, tensor)) for tensor in (one, two, one, two)]
        sums = [sum(range(batch * step, batch * (step + 1))) for step in range(4)]
        assert found == [whole + more for whole, more in zip(sums, (1, 2, 1, 2), strict=True)]
    assert len(traced) <= 6  # for two sizes of a batch, and of the tensor a length and any length
    with pytest.raises(tf.errors.OutOfRangeError):
        function(iterator, one)


def test_variables_may_be_made_in_the_first_call():
    made = []

    def counted(iterator):
        made.extend([] if made else [tf.Variable(0)])
        return made[0].assign_add(iterator.get_next())

    function, iterator = Iterated(counted), iter(tf.data.Dataset.from_tensors(2).repeat())
    assert [int(function(iterator)) for _ in range(3)] == [2, 4, 6]


def test_steps_run_eagerly_where_that_is_asked_for():
    seen, iterator = [], iter(tf.data.Dataset.range(4))
    tf.config.run_functions_eagerly(True)
    try:
        function = Iterated(lambda iterator: seen.append(iterator.get_next().numpy()))
        for _ in range(3):
            function(iterator)
    finally:
        tf.config.run_functions_eagerly(False)
    assert seen == [0, 1, 2]


def test_an_iterator_is_not_held():
    function = Iterated(lambda iterator: iterator.get_next())
    iterator = iter(tf.data.Dataset.range(4))
    assert [int(function(iterator)) for _ in range(3)] == [0, 1, 2]
    held = function._iterator
    del iterator
    gc.collect()
    assert held() is None
