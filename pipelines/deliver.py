"""Exports a bundle on its own data: test samples as proof, training samples as calibration."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path

import keras
import numpy as np

from pipelines import bundle, card, datasets, drawn_export, images, latents, metadata, objectives
from pipelines.agreement import Format, Tolerance
from pipelines.bundle import Bundle
from pipelines.data import Pairs, Texts
from pipelines.datasets import Dataset, Part
from pipelines.deliver_towers import TowerReports, export_towers
from pipelines.export import ExportReport, export
from pipelines.images import ImageDataset
from pipelines.interface import PADDING, input_tensors, output_shapes
from pipelines.run import Run
from pipelines.sampling import Drawn, draw
from pipelines.text_checkpoint import limit_of
from zoo.core.family import CLASSED, Task
from zoo.layers.pixels import pixels_of

PROOF_SAMPLES = 500
CALIBRATION_SAMPLES = 200
PROOF_NUMBERS = 32_000_000  # of the logits that are compared; more tokens of a large vocabulary say nothing new
WRITING: tuple[Task, ...] = ("causal_lm", "seq2seq", "caption", "text_to_image")
MULTIPLE = 16  # tokens; a file's length is a multiple of it, unless it is asked for


def export_bundle(
    path: str | Path,
    formats: Sequence[Format] | None = None,
    *,
    length: int | None = None,
    tolerance: Tolerance | None = None,
) -> ExportReport | TowerReports:
    """Write SavedModel and TFLite files into a bundle, and what was measured into export.json and the card.

    Up to 500 samples of the run's test split (of its validation split if it has none) are the proof,
    200 of its training samples calibrate int8, all through the run's own pipeline; of a generator, random latents.
    Texts of a .tflite file have `length` tokens; if not given, those that the run's texts were cut to, else those of
    the longest. Language models are exported as step files too, which keep as many tokens. Of a model that compares
    images with texts each tower is exported, see `pipelines.deliver_towers`.

    Raises:
        FileNotFoundError: there is no bundle, or its data have moved.
        ExportError: a file cannot be made or disagrees with Keras; nothing was exported.
    """
    loaded = bundle.load(path)
    run, data = _data(loaded)
    model = loaded.load_model()
    part: Part = "test" if len(data.parts["test"]) else "validation"
    proof = samples(run, data, model, part, PROOF_SAMPLES)
    if proof is None:
        raise ValueError(f"'{path}' was trained without a test or a validation split, so there is nothing to prove on.")
    calibration = samples(run, data, model, "train", CALIBRATION_SAMPLES)
    length = length or (limit_of(model) if loaded.task == "contrast" else None)  # of texts that are yet to come
    length = length or usual_length(run, model, proof, calibration)
    files = {name: (loaded.path / name).read_text("utf-8") for name in data.files()}
    if loaded.task == "contrast":
        return export_towers(
            model,
            formats,
            out=loaded.path,
            proof=proof,
            calibration=calibration,
            length=length,
            files=files,
            tolerance=tolerance,
        )
    report = export(
        model,
        formats,
        out=loaded.path,
        task=loaded.task,
        classes=loaded.classes if loaded.task in CLASSED else (),
        samples=proof.inputs,
        labels=proof.labels,
        calibration=calibration.inputs if calibration else None,
        length=length,
        steps=length if length and loaded.task in WRITING else 0,
        files=files | pixels_file(run, model),
        tolerance=tolerance,
    )
    if loaded.task == "text_to_image":
        drawn_export.export_decoder(loaded.path, model, proof, formats)
    card.write(loaded.path)
    return report


def _data(loaded: Bundle) -> tuple[Run, Dataset]:
    """The run of a bundle, and its data as they are now.

    Raises:
        FileNotFoundError: they have moved.
        ValueError: they hold other classes.
    """
    run = dataclasses.replace(loaded.run, task=loaded.task)
    if run.drawing is not None:
        run = dataclasses.replace(run, drawing=run.drawing.of_bundle(loaded.path))
    data = datasets.load(run, folder=loaded.path)
    if data.classes != loaded.classes and loaded.task in CLASSED:
        raise ValueError(
            f"'{loaded.path}' was trained on the classes {', '.join(loaded.classes)}; "
            f"'{loaded.run.data.source}' now holds {', '.join(data.classes)}."
        )
    return run, data


def pixels_file(run: Run, model: keras.Model) -> dict[str, str]:
    """How images must look that a model takes beside texts, as a file for its exports; other models' tell it anyhow."""
    return {metadata.PIXELS: metadata.pixels_text(pixels_of(model))} if isinstance(run.data, Pairs) else {}


def samples(run: Run, data: Dataset, model: keras.Model, part: Part, count: int) -> Drawn | None:
    """Examples of a part as the model of a run takes them; of large logits no more than fit into memory."""
    available, task = len(data.parts[part]), run.task or data.task
    if not available:
        return None
    if task == "generate":
        made = Drawn(latents.inputs(model, count, classes=len(data.classes), seed=run.seed + (part == "train")), None)
        return made.first(max(1, PROOF_NUMBERS // _numbers(model, task, made)))
    if isinstance(data, ImageDataset):
        shown, labels = images.sample(data.parts[part], count, pixels=images.color(pixels_of(model)), seed=run.seed)
        return Drawn({"image": shown}, labels)
    if task == "text_to_image":
        found = drawn_export.sequences(run, data, model, part, count)
        return found.first(max(1, PROOF_NUMBERS // _numbers(model, task, found)))
    objective = objectives.find(task, data, loss=run.loss)
    batches = data.evaluation_set(model, part, batch=run.batch)
    completed = objective.complete(batches, seed=run.seed, training=False)
    drawn = draw(completed, model, task=task, available=available, count=count, seed=run.seed)
    return drawn and drawn.first(max(1, PROOF_NUMBERS // _numbers(model, task, drawn)))


def _numbers(model: keras.Model, task: Task, drawn: Drawn) -> int:
    """How many a sample's outputs hold."""
    length = max((values.shape[1] for values in drawn.inputs.values() if 1 < values.ndim < 4), default=1)
    shapes = output_shapes(model, task).values()
    return sum(math.prod(length if size is None else size for size in shape[1:]) for shape in shapes)


def usual_length(run: Run, model: keras.Model, *drawn: Drawn | None) -> int | None:
    """The length of the run's texts, else that of the longest, rounded up; None where the model's inputs have one."""
    if all(None not in tensor.shape[1:] for tensor in input_tensors(model).values()):
        return None
    if isinstance(run.data, Texts | Pairs) and run.data.length:
        return run.data.length
    found = [one.inputs for one in drawn if one]
    widest = max(values.shape[1] for inputs in found for values in inputs.values() if values.ndim in (2, 3))
    masks = [values for inputs in found for name, values in inputs.items() if name.endswith(PADDING)]
    longest = max((int(np.flatnonzero(mask.any(axis=0)).max()) + 1 for mask in masks), default=widest)
    return min(math.ceil(longest / MULTIPLE) * MULTIPLE, widest)
