"""Scores are those that a hand can count."""

import json

import numpy as np
import pytest
from PIL import Image

from pipelines.objectives import answering, classification, forecasting, language, read_scores, regression, tagging

# true 0 0 0 1 1 2; taken for 0 0 1 1 1 0
LABELS = np.array([0, 0, 0, 1, 1, 2])
LOGITS = np.eye(3)[[0, 0, 1, 1, 1, 0]] * 5.0
CLASSIFIED = classification.score(LOGITS, LABELS, ("ant", "bee", "cow"))

# two targets of three rows: the first off by 1, 0 and 2; the second never varies and is met
REGRESSED = regression.score(
    np.array([[2.0, 5.0], [2.0, 5.0], [1.0, 5.0]]), np.array([[1.0, 5.0], [2.0, 5.0], [3.0, 5.0]]), ("price", "rooms")
)

# one series, two windows of two steps, two steps ahead
PAST = np.array([[1.0, 2.0], [2.0, 4.0]])[..., None]
TRUTH = np.array([[4.0, 6.0], [6.0, 8.0]])[..., None]
FORECAST = forecasting.score(TRUTH + np.array([[1.0, -1.0], [1.0, 3.0]])[..., None], TRUTH, PAST, ("load",))

TAGS = ("O", "B-PER", "I-PER", "B-LOC")
TAGGED = tagging.score(
    [np.array([1, 2, 0, 3]), np.array([1, 1, 0])],  # PER 0-2, LOC 3-4; PER 0-1, PER 1-2
    [np.array([1, 2, 0, 3]), np.array([1, 2, 0])],  # PER 0-2, LOC 3-4; PER 0-2
    TAGS,
)
ANSWERED = answering.score(["the Cat sat!", "dog", ""], [["cat sat", "mat"], ["a dog ran"], []])
WRITTEN = language.LanguageScores(examples=2, tokens=7, loss=0.5, perplexity=1.6487, accuracy=0.9, exact=0.5)
EVERY_KIND = [CLASSIFIED, REGRESSED, FORECAST, TAGGED, ANSWERED, WRITTEN]


def test_classification_by_hand():
    assert CLASSIFIED.accuracy == pytest.approx(4 / 6)
    assert CLASSIFIED.top5 is None
    assert CLASSIFIED.confusion == ((2, 1, 0), (0, 2, 0), (1, 0, 0))
    ant, bee, cow = CLASSIFIED.classes
    assert (ant.precision, ant.recall, ant.examples) == (pytest.approx(2 / 3), pytest.approx(2 / 3), 3)
    assert (bee.precision, bee.recall, bee.f1) == (pytest.approx(2 / 3), 1.0, pytest.approx(0.8))
    assert (cow.precision, cow.recall, cow.f1, cow.examples) == (0.0, 0.0, 0.0, 1)


def test_top5_counts_the_five_best():
    logits = np.tile(np.arange(7.0), (2, 1))  # the best five are 6, 5, 4, 3, 2
    assert classification.score(logits, np.array([2, 1]), tuple("abcdefg")).top5 == 0.5


def test_regression_by_hand():
    price, rooms = REGRESSED.targets
    assert (price.mae, price.rmse, price.r2) == (1.0, pytest.approx((5 / 3) ** 0.5), pytest.approx(1 - 5 / 2))
    assert (rooms.mae, rooms.rmse, rooms.r2) == (0.0, 0.0, None)
    assert price.shown == ((1.0, 2.0), (2.0, 2.0), (3.0, 1.0))


def test_a_forecast_is_compared_with_the_last_known_value():
    (load,) = FORECAST.targets
    assert (load.mae, load.naive_mae) == (1.5, pytest.approx((2 + 4 + 2 + 4) / 4))
    first, second = load.steps
    assert (first.step, first.mae, first.rmse, first.naive_mae, first.naive_rmse) == (1, 1.0, 1.0, 2.0, 2.0)
    assert (second.mae, second.rmse, second.naive_mae) == (2.0, pytest.approx(5**0.5), 4.0)
    assert (load.past, load.truth, load.forecast) == ((2.0, 4.0), (6.0, 8.0), (7.0, 11.0))


def test_tags_and_whole_entities_by_hand():
    assert (TAGGED.tokens, TAGGED.accuracy) == (7, pytest.approx(6 / 7))
    location, person, together = TAGGED.entities
    assert (location.name, location.f1, location.examples) == ("LOC", 1.0, 1)
    assert (person.precision, person.recall, person.examples) == (pytest.approx(1 / 3), 0.5, 2)
    assert (together.precision, together.recall, together.f1) == (0.5, pytest.approx(2 / 3), pytest.approx(4 / 7))


@pytest.mark.parametrize(
    ("tags", "found"),
    [
        ("B-PER I-PER O", [(0, 2, "PER")]),
        ("I-PER I-PER B-PER", [(0, 2, "PER"), (2, 3, "PER")]),
        ("B-PER I-LOC", [(0, 1, "PER"), (1, 2, "LOC")]),
        ("O O", []),
    ],
)
def test_entities_are_found_as_conll_counts_them(tags, found):
    assert list(tagging.entities(tags.split())) == found


def test_tags_that_are_not_bio_have_no_entities():
    assert tagging.score([np.array([0, 1])], [np.array([1, 1])], ("NOUN", "VERB")).entities == ()


def test_answers_are_compared_as_squad_does():
    assert ANSWERED.exact == pytest.approx(2 / 3)  # case, punctuation and articles do not count; nothing is no answer
    assert ANSWERED.f1 == pytest.approx((1 + 2 / 3 + 1) / 3)


def test_the_best_span_ends_after_its_start_and_stays_in_the_text():
    logits = np.zeros((1, 6, 2), "float32")
    logits[0, :, 0] = [9, 0, 1, 5, 0, 9]  # starts; the first and the last token are no text
    logits[0, :, 1] = [9, 4, 2, 0, 3, 9]
    marks = np.array([-1, 0, 0, 1, 0, -1])[None, :, None].repeat(2, axis=-1)
    assert answering.best_spans(logits, marks).tolist() == [[3, 4]]


@pytest.mark.parametrize("scores", EVERY_KIND, ids=lambda scores: scores.kind)
def test_json_round_trip(scores):
    assert read_scores(scores.to_json()) == scores


def test_scores_of_the_first_format_are_read():
    old = json.loads(CLASSIFIED.to_json())
    del old["kind"]
    old["images"] = old.pop("examples")
    for line in old["classes"]:
        line["images"] = line.pop("examples")
    assert read_scores(json.dumps(old)) == CLASSIFIED
    with pytest.raises(ValueError, match="unknown kind 'beauty'"):
        read_scores('{"kind": "beauty"}')


@pytest.mark.parametrize(
    ("scores", "told"),
    [
        (CLASSIFIED, ["**66.67%**", "| ant | 0.667 |", "![Confusion matrix](confusion.png)"]),
        (REGRESSED, ["`price` by **1**", "| rooms | 0 | 0 | - |", "predictions.png"]),
        (FORECAST, ["**1.5**", "the last known value misses it by 3, on average", "| load | 2 | 2 | 2.236 | 4 |"]),
        (TAGGED, ["**85.71%**", "**57.14%**", "| entity: all | 0.500 | 0.667 | 0.571 | 3 |"]),
        (ANSWERED, ["**66.67%**", "88.89%"]),
        (WRITTEN, ["**1.649**", "50.00% are written exactly"]),
    ],
    ids=lambda value: getattr(value, "kind", ""),
)
def test_the_card_tells_the_numbers(scores, told):
    text = scores.section("texts")
    for part in told:
        assert part in text


@pytest.mark.parametrize("scores", [CLASSIFIED, REGRESSED, FORECAST, TAGGED], ids=lambda scores: scores.kind)
def test_pictures_show_something(scores, tmp_path):
    scores.draw(tmp_path, "texts")
    assert [path.name for path in tmp_path.iterdir()] == [scores.picture]
    with Image.open(tmp_path / scores.picture) as picture:
        pixels = np.asarray(picture.convert("RGB")).reshape(-1, 3)
    assert len(np.unique(pixels, axis=0)) > 20


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("names", [("$10k_$20k", "$\\no$", "$5"), ("a class called by a whole sentence " * 4,) * 3])
def test_any_name_of_a_class_can_be_drawn(tmp_path, names):
    classification.score(LOGITS, LABELS, names).draw(tmp_path, "texts")
    with Image.open(tmp_path / "confusion.png") as picture:
        shades = np.asarray(picture.convert("L"), float)
    assert len(np.unique(shades[shades.shape[0] // 3])) > 5  # cells of several shades, and not an empty figure


def test_any_name_of_a_column_can_be_drawn(tmp_path):
    forecasting.score(TRUTH, TRUTH, PAST, ("price_$_usd$",)).draw(tmp_path, "windows")
    regression.score(TRUTH[:, 0], TRUTH[:, 0], ("$10k_$20k",)).draw(tmp_path, "rows")
    assert {path.name for path in tmp_path.iterdir()} == {"forecast.png", "predictions.png"}
