"""Decoded images that are kept in memory, where they fit: read once, for all epochs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import tensorflow as tf

from pipelines.batches import finished
from pipelines.feed import as_written

_LONG_SIDE = 1.5  # of the short side, in the photos that a cache is sized for
_AT_ONCE = 256  # images that are read before a signal can end the reading
_MEMORY_UNKNOWN = 4 * 2**30  # bytes; what systems that do not tell are taken to have free


def keep(
    count: int, read: Callable[[tf.Tensor], tf.Tensor], size: tuple[int, int], budget: int | None
) -> tf.Tensor | None:
    """All images in one list of tensors, or nothing if they do not fit in the budget.

    A list of tensors is a value, to any function of tf.data. With a variable or a table in its stead, tf.data would
    compute one image at a time wherever operations are to be deterministic.
    """
    budget = free_memory() // 4 if budget is None else budget
    if not fits(count, size, budget):
        return None
    with tf.device("CPU:0"):
        order = tf.data.Dataset.range(count)
        images = iter(finished(order.map(as_written(read), num_parallel_calls=tf.data.AUTOTUNE)))

        @tf.function(input_signature=[tf.TensorSpec((), tf.int32)])
        def following(more: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            found = tf.TensorArray(tf.uint8, size=more, element_shape=(None, None, 3), infer_shape=False)
            taken = tf.constant(0, tf.int64)
            for place in tf.range(more):
                image = next(images)
                found, taken = found.write(place, image), taken + tf.size(image, tf.int64)
            return found.flow, taken

        whole, left = None, budget
        for first in range(0, count, _AT_ONCE):
            more, taken = following(min(_AT_ONCE, count - first))
            left -= int(taken)
            if left < 0:  # they are longer than was to be expected
                return None
            whole = (
                more
                if whole is None
                else tf.raw_ops.TensorListConcatLists(input_a=whole, input_b=more, element_dtype=tf.uint8)
            )
        return whole


def take(images: tf.Tensor, index: tf.Tensor) -> tf.Tensor:
    """One of the images that are kept, (h, w, 3) uint8."""
    return tf.raw_ops.TensorListGetItem(
        input_handle=images, index=tf.cast(index, tf.int32), element_shape=[-1, -1, 3], element_dtype=tf.uint8
    )


def fits(count: int, size: tuple[int, int], budget: int | None) -> bool:
    """Whether `count` uint8 images that cover `size` fit in the budget, or in a quarter of the free memory."""
    needed = count * size[0] * size[1] * 3 * _LONG_SIDE
    return needed <= (free_memory() // 4 if budget is None else budget)


def free_memory() -> int:
    """Bytes that can be had without swapping; only Linux tells without a further package."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return _MEMORY_UNKNOWN
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
