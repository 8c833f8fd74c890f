"""What counts when outputs of any kind are held against those of Keras: made-up numbers."""

from __future__ import annotations

import numpy as np
import pytest

from pipelines.agreement import Limit, Tolerance
from pipelines.expected import Expected

TOLERANCE = Tolerance()
MASK = np.array([[1, 1, 1, 0], [1, 1, 0, 0], [0, 1, 1, 1]])


@pytest.fixture
def random() -> np.random.Generator:
    return np.random.default_rng(0)


def of_tokens(outputs: np.ndarray, task="tag", **more) -> Expected:
    return Expected(outputs={"logits": outputs}, task=task, mask=MASK, of_tokens=frozenset({"logits"}), **more)


def test_padding_never_counts(random):
    expected = random.normal(size=(3, 4, 5)).astype("f4")
    answers = np.where(MASK[..., None] == 1, expected, 1e9).astype("f4")
    found = of_tokens(expected).compare({"logits": answers}, TOLERANCE.exact)
    assert (found.count, found.logit_difference, found.agreement, found.unit) == (8, 0, 1, "tokens")
    answers[2, 1] = -answers[2, 1]  # a token behind padding
    found = of_tokens(expected).compare({"logits": answers}, TOLERANCE.exact)
    assert found.agreement == 7 / 8
    assert found.problems(TOLERANCE.exact)[-1] == "the best class is the same on 87.5% of the tokens (at least 100%)"


def test_labels_below_zero_and_under_padding_do_not_count(random):
    expected = random.normal(size=(3, 4, 5)).astype("f4")
    labels = expected.argmax(-1)
    labels[0] = [labels[0, 0], (labels[0, 1] + 1) % 5, -1, (labels[0, 3] + 1) % 5]  # right, wrong, uncounted, padding
    assert of_tokens(expected, labels=labels).accuracy == 6 / 7


def test_an_answer_is_where_it_starts_and_ends_among_tokens():
    expected = np.zeros((3, 4, 2), "f4")
    expected[0, 1], expected[1, 0], expected[2, 3] = 3, 3, 3
    expected[1, 3] = 9  # padding
    answers = expected.copy()
    answers[1, 2] = 99  # padding too
    limit = Limit(agreement=1.0, difference=0.1)
    labels = np.array([[1, 1], [0, 1], [-1, -1]])
    found = of_tokens(expected, "answer", labels=labels).compare({"logits": answers}, limit)
    assert (found.agreement, found.logit_difference) == (1, 0)
    assert found.accuracy == found.keras_accuracy == 3 / 4
    answers[0, 2, 1] = 4  # another end
    found = of_tokens(expected, "answer").compare({"logits": answers}, limit)
    assert found.agreement == 5 / 6
    assert "same on 83.3% of the starts and ends" in found.problems(limit)[-1]


def test_values_are_measured_in_the_unit_of_their_column(random):
    expected = random.normal(size=(50, 3, 2)).astype("f4") * np.array([1e-3, 1e4], "f4")
    forecast = Expected(outputs={"values": expected}, task="forecast")
    off = expected + np.array([2e-4, 0], "f4")  # a fifth of what the small column varies, nothing beside the large one
    found = forecast.compare({"values": off}, TOLERANCE.exact)
    assert found.agreement is None
    assert found.difference == pytest.approx(0.2 / expected[..., 0].std() * 1e-3 / found_spread(expected), rel=0.05)
    assert "a value differs by 0.0002" in found.problems(TOLERANCE.exact)[0]
    assert not forecast.compare({"values": expected * (1 + 1e-6)}, TOLERANCE.exact).problems(TOLERANCE.exact)


def found_spread(values: np.ndarray) -> float:
    """The standard deviation of values whose columns have each been divided by their own."""
    rows = values.reshape(-1, values.shape[-1])
    return float((rows / rows.std(0)).std())


def test_a_column_that_never_varies_has_a_unit(random):
    expected = np.stack([random.normal(size=40), np.full(40, 7.0)], axis=1).astype("f4")
    value = Expected(outputs={"values": expected}, task="regress")
    assert not value.compare({"values": expected + 1e-6}, TOLERANCE.exact).problems(TOLERANCE.exact)
    assert value.compare({"values": expected + np.array([0, 1], "f4")}, TOLERANCE.exact).problems(TOLERANCE.exact)


def test_of_several_outputs_the_worst_counts(random):
    tokens, pooled = random.normal(size=(3, 4, 6)).astype("f4"), random.normal(size=(3, 6)).astype("f4")
    features = Expected(
        outputs={"tokens": tokens, "pooled": pooled}, task="features", mask=MASK, of_tokens=frozenset({"tokens"})
    )
    padded = np.where(MASK[..., None] == 1, tokens, 5)
    assert features.compare({"tokens": padded, "pooled": pooled}, TOLERANCE.exact).difference == 0
    found = features.compare({"tokens": padded, "pooled": pooled + 0.5}, TOLERANCE.quantized_values)
    assert found.logit_difference == pytest.approx(0.5)
    assert found.problems(TOLERANCE.quantized_values)


def test_states_beside_logits_are_values(random):
    logits, state = random.normal(size=(3, 4, 5)).astype("f4"), random.normal(size=(3, 4, 6)).astype("f4")
    expected = Expected(
        outputs={"h_n": state, "logits": logits},
        task="causal_lm",
        mask=MASK,
        of_tokens=frozenset({"logits"}),  # the state's second axis is as long by chance
    )
    found = expected.compare({"h_n": state, "logits": logits}, TOLERANCE.exact)
    assert (found.agreement, found.count) == (1, 8)
    worse = expected.compare({"h_n": state + (1 - MASK[..., None]), "logits": logits}, TOLERANCE.exact)
    assert worse.logit_difference == pytest.approx(1)


@pytest.mark.parametrize("answers", [{}, {"logits": np.zeros((3, 4, 4))}, {"values": np.zeros((3, 4, 5))}])
def test_other_outputs_are_refused(random, answers):
    with pytest.raises(ValueError, match=r"outputs .* are not Keras'|do not compare with Keras'"):
        of_tokens(random.normal(size=(3, 4, 5))).compare(answers, TOLERANCE.exact)


def test_each_task_has_its_own_limit_when_quantized():
    assert TOLERANCE.limit("dynamic", "forecast") == TOLERANCE.limit("int8", "features") == TOLERANCE.quantized_values
    assert TOLERANCE.limit("dynamic", "tag") == TOLERANCE.quantized
    assert TOLERANCE.limit("float16", "regress") == TOLERANCE.float16


@pytest.mark.parametrize("ruled_out", [-1e9, -65504.0])  # of float32, and of constants in half precision
def test_what_both_rule_out_does_not_count(ruled_out, random):
    expected = random.normal(size=(6, 5)).astype("f4")
    impossible = np.arange(5) >= 3
    keras = Expected(outputs={"logits": np.where(impossible, np.float32(-1e9), expected)}, task="classify")
    answers = np.where(impossible, np.float32(ruled_out), expected)
    found = keras.compare({"logits": answers}, TOLERANCE.exact)
    assert (found.logit_difference, found.agreement) == (0, 1)
    possible = np.where(np.arange(5) == 4, np.float32(2.0), answers)
    assert keras.compare({"logits": possible}, TOLERANCE.exact).problems(TOLERANCE.exact)
