"""Sets of tensorflow-datasets: encoded images, which decoding.decode reads as it reads files, and columns of texts."""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from pipelines.readers import PART_OF, Labelled, objects
from pipelines.text_files import Table


def parts(
    source: str, *, data_dir: str | None, given: Mapping[str, str], read: Callable[[Any, str], Any] | None = None
) -> dict[str, Callable[[], Any]]:
    """The parts of "tfds:NAME", each with how to read it: its own splits, or the `given` split expressions.

    `read` is given the builder and a split; images are read unless it is given.

    The set is downloaded if it is not in `data_dir` yet, unless HF_HUB_OFFLINE=1 forbids connections.

    Raises:
        FileNotFoundError: the set is not there and cannot be fetched.
        ValueError: the name is unknown, or there is no split to train on.
    """
    import tensorflow_datasets as tfds

    name = source.removeprefix("tfds:")
    try:
        builder = tfds.builder(name, data_dir=data_dir, try_gcs=False)
    except (ValueError, AssertionError) as error:  # of the name; of the version
        close = difflib.get_close_matches(name, tfds.list_builders(with_community_datasets=False))
        raise ValueError(
            f"tensorflow-datasets has no {name!r}: {str(error).splitlines()[0]} "
            f"Near it: {close}. All: tfds.list_builders()."
        ) from error
    _prepare(builder)
    own = {PART_OF[split]: split for split in builder.info.splits if split in PART_OF}
    wanted = {**own, **given}
    if "train" not in wanted:
        raise ValueError(
            f"{source!r} has no split named train, but {list(builder.info.splits)}. "
            "Say which to train on: train='test[:80%]'."
        )
    return {part: partial(read or read_images, builder, split) for part, split in wanted.items()}


def read_columns(builder: Any, split: str, *, columns: Sequence[str]) -> Table:
    """The named columns of a split, as texts and lists of texts; "answers/text" is a column inside another.

    Raises:
        ValueError: there is no such split or column.
    """
    features = builder.info.features
    known = tuple(features)
    inside = {name: feature for name in columns if (feature := _feature(features, name)) is not None}
    rows, places = [], []
    for row in _dataset(builder, split).as_numpy_iterator():
        rows.append({name: _cell(row, name, feature) for name, feature in inside.items()})
        places.append(row["tfds_id"].decode())
    if not rows:
        raise ValueError(f"tfds:{builder.info.full_name}: the split {split!r} is empty.")
    return Table(f"tfds:{builder.info.full_name}", tuple(dict.fromkeys((*inside, *known))), rows, places)


def _feature(features: Any, path: str) -> Any:
    """The feature at "a/b"; None if there is none."""
    for name in path.split("/"):
        inner = getattr(features, "feature", features)
        if not hasattr(inner, "keys") or name not in inner:
            return None
        features = inner[name]
    return features


def _cell(row: Any, path: str, feature: Any) -> Any:
    """A cell as text, or as a list of texts; None for a class that is not told (-1)."""
    for name in path.split("/"):
        row = row[name]
    names = getattr(getattr(feature, "feature", feature), "names", None)

    def text(value: Any) -> str | None:
        if names is not None:
            return names[value] if value >= 0 else None
        return value.decode() if isinstance(value, bytes) else str(value)

    return [text(value) for value in row] if np.ndim(row) else text(row)


def _prepare(builder: Any) -> None:
    if builder.is_prepared():
        return
    where = f"tfds:{builder.info.full_name} is not in {str(builder.data_dir)!r}"
    if os.environ.get("HF_HUB_OFFLINE") == "1":
        raise FileNotFoundError(f"{where}, and HF_HUB_OFFLINE=1 forbids a download. Set Images(data_dir=...).")
    try:
        builder.download_and_prepare()
    except OSError as error:
        raise FileNotFoundError(f"{where} and cannot be downloaded: {error}. Set Images(data_dir=...).") from error


def _dataset(builder: Any, split: str, **options: Any) -> Any:
    """The examples of a split, each with its id."""
    import tensorflow_datasets as tfds

    config = tfds.ReadConfig(add_tfds_id=True, try_autocache=False)
    try:
        return builder.as_dataset(split=split, read_config=config, **options)
    except ValueError as error:
        raise ValueError(
            f"tfds:{builder.info.full_name} has no split {split!r}: {error}. It has {list(builder.info.splits)}."
        ) from error


def read_images(builder: Any, split: str) -> Labelled:
    """The images of a split, encoded as they are stored, with the names of their classes."""
    import tensorflow_datasets as tfds

    image, label = _keys(builder)
    found = _dataset(builder, split, decoders={image: tfds.decode.SkipDecoding()})
    rows = list(found.map(lambda row: (row[image], row[label], row["tfds_id"])).as_numpy_iterator())
    if not rows:
        raise ValueError(f"tfds:{builder.info.full_name}: the split {split!r} is empty.")
    images, labels, names = zip(*rows, strict=True)
    classes = tuple(builder.info.features[label].names)
    return Labelled(
        objects(images),
        np.array(classes, dtype=object)[list(labels)],
        tuple(name.decode() for name in names),
        classes,
    )


def _keys(builder: Any) -> tuple[str, str]:
    """The names of the image and of its label."""
    import tensorflow_datasets as tfds

    features, keys = builder.info.features, builder.info.supervised_keys
    kinds = (tfds.features.Image, tfds.features.ClassLabel)
    if (
        not keys
        or len(keys) != 2
        or not all(isinstance(features[k], kind) for k, kind in zip(keys, kinds, strict=True))
    ):
        raise ValueError(
            f"tfds:{builder.info.full_name} is not a set of images with one class each; it gives {keys}: "
            f"{list(features)}. Write it to folders, one a class, and give those."
        )
    return keys
