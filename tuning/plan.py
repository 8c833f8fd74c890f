"""A search as data: what all its runs share, what is tried, in which way, and what is better. To JSON and back."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pipelines.data import check_choice
from pipelines.run import Run
from tuning.space import Space

OracleName = Literal["random", "grid", "bayesian", "hyperband", "pareto"]
Direction = Literal["min", "max"]
Quantize = Literal["none", "float16", "dynamic", "int8"]
MEASURED = ("latency", "size")  # of the TFLite file: milliseconds and bytes; all other objectives are of the history
NAME = "search.json"

_HIGHER_IS_BETTER = ("accuracy", "f1", "auroc", "r2", "precision", "recall", "exact_match", "bleu", "rouge")


@dataclass(frozen=True)
class Objective:
    """What makes one trial better than another: a metric as the history names it, `latency` or `size`."""

    name: str
    direction: Direction

    def __post_init__(self) -> None:
        check_choice("Objective(direction)", self.direction, Direction)

    @classmethod
    def of(cls, text: str) -> Objective:
        """From "val_accuracy", or, where the name does not tell the direction, "val_mine:max"."""
        name, _, direction = text.partition(":")
        higher = any(word in name for word in _HIGHER_IS_BETTER)
        return cls(name, direction or ("max" if higher else "min"))  # type: ignore[arg-type]  # checked above

    def better(self, one: float, other: float) -> bool:
        """Whether `one` is better than `other`."""
        return one > other if self.direction == "max" else one < other


AUTO = Objective("auto", "max")  # the accuracy on the validation split where there is one, else the loss


@dataclass(frozen=True)
class Plan:
    """Everything that decides which trials a search makes; written as JSON, gone on with from it.

    `run` is what all trials share, and `space` what each has for itself. All have the run's seed, so that they train
    and are scored on the same splits; the test split is left alone. `objectives` are those in order of weight;
    with several, the oracle is "pareto" (ParEGO, https://doi.org/10.1109/TEVC.2005.851274). `seed` decides the trials.

    Hyperband trains many trials for few epochs and the best of them for more, up to `max_epochs`, `factor` times as
    many each time; how many trials there are follows from the two, and `trials` is the most.
    """

    run: Run
    space: Space
    objectives: tuple[Objective, ...] = (AUTO,)  # a search settles which that is, once it knows the data
    oracle: OracleName = "bayesian"
    trials: int = 12
    seed: int = 0
    max_epochs: int | None = None  # of Hyperband; those of the first trial's phases together if not given
    factor: int = 3  # of Hyperband
    quantize: Quantize = "none"  # the TFLite file that is measured, as pipelines.export knows it

    def __post_init__(self) -> None:
        check_choice("Plan(oracle)", self.oracle, OracleName)
        check_choice("Plan(quantize)", self.quantize, Quantize)
        if not self.objectives:
            raise ValueError("Plan(objectives=()) says nothing of what is better; such as (Objective.of('val_loss'),).")
        if len(self.objectives) > 1 and self.oracle not in ("pareto", "random", "grid"):
            raise ValueError(
                f"Plan(oracle={self.oracle!r}) has one objective, got {len(self.objectives)}: "
                f"{', '.join(each.name for each in self.objectives)}. Take 'pareto', 'random' or 'grid'."
            )
        if len({each.name for each in self.objectives}) < len(self.objectives):
            raise ValueError(f"Plan(objectives={self.objectives}) names one twice.")
        for name, least in (("trials", 1), ("factor", 2), ("seed", 0), ("max_epochs", 1)):
            value = getattr(self, name)
            if (type(value) is not int or value < least) and not (value is None and name == "max_epochs"):
                raise ValueError(f"Plan({name}={value!r}) must be a whole number of at least {least}.")

    @property
    def measured(self) -> tuple[str, ...]:
        """The objectives that are measured on the TFLite file."""
        return tuple(each.name for each in self.objectives if each.name in MEASURED)

    @property
    def most_epochs(self) -> int:
        """The epochs that Hyperband gives its best trials: all of those of the run with the space's defaults."""
        if self.max_epochs is not None:
            return self.max_epochs
        return sum(phase.epochs for phase in self.space.run(self.run, self.space.defaults(self.run)).phases)

    def to_json(self) -> str:
        """The plan as JSON text."""
        values: dict[str, Any] = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        values["run"] = json.loads(self.run.to_json())
        values["space"] = json.loads(self.space.to_json())
        values["objectives"] = [dataclasses.asdict(each) for each in self.objectives]
        return json.dumps(values, indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Plan:
        """The plan that `to_json` wrote.

        Raises:
            ValueError: the text is not JSON, or a field is unknown or missing.
        """
        try:
            values = json.loads(text)
            values["run"] = Run.from_json(json.dumps(values["run"]))
            values["space"] = Space.from_json(json.dumps(values["space"]))
            values["objectives"] = tuple(Objective(**each) for each in values["objectives"])
            return cls(**values)
        except (json.JSONDecodeError, KeyError, TypeError) as error:
            raise ValueError(f"This is not a search's JSON: {error!r}.") from None


def load(folder: Path) -> Plan:
    """The plan of the search in a folder.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it cannot be read.
    """
    path = folder / NAME
    if not path.is_file():
        raise FileNotFoundError(f"'{folder}' holds no search: there is no {NAME}. zoo tune begins searches.")
    return Plan.from_json(path.read_text(encoding="utf-8"))
