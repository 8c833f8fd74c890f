"""Variational autoencoders: convolutional, conditional, and with a codebook (VQ-VAE).

Papers: https://arxiv.org/abs/1312.6114 (VAE), https://openreview.net/forum?id=Sy2fzU9gl (beta-VAE, the same network
under another objective), NeurIPS 2015 5775 (conditional), https://arxiv.org/abs/1711.00937 (VQ-VAE).

Published weights: none are offered here. No network of the papers was published in a form that can be read without
their own code; `weights=` reads what torch saved of a network laid out as `vae_conv`.

Differs from the papers: two convolutions on each side where the first paper had dense layers; pixels are RGB 0..255,
inside 0..1 by a sigmoid, with its logits as another output for the loss; the encoder takes labels as one more channel
of the image. In inference the latent is the mean, so that the same image gives the same reconstruction.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import keras
from keras import layers

from zoo.core.family import Family, HubMatch, Pixels, Task
from zoo.layers.codebook import VectorQuantizer
from zoo.layers.crop import Crop2D
from zoo.layers.hidden import check_counts
from zoo.layers.latent import NormalSample, alone, halved, image_inputs, label_input, with_labels
from zoo.layers.pixels import PixelOutput
from zoo.weights.dialect import TORCH, Dialect, Rule
from zoo.weights.errors import CheckpointError
from zoo.weights.hub import agree, arguments, whole
from zoo.weights.layouts import Shape

UNIT = Pixels(size=28, crop=1.0, mean=(0.0,) * 3, std=(255.0,) * 3, channels=1)  # 0..1


@dataclass(frozen=True, kw_only=True)
class Config:
    """Sizes of encoder and decoder, and what is between them: a normal distribution, or a codebook."""

    widths: tuple[int, ...] = (16, 32)  # channels after each halving of the image, which the decoder doubles again
    kernel: int = 3  # of the halvings: 3, or 4, which leaves no pattern of a chessboard
    blocks: int = 0  # residual blocks on the smallest map, on each side
    latent: int = 8  # numbers that an image becomes; with a codebook, numbers that each place of the map becomes
    codes: int = 0  # vectors of the codebook; 0: there is none
    decay: float = 0.99  # of the codebook's moving averages; 0: it learns by gradient
    labels: int = 0  # classes of the images; 0: they have none
    pixels: Pixels = UNIT

    def __post_init__(self):
        check_counts(widths=self.widths, latent=self.latent)
        if not self.widths or self.kernel not in (3, 4):
            raise ValueError(f"widths={self.widths!r} must hold at least one, kernel={self.kernel!r} must be 3 or 4.")
        counts = (self.blocks, self.codes, self.labels)
        if any(type(count) is not int or count < 0 for count in counts) or self.codes == 1:
            raise ValueError(
                f"blocks={self.blocks!r}, codes={self.codes!r} and labels={self.labels!r} are 0 (none) or more, "
                "codes at least 2."
            )
        if self.codes and self.labels:
            raise ValueError("A codebook (codes=) and labels= do not go together here: give one of them.")


def build(config: Config, *, task: Task, classes: int, name: str) -> keras.Model:
    """Images (B, H, W, C) in 0..255, latents (B, Z), codes (B, h, w) int32; with labels (B,) a dict of both.

    encode: image -> {"mean", "log_variance"}, (B, Z), or codes; decode: latent or codes -> image; reconstruct: image ->
    {"image", "logits"}, all that the loss needs besides: "mean" and "log_variance", or "codes" and the vectors
    "encoded" and "quantized" (B, h, w, Z).

    Raises:
        ValueError: the size of the image does not halve as often as there are widths.
    """
    grid = halved(config.pixels, len(config.widths), name=name)
    if task == "decode":
        inputs, x = _given(config, grid)
        return keras.Model(alone(inputs), _decoded(x, inputs.get("labels"), config, grid)["image"], name=name)
    inputs, x = image_inputs(config.pixels, config.labels, tower="encoder.")
    found = _encoded(x, config)
    if task == "encode":
        return keras.Model(alone(inputs), found["codes"] if config.codes else found, name=name)
    x = found.pop("passed", None)
    if not config.codes:
        x = NormalSample(name="neck_sample")(found["mean"], found["log_variance"])
    return keras.Model(alone(inputs), {**_decoded(x, inputs.get("labels"), config, grid), **found}, name=name)


def _encoded(x, config: Config) -> dict[str, Any]:
    """What becomes of an image: the parameters of a distribution, or the nearest codes."""
    tower = "encoder."
    for stage, width in enumerate(config.widths, start=1):
        if config.kernel == 3:  # as torch pads; Keras' "same" would pad below and right alone
            x = layers.ZeroPadding2D(1, name=f"{tower}stage{stage}_pad")(x)
        padding = "valid" if config.kernel == 3 else "same"
        x = layers.Conv2D(width, config.kernel, strides=2, padding=padding, name=f"{tower}stage{stage}_conv")(x)
        x = layers.Activation("relu", name=f"{tower}stage{stage}_act")(x)
    x = _residual_blocks(x, config, tower)
    if config.codes:
        x = layers.Conv2D(config.latent, 1, dtype="float32", name=f"{tower}head_vectors")(x)
        return {"encoded": x, **_quantizer(config)(x)}
    x = layers.Permute((3, 1, 2), name=f"{tower}head_channels_first")(x)  # so that torch's Linear fits as it is
    x = layers.Flatten(name=f"{tower}head_flatten")(x)
    return {
        "mean": layers.Dense(config.latent, dtype="float32", name=f"{tower}head_mean")(x),
        "log_variance": layers.Dense(config.latent, dtype="float32", name=f"{tower}head_log_variance")(x),
    }


def _given(config: Config, grid: tuple[int, int]) -> tuple[dict[str, keras.KerasTensor], Any]:
    """What the decoder takes by itself, and the latent or the vectors of the codes."""
    if config.codes:
        codes = keras.Input(grid, dtype="int32", name="codes")
        return {"codes": codes}, _quantizer(config)(codes, reverse=True)
    inputs = {"latent": keras.Input((config.latent,), name="latent")}
    return (inputs | {"labels": label_input()} if config.labels else inputs), inputs["latent"]


def _quantizer(config: Config) -> VectorQuantizer:
    return VectorQuantizer(config.codes, config.latent, decay=config.decay, name="neck_codebook")


def _decoded(x, labels, config: Config, grid: tuple[int, int]) -> dict[str, Any]:
    """The image, and the logits of its pixels in 0..1."""
    tower, (height, width), deepest = "decoder.", grid, config.widths[-1]
    if config.codes:
        x = layers.Conv2D(deepest, 3, padding="same", name=f"{tower}stem_conv")(x)
    else:
        if labels is not None:
            x = with_labels(x, labels, config.labels, config.latent, tower=tower)
        x = layers.Dense(deepest * height * width, name=f"{tower}stem_dense")(x)
        x = layers.Activation("relu", name=f"{tower}stem_act")(x)
        x = layers.Reshape((deepest, height, width), name=f"{tower}stem_map")(x)
        x = layers.Permute((2, 3, 1), name=f"{tower}stem_channels_last")(x)
    x = _residual_blocks(x, config, tower)
    widths = (*config.widths[-2::-1], config.pixels.channels)
    for stage, filters in enumerate(widths, start=1):
        x = _doubled(x, filters, config.kernel, name=f"{tower}stage{stage}")
        if stage < len(widths):
            x = layers.Activation("relu", name=f"{tower}stage{stage}_act")(x)
    logits = layers.Activation("linear", dtype="float32", name=f"{tower}head_logits")(x)
    shares = layers.Activation("sigmoid", dtype="float32", name=f"{tower}head_sigmoid")(logits)
    zero_to_one = replace(config.pixels, mean=UNIT.mean, std=UNIT.std)
    return {"image": PixelOutput(zero_to_one, name=f"{tower}head_pixels")(shares), "logits": logits}


def _doubled(x, filters: int, kernel: int, *, name: str):
    """A transposed convolution: (B, h, w, C) -> (B, 2 * h, 2 * w, filters)."""
    if kernel == 4:
        return layers.Conv2DTranspose(filters, 4, strides=2, padding="same", name=f"{name}_deconv")(x)
    x = layers.Conv2DTranspose(filters, 3, strides=2, padding="valid", name=f"{name}_deconv")(x)
    return Crop2D(((1, 0), (1, 0)), name=f"{name}_crop")(x)  # as torch's padding=1, output_padding=1


def _residual_blocks(x, config: Config, tower: str):
    """ReLU, 3x3 convolution to a quarter of the channels, ReLU, 1x1 convolution back, and the sum, a few times."""
    for block in range(config.blocks):
        group, width = f"{tower}block{block}", x.shape[-1]
        y = layers.Activation("relu", name=f"{group}_act1")(x)
        y = layers.Conv2D(max(1, width // 4), 3, padding="same", name=f"{group}_conv1")(y)
        y = layers.Activation("relu", name=f"{group}_act2")(y)
        x = layers.Add(name=f"{group}_sum")([x, layers.Conv2D(width, 1, name=f"{group}_conv2")(y)])
    return layers.Activation("relu", name=f"{tower}neck_act")(x) if config.blocks else x


def _sequence_place(offset: int):
    """The convolution of a stage in a torch.nn.Sequential, in which each is followed by a ReLU."""
    return lambda match: f"{match[1]}.{2 * (int(match[2]) - 1) + offset}"


TORCH_RULES = (
    Rule(r"(encoder)\.stage(\d+)_conv", _sequence_place(0)),
    Rule(r"encoder\.head_mean", "fc_mu"),
    Rule(r"encoder\.head_log_variance", "fc_logvar"),
    Rule(r"decoder\.stem_dense", "fc_decode"),
    Rule(r"(decoder)\.stage(\d+)_deconv", _sequence_place(2)),  # after a ReLU and an Unflatten
)


def _from_hub(config: Mapping[str, Any], shapes: Mapping[str, Shape]) -> HubMatch | None:
    """The arguments that a small convolutional VAE of torch was built with."""
    if config.get("architecture") != "small convolutional VAE":
        return None
    given = config.get("args")
    keys = [key for key in given if re.fullmatch(r"h\d{1,2}", str(key))] if isinstance(given, Mapping) else []
    widths = sorted(keys, key=lambda key: int(key[1:]))
    values = arguments(config, known=("c", "latent", "size", *widths))
    size, channels = whole(values, "size", 1, 4096, default=28), whole(values, "c", 1, 1024, default=1)
    found = tuple(whole(values, key, 1, 65_536) for key in widths)
    if not found or size % 2 ** len(found):
        raise CheckpointError(f"config.json: size={size} does not halve {len(found)} times, or there are no widths h1.")
    latent = whole(values, "latent", 1, 1_000_000)
    flat = (size >> len(found)) ** 2 * found[-1]
    agree("latent", latent, next(iter(shapes.get("fc_mu.weight", ())), None))
    agree("size", flat, next(iter(shapes.get("fc_mu.weight", ())[1:]), None))
    pixels = replace(UNIT, size=size, channels=channels)
    return HubMatch("vae_conv", Config(widths=found, latent=latent, pixels=pixels), "reconstruct")


FAMILY = Family(
    paper="https://arxiv.org/abs/1312.6114",
    build=build,
    tasks=("reconstruct", "encode", "decode"),
    variants={
        "vae_conv": Config(),
        "vae_conditional": Config(labels=10),
        "vae_vq": Config(
            widths=(128, 256), kernel=4, blocks=2, latent=64, codes=512, pixels=replace(UNIT, size=32, channels=3)
        ),
    },
    dialects={"torch": Dialect(TORCH, TORCH_RULES)},
    from_hub=_from_hub,
)
