"""Why a step went wrong: steps that go wrong on purpose, each at a known place."""

from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers, ops

from pipelines import datasets
from pipelines.diagnosis import examples, explain, names_of
from pipelines.feed import Feed
from pipelines.objectives.losses import CrossEntropy
from pipelines.run import Images, Phase, Run, Tables
from tests.pipelines import small, toy

NAMES = tuple(f"red/{number:02}.png" for number in range(16))


def compiled(model: keras.Model, *, loss="usual") -> keras.Model:
    keras.utils.set_random_seed(0)
    model.compile(keras.optimizers.SGD(0.1), loss=CrossEntropy() if loss == "usual" else loss)
    return model


def batch(*, spoiled: int | None = None, value: float = np.nan):
    images, labels = toy.problem(16)
    if spoiled is not None:
        images[spoiled, 0, 0, 0] = value
    return tf.constant(images), tf.constant(labels)


def values(model: keras.Model) -> list[np.ndarray]:
    return [np.array(variable) for variable in model.variables]


@keras.saving.register_keras_serializable("tests")
class Root(layers.Layer):
    """A square root, whose derivative at 0 is infinite."""

    def call(self, x):
        return ops.sqrt(ops.relu(x))


@keras.saving.register_keras_serializable("tests")
class Times(layers.Layer):
    """A multiplication that overflows."""

    def call(self, x):
        return x * 1e30 * 1e30


def test_a_step_in_order():
    model = compiled(toy.model())
    text = explain(model, batch(), names=NAMES)
    assert text.startswith("After the step: all is finite")
    assert text.endswith(f"The batch: {', '.join(NAMES)}.")


def test_nan_in_the_input_is_told_with_its_example():
    model = compiled(toy.model())
    text = explain(model, batch(spoiled=5), names=NAMES)
    assert "The inputs hold NaN: 1 of 3072 values, in red/05.png." in text
    assert "'stem_conv' (Conv2D)" in text
    assert "of red/05.png; its inputs go up to" in text


def test_nothing_of_the_model_changes():
    model = compiled(toy.model())
    before = values(model)
    explain(model, batch(spoiled=1), before=before)
    for one, other in zip(before, values(model), strict=True):
        np.testing.assert_array_equal(one, other)
    assert model.optimizer.iterations == 0


def test_the_first_layer_that_overflows_is_named():
    x = image = keras.Input((8, 8, 3))
    x = layers.Conv2D(4, 3, name="stem_conv")(x)
    shortcut = x = layers.BatchNormalization(name="stem_bn")(x)
    x = Times(name="stage1_times")(x)
    x = layers.Add(name="stage1_add")([x, shortcut])
    x = layers.GlobalAveragePooling2D(name="head_pool")(x)
    model = compiled(keras.Model(image, layers.Dense(3, name="head_logits")(x)))
    text = explain(model, batch())
    assert "the first output that is not finite is that of 'stage1_times' (Times): inf" in text


def test_a_layer_inside_a_model_inside_the_model():
    inner_input = keras.Input((8, 8, 3))
    inner = keras.Model(inner_input, Times(name="times")(layers.Conv2D(4, 3, name="conv")(inner_input)), name="base")
    image = keras.Input((8, 8, 3))
    x = layers.GlobalAveragePooling2D()(inner(layers.Rescaling(1.0)(image)))
    model = compiled(keras.Model(image, layers.Dense(3)(x)))
    assert "'base > times' (Times)" in explain(model, batch())


def test_a_sequential_model():
    model = compiled(keras.Sequential([keras.Input((8, 8, 3)), layers.Flatten(), Times(name="times"), layers.Dense(3)]))
    assert "'times' (Times)" in explain(model, batch())


@pytest.mark.parametrize("residual", [False, True])
def test_the_layer_whose_gradient_fails_is_named(residual):
    """Its own, not that of the addition which takes the same tensor."""
    x = image = keras.Input((8, 8, 3))
    x = layers.ReLU(name="stem_relu")(layers.Conv2D(4, 3, bias_initializer=keras.initializers.Constant(-99))(x))
    root = Root(name="stage1_root")(x)
    if residual:
        root = layers.Add(name="stage1_add")([layers.Conv2D(4, 1, name="stage1_conv")(root), x])
    x = layers.GlobalAveragePooling2D(name="head_pool")(root)
    model = compiled(keras.Model(image, layers.Dense(3, name="head_logits")(x)))
    text = explain(model, batch())
    assert "going back, its gradient first fails in 'stage1_root' (Root)" in text


def test_weights_before_and_after_the_step():
    """As in a fit: before it the loss overflows, after it all that learned is no number."""
    model = compiled(toy.model(dropout=0.5))
    before = values(model)
    for variable in model.get_layer("stage1_conv").variables:
        variable.assign(variable * np.nan)
    first, second = explain(model, batch(), before=before).splitlines()
    assert first.startswith("Before the step: all is finite")
    assert second == "After the step: the weights of 1 layers are not finite: stage1_conv."


def test_a_loss_that_fails_on_finite_outputs():
    model = compiled(toy.model(), loss=lambda targets, outputs: ops.log(-ops.abs(outputs[:, 0])))
    text = explain(model, batch())
    assert "every layer's output is finite" in text
    assert "the loss is nan" in text


def test_labels_of_no_class():
    images, labels = toy.problem(16)
    labels[[3, 7]] = 3, -1
    model = compiled(toy.model(), loss=lambda y, x: ops.mean(x) * ops.cast(ops.max(y), "float32"))
    text = explain(model, (tf.constant(images), tf.constant(labels)), names=NAMES)
    assert "Labels -1, 3 are of no class of the model, which has 3, in red/03.png, red/07.png." in text


def test_targets_and_weights():
    images, _ = toy.problem(16)
    targets, weights = np.zeros((16, 3), "float32"), np.ones(16, "float32")
    targets[2, 1], weights[4] = np.inf, np.nan
    model = compiled(toy.model(), loss="mse")
    text = explain(model, tuple(map(tf.constant, (images, targets, weights))), names=NAMES)
    assert "The targets hold inf: 1 of 48 values, in red/02.png." in text
    assert "The weights of the examples hold NaN: 1 of 16 values, in red/04.png." in text


def test_several_inputs_and_half_precision():
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        left, right = keras.Input((4,), name="left"), keras.Input((4,), name="right")
        x = layers.Concatenate(name="both")([layers.Dense(3, name="one")(left), layers.Dense(3, name="two")(right)])
        model = compiled(keras.Model({"left": left, "right": right}, layers.Dense(2, dtype="float32")(x)))
    finally:
        keras.config.set_dtype_policy("float32")
    inputs = {"left": tf.ones((3, 4)), "right": tf.constant(np.full((3, 4), np.nan, "float32"))}
    text = explain(model, (inputs, tf.zeros(3, tf.int32)))
    assert "The inputs 'right' hold NaN: 12 of 12 values, in example 0 of the batch" in text
    assert "'two' (Dense): NaN" in text


def test_what_examples_are_called(tmp_path):
    data = datasets.load(Run("cnn", Images(str(small.folder(tmp_path / "images"))), (Phase(1, 1e-3),), tmp_path))
    names = names_of(data, "train", [0, 1])
    assert all(Path(name).is_file() for name in names)
    digits = datasets.load(Run("cnn", Images("digits"), (Phase(1, 1e-3),), tmp_path))
    assert names_of(digits, "train", [7]) == ["train example 7"]
    iris = datasets.load(Run("mlp", Tables("iris", target="target"), (Phase(1, 1e-3),), tmp_path))
    assert "row" in names_of(iris, "train", [7])[0]


def test_the_examples_of_a_batch():
    numbers = tf.data.Dataset.range(12).batch(4)
    assert examples(Feed(3, numbers.skip), 1) is None
    assert examples(Feed(3, numbers.skip, numbers.skip), 1).tolist() == [4, 5, 6, 7]
