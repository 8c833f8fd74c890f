"""What is wrong with a data set's files, found before training starts."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from pipelines import decoding
from pipelines.feed import as_written


def unreadable(images: np.ndarray) -> list[int]:
    """Indexes of the images that cannot be decoded; every one is decoded once, in parallel.

    Takes what `Examples.images` holds: paths or encoded bytes. Arrays are always readable.
    """
    if images.dtype != object or not len(images):
        return []
    pixels = decoding.decoder(images)
    readable = (
        tf.data.Dataset.from_tensor_slices(decoding.elements(images))
        .enumerate()
        # The size is returned so that the decoding is not optimized away.
        .map(as_written(lambda index, image: (index, tf.size(pixels(image)))), num_parallel_calls=tf.data.AUTOTUNE)
        .ignore_errors(log_warning=False)
    )
    found = {int(index) for index, _ in readable.as_numpy_iterator()}
    return [index for index in range(len(images)) if index not in found]
