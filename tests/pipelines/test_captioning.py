"""Learning captions: what counts, BLEU, a run from pairs to `zoo caption`, exact resume, devices and recipes."""

from __future__ import annotations

import math
import subprocess
import sys

import numpy as np
import pytest

from pipelines import deliver, marks, metadata, objectives, train
from pipelines.bleu import bleu, words
from pipelines.bundle import load
from pipelines.data import Pairs
from pipelines.describer import Describer
from pipelines.exported_captions import ExportedDescriber
from pipelines.objectives.captioning import CaptionScores, begun
from pipelines.predict import Predictor
from pipelines.recipes import from_scratch
from pipelines.run import Hardware, Phase, Run
from tests.pipelines.caption_runs import captioning


def test_padding_and_the_prompt_are_not_learned():
    batch = {
        "image": np.zeros((2, 4, 4, 3), "float32"),
        "token_ids": np.array([[2, 5, 6, 7, 3], [2, 5, 8, 3, 0]]),
        "padding_mask": np.array([[1, 1, 1, 1, 1], [1, 1, 1, 1, 0]]),
    }
    inputs, targets, weights = begun(batch, start=9, given=1)
    assert set(inputs) == {"image", "token_ids", "padding_mask"}
    np.testing.assert_array_equal(inputs["token_ids"], [[9, 5, 6, 7, 3], [9, 5, 8, 3, 0]])
    np.testing.assert_array_equal(targets, [[5, 6, 7, 3, 0], [5, 8, 3, 0, 0]])
    np.testing.assert_array_equal(weights, [[0, 1, 1, 1, 0], [0, 1, 1, 0, 0]])
    assert begun(batch, start=9)[2].numpy().sum() == 7


def test_bleu_of_papinenis_examples():
    """https://aclanthology.org/P02-1040, tables 1 and 2: clipped shares of single words, and of pairs."""
    references = [
        "It is a guide to action that ensures that the military will forever heed Party commands",
        "It is the guiding principle which guarantees the military forces always being under the command of the Party",
        "It is the practical guide for the army always to heed the directions of the party",
    ]
    first = "It is a guide to action which ensures that the military always obeys the commands of the party"
    second = "It is to insure the troops forever hearing the activity guidebook that party direct"
    assert bleu([first], [references], longest=1) == pytest.approx(17 / 18)
    assert bleu([second], [references], longest=1) == pytest.approx(8 / 14 * math.exp(1 - 16 / 14))
    assert bleu([first], [references], longest=2) == pytest.approx(math.sqrt(17 / 18 * 10 / 17))
    the = ["The cat is on the mat", "There is a cat on the mat"]
    assert bleu(["the the the the the the the"], [the], longest=1) == pytest.approx(2 / 7)
    assert bleu(["the cat is on the mat"], [the]) == pytest.approx(1)
    assert bleu(["the cat"], [the], longest=1) == pytest.approx(math.exp(1 - 6 / 2))
    assert bleu([""], [the]) == 0 and words("Don't, stop") == ["don't", ",", "stop"]
    with pytest.raises(ValueError, match="none empty"):
        bleu(["a"], [[]])


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "captions"
    return train.train(captioning(out), progress=False)


def test_a_run_ends_in_a_bundle_that_writes_captions(trained):
    out, scores = trained.path, trained.scores
    assert isinstance(scores, CaptionScores) and scores.images == scores.examples == 2
    assert objectives.read_scores(scores.to_json()) == scores and "BLEU-4" in scores.summary("pairs")
    assert sorted(path.stem for path in (out / "pictures").iterdir()) == [
        "final",
        "phase1_epoch001",
        "phase1_epoch002",
    ]
    card = (out / "README.md").read_text(encoding="utf-8")
    assert "zoo caption . image.png" in card and "pictures/final.png" in card and "'here is'" in card
    opened = Describer.open(out)
    known = opened.tokenizer.vocabulary
    assert opened.marks == marks.Marks(known.start, known.end) and opened.prompt == "here is"
    pictures = sorted((out.parent / "captions_shapes/images").iterdir())[:2]
    told = opened.captions(pictures, length=3)
    assert all(text.startswith("here is") for text in told)
    assert not any(text.startswith("here is") for text in opened.captions(pictures, prompt="one", length=3))
    with pytest.raises(ValueError, match="zoo caption"):
        Predictor.open(out)


@pytest.mark.slow
def test_exported_parts_write_what_keras_writes(trained):
    rows = deliver.export_bundle(trained.path, ("saved_model", "float32")).rows
    files = {row.file for row in rows}
    assert files == {"saved_model", "float32.tflite", "float32_step.tflite", "float32_encoder.tflite"}
    pictures = sorted((trained.path.parent / "captions_shapes/images").iterdir())[:2]
    wanted = Describer.open(trained.path).captions(pictures, length=3)
    for name in ("saved_model", "float32_step.tflite", "float32.tflite"):
        path = trained.path / name
        assert metadata.read_pixels(path).resize == "squash"
        assert ExportedDescriber.open(path).captions(pictures, length=3) == wanted
    with pytest.raises(ValueError, match="keeps 16 tokens"):
        ExportedDescriber.open(path).captions(pictures, length=40)
    with pytest.raises(FileNotFoundError, match="zoo export"):
        ExportedDescriber.open(trained.path / "dynamic.tflite")


def test_what_is_not_trained_is_told(tmp_path):
    source = captioning(tmp_path / "run").data.source
    for task in ("answer", "match"):
        run = Run("blip_base", Pairs(source, size=16), from_scratch(), tmp_path / "a", task=task)
        with pytest.raises(ValueError, match="is not trained on images with captions"):
            train.train(run, progress=False)
    long = captioning(tmp_path / "run", overrides={**captioning(tmp_path / "run").overrides, "length": 6})
    with pytest.raises(ValueError, match="captions have more than the 6 tokens"):
        train.train(long, progress=False)


@pytest.mark.slow
def test_a_run_that_stops_goes_on_exactly(trained, tmp_path):
    run = captioning(tmp_path / "captions")
    train.advance(run, epochs=1)
    again = train.resume(run.out, progress=False)
    for one, other in zip(again.load_model().weights, trained.load_model().weights, strict=True):
        np.testing.assert_array_equal(one, other, err_msg=one.path)
    assert again.scores == trained.scores


@pytest.mark.slow
def test_two_devices_learn_what_one_does(trained, tmp_path):
    out = tmp_path / "captions"
    program = [sys.executable, "-m", "tests.pipelines.caption_runs", "2", str(out)]
    subprocess.run(program, check=True, capture_output=True, timeout=600)
    for one, other in zip(load(out).load_model().weights, trained.load_model().weights, strict=True):
        np.testing.assert_allclose(one, other, atol=2e-4, err_msg=one.path)


@pytest.mark.slow
@pytest.mark.parametrize("options", [{"unfreeze": 2}, {"unfreeze": "all", "lora": 2}])
def test_towers_learn_by_parts(tmp_path, options):
    phases = (Phase(1, 1e-3), Phase(1, 1e-3, **options))
    found = train.train(captioning(tmp_path / "captions", phases=phases), progress=False)
    assert len(found.load_model().weights) and found.scores.tokens > 0


@pytest.mark.slow
def test_half_precision_learns_captions(tmp_path):
    run = captioning(tmp_path / "captions", hardware=Hardware("one", precision="bfloat16"))
    assert math.isfinite(train.train(run, progress=False).scores.loss)
