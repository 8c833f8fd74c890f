"""Small checkpoints, whole and damaged, written byte by byte so that no reader of ours is trusted to make them."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

TINY = {"depths": (1, 1, 1, 1), "width": 8, "size": 32}  # a resnet18 of 79,000 parameters
TIMM_CONFIG = {"architecture": "resnet18", "num_classes": 10, "pretrained_cfg": {"input_size": [3, 32, 32]}}


def torch_resnet(*, classes: int = 10, seed: int = 0) -> dict[str, np.ndarray]:
    """Random tensors with the names and shapes of torchvision, for a resnet18 with the options TINY."""
    random = np.random.default_rng(seed)
    tensors: dict[str, np.ndarray] = {}

    def draw(name: str, *shape: int) -> None:
        tensors[name] = random.normal(size=shape).astype("float32")

    def conv_and_norm(conv: str, norm: str, *shape: int) -> None:
        draw(f"{conv}.weight", *shape)
        for leaf in ("weight", "bias", "running_mean"):
            draw(f"{norm}.{leaf}", shape[0])
        tensors[f"{norm}.running_var"] = random.uniform(0.5, 2, shape[0]).astype("float32")
        tensors[f"{norm}.num_batches_tracked"] = np.array(7, "int64")

    conv_and_norm("conv1", "bn1", 8, 3, 7, 7)
    before = 8
    for stage in range(1, 5):
        width = 8 * 2 ** (stage - 1)
        block = f"layer{stage}.0"
        conv_and_norm(f"{block}.conv1", f"{block}.bn1", width, before, 3, 3)
        conv_and_norm(f"{block}.conv2", f"{block}.bn2", width, width, 3, 3)
        if stage > 1:
            conv_and_norm(f"{block}.downsample.0", f"{block}.downsample.1", width, before, 1, 1)
        before = width
    draw("fc.weight", classes, before)
    draw("fc.bias", classes)
    return tensors


def hub_directory(folder: Path, *, config: object = None, tensors: dict[str, np.ndarray] | None = None) -> Path:
    """A directory as a Hub has it: model.safetensors, and config.json if `config` is given."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file(torch_resnet() if tensors is None else tensors, folder / "model.safetensors")
    if config is not None:
        (folder / "config.json").write_text(json.dumps(config))
    return folder


def safetensors_bytes(header: object, data: bytes = b"") -> bytes:
    """A safetensors file with any header, true or false."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def entry(kind: str, shape: list[int], begin: int, end: int) -> dict[str, object]:
    """The header's entry of one tensor."""
    return {"dtype": kind, "shape": shape, "data_offsets": [begin, end]}
