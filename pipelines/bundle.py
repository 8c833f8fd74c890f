"""The result of a run as a directory: model, classes, scores, history, and a card that explains them."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import importlib
import json
import pkgutil
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

import zoo.layers
from pipelines import card, objectives
from pipelines.checkpoints import LOCK
from pipelines.datasets import Dataset, ValueDataset
from pipelines.files import replacing, write_text
from pipelines.monitor import History
from pipelines.objectives import Scores
from pipelines.run import Run
from zoo.core.family import Task

FORMAT = 2
READABLE = (1, 2)  # 1 holds image classifiers only
OF_SEARCH = ("job.json", "log.txt")  # in a run's folder: what a search asks for there, and what its process says


@dataclass(frozen=True)
class Bundle:
    """A directory with a trained model; `classes` is empty where it tells none apart. `info` is all of bundle.json."""

    path: Path
    classes: tuple[str, ...]
    run: Run
    info: dict[str, Any]

    def load_model(self) -> keras.Model:
        """The trained Keras model."""
        return load_model(self.path / "model.keras")

    @property
    def task(self) -> Task:
        """What the model does."""
        return self.info.get("task", "classify")

    def predict(self, inputs: Sequence[str | Path], *, top: int = 3, threshold: float = 0.5) -> list[Any]:
        """What the model says of images or texts, for each: `zoo predict` in Python.

        The `top` classes with their probabilities, best first; of several labels those with a probability of at least
        `threshold`; of numbers a dict of them by name, in their own units. Texts: as `best` of a TextPredictor.

        Raises:
            FileNotFoundError: an image is not there.
            ValueError: an image cannot be decoded, or the model is for neither images nor texts.
        """
        from pipelines.predict import ImagePredictor, Predictor

        predictor = Predictor.open(self.path)
        if isinstance(predictor, ImagePredictor) and predictor.task == "multi_label":
            return predictor.labels(inputs, threshold=threshold)
        if isinstance(predictor, ImagePredictor) and predictor.task == "regress":
            return [dict(zip(predictor.targets, row, strict=True)) for row in predictor.values(inputs).tolist()]
        return predictor.best(inputs, top=top)

    @property
    def scores(self) -> Scores | None:
        """On the test split; None where the run had none."""
        path = self.path / "evaluation.json"
        return objectives.read_scores(path.read_text(encoding="utf-8")) if path.is_file() else None


def check_room(out: Path, *, overwrite: bool) -> None:
    """Refuse to write a run's result where something else is.

    Raises:
        FileExistsError: something is there already, and `overwrite` is not set, or it is no result of a run.
    """
    if not out.exists() or (out.is_dir() and all(map(_is_trace, out.iterdir()))):
        return
    if not (out / "run.json").is_file():
        raise FileExistsError(f"'{out}' holds something that is no result of a run. Choose another --out.")
    if not overwrite:
        raise FileExistsError(f"'{out}' holds the result of a run already. Choose another --out, or --overwrite it.")


def _is_trace(path: Path) -> bool:
    """Whether it is left of a run that died before it began."""
    if path.name == "checkpoints" and path.is_dir():
        return {each.name for each in path.iterdir()} <= {LOCK}
    return path.name in OF_SEARCH or (path.name.startswith(".") and ".partial." in path.name)


def check_writable(out: Path) -> None:
    """Refuse a place that cannot be written to, before anything is computed for it; nothing stays there.

    Raises:
        OSError: a folder cannot be made there, or nothing can be written into it.
    """
    made = [path for path in (out, *out.parents) if not path.exists()]
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=out, prefix=".", suffix=".partial.trial"):
            pass
    except OSError as error:
        raise OSError(f"'{out}' cannot be written to: {error.strerror or error}. Choose another --out.") from error
    finally:
        for path in made:
            with contextlib.suppress(OSError):
                path.rmdir()


def prepare(run: Run, data: Dataset) -> None:
    """Clear the place for a run's result, and write down what is run, and what belongs to its model.

    The lock on its checkpoints stays: the process that clears the place holds it. There is a run.json all the time.
    """
    for path in (*run.out.glob("checkpoints/*"), *run.out.iterdir()) if run.out.exists() else ():
        if path.is_dir() and path.name != "checkpoints":
            shutil.rmtree(path)
        elif not path.is_dir() and path.name not in (LOCK, "run.json", *OF_SEARCH):
            path.unlink()
    write_text(run.out / "run.json", run.to_json())
    for name, text in data.files().items():
        write_text(run.out / name, text)


def save(
    model: keras.Model,
    run: Run,
    data: Dataset,
    *,
    task: Task,
    history: History,
    scores: Scores | None,
    devices: str,
    files: Sequence[str] = (),
    teacher: Mapping[str, Any] | None = None,
) -> Bundle:
    """Write the result of a run into `run.out`; bundle.json comes last, so that what has one is whole.

    `files` lie there already, and belong to the model.
    """
    out = run.out
    save_model(model, out / "model.keras")
    if data.classes:
        write_text(out / "labels.txt", "".join(f"{name}\n" for name in data.classes))
    texts = data.files()
    for name, text in texts.items():
        write_text(out / name, text)
    write_text(out / "history.csv", history.to_csv())
    if scores:
        write_text(out / "evaluation.json", scores.to_json())
        scores.draw(out, run.data.unit)
    info = {
        "format": FORMAT,
        "task": task,
        "classes": list(data.classes),
        "targets": list(data.targets) if task in ("regress", "forecast") and isinstance(data, ValueDataset) else [],
        run.data.unit: {part: len(examples) for part, examples in data.parts.items()},
        "skipped": list(data.skipped),
        "files": {name: _digest(out / name) for name in (*texts, *files)},
        "best": dataclasses.asdict(history.best) if history.best else None,
        "notes": list(history.notes),
        "hardware": devices,
        "keras": keras.version(),
        **({"teacher": teacher} if teacher else {}),
    }
    write_text(out / "bundle.json", json.dumps(info, indent=2) + "\n")
    return complete(out)


def complete(out: Path) -> Bundle:
    """Write the card of a bundle, and remove what only its training needed; also where a process died at that."""
    card.write(out)
    (out / "best.weights.h5").unlink(missing_ok=True)  # model.keras holds the same
    for name in ("features", "checkpoints"):  # the latter says that this was not done yet
        shutil.rmtree(out / name, ignore_errors=True)
    return load(out)


def load(path: str | Path) -> Bundle:
    """The bundle in a directory.

    Raises:
        FileNotFoundError: there is no whole bundle.
        ValueError: it was written by a later version, or a file that belongs to the model was changed.
    """
    path = Path(path)
    if not (path / "bundle.json").is_file():
        unfinished = " A run began here and did not finish." if (path / "run.json").is_file() else ""
        raise FileNotFoundError(f"'{path}' is no bundle: there is no bundle.json.{unfinished} zoo fit makes bundles.")
    info = json.loads((path / "bundle.json").read_text(encoding="utf-8"))
    if info.get("format") not in READABLE:
        known = " and ".join(map(str, READABLE))
        raise ValueError(f"'{path}' is a bundle of format {info.get('format')!r}; this version reads {known}.")
    _check_files(path, info.get("files", {}))
    run = Run.from_json((path / "run.json").read_text(encoding="utf-8"))
    return Bundle(path, tuple(info["classes"]), run, info)


def _check_files(path: Path, digests: dict[str, str]) -> None:
    for name, digest in digests.items():
        if Path(name).name != name or not (path / name).is_file():
            raise FileNotFoundError(f"'{path}' is no whole bundle: its model needs {name!r}, which is not there.")
        if _digest(path / name) != digest:
            raise ValueError(f"'{path / name}' is not the file that the model was trained with. Restore it.")


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def save_model(model: keras.Model, path: Path) -> None:
    """Write a model without its training state, read it back, and compare every weight.

    Raises:
        OSError: what was written is not what was to be written.
    """
    plain = twin(model)
    with replacing(path) as temporary:
        plain.save(temporary)
        read = load_model(temporary).get_weights()
        if not all(np.array_equal(a, b) for a, b in zip(read, plain.get_weights(), strict=True)):
            raise OSError(f"'{path}' was written, but reads back with other weights; is the disk in order?")


def twin(model: keras.Model) -> keras.Model:
    """The same model without its training state, and without the devices that it was trained on."""
    found = type(model).from_config(model.get_config())
    found.set_weights(model.get_weights())
    return found


def load_model(path: Path) -> keras.Model:
    """A Keras model saved by `save_model`, with the layers of the zoo known to Keras."""
    for module in pkgutil.iter_modules(zoo.layers.__path__):
        importlib.import_module(f"zoo.layers.{module.name}")
    return keras.saving.load_model(path, compile=False)
