"""Whether a model can be exported, and whether the samples that come with it fit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import keras
import numpy as np

from pipelines.agreement import FORMATS, VALUES, Format
from pipelines.interface import (
    PADDING,
    fit_length,
    input_tensors,
    mask_of,
    named_targets,
    output_shapes,
    sequence_of,
    takes_images,
    unit_of,
)
from zoo.core.family import CLASSED, Task

Samples = np.ndarray | Mapping[str, np.ndarray]

_GIVES: dict[Task, tuple[int, str]] = {  # the rank of the logits, and what they are
    "classify": (2, "logits (B, classes)"),
    "multi_label": (2, "logits (B, classes)"),
    "tag": (3, "logits (B, T, classes)"),
    "masked_lm": (3, "logits (B, T, vocabulary)"),
    "causal_lm": (3, "logits (B, T, vocabulary)"),
    "seq2seq": (3, "logits (B, T, vocabulary)"),
    "caption": (3, "logits (B, T, vocabulary)"),
    "match": (2, "logits (B, 2)"),
    "text_to_image": (3, "logits (B, T, vocabulary)"),
    "answer": (3, "logits (B, T, 2)"),
}


def checked_task(model: keras.Model, task: Task) -> Task:
    """What a model's files are of; answers to questions about images are written, not found in a text.

    Raises:
        ValueError: as `check_model`.
    """
    check_model(model, task)
    about_images = task == "answer" and {"image", "decoder_token_ids"} <= set(input_tensors(model))
    return "seq2seq" if about_images else task


def check_model(model: keras.Model, task: Task) -> None:
    """Refuse a model that no file can be made of.

    Raises:
        ValueError: the message says why.
    """
    takes = [tuple(tensor.shape) for tensor in model.inputs]
    if task not in (*_GIVES, *VALUES):
        raise ValueError(f"task={task!r} is unknown here. Known: {', '.join((*_GIVES, *VALUES))}.")
    gives = output_shapes(model, task)
    if task in _GIVES and len(gives.get("logits", ())) != _GIVES[task][0]:
        wanted, gives = _GIVES[task][1], [tuple(tensor.shape) for tensor in model.outputs]
        images = task in ("classify", "multi_label") and len(takes) == 1 and len(takes[0]) > 3
        turns = f"images (B, H, W, 3) into {wanted}" if images else f"its inputs into {wanted} for task={task!r}"
        raise ValueError(f"{model.name!r} must turn {turns}, not {takes} into {gives}.")
    ragged = [shape for shape in takes if None in (shape[1:] if takes_images(model) else shape[2:])]
    if ragged and takes_images(model):
        raise ValueError(f"{model.name!r} takes images {takes[0]}, but a .tflite file has one size. Build it with one.")
    if ragged:
        raise ValueError(f"{model.name!r} takes inputs {ragged[0]}; only the first axis after the batch may be open.")
    _check_last(model, task)
    own = {type(layer).__name__ for layer in model._flatten_layers() if type(layer).__module__ == "__main__"}
    if own:
        raise ValueError(
            f"The layers {', '.join(sorted(own))} are defined in the program itself, where the converter, a program "
            "of its own, does not find them. Move them to a module."
        )


def _check_last(model: keras.Model, task: Task) -> None:
    """Refuse probabilities where logits are wanted."""
    last = answer_of(model)._keras_history.operation
    activation = keras.activations.softmax if isinstance(last, keras.layers.Softmax) else None
    activation = activation or getattr(last, "activation", None)
    if activation in (keras.activations.softmax, keras.activations.sigmoid) and task in _GIVES:
        raise ValueError(
            f"{model.name!r} ends in a {activation.__name__} ({last.name!r}), but export takes logits. "
            "Build it with classifier_activation=None, or with a last layer without activation."
        )


def check_classes(model: keras.Model, task: Task, classes: tuple[str, ...]) -> None:
    """Refuse class names that do not fit the logits.

    Raises:
        ValueError: the message says why.
    """
    if task not in CLASSED:
        if classes:
            raise ValueError(f"A model for task={task!r} has no classes, but {len(classes)} were given.")
        return
    width = answer_of(model).shape[-1]
    named = ", ".join(map(repr, classes[:10])) + (", ..." if len(classes) > 10 else "")
    if len(classes) != width:
        raise ValueError(f"{model.name!r} has {width} logits, but there are {len(classes)} classes: {named}.")
    if len(set(classes)) < len(classes) or any(not name or "\n" in name for name in classes):
        raise ValueError(f"Class names must differ and be one line each, got {named}.")


def named_samples(model: keras.Model, samples: Samples, *, what: str) -> dict[str, np.ndarray]:
    """Samples by the names of the model's inputs; an array alone is that of the only input.

    Raises:
        ValueError: they are not what the model takes.
    """
    tensors = input_tensors(model)
    if not isinstance(samples, Mapping):
        if len(tensors) > 1:
            raise ValueError(f"{model.name!r} takes {', '.join(tensors)}: give {what} as a dict of arrays.")
        samples = dict.fromkeys(tensors, samples)
    if set(samples) != set(tensors):
        raise ValueError(f"{model.name!r} takes {', '.join(tensors)}; the {what} are {', '.join(samples) or 'none'}.")
    arrays = {name: np.asarray(samples[name]) for name in tensors}
    for name, tensor in tensors.items():
        _check_array(model, what if takes_images(model) else f"{what} {name!r}", arrays[name], tensor)
    if len({len(array) for array in arrays.values()}) > 1:
        raise ValueError(
            f"The {what} are not equally many: { ({name: len(array) for name, array in arrays.items()}) }."
        )
    mask = mask_of(arrays)
    if mask is not None and not mask.any():
        raise ValueError(f"The {what} hold no tokens: {PADDING} is 0 everywhere.")
    return arrays


def _check_array(model: keras.Model, what: str, array: np.ndarray, tensor: keras.KerasTensor) -> None:
    wanted = tuple(tensor.shape[1:])
    fits = array.ndim == len(wanted) + 1 and all(
        w in (None, got) for w, got in zip(wanted, array.shape[1:], strict=True)
    )
    if not array.size or not fits:
        sizes = ", ".join("T" if size is None else str(size) for size in wanted)
        raise ValueError(f"{model.name!r} takes {what} of shape (N, {sizes}), got {array.shape}.")
    if np.issubdtype(tensor.dtype, np.integer) and not np.issubdtype(array.dtype, np.integer):
        raise ValueError(f"{model.name!r} takes {what} as whole numbers, got {array.dtype}.")
    if takes_images(model):
        low, high = float(array.min()), float(array.max())
        if not (low >= 0 and 1 < high <= 255):
            raise ValueError(f"The {what} must be RGB 0..255, but their values go from {low:g} to {high:g}.")


def file_lengths(model: keras.Model, samples: Mapping[str, np.ndarray], length: int | None) -> dict[str, int]:
    """The tokens that a .tflite file takes, by input, of those that the model takes any number of.

    Raises:
        ValueError: `length` is given for a model whose inputs have one.
    """
    open_inputs = [name for name, tensor in input_tensors(model).items() if None in tensor.shape[1:]]
    if length is not None and not open_inputs:
        raise ValueError(f"length={length} says nothing here: the inputs of {model.name!r} have a length already.")
    if length is not None and length < 1:
        raise ValueError(f"length={length} must be at least 1 token.")
    return {name: length or samples[name].shape[1] for name in open_inputs}


def fit_labels(
    model: keras.Model, labels: np.ndarray | None, samples: Mapping[str, np.ndarray], task: Task
) -> np.ndarray | None:
    """Labels of the samples, cut as these are; what is cut off, or below 0, does not count.

    Raises:
        ValueError: they do not fit the task or the samples.
    """
    if labels is None or task in VALUES:
        return None
    labels = np.asarray(labels)
    shape = answer_of(model).shape
    count, unit = len(next(iter(samples.values()))), unit_of(model)
    length = 0 if task in ("classify", "multi_label") else sequence_of(samples).shape[1]
    if task == "multi_label":
        if labels.shape != (count, shape[-1]) or not np.isin(labels, (0, 1)).all():
            raise ValueError(f"The labels must be 0 and 1, {(count, shape[-1])}, got {labels.dtype} {labels.shape}.")
        return labels
    if task == "match":
        if labels.shape != (count,) or not np.isin(labels, (0, 1)).all():
            raise ValueError(f"The labels must be 0 and 1, one for each of {count} texts, got {labels.shape}.")
        return labels
    if task == "answer":
        if labels.shape != (count, 2):
            raise ValueError(f"The labels must be the first and last token of {count} answers, got {labels.shape}.")
        return np.where(labels < length, labels, -1)
    if task == "classify" and (labels.shape != (count,) or labels.min() < 0 or labels.max() >= shape[-1]):
        raise ValueError(
            f"There must be a label from 0 to {shape[-1] - 1} for each of the {count} {unit}s, "
            f"got {labels.shape} from {labels.min()} to {labels.max()}."
        )
    if task == "classify":
        return labels
    if labels.ndim != 2 or len(labels) != count or labels.max() >= shape[-1]:
        raise ValueError(
            f"There must be labels ({count}, T) below {shape[-1]} for the tokens, "
            f"got {labels.shape} up to {labels.max()}."
        )
    return fit_length({"": labels + 1}, {"": length})[""] - 1


def answer_of(model: keras.Model) -> keras.KerasTensor:
    """The output with the logits; with several outputs the one of that name, with one that."""
    return (
        model.output["logits"] if isinstance(model.output, Mapping) and "logits" in model.output else model.outputs[0]
    )


def usual_formats(model: keras.Model) -> tuple[Format, ...]:
    """The formats of an export that names none; int8 is for images, as other models lose more by it than they gain.

    And for one number at most: the 256 steps of several numbers are those of the one with the largest unit.
    """
    fits = takes_images(model) and len(named_targets(model)) < 2
    return FORMATS if fits else tuple(form for form in FORMATS if form != "int8")


def check_formats(formats: Sequence[Format], *, calibrated: bool, unit: str) -> None:
    """Refuse formats that are unknown, named twice, or lack what they need.

    Raises:
        ValueError: the message lists those that are known.
    """
    unknown = [form for form in formats if form not in FORMATS]
    if unknown or not formats or len(set(formats)) < len(formats):
        raise ValueError(f"The formats {list(formats)} must be some of {', '.join(FORMATS)}, each once.")
    if "int8" in formats and not calibrated:
        raise ValueError(
            f"int8 needs calibration=: about 100 training {plural(unit)}, which set the ranges of its numbers."
        )


def plural(unit: str) -> str:
    """Several of a unit."""
    return unit if unit == "series" else f"{unit}s"
