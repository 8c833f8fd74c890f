"""Images from texts: DALL-E's transformer writes codes after a text, and a decoder makes an image of them."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from pipelines.generate import generate
from pipelines.guidance import Guidance
from pipelines.strategies import Sample, Strategy
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


def check_decoder(layout: TextThenImage, decoder: keras.Model) -> None:
    """Refuse a model that cannot make images of the codes of a transformer.

    Raises:
        ValueError: it takes something else, or codes of another number or grid.
    """
    taken = getattr(decoder.input, "shape", None)
    if taken is None or tuple(taken[1:]) != (layout.rows, layout.columns):
        raise ValueError(
            f"{decoder.name!r} takes {taken}; the transformer writes codes (B, {layout.rows}, {layout.columns}). "
            "Build both for images of one size."
        )
    check_codes(layout, codes_of(decoder), decoder.name)


def check_codes(layout: TextThenImage, codes: int, name: str) -> None:
    """Refuse a codebook of another size than a transformer's.

    Raises:
        ValueError: it is.
    """
    if codes != layout.codes:
        raise ValueError(
            f"The codebook of {name!r} has {codes} codes, the transformer writes {layout.codes}. Build the "
            f"transformer with codes={codes}."
        )


def codes_of(decoder: keras.Model) -> int:
    """How many codes a decoder knows."""
    return next(layer.input_dim for layer in decoder.layers if isinstance(layer, keras.layers.Embedding))
