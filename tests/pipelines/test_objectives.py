"""Objectives: what a task learns, that padding has no part in it, and that models do learn it."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from pipelines import objectives
from pipelines.datasets import Vocabulary
from pipelines.evaluate import evaluate
from pipelines.feed import feed
from pipelines.objectives import language
from pipelines.objectives.losses import CrossEntropy, Deviation, SpanCrossEntropy
from pipelines.run import Phase
from pipelines.train import fit
from tests.pipelines import sequences
from tests.pipelines.sequences import SIZE, START, Sequences

TASKS = ("classify", "tag", "answer", "masked_lm", "causal_lm", "seq2seq")
VOCABULARY = Vocabulary(50, 0, specials=(0, 1, 2), mask=2)


@pytest.mark.parametrize("task", TASKS)
def test_padding_counts_neither_in_the_loss_nor_in_a_metric_nor_in_scores(task):
    """Batches of texts of 3 to 9 tokens, the last with one text, once as they are and once with 7 more places each."""
    keras.utils.set_random_seed(0)
    data, model = Sequences(task), sequences.model(task)
    objective = objectives.find(task, data)
    batches = objective.complete(data.evaluation_set(model, "test", batch=7), seed=0, training=False).cache()
    longer = batches.map(lambda *batch: sequences.padded(batch, 7))
    model.compile(loss=objective.loss(), weighted_metrics=objective.metrics())
    found, again = (model.evaluate(some, return_dict=True, verbose=0) for some in (batches, longer))
    assert found.keys() == {"loss", "accuracy"}
    assert found["loss"] > 0
    assert again == pytest.approx(found, rel=1e-6)
    one, other = (objective.score(model, some, "test").to_json() for some in (batches, longer))
    assert _numbers(other) == pytest.approx(_numbers(one), rel=1e-6)


@pytest.mark.parametrize("task", TASKS)
def test_padding_changes_no_gradient(task):
    data, losses, weights = Sequences(task), [], []
    objective = objectives.find(task, data)
    keras.utils.set_random_seed(0)
    models = [sequences.model(task) for _ in range(2)]
    models[1].set_weights(models[0].get_weights())
    (batch,) = objective.complete(data.evaluation_set(models[0], "test", batch=22), seed=0, training=False).take(1)
    for model, some in zip(models, (batch, sequences.padded(batch, 5)), strict=True):
        model.compile(keras.optimizers.SGD(0.5), loss=objective.loss())
        losses.append(model.train_on_batch(*some))
        weights.append(model.get_weights())
    assert losses[1] == pytest.approx(losses[0], rel=1e-6)
    for a, b in zip(*weights, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)


@pytest.mark.parametrize("task", TASKS)
def test_each_task_is_learned(task):
    keras.utils.set_random_seed(0)
    data, model = Sequences(task), sequences.model(task)
    objective = objectives.find(task, data)
    before = evaluate(model, data, objective)
    train = objective.complete(data.training_set(model, batch=16, seed=0), seed=0, training=True)
    phases = [Phase(25, 3e-2, unfreeze="all")]
    fit(model, phases, train, loss=objective.loss(), metrics=objective.metrics, progress=False)
    after = evaluate(model, data, objective)
    good = {"answer": "f1"}.get(task, "accuracy")
    assert getattr(after, good) > max(getattr(before, good) + 0.1, 0.3 if task == "masked_lm" else 0.8)


def test_the_default_loss_and_metric_of_fit_leave_out_what_has_no_weight():
    data, model = Sequences("tag"), sequences.model("tag")
    batches = data.evaluation_set(model, "train", batch=64)
    history = fit(model, [Phase(1, 1e-9)], batches, progress=False)
    inputs, labels, weights = next(iter(batches))
    logits = model(inputs)
    losses = keras.losses.sparse_categorical_crossentropy(labels, logits, from_logits=True)
    right = tf.cast(tf.argmax(logits, -1, tf.int32) == labels, tf.float32)
    assert float(tf.reduce_mean(weights)) < 0.5
    expected = {
        name: float(tf.reduce_sum(values * weights) / tf.reduce_sum(weights))
        for name, values in (("loss", losses), ("accuracy", right))
    }
    assert history.best.metrics == pytest.approx(expected, rel=1e-5)


def test_hidden_tokens_are_those_of_bert():
    tokens = tf.constant(np.random.default_rng(0).integers(3, 50, (200, 120)), tf.int32)
    mask = tf.constant(np.arange(120) < 100, tf.int32)[None] * tf.ones_like(tokens)
    tokens = tf.where(tf.range(120) == 0, 1, tokens)  # a special token before each text
    inputs, targets, weights = language.hide(
        {"token_ids": tokens, "padding_mask": mask}, tf.constant([3, 4]), VOCABULARY
    )
    hidden, shown = weights.numpy() > 0, inputs["token_ids"].numpy()
    np.testing.assert_array_equal(targets, tokens)
    assert not hidden[:, 0].any() and not hidden[:, 100:].any()  # special tokens and padding
    np.testing.assert_array_equal(shown[~hidden], tokens.numpy()[~hidden])
    assert hidden[:, 1:100].mean() == pytest.approx(0.15, abs=0.01)
    masked, same = shown[hidden] == 2, shown[hidden] == tokens.numpy()[hidden]
    assert masked.mean() == pytest.approx(0.8, abs=0.02)
    assert same.mean() == pytest.approx(0.1 + 0.1 / 47, abs=0.02)
    assert set(shown[hidden & ~np.isin(shown, [2])]) <= set(range(3, 50))  # no other special token takes a place
    assert len(set(shown[hidden])) > 40


def test_what_is_hidden_is_the_same_in_evaluation_and_another_each_epoch_of_training():
    data, model = Sequences("masked_lm"), sequences.model("masked_lm")
    objective = objectives.find("masked_lm", data)

    def shown(training, seed=0):
        batches = data.evaluation_set(model, "train", batch=16)
        completed = objective.complete(feed(batches) if training else batches, seed=seed, training=training)
        epochs = [completed.epoch(0), completed.epoch(1)] if training else [completed] * 2
        assert [int(epoch.cardinality()) for epoch in epochs] == [4, 4]
        return [[inputs["token_ids"].numpy() for inputs, *_ in epoch] for epoch in epochs]

    def same(a, b):
        return all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))

    first, second = shown(training=False)
    assert same(first, second)
    epochs = shown(training=True)
    assert not same(*epochs)
    assert all(same(a, b) for a, b in zip(epochs, shown(training=True), strict=True))
    assert not same(epochs[0], shown(training=True, seed=1)[0])


def test_the_next_token_is_the_target_whichever_side_is_padded():
    tokens = tf.constant([[5, 6, 7, 0], [0, 8, 9, 4]])
    mask = tf.constant([[1, 1, 1, 0], [0, 1, 1, 1]])
    _, targets, weights = language.shift({"token_ids": tokens, "padding_mask": mask})
    assert weights.numpy().tolist() == [[1, 1, 0, 0], [0, 1, 1, 0]]
    assert (targets * tf.cast(weights, tf.int32)).numpy().tolist() == [[6, 7, 0, 0], [0, 9, 4, 0]]


def test_the_decoder_is_given_the_true_tokens_one_place_later():
    targets, weights = tf.constant([[5, 6, 9], [7, 9, 0]]), tf.constant([[1.0, 1, 1], [1, 1, 0]])
    inputs, again, _ = language.force({"token_ids": targets}, targets, weights, start=3)
    assert inputs["decoder_token_ids"].numpy().tolist() == [[3, 5, 6], [3, 7, 9]]
    assert inputs["decoder_padding_mask"].numpy().tolist() == [[1, 1, 1], [1, 1, 1]]
    assert again is targets


def test_a_text_is_exact_if_greedy_decoding_writes_it():
    """The count under the true beginnings against tokens written one by one from the model's own."""
    keras.utils.set_random_seed(0)
    data, model = Sequences("seq2seq"), sequences.model("seq2seq")
    objective = objectives.find("seq2seq", data)
    train = objective.complete(data.training_set(model, batch=16, seed=0), seed=0, training=True)
    fit(
        model, [Phase(8, 2e-2, unfreeze="all")], train, loss=objective.loss(), metrics=objective.metrics, progress=False
    )
    exact = []
    for row in data.parts["test"]:
        inputs, target, _ = (tf.nest.map_structure(lambda x: x[None], part) for part in data.example(row))
        written = np.array([[START]])
        for _ in row:
            given = {**inputs, "decoder_token_ids": written, "decoder_padding_mask": np.ones_like(written)}
            written = np.append(written, np.argmax(model(given)[:, -1:], -1), axis=1)
        exact.append(np.array_equal(written[:, 1:], target))
    share = evaluate(model, data, objective, batch=5).exact
    assert 0 < np.mean(exact) < 1
    assert share == pytest.approx(np.mean(exact))


def test_perplexity_is_over_all_tokens_of_all_batches():
    data, model = Sequences("causal_lm"), sequences.model("causal_lm")
    objective = objectives.find("causal_lm", data)
    scores = evaluate(model, data, objective, batch=5)
    losses, right = [], []
    for row in data.parts["test"]:
        logits = model({"token_ids": row[None].astype("int32"), "padding_mask": np.ones((1, len(row)), "int32")})[0]
        losses += list(keras.losses.sparse_categorical_crossentropy(row[1:], logits[:-1], from_logits=True).numpy())
        right += list(np.argmax(logits[:-1], -1) == row[1:])
    assert (scores.examples, scores.tokens) == (22, len(losses))
    assert scores.loss == pytest.approx(np.mean(losses), rel=1e-5)
    assert scores.perplexity == pytest.approx(np.exp(np.mean(losses)), rel=1e-4)
    assert scores.accuracy == pytest.approx(np.mean(right))


@pytest.mark.parametrize(
    ("kind", "expected"), [("mse", (0.25 + 4 + 0 + 9) / 4), ("mae", 5.5 / 4), ("huber", (0.125 + 1.5 + 0 + 2.5) / 4)]
)
def test_losses_of_numbers_are_in_units_of_their_spread(kind, expected):
    true = np.array([[10.0, 1.0], [20.0, 2.0]], "float32")
    predicted = true + np.array([[5.0, 4.0], [0.0, -6.0]], "float32")  # spreads of 10 and 2
    assert float(Deviation(kind, (10.0, 2.0))(true, predicted)) == pytest.approx(expected)


def test_the_loss_of_answers_is_that_of_keras_over_the_text_alone():
    random = np.random.default_rng(0)
    logits = random.normal(size=(2, 6, 2)).astype("float32")
    marks = np.zeros((2, 6, 2), "int32")
    marks[0, 4:], marks[1, :2] = -1, -1
    marks[0, 1, 0] = marks[0, 3, 1] = marks[1, 2, 0] = marks[1, 2, 1] = 1
    compute = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    parts = [compute(np.array([1]), logits[:1, :4, 0]), compute(np.array([3]), logits[:1, :4, 1])]
    parts += [compute(np.array([0]), logits[1:, 2:, 0]), compute(np.array([0]), logits[1:, 2:, 1])]
    assert float(SpanCrossEntropy()(marks, logits)) == pytest.approx(np.mean(parts), rel=1e-5)


def test_without_weights_the_loss_is_that_of_keras():
    random = np.random.default_rng(0)
    labels, logits = random.integers(0, 5, 9), random.normal(size=(9, 5)).astype("float32")
    plain = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    assert float(CrossEntropy()(labels, logits)) == float(plain(labels, logits))


@pytest.mark.parametrize(
    ("task", "changes", "message"),
    [
        ("masked_lm", {"vocabulary": Vocabulary(SIZE, 0)}, "no mask token"),
        ("seq2seq", {"vocabulary": Vocabulary(SIZE, 0)}, "no token with which a decoder begins"),
        ("features", {}, "has nothing to train on. Tasks that do: classify, multi_label, tag, regress"),
        ("regress", {}, "cannot be trained on these data, which are for task='regress'"),
    ],
)
def test_what_cannot_be_trained_is_refused(task, changes, message):
    with pytest.raises(ValueError, match=message):
        objectives.find(task, Sequences(task, **changes))


def test_a_loss_of_numbers_is_refused_for_classes():
    with pytest.raises(ValueError, match="loss='mae' is for the tasks regress and forecast"):
        objectives.find("classify", Sequences("classify"), loss="mae")
    with pytest.raises(ValueError, match="needs classes"):
        objectives.find("classify", Sequences("causal_lm"))


def _numbers(text: str) -> list[float]:
    import re

    return [float(value) for value in re.findall(r"-?\d+\.?\d*(?:e-?\d+)?", text)]
