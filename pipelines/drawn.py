"""Images that a finished run of task text_to_image draws: what `zoo sample DIR "a text"` does."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pipelines import grids
from pipelines.codebook import DECODER
from pipelines.matching import Matcher
from pipelines.sample import Request, Sampled
from pipelines.strategies import Sample
from pipelines.text_to_image import BATCH, draw, text_ids
from pipelines.tokenizers import open_tokenizer
from zoo.dalle import layout_of

if TYPE_CHECKING:
    from pipelines.bundle import Bundle

KNOWN = ("text", "temperature", "top_k", "top_p", "guidance", "rank_by")


def sampled(bundle: Bundle, request: Request) -> Sampled:
    """Images of a text, those that fit it best first if there is who tells.

    Raises:
        FileNotFoundError: there is no such judge.
        ValueError: there is no text, it is too long, or something is asked for that is not known here.
    """
    from pipelines.bundle import load_model

    request.refuse("text_to_image", known=KNOWN)
    if request.text is None:
        raise ValueError(
            f"'{bundle.path}' draws after a text, and there is none: zoo sample {bundle.path} \"a red square\"."
        )
    strategy = Sample(request.temperature or 1.0, request.top_k, request.top_p, seed=request.seed)
    judge = None if request.rank_by is None else Matcher.open(request.rank_by)
    model, decoder = bundle.load_model(), load_model(bundle.path / DECODER)
    ids = text_ids(open_tokenizer(bundle.path), [request.text], layout_of(model))
    guidance = 1.0 if request.guidance is None else request.guidance
    codes = draw(model, ids.repeat(request.count, axis=0), strategy=strategy, guidance=guidance)
    parts = [np.asarray(decoder(codes[at : at + BATCH], training=False)) for at in range(0, len(codes), BATCH)]
    images = grids.as_bytes(np.concatenate(parts))
    names = (request.text,) * len(images)
    if judge is None:
        return Sampled(images, names)
    fits = judge.pictures(images) @ judge.texts([request.text])[0]
    order = np.argsort(-fits, kind="stable")
    return Sampled(images[order], tuple(f"{request.text} {fits[index]:.3f}" for index in order))
