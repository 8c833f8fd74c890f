"""BLIP: a Vision Transformer whose tokens a text transformer reads. Paper: https://arxiv.org/abs/2201.12086.

Differs from the paper: none of its momentum encoders; texts to match with an image begin with the tokenizer's own first
token, as in transformers; and answers do not hang on the padding of their questions, as they do there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import keras
from keras import layers

from zoo import vit
from zoo.core.family import Family, HubMatch, Pixels, Task
from zoo.layers import blip_published, vit_published
from zoo.layers.contrast import Similarity, UnitLength
from zoo.layers.text import Bias, text_inputs, token_embedding
from zoo.layers.tokens import LearnedPositions, TokenAt
from zoo.layers.transformer_block import ACTIVATIONS, Activation, TransformerBlock
from zoo.weights import hub_pairs
from zoo.weights.curated import curated
from zoo.weights.hub_text import Shapes, named_variant

TASKS: tuple[Task, ...] = ("caption", "match", "answer", "contrast", "image_features", "text_features")
SIZES = ("patch", "width", "depth", "heads", "mlp_width", "text_width", "text_depth", "text_heads", "text_mlp_width")


@dataclass(frozen=True)
class Config:
    """Sizes of the image tower and of the text transformers, which are all of one size."""

    patch: int  # pixels
    width: int
    depth: int  # blocks
    heads: int
    mlp_width: int
    text_width: int = 768
    text_depth: int = 12
    text_heads: int = 12
    text_mlp_width: int = 3_072
    projection: int = 256  # width of the space in which images and texts are compared
    vocabulary: int = 30_524
    length: int = 512  # tokens
    activation: Activation = "gelu"
    text_activation: Activation = "gelu"
    epsilon: float = 1e-5  # of the layer norms
    text_epsilon: float = 1e-12
    dropout: float = 0.0  # in the text transformers
    pixels: Pixels = hub_pairs.pixels(384, resize="squash")


def build(config: Config, *, task: Task, classes: int, name: str) -> keras.Model:
    """Images (B, H, W, 3) and tokens (B, T) -> what the task gives.

    caption: logits of the next token (B, T, vocabulary); match: logits (B, 2), the second that the text tells of the
    image; answer: from the tokens of a question and those of its answer, the latter with "decoder_" before their names,
    logits of the answer's next token (B, T, vocabulary); contrast: {"image_embedding": (N, P), "text_embedding":
    (M, P), both of length 1, "logits": their cosines (N, M)}; image_features and text_features: one of the two.
    """
    if task == "text_features":
        inputs = text_inputs()
        return keras.Model(inputs, _text_embedding(inputs, config), name=name)
    image, x = _image(config)
    if task == "image_features":
        return keras.Model(image, _image_embedding(x, config), name=name)
    inputs = text_inputs()
    outputs: Any
    if task == "contrast":
        first, second = _image_embedding(x, config), _text_embedding(inputs, config)
        scores = Similarity(learned=False, name="head_similarity")(first, second)
        outputs = {"image_embedding": first, "text_embedding": second, "logits": scores}
    elif task == "match":
        y, _ = _read(inputs, config, tower="text", context=x)
        outputs = layers.Dense(2, dtype="float32", name="head_match")(TokenAt(0, name="head_token")(y))
    elif task == "answer":
        question, _ = _read(inputs, config, tower="text", context=x)
        outputs, answer = _write(config, context=question, context_mask=inputs["padding_mask"], prefix="decoder_")
        inputs |= answer
    else:
        outputs, inputs = _write(config, context=x)
    return keras.Model({"image": image, **inputs}, outputs, name=name)


def _image(config: Config):
    """The input and the tokens of the image, the class token first: (B, H, W, 3), (B, T, D)."""
    tower = vit.Config(
        config.patch,
        config.width,
        config.depth,
        config.heads,
        config.mlp_width,
        activation=config.activation,
        epsilon=config.epsilon,
        pixels=config.pixels,
    )
    image, x = vit.encode(tower, tower="image.")
    return image, layers.LayerNormalization(epsilon=config.epsilon, name="image.neck_norm")(x)


def _read(
    inputs: Mapping[str, keras.KerasTensor],
    config: Config,
    *,
    tower: str,
    causal: bool = False,
    context=None,
    context_mask=None,
    prefix: str = "",
):
    """The tokens of a text, which look at a context if there is one, (B, T, D), and the table of token vectors."""
    mask = inputs[f"{prefix}padding_mask"]
    embedding = token_embedding(config.vocabulary, config.text_width, name=f"{tower}.stem_tokens")
    x = LearnedPositions(config.length, name=f"{tower}.stem_positions")(embedding(inputs[f"{prefix}token_ids"]))
    x = layers.LayerNormalization(epsilon=config.text_epsilon, name=f"{tower}.stem_norm")(x)
    x = layers.Dropout(config.dropout, name=f"{tower}.stem_dropout")(x)
    for block in range(config.text_depth):
        x = TransformerBlock(
            config.text_heads,
            config.text_mlp_width,
            pre_norm=False,
            causal=causal,
            cross=context is not None,
            activation=config.text_activation,
            epsilon=config.text_epsilon,
            dropout=config.dropout,
            name=f"{tower}.block{block}",
        )(x, context, padding_mask=mask, context_mask=context_mask)
    return x, embedding


def _write(config: Config, *, context, context_mask=None, prefix: str = ""):
    """The logits of the decoder's next tokens (B, T, vocabulary), and its inputs."""
    inputs = text_inputs(prefix=prefix)
    read = {"context": context, "context_mask": context_mask, "prefix": prefix}
    x, embedding = _read(inputs, config, tower="decoder", causal=True, **read)
    x = layers.Dense(config.text_width, ACTIVATIONS[config.text_activation], name="head_transform")(x)
    x = layers.LayerNormalization(epsilon=config.text_epsilon, name="head_norm")(x)
    return Bias(dtype="float32", name="head_bias")(embedding(x, reverse=True)), inputs


def _image_embedding(x, config: Config):
    x = layers.Dense(config.projection, name="image.head_projection")(TokenAt(0, name="image.head_token")(x))
    return UnitLength(name="image.head_embedding")(x)


def _text_embedding(inputs: Mapping[str, keras.KerasTensor], config: Config):
    """Of the text alone: nothing looks at an image."""
    x, _ = _read(inputs, config, tower="text")
    x = layers.Dense(config.projection, name="text.head_projection")(TokenAt(0, name="text.head_token")(x))
    return UnitLength(name="text.head_embedding")(x)


def _from_hub(config: Mapping[str, Any], shapes: Shapes) -> HubMatch | None:
    read = blip_published.read(config, shapes)
    if read is None:
        return None
    task, fields = read
    found = replace(FAMILY.variants["blip_base"], **fields)
    return HubMatch(named_variant(found, FAMILY.variants, SIZES, default="blip"), found, task)


FAMILY = Family(
    paper="https://arxiv.org/abs/2201.12086",
    build=build,
    tasks=TASKS,
    variants={f"blip_{size}": Config(**vit_published.sized(size, 16)) for size in ("base", "large")},
    conventions=(
        *("pixels", "vocabulary", "length", "projection", "dropout"),
        *("activation", "text_activation", "epsilon", "text_epsilon"),
    ),
    dialects=blip_published.DIALECTS,
    pretrained=curated("blip"),
    from_hub=_from_hub,
)
