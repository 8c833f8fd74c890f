"""Training on pairs: the loss by hand, what counts as right, the groups of two towers, and recall by brute force."""

from __future__ import annotations

import dataclasses
import math

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import zoo
from pipelines import datasets
from pipelines.cached_engine import CachedEngine
from pipelines.engine import Engine
from pipelines.freezing import find_groups
from pipelines.objectives import read_scores
from pipelines.objectives.contrast import SymmetricCrossEntropy, contrast, contrastive, shares
from pipelines.objectives.retrieval import retrieval
from pipelines.recipes import RECIPES
from pipelines.run import Hardware, Pairs, Phase, Run
from pipelines.train import advance, resume, train
from tests.pipelines import shapes
from zoo.layers.contrast import Similarity, UnitLength

TINY = {
    **{"patch": 8, "width": 16, "depth": 2, "heads": 2, "mlp_width": 16, "projection": 8, "length": 16},
    **{"text_width": 16, "text_depth": 1, "text_heads": 2, "text_mlp_width": 16},
}
NUMBERS = np.array([[0, 0], [1, 1], [0, 2], [2, 1], [3, 3]])  # images 0 and 2 and captions 1 and 3 are the same


def towers(dropout=0.0):
    """Vectors of 4 numbers on both sides."""
    image, text = keras.Input((4,), name="image"), keras.Input((4,), name="token_ids")
    x = layers.Dense(3, name="image.head_projection")(layers.Dropout(dropout, seed=1, name="image.neck_drop")(image))
    y = layers.Dense(3, name="text.head_projection")(text)
    x, y = UnitLength(name="image.head_length")(x), UnitLength(name="text.head_length")(y)
    outputs = {"image_embedding": x, "text_embedding": y, "logits": Similarity(name="head_similarity")(x, y)}
    return keras.Model({"image": image, "token_ids": text}, outputs, name="towers")


def vectors(seed=0, count=5):
    draw = np.random.default_rng(seed)
    return {name: draw.normal(size=(count, 4)).astype("float32") for name in ("image", "token_ids")}


def by_hand(logits, numbers):
    """The mean of both cross-entropies, image by image and caption by caption."""
    losses = []
    for scores in (logits, logits.T):
        for row, (image, caption) in enumerate(numbers):
            right = [other for other, (i, c) in enumerate(numbers) if i == image or c == caption]
            whole = math.log(sum(math.exp(score) for score in scores[row]))
            losses.append(sum(whole - scores[row][other] for other in right) / len(right))
    return sum(losses) / len(losses)


def test_the_loss_is_the_cross_entropy_both_ways_with_equal_pairs_sharing():
    learner = contrastive(towers())
    learner.compile(loss=SymmetricCrossEntropy())
    found = learner(vectors())
    loss = learner.compute_loss(None, tf.constant(NUMBERS, tf.int32), found)
    assert float(loss) == pytest.approx(by_hand(found["logits"].numpy().astype("float64"), NUMBERS), rel=1e-5)
    logits = found["logits"].numpy()
    right = shares(tf.constant(NUMBERS), tf.constant(NUMBERS)).numpy() > 0
    hits = [right[range(5), logits.argmax(1)].mean(), right[logits.argmax(0), range(5)].mean()]
    accuracy = next(metric for metric in learner.metrics if metric.name == "accuracy")
    assert float(accuracy.result()) == pytest.approx(np.mean(hits))


def test_without_equal_pairs_it_is_that_of_the_paper():
    numbers = np.stack([np.arange(5)] * 2, axis=1)
    np.testing.assert_array_equal(shares(tf.constant(numbers), tf.constant(numbers)), np.eye(5))
    shared = shares(tf.constant(NUMBERS), tf.constant(NUMBERS)).numpy()
    np.testing.assert_array_equal(shared[0], [0.5, 0, 0.5, 0, 0])
    np.testing.assert_array_equal(shared[3], [0, 0.5, 0, 0.5, 0])


def test_a_micro_batch_drops_the_same_units_when_it_is_computed_again():
    tf.config.run_functions_eagerly(True)
    try:
        learner = contrastive(towers(dropout=0.5))
        learner.compile(keras.optimizers.SGD(0.0), SymmetricCrossEntropy())
        seen = []
        engine = CachedEngine(learner, {}, accumulate=2)
        inner = engine._answer
        engine.answer_by(lambda inputs, training: seen.append(inner(inputs, training=training)) or seen[-1])
        batch = vectors(count=6), np.stack([np.arange(6)] * 2, axis=1).astype("int32")
        engine.train(engine.batches(tf.data.Dataset.from_tensors(batch)))
        first, second, again, twice = (each["image_embedding"].numpy() for each in seen)
        np.testing.assert_array_equal(first, again)
        np.testing.assert_array_equal(second, twice)
        assert not np.array_equal(learner(batch[0])["image_embedding"][:3], first)  # it does drop
    finally:
        tf.config.run_functions_eagerly(False)


def test_the_usual_engine_refuses_micro_batches_of_what_is_compared():
    learner = contrastive(towers())
    learner.compile("sgd", SymmetricCrossEntropy())
    with pytest.raises(ValueError, match=r"compares all examples of a batch.*CachedEngine"):
        Engine(learner, {}, accumulate=2)
    with pytest.raises(ValueError, match="does not compare images with texts"):
        contrastive(keras.Sequential([keras.Input((2,)), layers.Dense(1)]))


def test_the_scale_never_grows_over_a_hundred():
    model = towers()
    learner = contrastive(model)
    learner.compile(keras.optimizers.SGD(0.0), SymmetricCrossEntropy())
    model.get_layer("head_similarity").scale.assign(7.0)
    batch = vectors(count=4), np.stack([np.arange(4)] * 2, axis=1).astype("int32")
    engine = CachedEngine(learner, {}, accumulate=2)
    engine.train(engine.batches(tf.data.Dataset.from_tensors(batch)))
    assert float(model.get_layer("head_similarity").scale.value) == pytest.approx(math.log(100))


def test_both_towers_unfreeze_from_their_outputs():
    model = zoo.create("clip_vit_base32", task="contrast", vocabulary=50, size=16, **TINY)
    groups = find_groups(model)
    assert list(groups) == [
        *("image.stem", "image.block0+text.stem", "image.block1+text.block0", "image.neck+text.neck", "head")
    ]
    assert sorted(layer.name for layer in groups["head"] if layer.weights) == [
        *("head_similarity", "image.head_projection", "text.head_projection")
    ]
    alone = zoo.create("clip_vit_base32", task="image_features", size=16, **TINY)
    assert list(find_groups(alone)) == [f"image.{name}" for name in ("stem", "block0", "block1", "neck", "head")]


def test_recall_and_rank_are_those_of_a_search_by_hand():
    draw = np.random.default_rng(4)
    numbers = np.stack([draw.integers(0, 12, 40), draw.integers(0, 30, 40)], axis=1)
    whole = {kind: draw.normal(size=(30, 6)).astype("float32") for kind in ("image", "text")}
    images, texts = whole["image"][numbers[:, 0]], whole["text"][numbers[:, 1]]
    found = retrieval(images, texts, numbers)
    pairs = {tuple(pair) for pair in numbers.tolist()}
    for side, recall, median in (
        (0, found.caption_recall, found.caption_rank),
        (1, found.image_recall, found.image_rank),
    ):
        ours, theirs = whole["image"], whole["text"]
        ours, theirs = (ours, theirs) if side == 0 else (theirs, ours)
        ranks = []
        for query in sorted(set(numbers[:, side])):
            order = sorted(set(numbers[:, 1 - side]), key=lambda other: -float(ours[query] @ theirs[other]))
            right = [(query, other) if side == 0 else (other, query) for other in order]
            ranks.append(1 + next(place for place, pair in enumerate(right) if pair in pairs))
        assert recall == pytest.approx([np.mean([rank <= k for rank in ranks]) for k in (1, 5, 10)])
        assert median == np.median(ranks)
    assert (found.examples, found.images, found.captions) == (40, len(set(numbers[:, 0])), len(set(numbers[:, 1])))
    assert read_scores(found.to_json()) == found
    assert len(found.rows("pairs")) == 3


def test_a_model_that_says_the_same_of_all_finds_nothing():
    same = np.ones((20, 3), "float32")
    found = retrieval(same, same, np.stack([np.arange(20)] * 2, axis=1))
    assert (found.caption_rank, found.image_recall) == (20, (0, 0, 0))


@pytest.fixture(scope="module")
def captions(tmp_path_factory):
    return shapes.write(tmp_path_factory.mktemp("shapes"), count=32, captions=2, size=16)


EVERYTHING = (Phase(2, 3e-3, unfreeze="all"),)


def run_of(captions, out, phases=EVERYTHING, **options):
    data = Pairs(str(captions), size=16, vocabulary=150)
    return Run("clip_vit_base32", data, phases, out, overrides=TINY, batch=8, save_steps=3, **options)


@pytest.mark.slow
def test_a_run_ends_with_the_same_weights_if_it_is_interrupted(captions, tmp_path):
    runs = [run_of(captions, tmp_path / name, hardware=Hardware(accumulate=2)) for name in ("whole", "cut")]
    whole = train(runs[0], progress=False)
    advance(runs[1], epochs=1)
    again = resume(tmp_path / "cut", progress=False)
    for one, other in zip(whole.load_model().get_weights(), again.load_model().get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    assert whole.scores == again.scores
    assert whole.info["pairs"] == {"train": 44, "validation": 10, "test": 10}
    assert (whole.task, whole.scores.kind) == ("contrast", "retrieval")
    assert "zoo search . " in (tmp_path / "whole" / "README.md").read_text()


@pytest.mark.slow
def test_micro_batches_learn_what_whole_batches_do_and_shapes_are_found(captions, tmp_path):
    found = []
    for parts in (1, 4):
        run = run_of(captions, tmp_path / str(parts), (Phase(12, 5e-3, unfreeze="all"),))
        run = dataclasses.replace(run, hardware=Hardware(accumulate=parts))
        found.append(train(run, progress=False))
    one, four = (np.concatenate([w.ravel() for w in bundle.load_model().get_weights()]) for bundle in found)
    np.testing.assert_allclose(four, one, atol=2e-3)
    assert found[0].scores.image_recall[1] > 0.6  # by chance about a third


@pytest.mark.slow
@pytest.mark.parametrize("recipe", ["feature_extraction", "fine_tuning", "progressive_unfreezing", "lora"])
def test_every_recipe_trains_both_towers(captions, tmp_path, recipe):
    phases = tuple(dataclasses.replace(phase, epochs=1) for phase in RECIPES[recipe]())
    run = run_of(captions, tmp_path / recipe, phases)
    before = advanced_weights(run)
    model = train(run, progress=False).load_model()
    moved = {v.path.split("/")[0] for v, old in zip(model.weights, before, strict=True) if not np.array_equal(v, old)}
    assert {"image.head_projection", "text.head_projection"} <= moved
    assert ("image.block1" in moved, "text.block0" in moved) == ((recipe != "feature_extraction"),) * 2


def advanced_weights(run):
    from pipelines import hardware
    from pipelines.creation import create

    hardware.seed(run.hardware, run.seed)
    return create(run, datasets.load(run)).get_weights()


def test_the_objective_tells_inputs_from_numbers():
    batch = {name: tf.zeros((2, 3)) for name in ("image", "token_ids", "padding_mask")}
    batch |= {"image_number": tf.constant([4, 5]), "caption_number": tf.constant([6, 7])}
    inputs, targets = contrast().target(batch, None)
    assert sorted(inputs) == ["image", "padding_mask", "token_ids"]
    np.testing.assert_array_equal(targets, [[4, 6], [5, 7]])
