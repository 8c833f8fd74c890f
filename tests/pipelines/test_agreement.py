"""What the gate lets through and what it does not, on made-up logits."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from pipelines.agreement import Limit, Tolerance, compare

TOLERANCE = Tolerance()


@pytest.fixture
def logits() -> np.ndarray:
    return np.random.default_rng(0).normal(0, 3, (200, 10)).astype(np.float32)


@pytest.fixture
def labels(logits) -> np.ndarray:
    return logits.argmax(-1)


def problems(answers, logits, limit, labels=None):
    return compare(answers, logits, labels=labels, limit=limit).problems(limit)


def test_measures_what_was_put_in(logits, labels):
    answers = logits.copy()
    answers[7, 3] += 50  # class 3 wins image 7, which is not of class 3
    found = compare(answers, logits, labels=labels, limit=TOLERANCE.quantized)

    assert labels[7] != 3
    assert found.logit_difference == pytest.approx(50, rel=1e-6)
    assert found.difference == pytest.approx(50 / logits.std(), rel=1e-6)
    assert found.noise == pytest.approx(50 / np.sqrt(2000) / logits.std(), rel=0.01)  # the classes' means are nearly 0
    assert found.agreement == found.accuracy == 199 / 200
    assert found.keras_accuracy == 1


def test_the_unit_of_the_logits_does_not_matter(logits):
    noise = np.random.default_rng(1).normal(0, 0.01, logits.shape)
    for unit in (1e-9, 1.0, 1e6):
        assert problems((logits + noise * logits.std()) * unit, logits * unit, TOLERANCE.exact)
        assert not problems((logits + noise / 1000) * unit, logits * unit, TOLERANCE.exact)


@pytest.mark.parametrize("limit", [TOLERANCE.exact, TOLERANCE.reduced, TOLERANCE.float16, TOLERANCE.quantized])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_one_number_that_is_not_finite_fails_every_format(logits, limit, value):
    answers = logits.copy()
    answers[0, 0] = value
    assert problems(answers, logits, limit) == ["the logits are not all finite numbers"]


def test_a_tie_may_fall_either_way_and_a_clear_answer_may_not(logits):
    first, second = np.argsort(logits[0])[[-1, -2]]
    swapped = logits.copy()
    swapped[0, [first, second]] = swapped[0, [second, first]]
    margin = float(logits[0, first] - logits[0, second]) / float(logits.std())

    assert not problems(swapped, logits, Limit(agreement=1.0, difference=margin * 1.01))
    broken = problems(swapped, logits, Limit(agreement=1.0, difference=margin * 0.99))
    assert "99.5% of the images (at least 100%)" in broken[1]


def test_a_quantized_model_that_answers_every_image_alike_fails(logits):
    unbalanced = logits + 20 * np.eye(10)[0]  # every image is of class 0: the answers alone show nothing
    alike = np.tile(unbalanced.mean(0), (len(logits), 1))
    found = compare(alike, unbalanced, labels=None, limit=TOLERANCE.quantized)

    assert found.agreement == 1
    assert found.noise == pytest.approx(1)
    assert "average difference is 1 of how they vary" in found.problems(TOLERANCE.quantized)[0]


def test_a_quantized_model_may_lose_a_little_accuracy_but_not_more(logits, labels):
    def wrong_on(images: int) -> np.ndarray:
        answers = logits.copy()
        answers[np.arange(images), labels[:images]] -= 8
        return answers

    assert not problems(wrong_on(6), logits, TOLERANCE.quantized, labels)  # 3 points
    (problem,) = problems(wrong_on(7), logits, TOLERANCE.quantized, labels)
    assert problem == "accuracy falls from 100.00% to 96.50% (by at most 3.0%)"


def test_one_of_few_images_does_not_fail_a_quantized_model(logits, labels):
    answers = logits[:8].copy()
    answers[0, labels[0]] -= 8
    assert not problems(answers, logits[:8], TOLERANCE.quantized, labels[:8])
    answers[1, labels[1]] -= 8
    assert len(problems(answers, logits[:8], TOLERANCE.quantized, labels[:8])) == 2
    assert problems(answers, logits[:8], TOLERANCE.exact, labels[:8])


def test_logits_of_another_shape_are_refused(logits):
    with pytest.raises(ValueError, match=r"\(200, 9\) do not compare with Keras' of shape \(200, 10\)"):
        compare(logits[:, :9], logits, labels=None, limit=TOLERANCE.exact)


def test_each_format_has_its_own_limit():
    own = dataclasses.replace(TOLERANCE, quantized=Limit(agreement=0.5))
    assert own.limit("int8") == own.limit("dynamic") == Limit(agreement=0.5)
    assert own.limit("saved_model") == own.limit("float32") == TOLERANCE.exact
    assert own.limit("float16") == TOLERANCE.float16
