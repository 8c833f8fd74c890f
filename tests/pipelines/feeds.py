"""A small feed of every kind, by name; as a program for child processes, what devices are given of them.

A failed collective poisons its process, so several devices are tested in processes of their own.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import tensorflow as tf

import zoo
from pipelines import images, objectives, series, sources, tables, texts
from pipelines.data import Images, Series, Tables, Texts
from pipelines.feed import Feed
from pipelines.sources import Examples
from tests.pipelines.people import people, write
from tests.pipelines.pictures import pattern
from zoo.core.family import Pixels

SEED = 3
BATCH = 6  # divides over two devices
_TINY = {"width": 8, "depth": 1, "heads": 1, "mlp_width": 8}
_PIXELS = Pixels(size=16)


def image_examples(count: int = 32) -> Examples:
    return Examples(np.stack([pattern(20, 30, phase=index / 3) for index in range(count)]), np.arange(count) % 3)


def _images(folder: Path, **options) -> Feed:
    return images.training_set(image_examples(), _PIXELS, batch=BATCH, seed=SEED, **options)


def _mixed(folder: Path) -> Feed:
    described = Images("unused", mixup=0.4, cutmix=1.0)
    examples = image_examples()
    data = images.ImageDataset(sources.ImageData(("a", "b", "c"), examples, examples, examples, ()), described)
    model = zoo.create("lenet5", classes=3, pixels=dataclasses.replace(_PIXELS, size=32))
    return data.training_set(model, batch=BATCH, seed=SEED)


def _tables(folder: Path) -> Feed:
    data = tables.load(Tables(write(folder / "people.csv", people(44)), target="came"), seed=0)
    return data.training_set(zoo.create("mlp", columns=data.columns, widths=(), classes=2), batch=BATCH, seed=SEED)


def _series(folder: Path) -> Feed:
    rows = [["a", "b"], *([step, step * step] for step in range(60))]
    data = series.load(Series(write(folder / "series.csv", rows), ("a",), ("a", "b"), window=4, horizon=2))
    model = zoo.create("mlp", task="forecast", series=data.windows, widths=())
    return data.training_set(model, batch=BATCH, seed=SEED)


def _texts(folder: Path, task: str) -> Feed:
    random = np.random.default_rng(0)
    rows = [
        {"text": " ".join(map(str, random.integers(0, 50, random.integers(2, 30)))), "label": "ab"[index % 2]}
        for index in range(46)
    ]
    path = folder / f"{task}.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    described = Texts(str(path), vocabulary=200, split=(1, 0, 0), label_column="label" if task == "classify" else None)
    data = texts.load(described, task=task, model="bert_tiny", weights=None, seed=0)
    classes = {"classes": 2} if task == "classify" else {}
    model = zoo.create("bert_tiny", task=task, **{**data.options(), **_TINY, **classes})
    feed = data.training_set(model, batch=BATCH, seed=SEED)
    return objectives.find(task, data).complete(feed, seed=SEED, training=True)


FEEDS: dict[str, Callable[[Path], Feed]] = {
    "images": _images,
    "images read each time": lambda folder: _images(folder, augment="standard", cache_budget=0),
    "images as they are": lambda folder: _images(folder, augment="none"),
    "balanced images": lambda folder: _images(folder, balance=True),
    "mixed images": _mixed,
    "tables": _tables,
    "series": _series,
    "texts": lambda folder: _texts(folder, "classify"),
    "masked texts": lambda folder: _texts(folder, "masked_lm"),
}
SHARED = ("images", "mixed images", "tables", "series", "masked texts")  # that devices are given


def arrays(batch) -> list[np.ndarray]:
    return [np.asarray(tensor) for tensor in tf.nest.flatten(batch)]


def batches(feed: Feed, first: int, end: int) -> list[list[np.ndarray]]:
    """Those from one number to before another, each as a list of arrays."""
    return [arrays(batch) for batch in feed.start(first).take(end - first)]


def main(folder: Path) -> None:
    tf.config.set_logical_device_configuration(
        tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
    )
    tf.config.experimental.enable_op_determinism()
    strategy = tf.distribute.MirroredStrategy()
    found = {}
    for name in SHARED:
        feed = FEEDS[name](folder)
        shared = iter(strategy.experimental_distribute_dataset(feed.start(feed.steps - 1)))
        for number in range(3):
            parts = [strategy.experimental_local_results(tensor) for tensor in tf.nest.flatten(next(shared))]
            assert all(len(values) == 2 for values in parts)
            for place, values in enumerate(parts):
                assert len({len(value) for value in values}) == 1
                found[f"{name}/{number}/{place}"] = np.concatenate(values)
    np.savez(folder / "devices.npz", **found)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
