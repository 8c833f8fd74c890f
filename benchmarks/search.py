"""Wall time of a search, and what a trial costs besides its training, against plain keras-tuner on the same CPU.

    python benchmarks/search.py [--trials 12] [--epochs 5] [--size 96] [--rounds 1] [--only transfer|overhead]

"transfer": a random search for the learning rate and the batch of a new head on the frozen, bundled MobileNetV2, on the
handwritten digits. Ours has trials in processes of their own, validates, keeps checkpoints, shares what the frozen
layers answer between trials, and makes a bundle of the best, the test split evaluated; that is all in the time. "ours,
not cached" is the same with Hardware(cache=False). Theirs is keras_tuner.RandomSearch in one process, on the
same images in memory, with the same layers frozen, for as many trials and epochs.

"overhead": trials of one epoch of a small dense network on the iris table, which takes next to nothing to train: what
is left is what a trial costs. The contenders take turns; each search is a process of its own. Printed are medians of
the wall time and of the processor's time in all its processes, which a busy machine changes less, and their ratios.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
_SUBREAPER = 36  # PR_SET_CHILD_SUBREAPER of Linux
RATES = (1e-4, 1e-1)
BATCHES = (32, 64)


def main() -> None:
    """Race, and print the medians and their ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=12)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--size", type=int, default=96, help="pixels")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--only", choices=list(RACES))
    parser.add_argument("--work", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.work:
        return _work(json.loads(asked.work))
    ctypes.CDLL(None).prctl(_SUBREAPER, 1)  # processes whose parent ends become this one's
    for race in [asked.only] if asked.only else list(RACES):
        job = {"trials": asked.trials, "epochs": asked.epochs, "size": asked.size}
        seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in RACES[race]}
        for _ in range(asked.rounds):
            for name, found in seconds.items():
                found.append(_timed({**job, "race": race, "contender": name}))
        medians = {name: tuple(map(statistics.median, zip(*found, strict=True))) for name, found in seconds.items()}
        _print(race, medians, asked.trials)


def _timed(job: dict[str, Any]) -> tuple[float, float]:
    """The seconds of one search, from the start of its process to its end, and those of processors."""
    settings = {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1", "PYTHONPATH": str(ROOT)}
    begun, used = time.perf_counter(), _processor_seconds()
    command = [sys.executable, __file__, "--work", json.dumps(job)]
    done = subprocess.run(command, env={**os.environ, **settings}, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{job['contender']} failed: {done.stderr[-2000:]}")
    seconds, used = time.perf_counter() - begun, _processor_seconds() - used
    said = done.stdout.strip().splitlines()[-1]
    print(f"  {job['race']}, {job['contender']}: {seconds:.1f} s, {used:.1f} of processors, {said}", flush=True)
    return seconds, used


def _processor_seconds() -> float:
    """Those of all processes that this one has started, and those have, and that have ended."""
    with contextlib.suppress(ChildProcessError):
        while True:
            os.waitpid(-1, 0)  # servers of processes end a moment after who started them
    found = resource.getrusage(resource.RUSAGE_CHILDREN)
    return found.ru_utime + found.ru_stime


def _print(race: str, medians: dict[str, tuple[float, ...]], trials: int) -> None:
    print(f"{race}, {trials} trials:")
    for name, both in medians.items():
        pairs = zip(both, medians["ours"], strict=True)
        told = [f"{one:8.1f} s ({one / trials:6.2f} a trial, {one / ours:5.2f} of ours)" for one, ours in pairs]
        print(f"  {name:18} wall {told[0]}, processors {told[1]}")


def _work(job: dict[str, Any]) -> None:
    """Be a contender, in the process that is timed."""
    with tempfile.TemporaryDirectory() as folder:
        print(RACES[job["race"]][job["contender"]](job, Path(folder)))


def _ours(job: dict[str, Any], folder: Path, *, cache: bool | None = None) -> str:
    from pipelines.recipes import feature_extraction
    from pipelines.run import Hardware, Images, Run
    from tuning.ranges import Choice, Float
    from tuning.space import Space

    run = Run(
        "mobilenet_v2",
        Images("digits", size=job["size"], augment="none"),
        feature_extraction(epochs=job["epochs"]),
        folder / "search",
        weights="bundled",
        hardware=Hardware(cache=cache),
        patience=job["epochs"],
    )
    space = Space({"phases.0.learning_rate": Float(*RATES, sampling="log"), "batch": Choice(*BATCHES)})
    return _searched(run, space, job, folder)


def _ours_small(job: dict[str, Any], folder: Path) -> str:
    from pipelines.run import Phase, Run, Tables
    from tuning.ranges import Float
    from tuning.space import Space

    run = Run("mlp", Tables("iris"), (Phase(1, 1e-3, unfreeze="all"),), folder / "search", overrides={"widths": (16,)})
    return _searched(run, Space({"phases.0.learning_rate": Float(*RATES, sampling="log")}), job, folder)


def _searched(run: Any, space: Any, job: dict[str, Any], folder: Path) -> str:
    """The best score of a search of ours."""
    from tuning.plan import Objective, Plan
    from tuning.search import search

    plan = Plan(run, space, (Objective.of("val_accuracy"),), oracle="random", trials=job["trials"])
    found = search(plan, folder=folder / "search", progress=False)
    assert found.best.result is not None
    return f"best val_accuracy {found.best.result.scores['val_accuracy']:.3f} of {len(found.trials)} trials"


def _theirs(job: dict[str, Any], folder: Path) -> str:
    import keras
    import tensorflow as tf

    import zoo
    from pipelines import datasets
    from pipelines.run import Images, Phase, Run

    run = Run("mobilenet_v2", Images("digits", size=job["size"], augment="none"), (Phase(1, 1e-3),), folder)
    data = datasets.load(run)
    like = zoo.create("mobilenet_v2", classes=10, size=job["size"])
    train, validation = (
        next(iter(data.evaluation_set(like, part, batch=len(data.parts[part])))) for part in ("train", "validation")
    )

    def build(choices: Any) -> keras.Model:
        model = zoo.create("mobilenet_v2", weights="bundled", classes=10, size=job["size"])
        for layer in model.layers:
            layer.trainable = layer.name == "head_logits"
        rate = choices.Float("rate", *RATES, sampling="log")
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(keras.optimizers.Adam(rate), loss=loss, metrics=["accuracy"])
        return model

    def batches(examples: Any, size: int, *, shuffle: bool) -> tf.data.Dataset:
        whole = tf.data.Dataset.from_tensor_slices(examples)
        whole = whole.shuffle(len(examples[0]), seed=0) if shuffle else whole
        return whole.batch(size, drop_remainder=shuffle).prefetch(tf.data.AUTOTUNE)

    def fit(choices: Any, model: keras.Model) -> float:
        size = choices.Choice("batch", list(BATCHES))
        found = model.fit(
            batches(train, size, shuffle=True),
            validation_data=batches(validation, size, shuffle=False),
            epochs=job["epochs"],
            verbose=0,
        )
        return max(found.history["val_accuracy"])

    return _tuned(build, fit, job, folder)


def _theirs_small(job: dict[str, Any], folder: Path) -> str:
    import keras
    import numpy as np
    from sklearn.datasets import load_iris

    inputs, labels = load_iris(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(labels))
    inputs, labels = inputs[order], labels[order]

    def build(choices: Any) -> keras.Model:
        hidden = keras.layers.Dense(16, activation="relu")
        model = keras.Sequential([keras.Input((4,)), hidden, keras.layers.Dense(3)])
        rate = choices.Float("rate", *RATES, sampling="log")
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(keras.optimizers.Adam(rate), loss=loss, metrics=["accuracy"])
        return model

    def fit(choices: Any, model: keras.Model) -> float:
        found = model.fit(
            inputs[:105], labels[:105], batch_size=32, validation_data=(inputs[105:127], labels[105:127]), verbose=0
        )
        return max(found.history["val_accuracy"])

    return _tuned(build, fit, job, folder)


def _tuned(build: Callable[[Any], Any], fit: Callable[[Any, Any], float], job: dict[str, Any], folder: Path) -> str:
    """The best score of a search of keras-tuner's own."""
    import keras_tuner

    class Search(keras_tuner.RandomSearch):
        """As their guide has it for what is searched besides the model: a trial is build, fit and a score."""

        def run_trial(self, trial: Any, *arguments: Any, **options: Any) -> dict[str, float]:
            return {"val_accuracy": fit(trial.hyperparameters, self.hypermodel.build(trial.hyperparameters))}

    tuner = Search(
        build,
        objective=keras_tuner.Objective("val_accuracy", "max"),
        max_trials=job["trials"],
        seed=1,
        directory=folder,
        project_name="search",
    )
    tuner.search()
    best = tuner.oracle.get_best_trials(1)[0]
    return f"best val_accuracy {best.score:.3f} of {len(tuner.oracle.trials)} trials"


RACES: dict[str, dict[str, Callable[[dict[str, Any], Path], str]]] = {
    "transfer": {
        "ours": _ours,
        "keras-tuner": _theirs,
        "ours, not cached": lambda job, folder: _ours(job, folder, cache=False),
    },
    "overhead": {"ours": _ours_small, "keras-tuner": _theirs_small},
}

if __name__ == "__main__":
    main()
