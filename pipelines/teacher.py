"""The teacher of a run: found, and refused where it has learned something else than the student is to learn."""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

import zoo
from pipelines import bundle, tokenizers
from pipelines.bundle import Bundle
from pipelines.data import Images, Series, Tables, Texts
from pipelines.datasets import Dataset, Part, ValueDataset
from pipelines.distillation import TEMPERATURE, Distillation
from pipelines.drawer import Drawer
from pipelines.objectives import Objective
from pipelines.recovery import in_smaller_batches
from pipelines.run import Run
from pipelines.taught import Taught, taught
from pipelines.text_checkpoint import USUAL_LENGTH, limit_of, vocabulary_of
from zoo.core.family import CLASSED
from zoo.core.naming import nearest
from zoo.layers.table import Category, Columns, columns_of
from zoo.weights.locate import locate

logger = logging.getLogger("zoo")
_REMOTE = ("hf://", "https://")


@dataclass(frozen=True, eq=False)
class Teacher:
    """A model that has learned what a student is to learn; `bundle` is the run that it comes from, if it does."""

    model: keras.Model
    bundle: Bundle | None
    tokenizer: tokenizers.Tokenizer | None = None


def learner(model: keras.Model, run: Run, data: Dataset) -> keras.Model:
    """What a run trains: its model, with a teacher beside it where there is one. In the scope of the strategy.

    Raises:
        FileNotFoundError: there is no such teacher.
        ValueError: the teacher has learned something else, or lies where the run is to be written.
    """
    asked = run.distillation
    if asked is None:
        return model
    _check_place(asked, run.out)
    found = _find(asked, run, data)
    _check(found, asked, run, data, model)
    options = {"temperature": asked.temperature, "label_share": asked.label_share}
    return taught(model, found.model, features=asked.features, feature_weight=asked.feature_weight, **options)  # type: ignore[arg-type]  # floats


def identity(model: keras.Model) -> dict[str, str]:
    """What the teacher of a model in training is known by, for its checkpoints; nothing where there is none."""
    if isinstance(model, Drawer):
        return model.identity()
    if not isinstance(model, Taught):
        return {}
    digest = hashlib.sha256()
    for weight in model.lesson.answers.weights:
        digest.update(np.ascontiguousarray(weight).tobytes())
    return {"teacher": digest.hexdigest()}


def report(model: keras.Model, run: Run, data: Dataset, objective: Objective) -> dict[str, Any] | None:
    """Who taught a model, and how alike the answers of the two are on the test split; None where nobody did."""
    if not isinstance(model, Taught) or run.distillation is None:
        return None
    part: Part = "test"

    def likeness(batch: int) -> dict[str, float]:
        batches = data.evaluation_set(model, part, batch=batch)
        return model.likeness(objective.complete(batches, seed=run.seed, training=False))

    folder = run.distillation.folder
    known = bundle.load(folder) if folder else None
    unit = run.data.unit
    found: dict[str, Any] = {
        "name": known.run.model if known else run.distillation.teacher,
        "parameters": model.lesson.answers.count_params(),
        "score": known.scores.summary(unit) if known and known.scores else None,
        "pairs": [f"{pair.student}={pair.teacher}" for pair in model.lesson.pairs],
        "split": _other_split(known, run) if known else None,
        **identity(model),
    }
    if len(data.parts[part]):
        found.update(in_smaller_batches(likeness, run.batch))
    return found


def _check_place(asked: Distillation, out: Path) -> None:
    """Refuse a teacher that the run's own result would take the place of."""
    path = Path(asked.teacher)
    if path.exists() and path.resolve().is_relative_to(out.resolve()):
        raise ValueError(f"The teacher '{path}' lies in '{out}', which the run is to write anew. Choose another --out.")


def _find(asked: Distillation, run: Run, data: Dataset) -> Teacher:
    name, path = asked.teacher, Path(asked.teacher)
    if asked.folder is not None:
        if asked.weights:
            raise ValueError(f"The teacher '{name}' is a run, whose weights are its own; leave out {asked.weights!r}.")
        found = bundle.load(asked.folder)
        model = found.load_model()
        return Teacher(_frozen(model), found, tokenizers.in_folder(path) if isinstance(run.data, Texts) else None)
    folder: Path | None = None
    if name in zoo.variants():
        model = _published(name, asked.weights, run, data)
    elif name.startswith(_REMOTE) or path.exists():
        model, folder = zoo.from_checkpoint(name), locate(name)
    else:
        raise FileNotFoundError(
            f"There is no teacher {name!r}: no folder made by zoo fit, no checkpoint, and no architecture of that "
            f"name.{nearest(name, zoo.variants())}"
        )
    beside = folder if isinstance(run.data, Texts) and folder is not None and folder.is_dir() else None
    return Teacher(_frozen(model), None, tokenizers.in_folder(beside) if beside else None)


def _published(name: str, weights: str | None, run: Run, data: Dataset) -> keras.Model:
    task = run.task or data.task
    if not weights:
        raise ValueError(
            f"The teacher {name!r} would know nothing: give its weights (--teacher-weights, Distillation(weights=...)) "
            "or the folder of a finished run."
        )
    if task not in CLASSED:
        raise ValueError(
            f"The teacher {name!r} with weights {weights!r} may lack the head of task={task!r}. Give a finished run, "
            "or a checkpoint whose config.json says that it was saved for it."
        )
    return zoo.create(name, weights=weights, task=task)


def _frozen(model: keras.Model) -> keras.Model:
    model.trainable = False
    return model


def _check(found: Teacher, asked: Distillation, run: Run, data: Dataset, student: keras.Model) -> None:
    """Refuse a teacher of something else.

    Raises:
        ValueError: the message says what differs.
    """
    task, name = run.task or data.task, asked.teacher
    if task in ("regress", "forecast") and asked.temperature != TEMPERATURE:
        raise ValueError(f"Distillation(temperature={asked.temperature:g}) softens classes; task={task!r} has none.")
    if found.bundle is not None:
        _check_bundle(found.bundle, run, data)
    elif task in CLASSED and found.model.output_shape[-1] != len(data.classes):
        raise ValueError(
            f"The teacher {name!r} tells {found.model.output_shape[-1]} classes apart, and '{run.data.source}' has "
            f"{len(data.classes)}. Train it on these first (zoo fit), and give its folder."
        )
    match run.data:
        case Texts():
            _check_tokens(found, run.data, data, student, name)
        case Tables():
            _check_columns(columns_of(student), columns_of(found.model), name)
        case Series() if found.bundle is not None and isinstance(found.bundle.run.data, Series):
            theirs = found.bundle.run.data
            ours = (run.data.columns or run.data.target, run.data.window, run.data.horizon)
            if ours != (theirs.columns or theirs.target, theirs.window, theirs.horizon):
                raise ValueError(f"The teacher '{name}' was trained with {theirs}, which is not {run.data}.")
        case Images():
            pass  # resized where they differ in size


def _check_bundle(known: Bundle, run: Run, data: Dataset) -> None:
    task, where = run.task or data.task, f"The teacher '{known.path}'"
    if type(known.run.data) is not type(run.data):
        kinds = [type(each.data).__name__.lower() for each in (known.run, run)]
        raise ValueError(f"{where} was trained on {kinds[0]}, and the student is to learn from {kinds[1]}.")
    if known.task != task:
        raise ValueError(f"{where} was trained for task={known.task!r}, and the student is for task={task!r}.")
    if task in CLASSED and known.classes != tuple(data.classes):
        raise ValueError(
            f"{where} tells other classes apart: {_listed(known.classes)}; '{run.data.source}' has "
            f"{_listed(data.classes)}. Train the teacher on these first."
        )
    targets = tuple(data.targets) if isinstance(data, ValueDataset) and task in ("regress", "forecast") else ()
    if tuple(known.info.get("targets", ())) != targets:
        raise ValueError(f"{where} predicts {_listed(known.info['targets'])}, and the student {_listed(targets)}.")
    if other := _other_split(known, run):
        logger.warning("%s %s: the student's scores may be too good.", where, other)


def _other_split(known: Bundle, run: Run) -> str | None:
    """Why the teacher may have seen what the student is tested on; None where it has not, as far as is known."""
    if known.run.data.source != run.data.source:
        return None
    parts = ("train", "validation", "test", "split")
    ours, theirs = ([getattr(each.data, part, None) for part in parts] for each in (run, known.run))
    if ours != theirs:
        return "was trained on another part of the same data"
    undivided = any(value is None for value in ours[1:3]) and not isinstance(run.data, Series)
    if undivided and known.run.seed != run.seed:
        return f"was trained with seed {known.run.seed}, so perhaps on examples that the student is tested on"
    return None


def _check_tokens(found: Teacher, texts: Texts, data: Any, student: keras.Model, name: str) -> None:
    ours, theirs = vocabulary_of(student), vocabulary_of(found.model)
    if found.tokenizer is not None:
        known, own = (each.library.get_vocab(with_added_tokens=True) for each in (found.tokenizer, data.tokenizer))
        if known != own:
            differ = sorted(set(known.items()) ^ set(own.items()))
            raise ValueError(
                f"The teacher '{name}' reads other tokens than the student: {len(differ)} differ, such as "
                f"{differ[0][0]!r}. Give the student the teacher's tokenizer: --tokenizer {name}."
            )
    elif ours != theirs:
        raise ValueError(f"The teacher '{name}' knows {theirs} tokens, the student {ours}. They need the same.")
    length = texts.length or min(USUAL_LENGTH, limit_of(student) or USUAL_LENGTH)
    limit = limit_of(found.model)
    if limit and limit < length:
        raise ValueError(
            f"The teacher '{name}' takes {limit} tokens, and the texts have up to {length}: --length {limit}."
        )


def _check_columns(ours: Columns, theirs: Columns, name: str) -> None:
    """What a row's numbers mean has to be the same; what standardizes them is each model's own."""

    def meaning(columns: Columns) -> list[tuple[str, ...]]:
        return [(c.name, *(c.vocabulary if isinstance(c, Category) else ())) for c in columns.columns]

    other = [own[0] for own in meaning(ours) if own not in meaning(theirs)]
    other += [own[0] for own in meaning(theirs) if own not in meaning(ours)]
    if other or meaning(ours) != meaning(theirs):
        raise ValueError(
            f"The teacher '{name}' was trained on other columns, or other categories of them: "
            f"{_listed(dict.fromkeys(other or ours.names))}. Train both on the same split of the same table."
        )


def _listed(names: Any, count: int = 10) -> str:
    found = list(names)
    return ", ".join(map(repr, found[:count])) + (f" and {len(found) - count} more" if len(found) > count else "")
