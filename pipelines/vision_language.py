"""Captions of images, answers to questions about them, and whether a text tells of an image: what BLIP is for."""

from __future__ import annotations

from collections.abc import Sequence
from reprlib import repr as short
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from pipelines.generate import generate
from pipelines.marks import Marks
from pipelines.steps import cached_steps
from pipelines.strategies import Beam, Strategy
from pipelines.text_checkpoint import limit_of
from pipelines.zero_shot import text_batch
from zoo.layers.decoding import Decoder

if TYPE_CHECKING:
    from pipelines.tokenizers import Tokenizer

LENGTH = 30  # tokens that are written at most, unless told
BATCH = 16  # images at a time


def caption(
    model: keras.Model,
    images: np.ndarray,
    tokenizer: Tokenizer,
    *,
    prompt: str | Sequence[str] = "",
    beams: int = 1,
    length: int | None = None,
    strategy: Strategy | None = None,
    marks: Marks | None = None,
    cached: bool = True,
    batch: int = BATCH,
) -> list[str]:
    """A caption of each image (N, H, W, 3), RGB 0..255, by a model of task="caption"; the prompt is its beginning.

    `prompt` is one for all images or one each. At most `length` tokens are written after it. The most probable token
    is taken each time, with `beams` over 1 the best text that a beam search finds, or what `strategy` says. `marks`
    are the tokens with which captions begin and end, the tokenizer's own if not given. The keys and values of an image
    are computed once, those of its tokens as they come; with `cached` off all of them are for each token.

    Raises:
        ValueError: the model writes no captions, the images are others than it takes, or a text is too long.
    """
    decoder = _writer(model, "caption")
    pictures = checked_images(model, images)
    marks = marks or Marks(tokenizer.vocabulary.start or 0, tokenizer.vocabulary.end)
    prompts = [prompt] * len(pictures) if isinstance(prompt, str) else list(prompt)
    if len(prompts) != len(pictures):
        raise ValueError(f"There are {len(pictures)} images and {len(prompts)} prompts; give one, or one for each.")
    ids = [tokenizer.library.encode(text.rstrip(), add_special_tokens=False).ids for text in prompts]
    starts = [[marks.start, *prompt] for prompt in ids]
    length = _room(model, decoder, length, before=max(map(len, starts), default=1))
    written = _write(
        *(model, starts, {"image": pictures}),
        new_tokens=length,
        strategy=strategy or Beam(beams=beams),
        stop=() if marks.end is None else (marks.end,),
        cached=cached,
        batch=batch,
    )
    return [tokenizer.decode([*start[1:], *tokens]) for start, tokens in zip(starts, written, strict=True)]


def ask(
    model: keras.Model,
    images: np.ndarray,
    questions: Sequence[str],
    tokenizer: Tokenizer,
    *,
    beams: int = 1,
    length: int | None = None,
    marks: Marks | None = None,
    cached: bool = True,
    batch: int = BATCH,
) -> list[str]:
    """What a model of task="answer" answers to a question about each image; the options are those of `caption`.

    Raises:
        ValueError: the model answers no questions about images, or as `caption`.
    """
    decoder = _writer(model, "answer")
    pictures = checked_images(model, images)
    if isinstance(questions, str) or len(questions) != len(pictures):
        raise ValueError(f"questions={short(questions)} must be a list of as many texts as images: {len(pictures)}.")
    marks = marks or Marks(tokenizer.vocabulary.start or 0, tokenizer.vocabulary.end)
    ids = [_within(model, question, tokenizer) for question in questions]
    written = _write(
        *(model, ids, {"image": pictures}),
        new_tokens=_room(model, decoder, length, before=1),
        strategy=Beam(beams=beams),
        stop=() if marks.end is None else (marks.end,),
        start=marks.start,
        cached=cached,
        batch=batch,
    )
    return [tokenizer.decode(tokens) for tokens in written]


def match(
    model: keras.Model, images: np.ndarray, texts: Sequence[str], tokenizer: Tokenizer, *, batch: int = BATCH
) -> np.ndarray:
    """How probable it is that each text tells of each image, by a model of task="match": (N, M) for N images, M texts.

    The image is looked at once; each text is read with it.

    Raises:
        ValueError: the model does not match texts with images, the images are others than it takes, or a text is
            longer than it takes.
    """
    if not _matches(model):
        raise ValueError(
            f"{model.name!r} does not say whether a text tells of an image. Models that do are built with "
            'task="match", as blip can.'
        )
    pictures = checked_images(model, images)
    if isinstance(texts, str) or not len(texts):
        raise ValueError(f"texts={short(texts)} must be a list of texts, at least one.")
    look, read = match_parts(model)
    tokens = text_batch(model, texts, tokenizer)
    rows = []
    (name,) = set(read.input) - set(tokens)  # what the text looks at
    for picture in pictures:
        context = np.asarray(look({"image": picture[None]}, training=False))
        found = []
        for start in range(0, len(texts), batch):
            part = {key: values[start : start + batch] for key, values in tokens.items()}
            repeated = np.repeat(context, len(part["token_ids"]), axis=0)
            found.append(np.asarray(read({name: repeated, **part}, training=False)))
        shares = np.asarray(keras.ops.softmax(np.concatenate(found).astype("float32")))
        rows.append(shares[:, 1])
    return np.stack(rows) if rows else np.zeros((0, len(texts)), "float32")


def match_parts(model: keras.Model) -> tuple[keras.Model, keras.Model]:
    """A model of task="match" as two that share its weights: of the image, and of a text that looks at it."""
    context = model.get_layer("image.neck_norm").output
    texts = {name: tensor for name, tensor in model.input.items() if name != "image"}
    look = keras.Model({"image": model.input["image"]}, context, name=f"{model.name}_image")
    named = {tensor.name: tensor for tensor in (context, *texts.values())}
    return look, keras.Model(named, model.output, name=f"{model.name}_text")


def checked_images(model: keras.Model, images: Any) -> np.ndarray:
    """Images as a model takes them, (N, H, W, 3).

    Raises:
        ValueError: they are of another shape or range.
    """
    wanted = tuple(model.input["image"].shape[1:])
    found = np.asarray(images)
    if found.shape[1:] != wanted or found.dtype.kind not in "uif":
        sizes = ", ".join(map(str, wanted))
        raise ValueError(f"{model.name!r} takes images (N, {sizes}), RGB 0..255; got {found.dtype} {found.shape}.")
    low, high = (float(found.min()), float(found.max())) if found.size else (0.0, 255.0)
    if not (low >= 0 and high <= 255) or (found.dtype.kind == "f" and 0 < high <= 1):
        raise ValueError(f"Images must be RGB 0..255, but their values go from {low:g} to {high:g}.")
    return found


def task_of(model: keras.Model) -> str | None:
    """Which of "caption", "answer" and "match" a model is for; None for any other."""
    inputs = model.input if isinstance(model.input, dict) else {}
    if not {"image", "token_ids"} <= set(inputs):
        return None
    if _matches(model):
        return "match"
    shape = getattr(model.output, "shape", ())
    if len(shape) != 3:
        return None
    return "answer" if "decoder_token_ids" in inputs else "caption"


def _matches(model: keras.Model) -> bool:
    taken = set(model.input) if isinstance(model.input, dict) else set()
    names = {layer.name for layer in model.layers}
    return {"image", "token_ids"} <= taken and "head_match" in names


def _writer(model: keras.Model, task: str) -> Decoder:
    if task_of(model) != task:
        what = "captions" if task == "caption" else "answers to questions about images"
        raise ValueError(f'{model.name!r} writes no {what}. Models that do are built with task="{task}", as blip can.')
    return cached_steps(model).decoder


def _room(model: keras.Model, decoder: Decoder, length: int | None, *, before: int) -> int:
    """How many tokens to write: as many as asked for, else the usual, if there are positions for so many."""
    if length is None:
        return LENGTH if decoder.length is None else max(1, min(LENGTH, decoder.length - before))
    if type(length) is not int or length < 1:
        raise ValueError(f"length={length!r} must be a whole number of tokens, at least 1.")
    return length


def _within(model: keras.Model, question: str, tokenizer: Tokenizer) -> list[int]:
    """The tokens of a question."""
    ids, limit = tokenizer.library.encode(question).ids, limit_of(model)
    if limit is not None and len(ids) > limit:
        raise ValueError(f"{short(question)} has {len(ids)} tokens; {model.name!r} takes {limit}. Shorten it.")
    return ids


def _write(
    model: keras.Model, prompts: list[list[int]], inputs: dict[str, np.ndarray], *, batch: int, **options: Any
) -> list[list[int]]:
    """What `generate` writes, some images at a time."""
    found: list[list[int]] = []
    for start in range(0, len(prompts), batch):
        rows = slice(start, start + batch)
        given = {name: values[rows] for name, values in inputs.items()}
        found += generate(model, prompts[rows], inputs=given, **options)  # type: ignore[arg-type]  # ids for ids
    return found
