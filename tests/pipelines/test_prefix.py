"""A model is cut where the answers of its frozen layers are read, and both parts together answer as it does."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import zoo
from pipelines.freezing import Freezer, find_groups
from pipelines.prefix import NotCut, NothingFrozen, cut
from pipelines.run import Phase
from zoo.layers.auxiliary import AuxiliaryModel


def frozen(model: keras.Model, unfreeze) -> keras.Model:
    """The model as a phase leaves it."""
    Freezer(model, find_groups(model)).apply(Phase(2, 1e-3, unfreeze=unfreeze))
    return model


def answers(model: keras.Model, inputs, *, training: bool = True) -> tuple[list[np.ndarray], list[np.ndarray], int]:
    """What the model says, what its two parts say one after the other, and between how many tensors they are cut."""
    found = cut(model)
    named = inputs if isinstance(inputs, dict) else dict.fromkeys(found.inputs, inputs)
    between = keras.tree.flatten(found.first(inputs, training=False))
    again = found.rest()((*between, *(named[name] for name in found.inputs)), training=training)
    keras.tree.assert_same_structure(again, model.output)
    once = keras.tree.flatten(model(inputs, training=training))
    return once, keras.tree.flatten(again), len(between) + len(found.inputs)


def check(model: keras.Model, inputs, *, tensors: int, training: bool = True) -> None:
    once, again, count = answers(model, inputs, training=training)
    assert count == tensors
    for one, other in zip(once, again, strict=True):
        np.testing.assert_allclose(np.asarray(one), np.asarray(other), rtol=1e-5, atol=1e-6)


def pictures(size: int, *, count: int = 3) -> np.ndarray:
    return np.random.default_rng(0).uniform(0, 255, (count, size, size, 3)).astype("float32")


def skipping(*, dropout: float = 0.0, names: str = "") -> keras.Model:
    """Two tensors of the frozen stem are read by what learns: a connection skips the layer between."""
    keras.utils.set_random_seed(0)
    image = keras.Input((8, 8, 3), name="image")
    x = layers.Conv2D(4, 3, padding="same", name=f"stem_conv{names}")(image)
    x = layers.Dropout(dropout, name=f"neck_drop{names}")(x) if dropout else x
    y = layers.Conv2D(4, 3, padding="same", name=f"stage1_conv{names}")(x)
    z = layers.Conv2D(4, 3, padding="same", name=f"stage2_conv{names}")(y)
    z = layers.GlobalAveragePooling2D(name=f"neck_pool{names}")(layers.Add(name=f"neck_add{names}")([z, x]))
    return keras.Model(image, layers.Dense(3, name="head_logits")(z), name="skipping")


@pytest.mark.parametrize(("unfreeze", "tensors"), [(1, 1), (2, 2)])
def test_a_cut_goes_through_several_tensors_where_a_connection_skips_layers(unfreeze, tensors):
    check(frozen(skipping(), unfreeze), pictures(8), tensors=tensors)


@pytest.mark.parametrize("unfreeze", [1, 2])
def test_auxiliary_heads_are_answered_too(unfreeze):
    base = skipping()
    early = layers.GlobalAveragePooling2D(name="stage1_pool")(base.get_layer("stage1_conv").output)
    outputs = {"logits": base.output, "auxiliary1": layers.Dense(3, name="stage1_auxiliary")(early)}
    model = AuxiliaryModel(base.input, outputs)
    check(frozen(model, unfreeze), pictures(8), tensors=1 + unfreeze)  # one of them an output itself


def test_a_text_model_hands_its_mask_on():
    model = zoo.create("bert_tiny", task="classify", classes=2, width=8, depth=2, heads=2, mlp_width=8, vocabulary=30)
    random = np.random.default_rng(0)
    mask = (np.arange(9) < [[9], [4]]).astype("int32")
    inputs = {"token_ids": random.integers(1, 30, (2, 9)) * mask, "padding_mask": mask, "segment_ids": 0 * mask}
    inputs = {name: tf.constant(inputs[name], tf.int32) for name in model.input}
    check(frozen(model, 1), inputs, tensors=1, training=False)  # the class token, pooled or not: (B, D)
    frozen(model, 2)
    assert "padding_mask" in cut(model).inputs  # what learns attends to it
    check(model, inputs, tensors=1 + len(cut(model).inputs), training=False)


def test_chance_and_statistics_are_not_cut_off():
    assert cut(frozen(skipping(), 1)).tensors[0].shape == (None, 4)  # what is pooled
    dropping = frozen(skipping(dropout=0.5), 1)
    dropping.get_layer("neck_drop").rate = 0.5  # as of a layer in no group
    assert cut(dropping).tensors[0].shape == (None, 8, 8, 4)  # before the dropout
    model = keras.Sequential([keras.Input((4,)), layers.Dense(4), layers.BatchNormalization(scale=False, center=False)])
    model = keras.Model(model.inputs, layers.Dense(2)(model.outputs[0]))
    model.layers[1].trainable = False
    assert cut(model).tensors[0] is model.layers[1].output  # BatchNormalization has nothing to learn, but counts


def test_a_model_without_frozen_weights_is_not_cut():
    with pytest.raises(NothingFrozen):
        cut(frozen(skipping(), "all"))
    with pytest.raises(NotCut, match=r"\d+% of the work"):
        cut(frozen(skipping(), 2), least=0.99)


def test_layers_that_are_called_on_both_sides_are_called_on_both():
    shared = layers.Dense(3, name="stem_shared")
    features = keras.Input((3,), name="features")
    x = layers.Dense(3, name="stage1_dense")(shared(features))
    model = keras.Model(features, layers.Dense(2, name="head_logits")(shared(x)))
    frozen(model, 1)
    model.get_layer("stage1_dense").trainable = True
    check(model, np.ones((2, 3), "float32"), tensors=1)


def test_the_identity_is_that_of_graph_and_weights():
    known = cut(frozen(skipping(), 1)).identity()
    assert cut(frozen(skipping(names="_b"), 1)).identity() == known
    assert cut(frozen(skipping(), 2)).identity() != known
    model = frozen(skipping(), 1)
    kernel = model.get_layer("stage1_conv").kernel
    kernel.assign(kernel * 1.0001)
    assert cut(model).identity() != known
    model = frozen(skipping(), 1)
    model.get_layer("head_logits").kernel.assign(np.zeros((4, 3)))  # which comes after
    assert cut(model).identity() == known


def test_gradients_reach_what_learns_alone():
    model = frozen(skipping(), 2)
    found = cut(model)
    image, labels = tf.constant(pictures(8)), tf.constant([0, 1, 2])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    gradients = []
    between = keras.tree.flatten(found.first(image, training=False))
    for answer in (lambda: model(image, training=True), lambda: found.rest()(between, training=True)):
        with tf.GradientTape() as tape:
            value = loss(labels, answer())
        gradients.append(tape.gradient(value, [v.value for v in model.trainable_variables]))
    assert len(gradients[0]) == 4
    for one, other in zip(*gradients, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-7)
