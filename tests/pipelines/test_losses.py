"""Losses of classes are those of a calculation by hand, for class numbers and for shares, with every option."""

import functools
from types import SimpleNamespace

import keras
import numpy as np
import pytest
import tensorflow as tf

from pipelines import objectives
from pipelines.decay import Penalty, penalty
from pipelines.objectives.class_weights import class_weights
from pipelines.objectives.losses import BinaryCrossEntropy, CrossEntropy, cross_entropies
from pipelines.objectives.objective import accuracy
from pipelines.optimization import Optimization
from tests.pipelines import toy
from tests.pipelines.sequences import Sequences

CLASSES = 4
RANDOM = np.random.default_rng(0)
LOGITS = RANDOM.normal(size=(6, CLASSES)).astype("float32") * 2
LABELS = np.array([0, 1, 2, 3, 1, 0])
SHARES = RANDOM.dirichlet(np.ones(CLASSES), 6).astype("float32")  # as mixup makes them
MARKS = RANDOM.integers(0, 2, (6, CLASSES)).astype("float32")
WEIGHTS = (0.5, 1.0, 2.0, 4.0)
OPTIONS = [
    {},
    {"smoothing": 0.1},
    {"focus": 2.0},
    {"weights": WEIGHTS},
    {"smoothing": 0.2, "weights": WEIGHTS},
    {"smoothing": 0.2, "weights": WEIGHTS, "focus": 1.5},
]


def one_hot(labels):
    return np.eye(CLASSES)[labels]


def cross_entropy(shares, *, smoothing=0.0, weights=(1.0,) * CLASSES, focus=0.0) -> np.ndarray:
    """The loss of each example, in float64."""
    logits = LOGITS.astype("float64")
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    shares = (1 - smoothing) * shares + smoothing / CLASSES
    return -(weights * shares * (1 - probabilities) ** focus * np.log(probabilities)).sum(axis=1)


def binary_cross_entropy(marks, *, smoothing=0.0, weights=(1.0,) * CLASSES, focus=0.0) -> np.ndarray:
    yes = 1 / (1 + np.exp(-LOGITS.astype("float64")))
    marks = (1 - smoothing) * marks + smoothing / 2
    parts = marks * (1 - yes) ** focus * np.log(yes) + (1 - marks) * yes**focus * np.log(1 - yes)
    return -(weights * parts).mean(axis=1)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize(("made", "plain"), [(CrossEntropy, cross_entropy), (BinaryCrossEntropy, binary_cross_entropy)])
def test_losses_of_numbers_shares_and_marks_are_those_of_their_formula(made, plain, options):
    loss = made(**options)
    assert float(loss(LABELS, LOGITS)) == pytest.approx(plain(one_hot(LABELS), **options).mean(), rel=1e-5)
    assert float(loss(LABELS[:, None], LOGITS)) == pytest.approx(plain(one_hot(LABELS), **options).mean(), rel=1e-5)
    soft = MARKS if made is BinaryCrossEntropy else SHARES
    assert float(loss(soft, LOGITS)) == pytest.approx(plain(soft, **options).mean(), rel=1e-5)
    counts = np.array([1.0, 0.0, 2.0, 1.0, 0.5, 0.0])
    expected = (plain(soft, **options) * counts).sum() / counts.sum()
    assert float(loss(soft, LOGITS, counts)) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_losses_of_tokens_take_the_weight_of_each(options):
    """(B, T) labels and (B, T, classes) logits, where a place of padding counts nothing."""
    labels, logits, counts = LABELS.reshape(2, 3), LOGITS.reshape(2, 3, CLASSES), np.array([[1, 1, 0], [1, 0, 0]])
    expected = (cross_entropy(one_hot(LABELS), **options) * counts.ravel()).sum() / counts.sum()
    assert float(CrossEntropy(**options)(labels, logits, counts)) == pytest.approx(expected, rel=1e-5)


def test_keras_has_the_same_numbers_where_it_has_the_loss():
    known = keras.losses
    pairs = [
        (CrossEntropy(smoothing=0.1), known.CategoricalCrossentropy(from_logits=True, label_smoothing=0.1), SHARES),
        (CrossEntropy(focus=2.0), known.CategoricalFocalCrossentropy(alpha=1.0, gamma=2.0, from_logits=True), SHARES),
        (BinaryCrossEntropy(smoothing=0.1), known.BinaryCrossentropy(from_logits=True, label_smoothing=0.1), MARKS),
        (BinaryCrossEntropy(focus=2.0), known.BinaryFocalCrossentropy(gamma=2.0, from_logits=True), MARKS),
    ]
    for ours, theirs, targets in pairs:
        assert float(ours(targets, LOGITS)) == pytest.approx(float(theirs(targets, LOGITS)), rel=1e-5)


@pytest.mark.parametrize("shape", [(6,), (6, 1), (2, 3)], ids=str)
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_cross_entropies_of_class_numbers_have_the_gradient_of_the_formula(shape, dtype):
    places = shape if shape[-1] > 1 else shape[:1]
    logits = tf.cast(tf.reshape(LOGITS, (*places, CLASSES)), dtype)
    with tf.GradientTape() as tape:
        tape.watch(logits)
        found = cross_entropies(LABELS.reshape(shape).astype("float32"), logits)  # as Keras gives them to a loss
    assert found.dtype == tf.float32
    exact = 1e-5 if dtype == "float32" else 5e-3
    np.testing.assert_allclose(found, cross_entropy(one_hot(LABELS)).reshape(places), rtol=exact)
    expected = tf.nn.softmax(LOGITS) - one_hot(LABELS)
    np.testing.assert_allclose(tape.gradient(found, logits), tf.reshape(expected, logits.shape), atol=exact)


@pytest.mark.parametrize("made", [CrossEntropy, BinaryCrossEntropy])
@pytest.mark.parametrize("focus", [0.0, 0.5, 2.0])
def test_large_logits_have_a_loss_and_a_gradient(made, focus):
    logits = tf.constant([[300.0, -300.0, 0.0], [-300.0, 300.0, 0.0]])
    with tf.GradientTape() as tape:
        tape.watch(logits)
        loss = made(focus=focus, smoothing=0.1)(np.array([0, 0]), logits)
    assert np.isfinite(float(loss))
    assert np.isfinite(tape.gradient(loss, logits).numpy()).all()


def test_the_accuracy_of_shares_is_that_of_the_largest():
    (metric,) = accuracy()
    metric.update_state(SHARES, LOGITS)
    right = SHARES.argmax(axis=1) == LOGITS.argmax(axis=1)
    assert float(metric.result()) == pytest.approx(right.mean())
    metric.reset_state()
    metric.update_state(LABELS, LOGITS, np.array([1, 1, 1, 0, 0, 0]))
    assert float(metric.result()) == pytest.approx((LOGITS.argmax(axis=1) == LABELS)[:3].mean())


def test_a_model_compiled_with_the_loss_takes_shares_of_classes():
    """Through Keras' own handling of targets, in a graph."""
    images, labels = toy.problem(12)
    model = toy.model(dropout=0.0)
    model.compile(loss=CrossEntropy(smoothing=0.1), weighted_metrics=accuracy())
    shares = 0.7 * np.eye(3)[labels] + 0.3 * np.eye(3)[labels[::-1]]
    found = model.evaluate(images, shares.astype("float32"), verbose=0, return_dict=True)
    logits = np.asarray(model(images), "float64")
    logs = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    expected = -((0.9 * shares + 0.1 / 3) * logs).sum(axis=1).mean()
    assert found["loss"] == pytest.approx(expected, rel=1e-5)
    assert found["accuracy"] == pytest.approx((logits.argmax(axis=1) == shares.argmax(axis=1)).mean())


def data_of(labels, classes=("common", "rare", "none")):
    return SimpleNamespace(classes=classes, task="classify", parts={"train": SimpleNamespace(labels=np.array(labels))})


def test_balanced_weights_give_each_class_the_same_part():
    assert class_weights("balanced", data_of([0, 0, 0, 0, 0, 0, 1, 1])) == pytest.approx((8 / 12, 8 / 4, 1.0))
    by_name = class_weights({"rare": 3.0}, data_of([0, 1]))
    assert by_name == (1.0, 3.0, 1.0)


def test_class_weights_of_no_such_class_are_refused():
    with pytest.raises(ValueError, match=r"no class 'rear'. Did you mean 'rare'. Classes: common, rare, none"):
        class_weights({"rear": 2.0}, data_of([0, 1]))
    with pytest.raises(ValueError, match=r"do not tell them. Give weights by name"):
        class_weights("balanced", SimpleNamespace(classes=("a",), parts={"train": [1, 2]}))
    with pytest.raises(ValueError, match="these have none"):
        class_weights("balanced", data_of([], classes=()))


def test_find_gives_the_loss_that_is_asked_for():
    data, find = data_of([0, 0, 0, 1]), functools.partial(objectives.find, "classify")
    assert find(data).loss is CrossEntropy
    targets, logits = np.array([0, 1]), LOGITS[:2, :3]
    for options, expected in (
        ({"loss": "cross_entropy"}, CrossEntropy()),
        ({"loss": "focal"}, CrossEntropy(focus=2.0)),
        ({"loss": "focal", "focus": 1.0}, CrossEntropy(focus=1.0)),
        ({"loss": "binary_cross_entropy", "label_smoothing": 0.1}, BinaryCrossEntropy(smoothing=0.1)),
        ({"label_smoothing": 0.1}, CrossEntropy(smoothing=0.1)),
        ({"class_weights": "balanced"}, CrossEntropy(weights=(4 / 6, 2.0, 1.0))),
        ({"class_weights": {"rare": 5.0}}, CrossEntropy(weights=(1.0, 5.0, 1.0))),
    ):
        made = find(data, **options).loss()
        assert type(made) is type(expected)
        assert float(made(targets, logits)) == float(expected(targets, logits)), options


def test_options_of_classes_are_refused_for_other_tasks():
    with pytest.raises(ValueError, match=r"label_smoothing=0.1 is for tasks that choose among classes"):
        objectives.find("answer", Sequences("answer"), label_smoothing=0.1)
    with pytest.raises(ValueError, match="loss='focal' is for tasks that choose among classes"):
        objectives.find("regress", Sequences("classify"), loss="focal")
    assert float(
        objectives.find("causal_lm", Sequences("causal_lm"), label_smoothing=0.1).loss()(LABELS, LOGITS)
    ) == float(CrossEntropy(smoothing=0.1)(LABELS, LOGITS))


def test_the_weight_of_a_class_moves_the_loss_and_the_gradient_toward_it():
    rare = np.flatnonzero(LABELS == 3)
    gradients = []
    for weights in (None, (1.0, 1.0, 1.0, 10.0)):
        logits = tf.constant(LOGITS)
        with tf.GradientTape() as tape:
            tape.watch(logits)
            loss = CrossEntropy(weights=weights)(LABELS, logits)
        gradients.append(tape.gradient(loss, logits).numpy())
    ratio = np.linalg.norm(gradients[1], axis=1) / np.linalg.norm(gradients[0], axis=1)
    np.testing.assert_allclose(ratio, np.where(np.isin(np.arange(6), rare), 10.0, 1.0), rtol=1e-4)


def test_the_penalty_is_of_the_kernels_that_learn():
    model = toy.model()
    model.get_layer("stem_conv").trainable = False
    kernels = [np.array(v, "float64") for v in model.trainable_variables if v.path.endswith("kernel")]
    assert len(kernels) == 3
    absolute, squares = sum(np.abs(k).sum() for k in kernels), sum((k**2).sum() for k in kernels)
    assert float(Penalty(model.trainable_variables, l1=0.5, l2=0.0)()) == pytest.approx(0.5 * absolute, rel=1e-5)
    chosen = penalty(model, Optimization(l1=0.1, l2=0.3))
    assert float(chosen()) == pytest.approx(0.1 * absolute + 0.3 * squares, rel=1e-5)
    assert penalty(model, Optimization()) is None
