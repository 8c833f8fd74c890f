"""A run as data: what is trained on what, in which phases, on which hardware. To JSON and back."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

from pipelines import tasks
from pipelines.adversary import Adversary
from pipelines.autoencoding import Autoencoding
from pipelines.data import AnyData, Augmentation, Images, Pairs, Series, Tables, Texts, ValueLoss, check_choice
from pipelines.distillation import Distillation
from pipelines.drawing import Drawing
from pipelines.optimization import USUAL, Optimization
from zoo.core.family import Task

__all__ = [
    "Adversary", "AnyData", "Augmentation", "Autoencoding", "Distillation", "Drawing", "Hardware", "Images",
    "Optimization", "Pairs", "Phase", "Run", "Series", "Tables", "Texts",
]  # fmt: skip

Strategy = Literal["auto", "one", "mirrored", "multi_worker"]
Precision = Literal["float32", "bfloat16", "float16", "auto"]
ClassLoss = Literal["cross_entropy", "binary_cross_entropy", "focal"]
Loss = Literal[ValueLoss, ClassLoss]
ClassWeights = Literal["balanced"] | Mapping[str, float]
FOCUS = 2.0  # of the focal loss, as in its paper
_OF_TASKS: Mapping[str, type] = {
    "distillation": Distillation, "autoencoding": Autoencoding, "adversary": Adversary, "drawing": Drawing,
}  # fmt: skip
T = TypeVar("T")


@dataclass(frozen=True)
class Phase:
    """One stretch of training in which the same layers learn.

    `learning_rate` is the peak; `layer_decay` the factor for each group toward the input;
    `warmup` the share of the phase's steps in which the rate rises. `batch_norm="frozen"` keeps
    the statistics of every BatchNormalization, unfrozen groups included. With a `lora` rank, the
    unfrozen groups but the last learn in low-rank factors of their attention alone, with `lora_mlp`
    also in those of the dense layers after it. Of a GAN, `discriminator_rate` is what Run(adversary=...) says.
    """

    epochs: int
    learning_rate: float
    unfreeze: int | Literal["all"] = 1  # groups with weights, counted from the output
    layer_decay: float = 1.0
    warmup: float = 0.1
    batch_norm: Literal["frozen", "train"] = "frozen"
    lora: int = 0  # rank; 0: the layers themselves learn
    lora_mlp: bool = False
    discriminator_rate: float = 1.0  # what the rates of a GAN's discriminator are multiplied by

    def __post_init__(self) -> None:
        problems = {
            "epochs": self.epochs >= 1,
            "learning_rate": 0 < self.learning_rate < math.inf,
            "unfreeze": self.unfreeze == "all" or (isinstance(self.unfreeze, int) and self.unfreeze >= 1),
            "layer_decay": 0 < self.layer_decay <= 1,
            "warmup": 0 <= self.warmup < 1,
            "discriminator_rate": 0 < self.discriminator_rate < math.inf,
            "lora": type(self.lora) is int and self.lora >= 0,
        }
        for name, fine in problems.items():
            if not fine:
                raise ValueError(f"Phase({name}={getattr(self, name)!r}) is out of range; see pipelines.run.Phase.")
        check_choice("Phase(batch_norm)", self.batch_norm, Literal["frozen", "train"])


@dataclass(frozen=True)
class Hardware:
    """What a run computes on.

    strategy: "one" device, "mirrored" over all visible ones, "multi_worker" over those of all machines in --workers or
    TF_CONFIG, or "auto": multi_worker where several are named, else mirrored where there are several GPUs (or
    several logical CPU devices), else one. precision: "auto" is the fastest that all devices have. deterministic:
    the same run on the same machine gives the same weights, bit for bit; False is faster on GPUs, and may not.

    cache: layers that are frozen in a phase see each example once, and what they answer is stored in the run's folder
    while it trains: in memory if it fits. The weights that are learned are the same but for rounding. None: where an
    example looks the same in every epoch, or in one of a few views (Images(augment="none") or views=4), and where it
    saves work; True: in phases of a single epoch too, and a note says why where it cannot be; False: never.
    """

    strategy: Strategy = "auto"
    precision: Precision = "float32"
    accumulate: int = 1  # micro-batches of a device's part of a batch: they need their memory one after the other
    deterministic: bool = True
    cache: bool | None = None

    def __post_init__(self) -> None:
        if type(self.deterministic) is not bool:
            raise ValueError(f"Hardware(deterministic={self.deterministic!r}) must be True or False.")
        if self.cache not in (None, True, False):
            raise ValueError(f"Hardware(cache={self.cache!r}) must be True, False or None, which is where it pays.")
        if type(self.accumulate) is not int or self.accumulate < 1:
            raise ValueError(f"Hardware(accumulate={self.accumulate!r}) must be a whole number of at least 1.")
        check_choice("Hardware(strategy)", self.strategy, Strategy)
        check_choice("Hardware(precision)", self.precision, Precision)


@dataclass(frozen=True)
class Run:
    """Everything that decides what a training run does; written as JSON, run again from it.

    `model` is a variant's name, or a checkpoint with a config.json, as "hf://org/repo" or a directory's path with a "/"
    in it. `overrides` are Config fields of the model, as in `zoo.create`. `patience` is the number of
    epochs without improvement on the validation split after which a phase ends early.
    """

    model: str
    data: AnyData
    phases: tuple[Phase, ...]
    out: Path
    weights: str | None = None
    task: Task | None = None  # what the model is trained for; what its family or the data ask for if not given
    loss: Loss | None = None  # of numbers mse, mae or huber; of classes cross_entropy, binary_cross_entropy or focal
    overrides: Mapping[str, Any] = field(default_factory=dict)
    hardware: Hardware = Hardware()
    batch: int | Literal["auto"] = 32  # examples per step, over all devices together; "auto": the most that fit
    patience: int = 5
    seed: int = 0
    save_steps: int | None = None  # between two checkpoints within an epoch; about a minute if not given
    rollbacks: int = 0  # how often a loss that is no number leads back, to go on at half the learning rate
    optimization: Optimization = USUAL
    label_smoothing: float = 0.0  # share of the target that all classes have in equal parts
    class_weights: ClassWeights | None = None  # "balanced" by the training examples, or by name; others count 1
    focus: float = FOCUS  # of the focal loss: the more, the less what is known already counts
    positive_weights: ClassWeights | None = None  # as class_weights, of binary cross-entropy: where a class holds
    distillation: Distillation | None = None  # who teaches the model, if anyone does
    autoencoding: Autoencoding | None = None  # of task="reconstruct"; as usual for the model if not given
    adversary: Adversary | None = None  # what a GAN's generator plays against; what is usual for it if not given
    drawing: Drawing | None = None  # whose codes the model writes, with task="text_to_image"

    def __post_init__(self) -> None:
        object.__setattr__(self, "out", Path(self.out))
        object.__setattr__(self, "task", self.task or tasks.usual(self.model))
        if not self.phases:
            raise ValueError("Run(phases=()) has nothing to train; take them from pipelines.recipes.")
        if (self.batch != "auto" and (type(self.batch) is not int or self.batch < 1)) or self.patience < 1:
            raise ValueError(
                f"Run(batch={self.batch!r}, patience={self.patience}): both must be at least 1, or the batch 'auto'."
            )
        if type(self.rollbacks) is not int or self.rollbacks < 0:
            raise ValueError(f"Run(rollbacks={self.rollbacks!r}) must be a whole number of at least 0.")
        if self.save_steps is not None and self.save_steps < 1:
            raise ValueError(f"Run(save_steps={self.save_steps}) must be at least 1.")
        if self.task is not None:
            check_choice("Run(task)", self.task, Task)
        if self.loss is not None:
            check_choice("Run(loss)", self.loss, Loss)
        self._check_labels()

    def _check_labels(self) -> None:
        if not 0 <= self.label_smoothing < 1:
            raise ValueError(
                f"Run(label_smoothing={self.label_smoothing}) must be at least 0 and under 1, such as 0.1."
            )
        if not 0 < self.focus < math.inf:
            raise ValueError(f"Run(focus={self.focus}) must be over 0; 2 is usual.")
        if self.focus != FOCUS and self.loss != "focal":
            raise ValueError(f"Run(focus={self.focus}) is of loss='focal', not of loss={self.loss!r}.")
        for name in ("class_weights", "positive_weights"):
            given = getattr(self, name)
            if given is None or given == "balanced":
                continue
            if not isinstance(given, Mapping) or not all(isinstance(v, int | float) for v in given.values()):
                raise ValueError(f"Run({name}={given!r}) is 'balanced', or numbers by the names of classes.")
            if not all(0 <= value < math.inf for value in given.values()):
                raise ValueError(f"Run({name}={dict(given)}) must be numbers of at least 0.")

    @property
    def is_checkpoint(self) -> bool:
        """Whether the model is described by a checkpoint rather than named."""
        return "/" in self.model

    def to_json(self) -> str:
        """The run as JSON text.

        Raises:
            ValueError: an override has no JSON form.
        """
        try:
            data = {"kind": type(self.data).__name__, **dataclasses.asdict(self.data)}
            return json.dumps({**dataclasses.asdict(self), "data": data, "out": str(self.out)}, indent=2) + "\n"
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
        values["data"] = _data_from_dict(values.get("data", {}))
        values["phases"] = tuple(_from_dict(Phase, phase) for phase in values.get("phases", ()))
        values["hardware"] = _from_dict(Hardware, values.get("hardware", {}))
        values["optimization"] = _from_dict(Optimization, values.get("optimization", {}))
        for name, kind in _OF_TASKS.items():
            if values.get(name) is not None:
                values[name] = _from_dict(kind, values[name])
        return _from_dict(cls, values)


def _data_from_dict(values: Mapping[str, Any]) -> AnyData:
    """Images where it does not say: the runs of old."""
    kinds: dict[str, type[AnyData]] = {kind.__name__: kind for kind in (Images, Texts, Tables, Series, Pairs)}
    name = values.get("kind", "Images")
    if name not in kinds:
        raise ValueError(f"A run's data are of an unknown kind {name!r}. Known: {', '.join(kinds)}.")
    fields = {key: tuple(value) if isinstance(value, list) else value for key, value in values.items() if key != "kind"}
    return _from_dict(kinds[name], fields)


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
