"""A part of a batch may be no examples at all."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from pipelines.loop import Settings
from pipelines.parts import divided, of_any, with_one
from pipelines.run import Phase
from pipelines.taught import taught
from pipelines.train import fit
from tests.pipelines import toy

ANY = tf.TensorSpec((None, 8, 8, 3))


@pytest.mark.parametrize("count", [0, 1, 4])
def test_answers_are_to_what_there_is(count):
    model, (images, _) = toy.model(), toy.problem(4)
    answer = tf.function(lambda some: of_any(model, some), input_signature=[ANY])
    found = answer(tf.constant(images[:count]))
    assert found.shape == (count, 3)
    np.testing.assert_allclose(found, model(images)[:count], atol=1e-6)


def test_one_of_zeros_stands_in_for_none():
    total = tf.function(
        lambda some: with_one(lambda one: tf.shape(one)[0] + 0 * tf.cast(one[0, 0, 0, 0], tf.int32), some)
    )
    for count, told in ((0, 1), (1, 1), (3, 3)):
        assert int(total.get_concrete_function(ANY)(tf.ones((count, 8, 8, 3)))) == told


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_micro_batches_are_the_batch_in_order(count):
    batch = {"a": tf.range(4), "b": tf.reshape(tf.range(8), (4, 2))}
    found = divided(batch, count)
    assert len(found) == count
    for name, whole in batch.items():
        np.testing.assert_array_equal(tf.concat([part[name] for part in found], axis=0), whole)


@pytest.mark.parametrize("accumulate", [1, 2])
def test_what_the_loss_does_not_hang_on_stays_as_it_is(accumulate):
    model = toy.model()
    aside = keras.layers.Dense(3, name="head_aside")(keras.layers.Flatten(name="head_flat")(model.input))
    logits = keras.layers.Add(name="head_sum")([model.output, keras.ops.stop_gradient(aside)])
    model = keras.Model(model.input, logits)
    before = {name: np.array(model.get_layer(name).kernel) for name in ("head_aside", "head_logits")}
    fit(
        model, [Phase(1, 1e-2, unfreeze="all")], toy.dataset(), settings=Settings(accumulate=accumulate), progress=False
    )
    moved = [name for name, kernel in before.items() if not np.array_equal(model.get_layer(name).kernel, kernel)]
    assert moved == ["head_logits"]


def test_a_teacher_has_no_answers_to_no_examples():
    """Which a device may get of a last batch; oneDNN's convolutions fail on them."""
    model = taught(toy.model(), toy.model())
    answer = tf.function(model.lesson.answer, input_signature=[ANY])
    images, _ = toy.problem(4)
    assert answer(tf.constant(images[:0]))["answer"].shape == (0, 3)
    np.testing.assert_allclose(answer(tf.constant(images))["answer"], model.lesson.answer(images)["answer"], atol=1e-6)
