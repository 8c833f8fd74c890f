"""Trains a small captioning model on some logical CPU devices: a program for child processes, and its run.

python -m tests.pipelines.caption_runs DEVICES OUT
"""

import sys
from pathlib import Path

import tensorflow as tf

from pipelines.data import Pairs
from pipelines.run import Hardware, Phase, Run
from tests.pipelines import shapes

TINY = {
    **{"patch": 8, "width": 8, "depth": 1, "heads": 1, "mlp_width": 8, "length": 16},
    **{"text_width": 8, "text_depth": 1, "text_heads": 1, "text_mlp_width": 8},
}


def captioning(out: Path, *, strategy: str = "one", phases: tuple[Phase, ...] = (), **options) -> Run:
    """A run on 12 coloured shapes, whose images and captions are made beside its folder."""
    source = out.parent / f"{out.name}_shapes"
    if not source.exists():
        shapes.write(source, count=12, size=16)
    data = Pairs(
        str(source),
        size=16,
        augment="none",
        prompt="here is",
        vocabulary=120,
        tokenizer="wordpiece",
        split=(0.7, 0.15, 0.15),
    )
    settings = {"overrides": TINY, "batch": 4, "hardware": Hardware(strategy), "task": "caption", **options}
    return Run("blip_base", data, phases or (Phase(2, 3e-3, unfreeze="all"),), out, **settings)


def main(devices: int, out: Path) -> None:
    from pipelines import train

    tf.config.set_logical_device_configuration(
        tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * devices
    )
    train.train(captioning(out, strategy="mirrored" if devices > 1 else "one"), progress=False)


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
