"""Turns a saved Keras model into a SavedModel and .tflite files, in a process of its own.

    python -m pipelines.convert DIRECTORY

TensorFlow's converter can end the process that it runs in, without an exception. What is done so far
stands in outcomes.json, so the format that it died of has a name.
"""

from __future__ import annotations

import dataclasses
import importlib
import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import keras

from pipelines import bundle, serving, tflite
from pipelines.interface import Interface, named_targets, served_pixels
from pipelines.twins import float32_twin
from zoo.core.family import Task

MODEL = "model.keras"
JOB = "job.json"
OUTCOMES = "outcomes.json"


@dataclass(frozen=True)
class Job:
    """What to convert; it lies in the same directory as the model, and the results go there.

    `modules` are those that define the model's own layers: Keras finds a layer's class only after
    its module has been imported. The other fields are those of an Interface.
    """

    formats: tuple[str, ...]
    classes: tuple[str, ...]
    modules: tuple[str, ...]
    task: Task = "classify"
    lengths: Mapping[str, int] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    steps: int = 0

    def write(self, directory: Path) -> None:
        """Writes job.json."""
        (directory / JOB).write_text(json.dumps(dataclasses.asdict(self)), "utf-8")

    @classmethod
    def read(cls, directory: Path) -> Job:
        """The job that `write` wrote."""
        values = json.loads((directory / JOB).read_text("utf-8"))
        return cls(**{name: tuple(value) if isinstance(value, list) else value for name, value in values.items()})

    def interface(self, model: keras.Model) -> Interface:
        """What the files say about themselves."""
        return Interface(
            task=self.task,
            classes=self.classes,
            pixels=served_pixels(model),
            lengths=self.lengths,
            files=self.files,
            steps=self.steps,
            targets=named_targets(model),
        )


def run(directory: Path) -> None:
    """Converts the model in a directory to every format of the job there."""
    job = Job.read(directory)
    model = float32_twin(_load(directory / MODEL, job.modules))
    interface = job.interface(model)
    done: dict[str, str | None] = {}
    for form in job.formats:
        try:
            if form == "saved_model":
                serving.write(model, directory / form, interface)
            else:
                tflite.write(model, form, directory, interface)
            done[form] = None
        except Exception as error:  # whatever one format fails of: the report names the others' failures too
            done[form] = f"{type(error).__name__}: {error}"
        (directory / OUTCOMES).write_text(json.dumps(done), "utf-8")


def outcomes(directory: Path) -> dict[str, str | None]:
    """For every format that `run` finished with: None, or what went wrong."""
    path = directory / OUTCOMES
    return json.loads(path.read_text("utf-8")) if path.exists() else {}


def _load(path: Path, modules: tuple[str, ...]) -> keras.Model:
    for module in modules:
        importlib.import_module(module)
    return bundle.load_model(path)


if __name__ == "__main__":
    run(Path(sys.argv[1]))
