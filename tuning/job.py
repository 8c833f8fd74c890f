"""What a process that carries out a trial is to do, and how it ended: files in the trial's folder. And its limits."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines.agreement import Format
from pipelines.files import write_text
from pipelines.run import Run
from tuning.trial import Result

NAME, RESULT, LOG = "job.json", "result.json", "log.txt"
QUANTIZED: Mapping[str, Format] = {"none": "float32", "float16": "float16", "dynamic": "dynamic", "int8": "int8"}
_PATHS = ("folder", "start", "cache")
_PLACE = ("folder", "cache", "threads", "device")  # what decides nothing about the result but where it is computed


@dataclass(frozen=True)
class Limits:
    """What a trial may take before it is ended, and has failed; None: all that there is."""

    memory: int | None = None  # bytes that its process and those that it starts have in memory together
    seconds: float | None = None  # since its process began

    def __post_init__(self) -> None:
        for name, value in dataclasses.asdict(self).items():
            if value is not None and not value > 0:
                raise ValueError(f"Limits({name}={value!r}) must be over 0, or None for no limit.")


@dataclass(frozen=True)
class Job:
    """A trial, as the process knows it that carries it out.

    The run is trained in `folder` up to `epochs` epochs, or all of its phases'. A trial that is not there yet goes on
    from the one in the folder `start`, as Hyperband's do: its checkpoints are taken over. `measure` names what is
    measured on the TFLite file of the best weights: "latency" (milliseconds), "size" (bytes).
    """

    folder: Path
    run: Run
    epochs: int | None = None
    start: Path | None = None
    measure: tuple[str, ...] = ()
    quantize: str = "none"
    cache: Path | None = None  # of frozen features, shared by all trials
    threads: int | None = None  # of the CPU; all of them if not given
    device: int | None = None  # the GPU that it has for itself, counted from 0 and round again; all if not given

    def __post_init__(self) -> None:
        for name in _PATHS:
            value = getattr(self, name)
            object.__setattr__(self, name, None if value is None else Path(value))
        object.__setattr__(self, "run", dataclasses.replace(self.run, out=self.folder))
        object.__setattr__(self, "measure", tuple(self.measure))
        unknown = [name for name in self.measure if name not in ("latency", "size")]
        if unknown:
            raise ValueError(f"Job(measure={self.measure}): {unknown[0]!r} is not measured; latency and size are.")
        if self.quantize not in QUANTIZED:
            raise ValueError(f"Job(quantize={self.quantize!r}) is not one of {', '.join(map(repr, QUANTIZED))}.")

    @property
    def identity(self) -> str:
        """The hash of what decides the result."""
        values = {name: value for name, value in self._values().items() if name not in _PLACE}
        values["run"].pop("out")
        return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()

    def to_json(self) -> str:
        """The job as JSON text."""
        return json.dumps(self._values(), indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Job:
        """The job that `to_json` wrote."""
        values = json.loads(text)
        return cls(**{**values, "run": Run.from_json(json.dumps(values["run"]))})

    def write(self) -> None:
        """Make the folder, with job.json in it and without an earlier job's result."""
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / RESULT).unlink(missing_ok=True)
        write_text(self.folder / NAME, self.to_json())

    @classmethod
    def read(cls, folder: Path) -> Job:
        """The job that `write` wrote."""
        return cls.from_json((folder / NAME).read_text(encoding="utf-8"))

    def end(self, result: Result) -> None:
        """Write down how it ended."""
        values = {"job": self.identity, "result": dataclasses.asdict(result)}
        write_text(self.folder / RESULT, json.dumps(values, indent=2, allow_nan=False) + "\n")

    @property
    def result(self) -> Result | None:
        """How this very job has ended; None where it has not, or another one did."""
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            values = json.loads((self.folder / RESULT).read_text(encoding="utf-8"))
            if values["job"] == self.identity:
                return Result(**values["result"])
        return None

    def _values(self) -> dict[str, Any]:
        """Its fields as JSON holds them."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        values |= {name: None if values[name] is None else str(values[name]) for name in _PATHS}
        return {**values, "run": json.loads(self.run.to_json()), "measure": list(self.measure)}
