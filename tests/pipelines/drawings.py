"""A tiny discrete autoencoder as the result of a run, and runs that learn to write its codes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import keras
import numpy as np

import zoo
from pipelines import bundle
from pipelines.run import Drawing, Images, Pairs, Phase, Run
from tests.pipelines import shapes

SIZES: dict[str, Any] = {"code_width": 6, "channels_width": 8, "blocks": 1}
SMALL: dict[str, Any] = {**SIZES, "width": 16, "depth": 1, "heads": 2, "head_width": 8, "text_length": 10}


def autoencoder(folder: Path, *, codes: int = 16, size: int = 16, seed: int = 0) -> Path:
    """The folder of a finished run with random weights, under which images have many codes."""
    keras.utils.set_random_seed(seed)
    model = zoo.create("dalle_tiny", task="reconstruct", codes=codes, size=size, **SIZES)
    random = np.random.default_rng(seed)
    for weight in model.weights:
        weight.assign(random.standard_normal(weight.shape) * 0.3)
    folder.mkdir(parents=True)
    bundle.save_model(model, folder / "model.keras")
    run = Run("dalle_tiny", Images(str(folder)), (Phase(1, 1e-3),), folder, task="reconstruct")
    (folder / "run.json").write_text(run.to_json())
    info = {"format": bundle.FORMAT, "task": "reconstruct", "classes": [], "files": {}}
    (folder / "bundle.json").write_text(json.dumps(info))
    return folder


def prepare(folder: Path) -> Path:
    """A folder with captions.csv, its images, and an autoencoder's run in `dvae`."""
    shapes.write(folder / "data", count=24, size=16)
    autoencoder(folder / "dvae")
    return folder


def run(folder: Path, name: str, *, drawing: dict[str, Any] | None = None, **options: Any) -> Run:
    """A run of two epochs on what `prepare` wrote."""
    data = Pairs(str(folder / "data"), augment="none", vocabulary=100)
    chosen: dict[str, Any] = {"batch": 8, "overrides": SMALL, "task": "text_to_image", **options}
    phases = (Phase(2, 1e-2, unfreeze="all"),)
    return Run(
        "dalle_tiny", data, phases, folder / name, drawing=Drawing(str(folder / "dvae"), **drawing or {}), **chosen
    )
