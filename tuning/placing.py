"""Where a trial's process computes: on which GPU, and on how many threads."""

from __future__ import annotations

import tensorflow as tf

from tuning.job import Job


def take(job: Job) -> None:
    """Keep to the job's threads and GPU, before TensorFlow computes anything; memory of GPUs is taken as it is needed.

    Of several trials at a time each has one GPU, round and round where there are fewer.
    """
    if job.threads is not None:
        tf.config.threading.set_intra_op_parallelism_threads(job.threads)
        tf.config.threading.set_inter_op_parallelism_threads(job.threads)
    found = tf.config.list_physical_devices("GPU")
    if found and job.device is not None:
        found = [found[job.device % len(found)]]
        tf.config.set_visible_devices(found, "GPU")
    for each in found:
        tf.config.experimental.set_memory_growth(each, True)
