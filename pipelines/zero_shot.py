"""Classes that a model was never trained on, told to it in words: what CLIP was made for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import keras
import numpy as np

from zoo.layers.contrast import Similarity
from zoo.layers.tokens import LearnedPositions

if TYPE_CHECKING:
    from pipelines.tokenizers import Tokenizer

TEMPLATES = ("a photo of a {}.",)


def tower(model: keras.Model, kind: str) -> keras.Model:
    """The part of a model of task="contrast" that gives "image" or "text" embeddings; it shares the weights.

    Raises:
        ValueError: the model does not compare images with texts.
    """
    outputs = model.output if isinstance(model.output, dict) else {}
    if f"{kind}_embedding" not in outputs:
        raise ValueError(
            f'{model.name!r} gives no {kind} embeddings. Build a model that does with task="contrast", as clip can.'
        )
    mine = {name: tensor for name, tensor in model.input.items() if (name == "image") == (kind == "image")}
    return keras.Model(mine, outputs[f"{kind}_embedding"], name=f"{model.name}_{kind}")


def text_batch(model: keras.Model, texts: Sequence[str], tokenizer: Tokenizer) -> dict[str, np.ndarray]:
    """Token ids and their mask, (N, T), padded at the end.

    Raises:
        ValueError: a text has more tokens than the model takes.
    """
    positions = [layer for layer in model.layers if isinstance(layer, LearnedPositions) and "text" in layer.name]
    most = min((layer.length for layer in positions), default=None)
    ids = [tokenizer.library.encode(text).ids for text in texts]
    for text, tokens in zip(texts, ids, strict=True):
        if most is not None and len(tokens) > most:
            raise ValueError(f"{text[:60]!r} has {len(tokens)} tokens; {model.name!r} takes {most}. Shorten it.")
    length = max(map(len, ids), default=0)
    padded = np.array([[*tokens, *[0] * (length - len(tokens))] for tokens in ids], "int32")
    mask = np.array([[1] * len(tokens) + [0] * (length - len(tokens)) for tokens in ids], "int32")
    return {"token_ids": padded, "padding_mask": mask}


def class_embeddings(
    model: keras.Model, classes: Sequence[str], tokenizer: Tokenizer, *, templates: Sequence[str] = TEMPLATES
) -> np.ndarray:
    """One vector of length 1 for each class: (C, P), of the mean over all templates, as CLIP's paper does it.

    Raises:
        ValueError: there are no classes, one is there twice, or a template has no place for a class.
    """
    if isinstance(classes, str) or not classes or len(set(classes)) < len(classes):
        raise ValueError(f"classes={classes!r:.80} must be a list of names, each of them once.")
    wrong = [template for template in templates if template.count("{}") != 1]
    if isinstance(templates, str) or wrong or not templates:
        raise ValueError(f"templates={templates!r:.80} must be texts with one {{}} each, where the class stands.")
    read = tower(model, "text")
    means = []
    for template in templates:
        texts = [template.replace("{}", name) for name in classes]
        means.append(np.asarray(read(text_batch(model, texts, tokenizer), training=False)))
    mean = np.mean(means, axis=0)
    return mean / np.linalg.norm(mean, axis=1, keepdims=True)


def zero_shot(
    model: keras.Model,
    images: np.ndarray,
    classes: Sequence[str],
    *,
    tokenizer: Tokenizer,
    templates: Sequence[str] = TEMPLATES,
    batch: int = 32,
) -> np.ndarray:
    """How probable each class is for each image (N, H, W, 3), RGB 0..255: (N, C), rows adding to 1.

    Raises:
        ValueError: as `class_embeddings`; or the model does not compare images with texts.
    """
    wanted = class_embeddings(model, classes, tokenizer, templates=templates)
    compare = next(layer for layer in model.layers if isinstance(layer, Similarity))
    look = tower(model, "image")
    found = []
    for start in range(0, len(images), batch):
        embedded = look({"image": np.asarray(images[start : start + batch], "float32")}, training=False)
        found.append(np.asarray(keras.ops.softmax(compare(embedded, wanted))))
    return np.concatenate(found) if found else np.zeros((0, len(classes)), "float32")
