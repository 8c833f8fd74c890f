"""Images from texts: the cache, guidance, batches and seeds of DALL-E's sampling."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

import zoo
from pipelines.generate import generate
from pipelines.guidance import Guidance
from pipelines.steps import WholePasses, cached_steps
from pipelines.strategies import Beam, Sample
from pipelines.text_to_image import draw
from zoo.dalle import layout_of

TINY = {"codes": 16, "words": 20, "text_length": 4, "width": 16, "heads": 2, "head_width": 6, "size": (16, 24)}
MIXED = ("axial_col", "axial_row")
KINDS = [(("full",), False), (MIXED, True)]
OTHER_KINDS = [
    (("full",), True),
    (("axial_row",), True),
    (("axial_col",), True),
    (MIXED, False),
    (("axial_row",), False),
]
TEXTS = np.array([[7, 8, 9, 3], [4, 0, 0, 0], [7, 8, 9, 3]])


@cache
def model_of(attention=MIXED, shift=True):
    """A transformer whose branches and positions count for something."""
    model = zoo.create("dalle_tiny", **TINY, depth=len(attention), attention=attention, shift=shift)
    random = np.random.default_rng(0)
    for weight in model.weights:
        weight.assign(random.standard_normal(weight.shape) * (0.5 if len(weight.shape) == 1 else 0.3))
    return model


@pytest.mark.parametrize(
    ("attention", "shift"), [*KINDS, *(pytest.param(*kind, marks=pytest.mark.slow) for kind in OTHER_KINDS)]
)
def test_the_cache_changes_no_token_and_no_logit(attention, shift):
    model = model_of(attention, shift)
    layout = layout_of(model)
    greedy, whole = (draw(model, TEXTS, strategy="greedy", cached=cached) for cached in (True, False))
    np.testing.assert_array_equal(greedy, whole)
    assert greedy.shape == (3, 2, 3) and (greedy < 16).all()
    steps, passes = cached_steps(model), WholePasses(model)
    prompts = layout.prompt(TEXTS).tolist()
    np.testing.assert_allclose(steps.begin(prompts, {}), passes.begin(prompts, {}), atol=1e-4)
    for codes in greedy.reshape(3, 6).T[:-1] + layout.text_ids:
        np.testing.assert_allclose(steps.extend(codes), passes.extend(codes), atol=1e-4)
    steps.close()


@pytest.mark.parametrize(
    "strategy",
    [
        Sample(0.7, top_k=5, top_p=0.9, seed=3),
        pytest.param("greedy", marks=pytest.mark.slow),
        pytest.param(Beam(2), marks=pytest.mark.slow),
    ],
)
def test_the_cache_changes_no_token_under_guidance(strategy):
    cached, whole = (draw(model_of(), TEXTS, strategy=strategy, guidance=2.5, cached=each) for each in (True, False))
    np.testing.assert_array_equal(cached, whole)


def test_guidance_is_a_step_from_an_empty_text_to_the_own_one():
    model = model_of()
    layout = layout_of(model)
    ids = np.concatenate([layout.prompt(TEXTS), layout.prompt(np.zeros_like(TEXTS))])
    own, none = np.split(np.asarray(model({"token_ids": ids, "padding_mask": np.ones_like(ids)}))[:, -1], 2)
    guided = none + 4.0 * (own - none)
    assert (guided.argmax(-1) != own.argmax(-1)).any()  # so that the two can be told apart
    drawn = draw(model, TEXTS, strategy="greedy", guidance=4.0)
    np.testing.assert_array_equal(drawn[:, 0, 0], guided.argmax(-1) - layout.text_ids)
    np.testing.assert_array_equal(
        draw(model, TEXTS, strategy="greedy", guidance=0), draw(model, np.zeros_like(TEXTS), strategy="greedy")
    )


@pytest.mark.slow
def test_what_is_drawn_hangs_on_the_seed_and_not_on_the_batch():
    model, strategy = model_of(), Sample(top_k=8, seed=2)
    whole = draw(model, TEXTS, strategy=strategy, guidance=1.0)
    np.testing.assert_array_equal(whole, draw(model, TEXTS, strategy=strategy))
    np.testing.assert_array_equal(whole, draw(model, TEXTS, strategy=strategy, batch=2))
    assert (whole != draw(model, TEXTS, strategy=Sample(top_k=8, seed=3))).any()
    assert (whole[0] != whole[2]).any()  # copies of a text


@pytest.mark.slow
def test_an_image_that_was_begun_is_completed():
    model = model_of()
    begun = [[3, 1], [2, 2], [5, 0]]
    found = draw(model, TEXTS, begun=begun, strategy="greedy").reshape(3, 6)
    np.testing.assert_array_equal(found[:, :2], begun)
    np.testing.assert_array_equal(draw(model, TEXTS, begun=found), found.reshape(3, 2, 3))
    np.testing.assert_array_equal(draw(model, TEXTS, begun=found[:, :5], strategy="greedy").reshape(3, 6), found)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda model: draw(model, [[1] * 5]), "T at most the 4 tokens that this model reads. Cut longer texts"),
        (lambda model: draw(model, [[20]]), "A text holds the id 20; those known here are 0 to 19"),
        (lambda model: draw(model, TEXTS, guidance=-1), r"scale=-1\) must be a number of at least 0"),
        (lambda model: draw(model, TEXTS, guidance=float("nan")), "must be a number of at least 0"),
        (lambda model: draw(model, TEXTS, batch=0), "batch=0 must be a whole number over 0"),
        (lambda model: draw(model, TEXTS, begun=[[16]] * 3), "An image holds the id 16"),
        (lambda model: draw(zoo.create("lenet5"), TEXTS), "writes no images after texts"),
        (
            lambda model: generate(model, [[0, 1]], new_tokens=1, guidance=Guidance(2, [[0, 1, 2]])),
            "a prompt for each of the 1 texts, of no more tokens",
        ),
    ],
)
def test_what_cannot_be_drawn_is_said(call, message):
    with pytest.raises(ValueError, match=message):
        call(model_of())
