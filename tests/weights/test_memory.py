"""What loading costs in memory: little more than the weights, and nothing for what is refused."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap

import numpy as np
from safetensors.numpy import save_file

from tests.weights.files import TIMM_CONFIG, hub_directory, torch_resnet


def printed_by(code: str) -> int:
    """The one whole number that a process of its own prints."""
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, env=os.environ)
    assert done.stdout.strip().isdigit(), done.stdout + done.stderr
    return int(done.stdout)


ATTACKS = {
    "classes in config.json": (TIMM_CONFIG | {"num_classes": 10**9}, None),
    "classes in the bias": (None, {"fc.bias": np.zeros(900_000, "float32")}),
    "a head of its own width": (None, {"fc.bias": np.zeros(900_000, "f"), "fc.weight": np.zeros((900_000, 1), "f")}),
    "size": (TIMM_CONFIG | {"pretrained_cfg": {"input_size": [3, 10**6, 10**6]}}, None),
}


def test_absurd_numbers_are_refused_without_memory(tmp_path):
    """In a process of its own, for its peak of memory: a resnet18 head of 900,000 classes would be 1.8 GB."""
    for name, (config, tensors) in ATTACKS.items():
        hub_directory(
            tmp_path / name, config=config, tensors=None if tensors is None else {**torch_resnet(), **tensors}
        )
    code = f"""
        import os, resource
        import zoo
        from zoo.weights import CheckpointError
        zoo.create("resnet18", width=8, depths=(1, 1, 1, 1), size=32)
        peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        before = peak()
        for name in {list(ATTACKS)!r}:
            try:
                zoo.create("resnet18", weights=os.path.join({str(tmp_path)!r}, name), size=32)
                print(name, "was loaded")
            except CheckpointError:
                pass
        zoo.create("resnet18", width=8, depths=(1, 1, 1, 1), size=32)  # Keras would give values to what it still holds
        print((peak() - before) // 1024)
    """
    assert printed_by(code) < 150  # MB, most of it the graphs without variables


WIDE = {"width": 1024, "depth": 6, "heads": 8, "mlp_width": 4096, "size": 32}  # a ViT of 78 million parameters


def wide_vit() -> dict[str, np.ndarray]:
    """Zeros with the names and shapes that timm has for a vit_small16 with the options WIDE."""
    width, mlp = WIDE["width"], WIDE["mlp_width"]
    shapes = {"cls_token": (1, 1, width), "pos_embed": (1, 5, width)}
    linear = {"attn.qkv": (3 * width, width), "attn.proj": (width, width)}
    linear |= {"mlp.fc1": (mlp, width), "mlp.fc2": (width, mlp)}
    modules = {"patch_embed.proj": (width, 3, 16, 16), "norm": (width,), "head": (1000, width)}
    for block in range(WIDE["depth"]):
        modules |= {f"blocks.{block}.{name}": shape for name, shape in linear.items()}
        modules |= {f"blocks.{block}.{name}": (width,) for name in ("norm1", "norm2")}
    for module, shape in modules.items():
        shapes |= {f"{module}.weight": shape, f"{module}.bias": shape[:1]}
    return {name: np.zeros(shape, "float32") for name, shape in shapes.items()}


def test_loading_takes_less_than_twice_the_memory_of_the_weights(tmp_path):
    tensors = wide_vit()
    save_file(tensors, tmp_path / "model.safetensors")
    code = f"""
        import resource
        import zoo
        zoo.create("vit_small16", width=8, depth=1, heads=1, mlp_width=8, size=16)
        peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        before = peak()
        zoo.create("vit_small16", weights={str(tmp_path)!r}, **{WIDE!r})
        print((peak() - before) // 1024)
    """
    weights = sum(array.nbytes for array in tensors.values()) // 2**20
    assert weights == 295  # MB
    assert printed_by(code) < 2 * weights
