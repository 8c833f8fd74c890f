"""Answers for a SavedModel in a process of its own, which has never seen the Keras model.

python -m pipelines.saved_model_answers DIRECTORY
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from pipelines.exported import Arrays, in_batches, open_saved_model
from pipelines.exported_steps import Writer
from pipelines.latency import THREADS, median_milliseconds

ASKED, ANSWERED = "asked", "answered"
WRITE, WRITTEN = "write", "written"  # not a signature but texts to write, and the name of their tokens


def ask(directory: Path, name: str, samples: Arrays) -> None:
    """Puts samples where the program finds them; `name` is a signature, with anything after a dot."""
    (directory / ASKED).mkdir(exist_ok=True)
    np.savez(directory / ASKED / f"{name}.npz", allow_pickle=False, **samples)


def answered(directory: Path, name: str) -> dict[str, np.ndarray]:
    """What the program answered to `ask`, and the "milliseconds" of one sample."""
    with np.load(directory / ANSWERED / f"{name}.npz", allow_pickle=False) as archive:
        return dict(archive)


def _answer(directory: Path) -> None:
    """Runs `directory`/saved_model on all samples that were put there. Images for serve_jpeg it encodes as PNG."""
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(THREADS)
    call = open_saved_model(directory / "saved_model")
    (directory / ANSWERED).mkdir()
    for path in sorted((directory / ASKED).iterdir()):
        signature = path.name.split(".")[0]
        with np.load(path, allow_pickle=False) as archive:
            samples = dict(archive)
        if signature == WRITE:
            writer = Writer.of_saved_model(call)
            np.savez(directory / ANSWERED / path.name, logits=writer.forced(samples.pop(WRITTEN), samples))
            continue
        if signature == "serve_jpeg":
            samples = {
                name: np.array([tf.io.encode_png(image).numpy() for image in images], object)
                for name, images in samples.items()
            }
        answers = in_batches(call, signature, samples)
        texts = {
            name: np.char.decode(values.astype(bytes)) for name, values in answers.items() if values.dtype == object
        }
        one = {name: values[:1] for name, values in samples.items()}
        milliseconds = median_milliseconds(lambda one=one, signature=signature: call(signature, one))
        np.savez(directory / ANSWERED / path.name, **{**answers, **texts, "milliseconds": milliseconds})


if __name__ == "__main__":
    _answer(Path(sys.argv[1]))
