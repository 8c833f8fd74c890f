"""Generative adversarial networks: DCGAN, conditional, with a projection discriminator, and the critic of WGAN-GP.

Papers: https://arxiv.org/abs/1511.06434 (DCGAN), 1411.1784 (conditional), 1704.00028 (WGAN-GP), 1802.05637 and
1802.05957 (projection, spectral normalization).

Published weights: none are offered here. The PyTorch tutorial, whose names and layout are read, publishes code alone;
what others publish are pickles, which are not opened, or other networks. So a GAN is trained before it is of use.

Differs from the papers: all variants have DCGAN's convolutions, where those of WGAN-GP and of the projection
discriminator also had residual networks; labels enter every generator as a learned vector behind the latent; the
projection is on the sum of the last map, and the other part of the logit sees all of that map. Discriminators give
logits, and the sigmoid is in the loss; images are RGB 0..255 on both sides, what tanh gives is turned into them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import keras
from keras import layers, ops

from zoo.core.family import Family, HubMatch, Pixels, Task
from zoo.layers.batch_norm import BatchNormalization
from zoo.layers.hidden import check_counts
from zoo.layers.latent import alone, halved, image_inputs, label_input, with_labels
from zoo.layers.pixels import PixelOutput
from zoo.layers.spectral import SpectralConv2D
from zoo.weights.dialect import TORCH, Dialect, Rule
from zoo.weights.errors import CheckpointError
from zoo.weights.hub import agree, arguments, whole
from zoo.weights.layouts import Layout, Shape

Norm = Literal["batch", "layer", "none"]
Labelled = Literal["joined", "projection"]


@dataclass(frozen=True, kw_only=True)
class Config:
    """Sizes of both networks, what labels do, and how the discriminator is kept in bounds."""

    latent: int = 100  # random numbers that an image is made from
    width: int = 64  # channels next to the image, doubled with each halving of its size
    depth: int = 4  # halvings from the image to the first map
    labels: int = 0  # classes of the images; 0: they have none
    labelled: Labelled = "joined"  # how the discriminator takes labels: as a channel of the image, or by projection
    norm: Norm = "batch"  # in the discriminator; the generator's is batch norm
    spectral: bool = False  # whether kernels of the discriminator are divided by their largest singular value
    bias: bool = False  # of the discriminator's convolutions
    pixels: Pixels = Pixels(size=64, crop=1.0, mean=(127.5,) * 3, std=(127.5,) * 3)

    def __post_init__(self):
        for name, known in (("norm", get_args(Norm)), ("labelled", get_args(Labelled))):
            if getattr(self, name) not in known:
                raise ValueError(f"{name}={getattr(self, name)!r} is unknown here. Known: {', '.join(known)}.")
        check_counts(widths=(self.width,), latent=self.latent, depth=self.depth)
        if type(self.labels) is not int or self.labels < 0 or (self.labelled == "projection" and not self.labels):
            raise ValueError(
                f"labels={self.labels!r} must be the number of classes, or 0 for images without labels; "
                "labelled='projection' needs at least 1."
            )


def build(config: Config, *, task: Task, classes: int, name: str) -> keras.Model:
    """generate: latent (B, Z) -> image (B, H, W, C), 0..255; discriminate: image -> logits (B, 1), real where over 0.

    With labels both take a dict, of "latent" or "image" and of "labels" (B,).

    Raises:
        ValueError: the size of the image does not halve as often as `depth` says.
    """
    first = halved(config.pixels, config.depth, name=name)
    if task == "discriminate":
        return _discriminator(config, first, name)
    return _generator(config, first, name)


def _generator(config: Config, first: tuple[int, int], name: str) -> keras.Model:
    """Transposed convolutions: a map of `first`, then maps twice as large each, the last of them the image."""
    tower = "generator."
    inputs = {"latent": keras.Input((config.latent,), name="latent")}
    x = inputs["latent"]
    if config.labels:
        inputs["labels"] = label_input()
        x = with_labels(x, inputs["labels"], config.labels, config.latent, tower=tower)
    x = layers.Reshape((1, 1, x.shape[-1]), name=f"{tower}stem_place")(x)
    kernel: dict[str, Any] = {"kernel_size": first, "padding": "valid"}
    for stage in range(config.depth):
        group = f"{tower}stage{stage}" if stage else f"{tower}stem"
        filters = config.width * 2 ** (config.depth - 1 - stage)
        x = _transposed(filters, use_bias=False, name=f"{group}_deconv", **kernel)(x)
        x = BatchNormalization(epsilon=1e-5, momentum=0.9, gamma_initializer=_gamma(), name=f"{group}_bn")(x)
        x = layers.Activation("relu", name=f"{group}_act")(x)
        kernel = {"kernel_size": 4, "strides": 2, "padding": "same"}
    x = _transposed(config.pixels.channels, use_bias=False, name=f"{tower}stage{config.depth}_deconv", **kernel)(x)
    x = layers.Activation("tanh", name=f"{tower}head_tanh", dtype="float32")(x)
    image = PixelOutput(_of_tanh(config.pixels), name=f"{tower}head_pixels")(x)
    return keras.Model(alone(inputs), image, name=name)


def _discriminator(config: Config, last: tuple[int, int], name: str) -> keras.Model:
    """Convolutions that halve the image until its map is of size `last`, and one that sees all of that."""
    tower = "discriminator."
    joined = config.labels if config.labelled == "joined" else 0
    inputs, x = image_inputs(config.pixels, joined, tower=tower)
    for stage in range(1, config.depth + 1):
        group, filters = f"{tower}stage{stage}", config.width * 2 ** (stage - 1)
        x = _convolution(config, filters, 4, strides=2, padding="same", name=f"{group}_conv")(x)
        if stage > 1:
            x = _norm(config, x, group)
        x = layers.LeakyReLU(negative_slope=0.2, name=f"{group}_act")(x)
    logit = _convolution(config, 1, last, name=f"{tower}head_logits", dtype="float32")(x)
    logit = layers.Reshape((1,), name=f"{tower}head_flat", dtype="float32")(logit)
    if config.labels and not joined:
        inputs["labels"] = label_input()
        logit = layers.Add(name=f"{tower}head_sum", dtype="float32")([logit, _projection(x, inputs["labels"], config)])
    return keras.Model(alone(inputs), logit, name=name)


def _convolution(config: Config, filters: int, kernel: int | tuple[int, int], *, name: str, **options: Any):
    layer = SpectralConv2D if config.spectral else layers.Conv2D
    return layer(filters, kernel, use_bias=config.bias, kernel_initializer=_kernel(), name=name, **options)


def _transposed(filters: int, *, kernel_size: int | tuple[int, int], **options: Any) -> layers.Layer:
    return layers.Conv2DTranspose(filters, kernel_size, kernel_initializer=_kernel(), **options)


def _norm(config: Config, x, group: str):
    if config.norm == "batch":
        return BatchNormalization(epsilon=1e-5, momentum=0.9, gamma_initializer=_gamma(), name=f"{group}_bn")(x)
    if config.norm == "layer":
        return layers.LayerNormalization(axis=(1, 2, 3), epsilon=1e-5, name=f"{group}_norm")(x)
    return x


def _projection(x, labels, config: Config):
    """How well a label goes with what was seen: the product of its vector and the sum of the map, (B, 1)."""
    vectors = layers.Embedding(config.labels, x.shape[-1], name="discriminator.head_labels", dtype="float32")(labels)
    return layers.Dot(axes=-1, name="discriminator.head_projection", dtype="float32")(
        [vectors, ops.sum(x, axis=(1, 2))]
    )


def _kernel() -> keras.initializers.Initializer:
    """As DCGAN's authors draw kernels."""
    return keras.initializers.RandomNormal(stddev=0.02)


def _gamma() -> keras.initializers.Initializer:
    return keras.initializers.RandomNormal(mean=1.0, stddev=0.02)


def _of_tanh(pixels: Pixels) -> Pixels:
    """What turns -1..1 into 0..255, whatever the discriminator makes of that."""
    return replace(pixels, mean=(127.5,) * 3, std=(127.5,) * 3)


SPECTRAL: Layout = {  # of torch.nn.utils.spectral_norm
    **TORCH,
    ("Conv2D", "kernel"): ("weight_orig", TORCH["Conv2D", "kernel"][1]),
    ("*", "left"): ("weight_u", lambda array, shape: array),
    ("*", "right"): ("weight_v", lambda array, shape: array.reshape(shape[-1], *shape[:-1]).transpose(1, 2, 0)),
}


def _sequence(depth: int, *, normed: bool, layout: Layout = TORCH) -> Dialect:
    """The two torch.nn.Sequential of the PyTorch tutorial, for any number of halvings, with norms or without.

    There every layer counts: a convolution, a norm, an activation.
    """
    length = 3 if normed else 2

    def place(match: re.Match[str]) -> int:
        """Of a stage's convolution in the discriminator, whose first stage has no norm."""
        stage = int(match[1])
        return length * (stage - 1) - (normed and stage > 1)

    return Dialect(
        layout,
        (
            Rule(r"generator\.stem_deconv", "main.0"),
            Rule(r"generator\.stem_bn", "main.1"),
            Rule(r"generator\.stage(\d+)_deconv", lambda match: f"main.{3 * int(match[1])}"),
            Rule(r"generator\.stage(\d+)_bn", lambda match: f"main.{3 * int(match[1]) + 1}"),
            Rule(r"discriminator\.stage(\d+)_conv", lambda match: f"main.{place(match)}"),
            Rule(r"discriminator\.stage(\d+)_bn", lambda match: f"main.{place(match) + 1}"),
            Rule(r"discriminator\.head_logits", f"main.{length * depth - normed}"),
        ),
    )


def _from_hub(config: Mapping[str, Any], shapes: Mapping[str, Shape]) -> HubMatch | None:
    """The arguments of the tutorial's two networks; how often they halve is told by their tensors."""
    networks: dict[str, tuple[Task, str]] = {"generator": ("generate", "ngf"), "discriminator": ("discriminate", "ndf")}
    title = re.fullmatch(r"DCGAN (generator|discriminator) \(PyTorch tutorial\)", str(config.get("architecture")))
    if title is None:
        return None
    task, key = networks[title[1]]
    values = arguments(config, known=("nz", "nc", key))
    named = {name: re.fullmatch(r"main\.(\d{1,3})\.weight", name) for name in shapes}
    places = sorted((int(match[1]), name) for name, match in named.items() if match and len(shapes[name]) == 4)
    kernels = [shapes[name] for _, name in places]
    if len(kernels) < 2:
        raise CheckpointError("config.json speaks of a DCGAN, but there are no convolutions main.N.weight beside it.")
    depth = len(kernels) - 1
    first, image = (kernels[0], kernels[-1]) if task == "generate" else (kernels[-1], kernels[0])
    if depth > 10 or max(first[2:]) << depth > 4096:
        raise CheckpointError(f"The kernels beside config.json are of images over 4096 pixels: {depth} halvings.")
    found = Config(
        latent=whole(values, "nz", 1, 1_000_000, default=100),
        width=whole(values, key, 1, 65_536, default=64),
        depth=depth,
    )
    channels = whole(values, "nc", 1, 1024, default=3)
    agree(key, found.width, image[0])
    agree("nc", channels, image[1])
    if task == "generate":
        agree("nz", found.latent, first[0])
    height, width = (side << depth for side in first[2:])
    pixels = replace(found.pixels, size=height if height == width else (height, width), channels=channels)
    return HubMatch("gan_dcgan", replace(found, pixels=pixels), task)


_DEPTHS = (4, 1, 2, 3, 5, 6, 7)  # the tutorial's first

FAMILY = Family(
    paper="https://arxiv.org/abs/1511.06434",
    build=build,
    tasks=("generate", "discriminate"),
    variants={
        "gan_dcgan": Config(),
        "gan_wgan_gp": Config(norm="none", bias=True),
        "gan_conditional": Config(labels=10),
        "gan_projection": Config(labels=10, labelled="projection", norm="none", spectral=True, bias=True),
    },
    dialects={
        **{f"torch{depth}": _sequence(depth, normed=True) for depth in _DEPTHS},
        **{f"torch{depth}_plain": _sequence(depth, normed=False) for depth in _DEPTHS},
        **{f"torch{depth}_spectral": _sequence(depth, normed=False, layout=SPECTRAL) for depth in _DEPTHS},
    },
    from_hub=_from_hub,
)
