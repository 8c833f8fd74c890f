"""A run as data: what is trained on what, in which phases, on which hardware. To JSON and back."""

from __future__ import annotations

import dataclasses
import json
import math
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np

Augmentation = Literal["none", "light", "standard"]
Precision = Literal["float32", "bfloat16", "float16"]
T = TypeVar("T")


def _check_choice(what: str, value: Any, choices: Any) -> None:
    allowed = typing.get_args(choices)
    if value not in allowed:
        raise ValueError(f"{what}={value!r} is not one of {', '.join(map(repr, allowed))}.")


@dataclass(frozen=True)
class Images:
    """Where labelled images come from, and how they are split and augmented.

    `source` is a folder with one sub-folder a class (or with train/, validation/ and test/ folders
    of that kind), a CSV file with the columns path and label (and, if you like, split), an .npz
    file with the arrays images and labels, "tfds:NAME", or "digits" (scikit-learn's 1,797
    handwritten digits).

    `train`, `validation` and `test` replace the source's own division: other folders or CSV files,
    or split expressions of a tfds set ("train[:80%]"). What is not given is split off by `split`,
    stratified by class and seeded by the run.
    """

    source: str
    train: str | None = None
    validation: str | None = None
    test: str | None = None
    split: tuple[float, float, float] = (0.7, 0.15, 0.15)  # shares of train, validation, test
    size: int | None = None  # pixels; the model's own if not given
    crop: float | None = None  # share of the image that the centre crop keeps; the model's own if not given
    augment: Augmentation = "light"
    flip: bool | None = None  # mirror left-right while training; not for "digits" unless asked
    skip_corrupt: bool = False
    data_dir: str | None = None  # where tfds sets lie

    def __post_init__(self) -> None:
        if len(self.split) != 3 or min(self.split) < 0 or not math.isclose(sum(self.split), 1, abs_tol=1e-6):
            raise ValueError(
                f"Images(split={self.split}) must be three shares that add up to 1: "
                "train, validation, test, such as (0.7, 0.15, 0.15)."
            )
        _check_choice("Images(augment)", self.augment, Augmentation)
        if self.size is not None and not 8 <= self.size <= 4096:
            raise ValueError(f"Images(size={self.size}) must be between 8 and 4096 pixels.")
        if self.crop is not None and not 0 < self.crop <= 1:
            raise ValueError(f"Images(crop={self.crop}) must be over 0 and at most 1.")

    @property
    def mirrors(self) -> bool:
        """Whether training mirrors images: as asked, else unless they are the built-in digits."""
        return self.source != "digits" if self.flip is None else self.flip

    @classmethod
    def arrays(
        cls,
        images: np.ndarray,
        labels: Sequence[int] | Sequence[str] | np.ndarray,
        *,
        file: str | Path,
        classes: Sequence[str] | None = None,
        **options: Any,
    ) -> Images:
        """Images from arrays (N, H, W[, 1 or 3]) in 0..255 and labels (N,), kept in an .npz file.

        A run names its data by where they lie, so that it can be run again; `file` is where.
        """
        values = {"images": np.asarray(images), "labels": np.asarray(labels)}
        if classes is not None:
            values["classes"] = np.asarray(classes)
        np.savez_compressed(file, allow_pickle=False, **values)
        return cls(str(file), **options)


@dataclass(frozen=True)
class Phase:
    """One stretch of training in which the same layers learn.

    `learning_rate` is the peak; `layer_decay` the factor for each group toward the input;
    `warmup` the share of the phase's steps in which the rate rises. `batch_norm="frozen"` keeps
    the statistics of every BatchNormalization, unfrozen groups included.
    """

    epochs: int
    learning_rate: float
    unfreeze: int | Literal["all"] = 1  # groups with weights, counted from the output
    layer_decay: float = 1.0
    warmup: float = 0.1
    batch_norm: Literal["frozen", "train"] = "frozen"

    def __post_init__(self) -> None:
        problems = {
            "epochs": self.epochs >= 1,
            "learning_rate": 0 < self.learning_rate < math.inf,
            "unfreeze": self.unfreeze == "all" or (isinstance(self.unfreeze, int) and self.unfreeze >= 1),
            "layer_decay": 0 < self.layer_decay <= 1,
            "warmup": 0 <= self.warmup < 1,
        }
        for name, fine in problems.items():
            if not fine:
                raise ValueError(f"Phase({name}={getattr(self, name)!r}) is out of range; see pipelines.run.Phase.")
        _check_choice("Phase(batch_norm)", self.batch_norm, Literal["frozen", "train"])


@dataclass(frozen=True)
class Hardware:
    """What a run computes on.

    strategy: "one" device, "mirrored" over all visible ones, or "auto": mirrored where there are
    several GPUs (or several logical CPU devices), else one.
    """

    strategy: Literal["auto", "one", "mirrored"] = "auto"
    precision: Precision = "float32"

    def __post_init__(self) -> None:
        _check_choice("Hardware(strategy)", self.strategy, Literal["auto", "one", "mirrored"])
        _check_choice("Hardware(precision)", self.precision, Precision)


@dataclass(frozen=True)
class Run:
    """Everything that decides what a training run does; written as JSON, run again from it.

    `overrides` are Config fields of the model, as in `zoo.create`. `patience` is the number of
    epochs without improvement on the validation split after which a phase ends early.
    """

    model: str
    data: Images
    phases: tuple[Phase, ...]
    out: Path
    weights: str | None = None
    overrides: Mapping[str, Any] = field(default_factory=dict)
    hardware: Hardware = Hardware()
    batch: int = 32  # images per step, over all devices together
    patience: int = 5
    seed: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "out", Path(self.out))
        if not self.phases:
            raise ValueError("Run(phases=()) has nothing to train; take them from pipelines.recipes.")
        if self.batch < 1 or self.patience < 1:
            raise ValueError(f"Run(batch={self.batch}, patience={self.patience}): both must be at least 1.")

    def to_json(self) -> str:
        """The run as JSON text.

        Raises:
            ValueError: an override has no JSON form.
        """
        try:
            return json.dumps({**dataclasses.asdict(self), "out": str(self.out)}, indent=2) + "\n"
        except TypeError as error:
            raise ValueError(f"Run(overrides={dict(self.overrides)!r}) cannot be written as JSON: {error}.") from None

    @classmethod
    def from_json(cls, text: str) -> Run:
        """The run that `to_json` wrote.

        Raises:
            ValueError: the text is not JSON, or a field is unknown or missing.
        """
        try:
            values = json.loads(text)
        except json.JSONDecodeError as error:
            raise ValueError(f"This is not a run's JSON: {error}.") from None
        if not isinstance(values, dict):
            raise ValueError(f"A run's JSON holds an object with the fields of Run, got {type(values).__name__}.")
        values["data"] = _from_dict(Images, values.get("data", {}), split=tuple)
        values["phases"] = tuple(_from_dict(Phase, phase) for phase in values.get("phases", ()))
        values["hardware"] = _from_dict(Hardware, values.get("hardware", {}))
        return _from_dict(cls, values)


def _from_dict(cls: type[T], values: Mapping[str, Any], **convert: Callable[[Any], Any]) -> T:
    """A dataclass from JSON values; unknown and missing fields are named."""
    known = {f.name: f for f in dataclasses.fields(cls)}  # type: ignore[arg-type]  # every T here is a dataclass
    unknown = sorted(set(values) - set(known))
    missing = sorted(
        name
        for name, f in known.items()
        if name not in values and f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
    )
    if unknown or missing:
        raise ValueError(f"{cls.__name__} from JSON: unknown fields {unknown}, missing fields {missing}.")
    return cls(**{name: convert.get(name, lambda v: v)(value) for name, value in values.items()})
