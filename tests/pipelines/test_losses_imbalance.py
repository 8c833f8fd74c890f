"""Scores for classes that are not equally many are those of scikit-learn, and older scores are still read."""

import json

import numpy as np
import pytest
from sklearn import metrics

from pipelines import objectives
from pipelines.objectives import classification

NAMES = ("common", "rare", "rarest")


def problem(classes: int = 3) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    labels = random.choice(classes, 200, p=np.array([0.9, 0.07, 0.03])[:classes] / sum([0.9, 0.07, 0.03][:classes]))
    return random.normal(size=(200, classes)) + 1.5 * np.eye(classes)[labels], labels


def test_they_are_those_of_scikit_learn():
    logits, labels = problem()
    scores = classification.score(logits, labels, NAMES)
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    predicted = logits.argmax(axis=1)
    assert scores.balanced_accuracy == pytest.approx(metrics.balanced_accuracy_score(labels, predicted))
    assert scores.macro_f1 == pytest.approx(metrics.f1_score(labels, predicted, average="macro"))
    area = metrics.roc_auc_score(labels, probabilities, multi_class="ovr", average="macro")
    assert scores.auroc == pytest.approx(area)
    assert abs(scores.accuracy - scores.balanced_accuracy) > 0.01


def test_of_two_classes_the_area_is_that_of_either():
    logits, labels = problem(2)
    scores = classification.score(logits, labels, NAMES[:2])
    assert scores.auroc == pytest.approx(metrics.roc_auc_score(labels, logits[:, 1] - logits[:, 0]))


def test_a_class_without_examples_has_no_part():
    """One that is never said either; the recall and F1 of the two others are 1 and 0.5, 0.8 and 2/3."""
    logits = np.eye(4)[[0, 0, 0, 1]] * 3.0
    scores = classification.score(logits, np.array([0, 0, 1, 1]), ("a", "b", "c", "d"))
    assert scores.balanced_accuracy == pytest.approx((1 + 0.5) / 2)
    assert scores.macro_f1 == pytest.approx((0.8 + 2 / 3) / 2)
    assert scores.auroc == pytest.approx(0.75)
    assert classification.score(logits, np.zeros(4, int), ("a", "b", "c", "d")).auroc is None
    assert classification.score(np.full((4, 2), np.nan), np.array([0, 0, 1, 1]), ("a", "b")).auroc is None


def test_they_are_in_the_summary_and_in_json():
    scores = classification.score(*problem(), NAMES)
    assert objectives.read_scores(scores.to_json()) == scores
    text = scores.summary("images")
    assert text.startswith(f"Accuracy **{scores.accuracy:.2%}**, balanced {scores.balanced_accuracy:.2%}, macro F1 ")
    assert f"AUROC {scores.auroc:.3f} on 200 images never trained on." in text
    assert text in scores.section("images")


def test_scores_of_before_are_read_and_say_what_they_know():
    values = json.loads(classification.score(*problem(), NAMES).to_json())
    for name in ("balanced_accuracy", "macro_f1", "auroc"):
        del values[name]
    old = objectives.read_scores(json.dumps(values))
    assert (old.balanced_accuracy, old.macro_f1, old.auroc) == (None, None, None)
    assert old.summary("images") == f"Accuracy **{old.accuracy:.2%}** on 200 images never trained on."
