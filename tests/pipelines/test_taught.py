"""A student learns its teacher's answers and features by the formula, and nothing else is changed, kept or saved."""

import shutil

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import zoo
from pipelines import feature_pairs
from pipelines.checkpoints import Checkpoints
from pipelines.engine import Engine
from pipelines.feature_pairs import Pair, distance
from pipelines.freezing import find_groups
from pipelines.loop import Settings
from pipelines.lr_finder import find_learning_rate
from pipelines.objectives import distilling
from pipelines.objectives.distilling import BinaryDivergence, Divergence, SpanDivergence
from pipelines.objectives.losses import CrossEntropy, Deviation
from pipelines.recipes import distill
from pipelines.run import Phase
from pipelines.taught import taught
from pipelines.train import fit
from tests.pipelines import tokens, toy

TEMPERATURE, SHARE, WEIGHT = 3.0, 0.3, 0.7
RANDOM = np.random.default_rng(0)


def vectors(width: int, seed: int) -> keras.Model:
    """(B, 5) -> (B, 3) over one hidden layer."""
    keras.utils.set_random_seed(seed)
    inputs = keras.Input((5,))
    x = layers.Dense(width, "tanh", name="block0_dense")(inputs)
    return keras.Model(inputs, layers.Dense(3, name="head_logits", bias_initializer="normal")(x), name=f"wide{width}")


def softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def kl(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    return (p * (np.log(p) - np.log(q))).sum(axis=-1)


def standardized(features: np.ndarray) -> np.ndarray:
    deviations = features - features.mean(axis=-1, keepdims=True)
    return deviations / np.sqrt(np.square(deviations).mean(axis=-1, keepdims=True) + 1e-5)


@pytest.mark.parametrize("weighted", [False, True])
def test_a_step_is_that_of_the_formula(weighted):
    student, teacher = vectors(4, 0), vectors(7, 1)
    model = taught(student, teacher, temperature=TEMPERATURE, label_share=SHARE, features=True, feature_weight=WEIGHT)
    inputs, labels = RANDOM.normal(size=(6, 5)).astype("float32"), np.array([0, 1, 2, 2, 1, 0])
    weights = RANDOM.exponential(size=6).astype("float32") if weighted else np.ones(6, "float32")
    shares = (weights / weights.sum()).astype("float64")[:, None]
    s, t = (np.asarray(each(inputs), "float64") for each in (student, teacher))
    hidden = np.asarray(zoo.taps(teacher, ["block0"])(inputs)["block0"], "float64")
    ours = np.asarray(model(inputs)["0"], "float64")
    hard, soft, wanted = (softmax(x) for x in (s, s / TEMPERATURE, t / TEMPERATURE))
    target = np.eye(3)[labels]
    apart = ours - standardized(hidden)
    losses = SHARE * -np.log((hard * target).sum(axis=-1)) + (1 - SHARE) * TEMPERATURE**2 * kl(wanted, soft)
    losses += WEIGHT * np.square(apart).mean(axis=-1)
    by_logits = SHARE * (hard - target) + (1 - SHARE) * TEMPERATURE * (soft - wanted)
    by_projection = WEIGHT * 2 * apart / apart.shape[-1]

    model.compile(keras.optimizers.SGD(1.0), loss=CrossEntropy())
    names = ("head_logits", "head_projection0")
    before = [np.array(model.get_layer(name).bias) for name in names]
    kept = teacher.get_weights()
    data = (inputs, labels, weights) if weighted else (inputs, labels)
    engine = Engine(model, {})
    step = engine.train(iter(tf.data.Dataset.from_tensors(data)))
    assert step.loss == pytest.approx((shares[:, 0] * losses).sum(), rel=1e-6)
    for name, bias, gradient in zip(
        ("head_logits", "head_projection0"), before, (by_logits, by_projection), strict=True
    ):
        moved = np.array(model.get_layer(name).bias) - bias
        np.testing.assert_allclose(moved, -(shares * gradient).sum(axis=0), rtol=1e-5, atol=1e-6)
    for weight, old in zip(teacher.get_weights(), kept, strict=True):
        np.testing.assert_array_equal(weight, old)
    agreement = (shares[:, 0] * (s.argmax(-1) == t.argmax(-1))).sum()
    assert engine.results()["agreement"] == pytest.approx(agreement, abs=1e-6)


def test_validation_leaves_features_out():
    student, teacher = vectors(4, 0), vectors(7, 1)
    data = tf.data.Dataset.from_tensors((RANDOM.normal(size=(6, 5)).astype("float32"), np.array([0, 1, 2, 2, 1, 0])))
    found = []
    for features in (False, True):
        model = taught(student, teacher, features=features)
        model.compile("sgd", loss=CrossEntropy())
        found.append(Engine(model, {}).evaluate(data))
        assert found[-1]["agreement"] == pytest.approx(model.likeness(data)["agreement"])
    assert found[0] == pytest.approx(found[1], rel=1e-6)


def test_numbers_are_learned_by_the_loss_of_the_run():
    student, teacher = vectors(4, 0), vectors(7, 1)
    model = taught(student, teacher, label_share=0.25)
    loss = Deviation("mse", (1.0, 2.0, 3.0))
    model.compile("sgd", loss=loss)
    inputs, true = RANDOM.normal(size=(2, 6, 5)).astype("float32")
    true = true[:, :3]
    s, t = (np.asarray(each(inputs)) for each in (student, teacher))
    engine = Engine(model, {})
    step = engine.train(iter(tf.data.Dataset.from_tensors((inputs, true))))
    units = np.array([1.0, 2.0, 3.0])
    wanted = 0.25 * np.square((s - true) / units).mean() + 0.75 * np.square((s - t) / units).mean()
    assert step.loss == pytest.approx(wanted, rel=1e-6)
    assert engine.results()["teacher_mae"] == pytest.approx(np.abs(s - t).mean(), rel=1e-6)


def test_divergences_of_marks_and_spans():
    teacher, student = RANDOM.normal(size=(2, 4, 5, 2)).astype("float32")
    found = SpanDivergence(TEMPERATURE)(teacher, student)
    p, q = (softmax(np.swapaxes(x, 1, 2) / TEMPERATURE) for x in (teacher, student))
    assert float(found) == pytest.approx(TEMPERATURE**2 * kl(p, q).mean(), rel=1e-5)
    yes, ours = (1 / (1 + np.exp(-x / TEMPERATURE)) for x in (teacher, student))
    both = [np.stack([x, 1 - x], axis=-1) for x in (yes, ours)]
    found = BinaryDivergence(TEMPERATURE)(teacher, student)
    assert float(found) == pytest.approx(TEMPERATURE**2 * kl(*both).mean(), rel=1e-5)


def test_keras_own_losses_agree_where_they_are_right():
    from keras.distillation import FeatureDistillation, LogitsDistillation

    teacher, student = RANDOM.normal(size=(2, 6, 4)).astype("float32")
    right = LogitsDistillation(TEMPERATURE, loss=keras.losses.KLDivergence())
    found = float(Divergence(TEMPERATURE)(teacher, student))
    assert found == pytest.approx(float(right.compute_loss(teacher, student)), rel=1e-5)
    distances = distilling.feature_distance(teacher, student)
    wanted = FeatureDistillation().compute_loss(standardized(teacher), student)
    assert float(tf.reduce_mean(distances)) == pytest.approx(float(wanted), rel=1e-5)


def test_why_keras_own_losses_are_not_used():
    """When these fail, Keras has changed, and its losses may serve."""
    from keras.distillation import LogitsDistillation

    def pull(loss, teacher, student):
        student = tf.Variable(student)
        with tf.GradientTape() as tape:
            value = loss(tf.constant(teacher), student)
        return tape.gradient(value, student).numpy()

    sure = ([[20.0, 0.0]], [[0.0, 20.0]])  # and the student of the wrong class: its probability is clipped
    clipped = LogitsDistillation(1.0, loss=keras.losses.KLDivergence()).compute_loss
    np.testing.assert_allclose(pull(Divergence(1.0), *sure), [[-1, 1]], atol=1e-6)
    np.testing.assert_allclose(pull(clipped, *sure), [[0, 0]], atol=1e-6)
    low = ([[-1.0, -3.0]], [[-3.0, -1.0]])  # by its default, a name, the logits themselves are taken for probabilities
    assert np.abs(pull(Divergence(3.0), *low)).min() > 0.1
    np.testing.assert_array_equal(pull(LogitsDistillation(3.0).compute_loss, *low), [[0, 0]])


def test_maps_are_compared_with_tokens_and_with_smaller_maps():
    tokens_of_teacher, student = RANDOM.normal(size=(2, 1 + 4, 3)), RANDOM.normal(size=(2, 2, 2, 3))
    pair = Pair("stage1", "block0", None, (2, 2))
    found = distance(pair, tf.constant(tokens_of_teacher, tf.float32), tf.constant(student, tf.float32), None, None)
    places = standardized(tokens_of_teacher[:, 1:]).reshape(2, 2, 2, 3)
    assert float(found) == pytest.approx(np.square(places - student).mean(), rel=1e-5)
    larger = RANDOM.normal(size=(2, 4, 4, 3)).astype("float32")
    found = distance(Pair("stage1", "stage1", None, None), larger, tf.constant(student, tf.float32), None, None)
    resized = tf.image.resize(larger, (2, 2), antialias=True).numpy()
    assert float(found) == pytest.approx(np.square(standardized(resized) - student).mean(), rel=1e-5)


@pytest.mark.parametrize("of_tokens", [False, True])
def test_padding_counts_in_no_feature(of_tokens):
    teacher, student = RANDOM.normal(size=(2, 3, 4, 5)).astype("float32")
    mask = np.array([[1, 1, 1, 1], [1, 1, 0, 0], [1, 0, 0, 0]])
    weights = (mask * RANDOM.exponential(size=mask.shape)).astype("float32") if of_tokens else None
    found = distance(Pair("block0", "block0", None, None), teacher, student, {"padding_mask": mask}, weights)
    values = np.square(standardized(teacher) - student).mean(axis=-1)
    wanted = (values * weights).sum() / weights.sum() if of_tokens else ((values * mask).sum(1) / mask.sum(1)).mean()
    assert float(found) == pytest.approx(wanted, rel=1e-5)


@pytest.mark.parametrize(
    ("student", "teacher", "pairs"),
    [
        pytest.param(
            ("resnet18", {"size": 32, "width": 8}),
            ("vit_tiny16", {"size": 48, "width": 16, "heads": 2, "depth": 3}),
            3,
            marks=pytest.mark.slow,
        ),
        pytest.param(
            ("vit_tiny16", {"size": 32, "width": 16, "heads": 2, "depth": 2}),
            ("resnet18", {"size": 32, "width": 8}),
            2,
            marks=pytest.mark.slow,
        ),
        (("mlp", {"size": 32, "widths": (8,)}), ("cnn", {"size": 32}), 1),
    ],
)
def test_any_teacher_of_images_teaches_any_student(student, teacher, pairs):
    keras.utils.set_random_seed(0)
    learner, knower = (zoo.create(name, classes=3, **options) for name, options in (student, teacher))
    model = taught(learner, knower, features=True)
    assert len(model.lesson.pairs) == pairs
    assert list(find_groups(model)) == list(find_groups(learner))
    data = (RANDOM.uniform(0, 255, (4, 32, 32, 3)).astype("float32"), np.array([0, 1, 2, 0]))
    model.compile(keras.optimizers.SGD(1e-3), loss=CrossEntropy())
    assert np.isfinite(Engine(model, {}).train(iter(tf.data.Dataset.from_tensors(data))).loss)


def test_a_student_comes_nearer_to_its_teacher_and_is_all_that_is_left(tmp_path):
    teacher = tokens.model("bert_tiny")
    fit(teacher, distill(epochs=6, learning_rate=1e-2), tokens.dataset(teacher, 128), progress=False)
    small = {"vocabulary": 30, "width": 16, "depth": 1, "heads": 2, "mlp_width": 32, "length": 12}
    student, again = (zoo.create("distilbert_base", task="classify", classes=2, **small) for _ in range(2))
    plain = student.get_config()
    model = taught(student, teacher, features=True, label_share=0.0)
    assert set(model.input) == {"token_ids", "padding_mask", "segment_ids"}
    assert not {id(weight) for weight in teacher.weights} & {id(variable) for variable in model.variables}
    data, other = tokens.dataset(teacher, 128), tokens.dataset(teacher, 64, seed=1)
    kept = teacher.get_weights()
    history = fit(model, distill(epochs=8, learning_rate=1e-2), data, other, folder=tmp_path, progress=False)
    found = [epoch.metrics["val_agreement"] for epoch in history.epochs]
    assert max(found) > 0.9 > found[0]
    assert student.get_config() == plain
    assert len(model.variables) == len(student.variables) + 2
    np.testing.assert_equal(teacher.get_weights(), kept)
    again.load_weights(tmp_path / "best.weights.h5")  # the student's alone
    np.testing.assert_equal(again.get_weights(), student.get_weights())


def student() -> keras.Model:
    """(B, 5) -> (B, 3), with units that are dropped at random."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((5,))
    x = layers.Dense(4, "tanh", name="block0_dense")(inputs)
    x = layers.Dropout(0.3, name="block0_dropout")(x)
    return keras.Model(inputs, layers.Dense(3, name="head_logits")(x))


def numbers(count: int) -> tf.data.Dataset:
    draw = np.random.default_rng(count)
    data = draw.normal(size=(count, 5)).astype("float32"), draw.integers(0, 3, count)
    return tf.data.Dataset.from_tensor_slices(data).batch(8)


def trained(folder, *, go_on: bool = False) -> tuple[list[np.ndarray], str]:
    model = taught(student(), vectors(7, 1), features=True)
    checkpoints = Checkpoints(folder, keep=1_000)
    history = fit(
        model,
        (Phase(1, 1e-2), *distill(epochs=2, learning_rate=1e-2)),
        numbers(48),
        numbers(16),
        progress=False,
        checkpoints=checkpoints,
        resumed=checkpoints.latest() if go_on else None,
        settings=Settings(save_steps=1, accumulate=2),
    )
    return model.get_weights(), str([tuple(epoch.metrics.values()) for epoch in history.epochs])


@pytest.mark.slow
def test_it_goes_on_from_any_step_to_the_same_weights(tmp_path):
    weights, history = trained(tmp_path / "run")
    checkpoints = Checkpoints(tmp_path / "run")
    stored = checkpoints.latest().arrays
    of_model = [name for name in stored if name.startswith("model")]
    assert len(of_model) == len(student().variables) + 2  # a projection, and nothing of the teacher
    for number in checkpoints.numbers()[-5:]:  # it goes on in the middle of the last epoch
        shutil.rmtree(checkpoints._path(number))
    again, told = trained(tmp_path / "run", go_on=True)
    assert told == history
    for found, wanted in zip(again, weights, strict=True):
        np.testing.assert_array_equal(found, wanted)


@pytest.mark.slow
def test_a_learning_rate_is_found_on_a_copy_that_is_taught_too():
    model = taught(toy.model(), toy.model(), label_share=0.0)
    before = model.get_weights()
    found = find_learning_rate(model, toy.dataset(64), steps=40)
    assert len(found.losses) > 20
    np.testing.assert_equal(model.get_weights(), before)


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match=r"gives \(None, 3\), its teacher \(None, 2\)"):
        taught(toy.model(), toy.model(classes=2))
    with pytest.raises(ValueError, match="they need the same"):
        taught(vectors(4, 0), toy.model())
    with pytest.raises(ValueError, match=r"has no features 'stage9'.*Known: stage1, stage2"):
        taught(toy.model(), toy.model(), features=(("stage1", "stage9"),))
    student, teacher = (["encoder.block0", "encoder.block1", "decoder.block0"], ["encoder.block0", "decoder.block0"])
    found = feature_pairs._at_like_depths(student, teacher)
    assert found == (("encoder.block1", "encoder.block0"), ("decoder.block0", "decoder.block0"))
