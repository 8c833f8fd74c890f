"""Drawing after texts, from captions to a run's folder that stands alone."""

from __future__ import annotations

import dataclasses
import shutil
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

import zoo
from pipelines import bundle, datasets, objectives, train
from pipelines.codebook import open_codebook
from pipelines.creation import create
from pipelines.drawer import drawer
from pipelines.engine import Engine
from pipelines.evaluate import evaluate_bundle
from pipelines.matching import Matcher
from pipelines.run import Drawing, Run
from pipelines.sample import sample
from tests.pipelines import drawings
from tests.pipelines.test_search import checkpoint
from zoo.dalle import layout_of


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return drawings.prepare(tmp_path_factory.mktemp("drawing"))


def learned(run: Run):
    """A run's objective, model and training batches."""
    data = datasets.load(run)
    objective = objectives.of_run(run, data)
    keras.utils.set_random_seed(1)
    model = create(run, data, objective.options)
    learner = objective.learner(model)
    feed = objective.complete(data.training_set(learner, batch=run.batch, seed=0), seed=0, training=True)
    return objective, model, learner, feed


def test_two_steps_are_those_of_a_loop_by_hand(folder):
    run = drawings.run(folder, "steps", drawing={"image_weight": 0.75, "caption_dropout": 0.5})
    objective, model, learner, feed = learned(run)
    layout, book = layout_of(model), open_codebook(folder / "dvae")
    assert (layout.codes, layout.rows, layout.columns) == (16, 2, 2)  # the codebook's, not the variant's
    twin = bundle.twin(model)
    learner.compile(keras.optimizers.SGD(0.5), loss=objective.loss(), weighted_metrics=objective.metrics())
    engine, batches = Engine(learner, {}), iter(feed.start(0))
    found = [engine.train(engine.batches(feed.start(0).skip(step).take(1))).loss for step in range(2)]
    optimizer, dropped = keras.optimizers.SGD(0.5), 0
    for loss_of_engine in found:
        inputs, _ = next(batches)
        left_out = np.asarray(inputs["chance"]) < 0.5
        dropped += int(left_out.sum())
        ids = np.where(left_out[:, None], 0, inputs["token_ids"] * inputs["padding_mask"])
        codes = np.asarray(book.encoder(inputs["image"]))
        tokens = layout.tokens(ids, codes)
        with tf.GradientTape() as tape:
            logits = twin({"token_ids": tokens[:, :-1], "padding_mask": np.ones_like(tokens[:, :-1])}, training=True)
            each = tf.nn.sparse_softmax_cross_entropy_with_logits(tokens[:, 1:], logits)
            loss = 0.25 * tf.reduce_mean(each[:, :10]) + 0.75 * tf.reduce_mean(each[:, 10:])
        optimizer.apply(tape.gradient(loss, twin.trainable_variables), twin.trainable_variables)
        np.testing.assert_allclose(loss_of_engine, loss, rtol=1e-5)
    assert 0 < dropped < 16 and len(np.unique(codes)) > 2
    for ours, theirs in zip(model.get_weights(), twin.get_weights(), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)


def test_captions_are_left_out_in_training_alone(folder):
    _, model, _, feed = learned(drawings.run(folder, "dropped"))
    inputs, _ = next(iter(feed.start(0)))
    inputs = {**inputs, "chance": tf.linspace(0.0, 0.99, 8)}
    book = open_codebook(folder / "dvae")
    always, never = (np.asarray(drawer(model, book, dropout=0.5)(inputs, training=t)["tokens"]) for t in (True, False))
    layout = layout_of(model)
    assert (always[:4, 1:11] == layout.prompt([[0]])[0, 1:]).all()
    np.testing.assert_array_equal(always[4:], never[4:])
    np.testing.assert_array_equal(always[:, 11:], never[:, 11:])
    assert (never[:, 1] < layout.words).all()


@pytest.fixture(scope="module")
def finished(folder):
    return train.train(drawings.run(folder, "whole"), progress=False)


@pytest.mark.slow
def test_a_run_stands_alone_once_it_is_finished(folder, finished, tmp_path):
    moved = tmp_path / "moved"
    shutil.copytree(finished.path, moved)
    hidden = folder / "dvae_hidden"
    (folder / "dvae").rename(hidden)
    try:
        found = sample(moved, "a red square", count=3, top_k=8, guidance=2.0, seed=4)
        assert evaluate_bundle(bundle.load(moved)) == finished.scores
    finally:
        hidden.rename(folder / "dvae")
    assert found.images.shape == (3, 16, 16, 3) and found.images.dtype == np.uint8
    assert len(np.unique(found.images.reshape(3, -1), axis=0)) > 1
    again = sample(moved, "a red square", count=2, top_k=8, guidance=2.0, seed=4)
    np.testing.assert_array_equal(again.images, found.images[:2])
    names = sorted(path.name for path in (finished.path / "pictures").iterdir())
    assert names == ["final.png", "phase1_epoch001.png", "phase1_epoch002.png"]
    assert "pictures/final.png" in (finished.path / "README.md").read_text()
    assert finished.scores.image_loss < np.log(16) and finished.scores.codes == 16
    (moved / "decoder.keras").write_bytes(b"other")
    with pytest.raises(ValueError, match=r"decoder\.keras' is not the file that the model was trained with"):
        sample(moved, "a red square")
    (moved / "decoder.keras").unlink()
    with pytest.raises(FileNotFoundError, match=r"its model needs 'decoder\.keras'"):
        sample(moved, "a red square")


@pytest.mark.slow
def test_a_run_that_stopped_ends_with_the_same_weights(folder, finished):
    run = drawings.run(folder, "stopped")
    train.advance(run, epochs=1)
    resumed = train.resume(run.out, progress=False)
    for ours, theirs in zip(resumed.load_model().get_weights(), finished.load_model().get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert resumed.scores == finished.scores
    pictures = [(each.path / "pictures/final.png").read_bytes() for each in (resumed, finished)]
    assert pictures[0] == pictures[1]


def on_devices(folder, devices, precision, accumulate):
    target = folder / f"{devices}_{precision}_{accumulate}.npz"
    program = [sys.executable, "-m", "tests.pipelines.drawing_devices", str(folder)]
    command = [*program, str(devices), precision, str(accumulate), str(target)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr[-3000:]
    return dict(np.load(target))


@pytest.mark.slow
@pytest.mark.parametrize(("precision", "near"), [("float32", 1e-6), ("bfloat16", 3e-3)])
def test_two_devices_and_micro_batches_learn_what_one_learns(folder, precision, near):
    one, two = (on_devices(folder, devices, precision, 1) for devices in (1, 2))
    assert (int(one["replicas"]), int(two["replicas"])) == (1, 2)
    assert one["computes"].tolist() == [precision]
    several = [two] + ([on_devices(folder, 1, precision, 3)] if precision == "float32" else [])
    for found in several:
        np.testing.assert_allclose(found["weights"], one["weights"], atol=near)
        for name in ("losses", "metrics", "norms"):
            np.testing.assert_allclose(found[name], one[name], rtol=max(near, 1e-5) * 10)


@pytest.mark.slow
def test_a_run_does_not_go_on_with_another_codebook(folder, tmp_path):
    shutil.copytree(folder / "dvae", tmp_path / "dvae")
    run = dataclasses.replace(drawings.run(folder, "other"), drawing=Drawing(str(tmp_path / "dvae")))
    train.advance(run, epochs=1)
    shutil.rmtree(tmp_path / "dvae")
    drawings.autoencoder(tmp_path / "dvae", seed=1)
    with pytest.raises(ValueError, match="The codebook has changed since the run"):
        train.resume(run.out)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"drawing": None}, "--codes-from FOLDER"),
        ({"overrides": {**drawings.SMALL, "codes": 32}}, "has 16 codes, the transformer writes 32"),
        ({"overrides": {**drawings.SMALL, "size": 32}}, "makes 2x2 codes of an image .16x16 pixels."),
        ({"overrides": {**drawings.SMALL, "text_length": 4}}, "have more than the 4 tokens that"),
        ({"task": "contrast"}, "contrast"),
        ({"loss": "mse"}, "loss='mse' is none of task='text_to_image'"),
        ({"label_smoothing": 0.1}, "label_smoothing=0.1 is for tasks that choose among classes"),
    ],
)
def test_what_cannot_be_trained_is_said(folder, options, message):
    run = dataclasses.replace(drawings.run(folder, "wrong"), **options)
    with pytest.raises(ValueError, match=message):
        learned(run)


@pytest.mark.slow
def test_what_is_no_codebook_is_refused(folder, finished, tmp_path):
    with pytest.raises(FileNotFoundError):
        open_codebook(tmp_path / "nowhere")
    (tmp_path / "begun").mkdir()
    (tmp_path / "begun" / "run.json").write_text(drawings.run(folder, "begun").to_json())
    with pytest.raises(FileNotFoundError, match="has not come to its end"):
        open_codebook(tmp_path / "begun")
    again = open_codebook(finished.path)  # of a run on its codes
    assert again.identity() == open_codebook(folder / "dvae").identity()


def test_options_are_checked_and_kept_in_a_run(folder):
    for name, value in (("image_weight", 0), ("image_weight", 1.5), ("caption_dropout", 1), ("caption_dropout", -0.1)):
        with pytest.raises(ValueError, match=f"Drawing.{name}={value}. must be"):
            Drawing("x", **{name: value})
    run = drawings.run(folder, "kept", drawing={"image_weight": 0.5})
    assert Run.from_json(run.to_json()) == run


@pytest.mark.slow
def test_what_cannot_be_sampled_is_said(finished):
    for options, message in (
        ({}, "draws after a text, and there is none"),
        ({"text": "a red square and " * 9}, "tokens; this model reads 10, 2 of them special"),
        ({"text": " "}, "finds nothing in"),
        ({"text": "a", "label": "cat"}, "label='cat' is nothing that a model for task='text_to_image' knows of"),
        ({"text": "a", "temperature": 0.0}, "temperature=0.0 must be over 0"),
        ({"text": "a", "top_k": 0}, "top_k=0"),
        ({"text": "a", "rank_by": str(finished.path)}, "only contrast compares images with texts"),
    ):
        with pytest.raises(ValueError, match=message):
            sample(finished, **options)


@pytest.mark.slow
def test_what_fits_best_comes_first(finished, tmp_path):
    """The images are those without a judge, in the order of their similarity to the text."""
    checkpoint(tmp_path)
    asked = {"text": "a cat", "count": 5, "temperature": 2.0, "seed": 3}
    drawn, ranked = sample(finished, **asked).images, sample(finished, **asked, rank_by=str(tmp_path)).images
    judge = Matcher.open(tmp_path)
    fits = judge.pictures(drawn) @ judge.texts(["a cat"])[0]
    assert np.ptp(fits) > 0
    np.testing.assert_array_equal(ranked, drawn[np.argsort(-fits, kind="stable")])


@pytest.mark.slow
def test_an_autoencoder_in_two_folders_of_a_checkpoint(tmp_path):
    from tests.parity import packs

    for half in ("encoder", "decoder"):
        packs.load(f"dalle_dvae_{half}").write(tmp_path / half)
    book = open_codebook(tmp_path)
    assert book.codes == 512 and book.pixels.size == zoo.create("dalle_base", task="encode", codes=512).input.shape[1]
