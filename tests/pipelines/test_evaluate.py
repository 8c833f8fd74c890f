"""Scores are those that a hand can count."""

import numpy as np
import pytest

from pipelines.evaluate import Scores, draw_confusion, score

# true 0 0 0 1 1 2; taken for 0 0 1 1 1 0
LABELS = np.array([0, 0, 0, 1, 1, 2])
LOGITS = np.eye(3)[[0, 0, 1, 1, 1, 0]] * 5.0


def test_scores_by_hand():
    scores = score(LOGITS, LABELS, ("ant", "bee", "cow"))
    assert scores.accuracy == pytest.approx(4 / 6)
    assert scores.top5 is None
    assert scores.confusion == ((2, 1, 0), (0, 2, 0), (1, 0, 0))
    ant, bee, cow = scores.classes
    assert (ant.precision, ant.recall, ant.images) == (pytest.approx(2 / 3), pytest.approx(2 / 3), 3)
    assert (bee.precision, bee.recall, bee.f1) == (pytest.approx(2 / 3), 1.0, pytest.approx(0.8))
    assert (cow.precision, cow.recall, cow.f1, cow.images) == (0.0, 0.0, 0.0, 1)


def test_top5_counts_the_five_best():
    logits = np.tile(np.arange(7.0), (2, 1))  # the best five are 6, 5, 4, 3, 2
    assert score(logits, np.array([2, 1]), tuple("abcdefg")).top5 == 0.5


def test_json_round_trip():
    scores = score(LOGITS, LABELS, ("ant", "bee", "cow"))
    assert Scores.from_json(scores.to_json()) == scores


def test_the_confusion_picture_shows_its_counts(tmp_path):
    from PIL import Image

    draw_confusion(score(LOGITS, LABELS, ("ant", "bee", "cow")), tmp_path / "confusion.png")
    with Image.open(tmp_path / "confusion.png") as picture:
        pixels = np.asarray(picture.convert("RGB")).reshape(-1, 3)
    assert len(np.unique(pixels, axis=0)) > 20
    assert [path.name for path in tmp_path.iterdir()] == ["confusion.png"]
