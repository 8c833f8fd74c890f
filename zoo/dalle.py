"""DALL-E: a discrete autoencoder between images and codes, and a transformer that writes codes after a text.

Paper: https://arxiv.org/abs/2102.12092.

Published weights: OpenAI published its autoencoder alone, as two pickles of whole modules (encoder.pkl, decoder.pkl),
which are not opened here; once saved as safetensors under their own names, with OpenAI's package, they load into
`dalle_base`. OpenAI's transformer of 12 billion parameters was never published, and no other one is offered here. What
people train with dalle-pytorch loads under its own names, saved as safetensors, unless it has rotary positions, which
are that library's default.

Differs from the paper: the transformer is dalle-pytorch's (factors on the branches, a gated MLP, token shift), its
attention full or along rows and columns, not convolutional. `dalle_base` has OpenAI's autoencoder and a transformer of
the size in dalle-pytorch's introduction; `dalle_small` and `dalle_tiny` are small enough to be trained by their user.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import keras
from keras import layers

from zoo.core.family import Family, HubMatch, Pixels, Task
from zoo.layers import dalle_published as published
from zoo.layers import dvae
from zoo.layers.hidden import check_counts
from zoo.layers.image_text import Attends, OwnLogits, TextThenImage, TextThenImageBlock, TextThenImagePositions
from zoo.layers.latent import GumbelSample, alone, halved, image_inputs, likeliest
from zoo.layers.pixels import PixelOutput
from zoo.layers.text import text_inputs
from zoo.weights.layouts import Shape

LEVELS: dict[str, Any] = {"mean": (-31.875,) * 3, "std": (318.75,) * 3}  # 0..255 becomes 0.1..0.9


@dataclass(frozen=True, kw_only=True)
class Config:
    """Sizes of the autoencoder, then of the transformer; codes and image are the same for both."""

    codes: int = 8192  # of the codebook
    code_width: int = 128  # channels that the decoder begins with
    channels_width: int = 256  # channels next to the image, doubled with each halving
    blocks: int = 2  # residual blocks of each size of the map
    temperature: float = 1.0  # of the draws between encoder and decoder in training
    words: int = 16_384  # token ids of texts; 0 is padding
    text_length: int = 256  # tokens of a text
    width: int = 1024
    depth: int = 12  # blocks of the transformer
    heads: int = 16
    head_width: int = 64
    attention: tuple[Attends, ...] = ("full",)  # of the blocks in turn
    shift: bool = False  # whether half of each token comes from its neighbors
    epsilon: float = 1e-5  # of the layer norms
    dropout: float = 0.0
    pixels: Pixels = Pixels(size=256, crop=1.0, **LEVELS)

    def __post_init__(self):
        sizes = ("codes", "code_width", "channels_width", "blocks", "words", "text_length", "width", "depth", "heads")
        check_counts(widths=(self.head_width,), **{name: getattr(self, name) for name in sizes})
        if self.channels_width < 4 or self.codes < 2 or self.words < 2:
            raise ValueError(
                f"channels_width={self.channels_width} must be at least 4, codes={self.codes} and words={self.words} 2."
            )
        if not isinstance(self.attention, tuple) or not self.attention:
            raise ValueError(f"attention={self.attention!r} must hold at least one of full, axial_row, axial_col.")

    @property
    def layout(self) -> TextThenImage:
        """Where the tokens of a text and its image stand."""
        rows, columns = halved(self.pixels, dvae.HALVINGS, name="dalle")
        return TextThenImage(self.words, self.text_length, self.codes, rows, columns)

    @property
    def length(self) -> int:
        """Tokens of a text and its image, and the one before them."""
        return self.layout.places


def build(config: Config, *, task: Task, classes: int, name: str) -> keras.Model:
    """Images (B, H, W, C) in 0..255, their codes (B, H/8, W/8) int32, tokens of a text and an image (B, T).

    text_to_image: a dict of "token_ids" and "padding_mask" -> logits of the next token (B, T, vocabulary); the ids are
    those that `layout_of(model)` makes of texts and codes. encode: image -> codes; decode: codes -> image; reconstruct:
    image -> {"image", "logits" of the codes, "statistics" of each pixel for the loss}.

    Raises:
        ValueError: the size of the image does not divide by 8.
    """
    halved(config.pixels, dvae.HALVINGS, name=name)
    if task == "text_to_image":
        return _transformer(config, name)
    if task == "decode":
        layout = config.layout
        inputs = {"codes": keras.Input((layout.rows, layout.columns), dtype="int32", name="codes")}
        return keras.Model(inputs["codes"], _decoded(inputs["codes"], config)["image"], name=name)
    inputs, x = image_inputs(config.pixels, 0, tower="encoder.")
    logits = dvae.encoder(x, config.codes, config.channels_width, config.blocks)
    if task == "encode":
        return keras.Model(alone(inputs), likeliest(logits), name=name)
    codes = GumbelSample(config.temperature, name="neck_sample")(logits)
    return keras.Model(alone(inputs), {**_decoded(codes, config), "logits": logits}, name=name)


def _decoded(codes, config: Config) -> dict[str, Any]:
    """The image that codes stand for, and the distribution of each pixel around it."""
    channels = config.pixels.channels
    sizes = (config.codes, config.code_width, config.channels_width, config.blocks)
    statistics = dvae.decoder(codes, *sizes, channels=channels)
    shares = layers.Activation("sigmoid", dtype="float32", name="decoder.head_sigmoid")(statistics[..., :channels])
    pixels = replace(config.pixels, **LEVELS)
    return {"image": PixelOutput(pixels, clipped=True, name="decoder.head_pixels")(shares), "statistics": statistics}


def _transformer(config: Config, name: str) -> keras.Model:
    layout = config.layout
    inputs = text_inputs()
    table = layers.Embedding(
        layout.vocabulary,
        config.width,
        embeddings_initializer=keras.initializers.RandomNormal(0.02),
        name="stem_tokens",
    )
    x = TextThenImagePositions(layout, name="stem_positions")(table(inputs["token_ids"]))
    for block in range(config.depth):
        x = TextThenImageBlock(
            config.heads,
            4 * config.width,
            layout=layout,
            attends=config.attention[block % len(config.attention)],
            shift=config.shift,
            layer_scale=_layer_scale(block + 1),
            gated=True,
            qkv_bias=False,
            head_width=config.head_width,
            epsilon=config.epsilon,
            dropout=config.dropout,
            name=f"block{block}",
        )(x, padding_mask=inputs["padding_mask"])
    x = layers.LayerNormalization(epsilon=config.epsilon, name="neck_norm")(x)
    x = layers.Dense(layout.vocabulary, dtype="float32", name="head_vocabulary")(x)
    return keras.Model(inputs, OwnLogits(layout, name="head_own")(x), name=name)


def _layer_scale(block: int) -> float:
    """What the factors of a block's branches begin with: smaller in deep networks (https://arxiv.org/abs/2103.17239)."""
    return 0.1 if block <= 18 else 1e-5 if block <= 24 else 1e-6


def layout_of(model: keras.Model) -> TextThenImage:
    """How a model with task="text_to_image" counts the tokens of texts and images.

    Raises:
        ValueError: it is another model.
    """
    for layer in model.layers:
        if isinstance(layer, OwnLogits):
            return layer.layout
    raise ValueError(f"{model.name!r} writes no images after texts. Build it with task='text_to_image'.")


def _from_hub(config: Mapping[str, Any], shapes: Mapping[str, Shape]) -> HubMatch | None:
    found = published.read(config, shapes)
    if found is None:
        return None
    grid = found.fields.pop("grid", None)
    sizes = {} if grid is None else {"size": tuple(side << dvae.HALVINGS for side in grid)}
    changed = Config(**found.fields)
    return HubMatch("dalle_base", replace(changed, pixels=replace(changed.pixels, **sizes)), found.task)


_SMALL: dict[str, Any] = {"code_width": 64, "channels_width": 32, "blocks": 1, "words": 4096}

FAMILY = Family(
    paper="https://arxiv.org/abs/2102.12092",
    build=build,
    tasks=("text_to_image", "reconstruct", "encode", "decode"),
    variants={
        "dalle_base": Config(),
        "dalle_small": Config(
            **_SMALL,
            codes=1024,
            text_length=64,
            width=256,
            depth=6,
            heads=8,
            head_width=32,
            attention=("full", "axial_row", "axial_col"),
            shift=True,
            pixels=Pixels(size=64, crop=1.0, **LEVELS),
        ),
        "dalle_tiny": Config(
            **_SMALL,
            codes=128,
            text_length=16,
            width=96,
            depth=4,
            heads=4,
            head_width=24,
            shift=True,
            pixels=Pixels(size=32, crop=1.0, **LEVELS),
        ),
    },
    conventions=("pixels", "attention", "shift", "epsilon"),
    dialects=published.DIALECTS,
    from_hub=_from_hub,
)
