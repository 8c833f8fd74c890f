"""Images from texts: DALL-E's transformer writes codes after a text, and a decoder makes an image of them."""

from __future__ import annotations

from collections.abc import Sequence
from reprlib import repr as short
from typing import Any

import keras
import numpy as np

from pipelines.generate import generate
from pipelines.guidance import Guidance
from pipelines.strategies import Sample, Strategy
from pipelines.tokenizers import Tokenizer
from zoo.dalle import layout_of
from zoo.layers.image_text import TextThenImage

BATCH = 16  # images at a time
STRATEGY = Sample()


def draw(
    model: keras.Model,
    texts: Any,
    *,
    strategy: Strategy | str = STRATEGY,
    guidance: float = 1.0,
    begun: Any = None,
    batch: int = BATCH,
    cached: bool = True,
) -> np.ndarray:
    """The codes of an image for each text: ids of texts (N, T), 0 = padding -> (N, h, w) int32.

    The same for the same seed of the strategy, whatever the `batch`; copies of a text get images of their own. With a
    `guidance` over 1 images keep closer to their text (https://arxiv.org/abs/2207.12598), if some captions were left
    out in training; a step then takes twice as long. `begun` are the first codes (N, M) of images to be completed.

    Raises:
        ValueError: the model draws no images, a text is too long or of other ids, or an option is out of range.
    """
    layout = layout_of(model)
    found = layout.prompt(texts)
    codes = np.zeros((len(found), 0), "int32") if begun is None else begun
    prompts, nothing = (layout.tokens(ids, codes) for ids in (np.asarray(texts), np.zeros((len(found), 1), "int32")))
    left = layout.places - prompts.shape[1]
    if not left:
        return layout.image_codes(prompts)
    written = generate(
        model,
        prompts.tolist(),
        new_tokens=left,
        strategy=strategy,
        guidance=Guidance(guidance, nothing.tolist()),
        batch=batch,
        cached=cached,
    )
    return layout.image_codes(np.concatenate([prompts[:, layout.image :], np.array(written)], axis=1))


def text_ids(tokenizer: Tokenizer, texts: Sequence[str], layout: TextThenImage) -> np.ndarray:
    """The ids of texts as a transformer reads them: (N, length), 0 = padding.

    Raises:
        ValueError: a text has no tokens, or more than the model takes.
    """
    found = np.zeros((len(texts), layout.length), "int32")
    special = tokenizer.library.num_special_tokens_to_add(False)
    for row, text in enumerate(texts):
        ids = tokenizer.library.encode(text).ids
        if len(ids) > layout.length:
            raise ValueError(
                f"{short(text)} has {len(ids)} tokens; this model reads {layout.length}, {special} of them special "
                "ones. Shorten it."
            )
        if len(ids) <= special:
            raise ValueError(f"The tokenizer finds nothing in {short(text)}. Give a text of words it knows.")
        found[row, : len(ids)] = ids
    return found
