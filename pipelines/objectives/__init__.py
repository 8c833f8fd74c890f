"""What a model is trained for on the data at hand: a loss, metrics and scores for each task. Padding counts in none."""

from __future__ import annotations

import dataclasses
import functools
import json
import typing
from typing import Any

from pipelines.autoencoding import Autoencoding
from pipelines.data import ValueLoss
from pipelines.datasets import Dataset, SeriesDataset, TextDataset, ValueDataset
from pipelines.drawing import Drawing
from pipelines.objectives.answering import AnswerScores, answer
from pipelines.objectives.captioning import CaptionScores, caption
from pipelines.objectives.class_weights import class_weights as weights_of_classes
from pipelines.objectives.class_weights import positive_weights as weights_of_holding
from pipelines.objectives.classification import ClassificationScores, classify
from pipelines.objectives.contrast import contrast
from pipelines.objectives.drawing import DrawingScores, text_to_image
from pipelines.objectives.forecasting import ForecastScores, forecast
from pipelines.objectives.generation import GenerationScores, generate
from pipelines.objectives.labelling import MultiLabelScores, multi_label
from pipelines.objectives.language import LanguageScores, causal_lm, masked_lm, seq2seq
from pipelines.objectives.losses import BinaryCrossEntropy, CrossEntropy
from pipelines.objectives.objective import Objective
from pipelines.objectives.reconstruction import AutoencodingScores, reconstruct
from pipelines.objectives.regression import RegressionScores, regress
from pipelines.objectives.retrieval import RetrievalScores
from pipelines.objectives.scores import Scores
from pipelines.objectives.tagging import TaggingScores, tag
from pipelines.pairs import PairData
from pipelines.run import FOCUS, ClassLoss, ClassWeights, Loss, Run
from zoo.core.family import Task

__all__ = ["Objective", "Scores", "find", "of_run", "read_scores"]

_LABELS = {"classify": classify, "multi_label": multi_label, "tag": tag}
_VALUES = {"regress": (regress, ValueDataset), "forecast": (forecast, SeriesDataset)}
_TEXT = {"masked_lm": masked_lm, "causal_lm": causal_lm, "seq2seq": seq2seq, "answer": answer}
_SCORES: tuple[type[Scores], ...] = (
    ClassificationScores, MultiLabelScores, RegressionScores, ForecastScores, TaggingScores, LanguageScores,
    AnswerScores, AutoencodingScores, CaptionScores, DrawingScores, GenerationScores, RetrievalScores,
)  # fmt: skip


def find(
    task: Task,
    data: Dataset,
    *,
    loss: Loss | None = None,
    label_smoothing: float = 0.0,
    class_weights: ClassWeights | None = None,
    focus: float = FOCUS,
    positive_weights: ClassWeights | None = None,
    autoencoding: Autoencoding | None = None,
    epochs: int = 1,
    drawing: Drawing | None = None,
) -> Objective:
    """The objective of a task on a data set.

    `loss` chooses among those of numbers, or of classes; the other options are of those of classes, `positive_weights`
    of binary cross-entropy alone, `autoencoding` of task="reconstruct", with the `epochs` of the whole run, `drawing`
    of task="text_to_image".

    Raises:
        ValueError: the task is not trained for, the data do not have what it needs, or its loss has no such option.
    """
    if autoencoding is not None and task != "reconstruct":
        raise ValueError(f"Run(autoencoding=...) is of task='reconstruct', not of task={task!r}.")
    if drawing is not None and task != "text_to_image":
        raise ValueError(f"Run(drawing=...) is of task='text_to_image', not of task={task!r}.")
    if task in ("reconstruct", "text_to_image") and loss is not None:
        means = "Autoencoding(likelihood=...)" if task == "reconstruct" else "Drawing(image_weight=...)"
        raise ValueError(f"loss={loss!r} is none of task={task!r}, whose loss {means} decides.")
    if task == "reconstruct":
        found = reconstruct(data, autoencoding, epochs=epochs)
    else:
        found = text_to_image(data, drawing) if task == "text_to_image" else _usual(task, data, loss)
    given = {"label_smoothing": label_smoothing, "class_weights": class_weights, "positive_weights": positive_weights}
    if found.loss not in (CrossEntropy, BinaryCrossEntropy):
        for name, value in given.items():
            if value:
                raise ValueError(f"{name}={value!r} is for tasks that choose among classes, not for task={task!r}.")
        return found
    kind = {"cross_entropy": CrossEntropy, "binary_cross_entropy": BinaryCrossEntropy}.get(loss or "", found.loss)
    weights = None if class_weights is None else weights_of_classes(class_weights, data)
    options: dict[str, Any] = {"smoothing": label_smoothing, "weights": weights}
    options["focus"] = focus if loss == "focal" else 0.0
    if positive_weights is not None:
        if kind is not BinaryCrossEntropy:
            raise ValueError(
                f"positive_weights={positive_weights!r} is of binary cross-entropy: of task='multi_label', or with "
                "loss='binary_cross_entropy'. For others there is class_weights."
            )
        options["positive"] = weights_of_holding(positive_weights, data)
    if kind is found.loss and not any(options.values()):
        return found
    return dataclasses.replace(found, loss=functools.partial(kind, **options))


def of_run(run: Run, data: Dataset) -> Objective:
    """The objective of a run on its data.

    Raises:
        ValueError: as `find`.
    """
    options = {"label_smoothing": run.label_smoothing, "class_weights": run.class_weights, "focus": run.focus}
    options |= {"positive_weights": run.positive_weights, "autoencoding": run.autoencoding, "drawing": run.drawing}
    if run.task == "generate":
        found = generate(data, run)
        for name, value in {"loss": run.loss, **options}.items():
            if value and value != FOCUS:
                raise ValueError(f"{name}={value!r} is for tasks that have targets, and task='generate' has none.")
        return found
    options["epochs"] = sum(phase.epochs for phase in run.phases)
    return find(run.task or data.task, data, loss=run.loss, **options)


def _usual(task: Task, data: Dataset, loss: Loss | None) -> Objective:
    """The objective of a task with its own loss or, of numbers, that which is chosen."""
    if loss in typing.get_args(ValueLoss) and task not in _VALUES:
        raise ValueError(f"loss={loss!r} is for the tasks regress and forecast; task={task!r} has a loss of its own.")
    if loss in typing.get_args(ClassLoss) and task in (*_VALUES, "answer"):
        raise ValueError(f"loss={loss!r} is for tasks that choose among classes, not for task={task!r}.")
    if task == "multi_label" and loss == "cross_entropy":
        raise ValueError(
            "loss='cross_entropy' takes one class an example; task='multi_label' has binary_cross_entropy."
        )
    if task == "generate":
        return generate(data)
    if task in _LABELS:
        if not data.classes:
            raise ValueError(f"task={task!r} needs classes, and these data have none. Name the column of labels.")
        return _LABELS[task](data)
    if task in _VALUES and isinstance(data, _VALUES[task][1]):
        return _VALUES[task][0](data, typing.cast(ValueLoss, loss or "mse"))
    if task == "caption" and data.task == "caption":
        return caption(typing.cast(PairData, data))
    if task in _TEXT and isinstance(data, TextDataset) and not isinstance(data, PairData):
        return _TEXT[task](data)
    if task == "contrast" and data.task == "contrast":
        return contrast()
    if isinstance(data, PairData):
        raise ValueError(
            f"task={task!r} is not trained on images with captions. Tasks that are: contrast, caption, text_to_image."
        )
    known = [*_LABELS, *_VALUES, *_TEXT, "contrast", "caption", "reconstruct", "generate", "text_to_image"]
    if task not in known:
        raise ValueError(f"task={task!r} has nothing to train on. Tasks that do: {', '.join(known)}.")
    raise ValueError(f"task={task!r} cannot be trained on these data, which are for task={data.task!r}.")


def read_scores(text: str) -> Scores:
    """The scores that `Scores.to_json` wrote; without a kind they are of a classifier, as they were at first.

    Raises:
        ValueError: the kind is unknown.
    """
    values = json.loads(text, object_hook=lambda pairs: {k: _frozen(v) for k, v in pairs.items()})
    kinds = {cls.kind: cls for cls in _SCORES}
    kind = values.pop("kind", ClassificationScores.kind)
    if kind not in kinds:
        raise ValueError(f"There are scores of an unknown kind {kind!r}. Known: {', '.join(kinds)}.")
    return kinds[kind].from_values(values)


def _frozen(value):
    return tuple(_frozen(item) for item in value) if isinstance(value, list) else value
