"""How a run's weights are moved: optimizer, schedule of the learning rate, decay, clipping and averaging. As data."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pipelines.data import check_choice

Optimizer = Literal["sgd", "rmsprop", "adam", "adamw", "lamb", "lion", "adafactor", "muon"]
Schedule = Literal["constant", "step", "exponential", "polynomial", "cosine", "cosine_restarts", "one_cycle", "plateau"]
ClipBy = Literal["global_norm", "norm", "value"]

_MOMENTUM = {"sgd": 0.9, "rmsprop": 0.0, "muon": 0.95}  # the optimizers that have one, and what is usual
_BETAS = ("adam", "adamw", "lamb", "lion")  # the optimizers that average gradients by them
_DECAY = {"adamw": 0.01, "lamb": 0.01, "lion": 0.01, "muon": 0.01}  # no other decays unless asked
_END = {"exponential": 0.01, "one_cycle": 4e-6}  # the others end at 0
_ENDING = ("exponential", "polynomial", "cosine", "cosine_restarts", "one_cycle")
_SCHEDULES_WITH = {  # a field, and what it is for
    "end": _ENDING,
    "factor": ("step", "plateau"),
    "drops": ("step",),
    "power": ("polynomial",),
    "cycles": ("cosine_restarts",),
    "growth": ("cosine_restarts",),
    "wait": ("plateau",),
}


@dataclass(frozen=True)
class Optimization:
    """How weights are moved, in every phase of a run. The peak of the learning rate and its warm-up are the phase's.

    What is None is what is usual for the optimizer or the schedule. Weight decay is decoupled from the gradient: a
    step takes `rate * weight_decay` of a weight away. Biases, normalizations, tokens and tables of positions do not
    decay, and L1 and L2 leave them out too.

    Schedules, all after a linear warm-up from 0: "constant"; "step" times `factor` at each of `drops`; "exponential"
    and "polynomial" down to `end`; a half "cosine", or `cycles` of them, each `growth` times as long as the one
    before; "one_cycle", up from a 25th of the peak in the warm-up, along a cosine, and down along another one; and
    "plateau", times `factor` when `wait` epochs in a row have not improved on the best validation loss of the phase.

    Raises:
        ValueError: a value is out of range, or is of another optimizer or schedule.
    """

    optimizer: Optimizer = "adam"
    momentum: float | None = None  # of sgd 0.9, rmsprop 0, muon 0.95, if not given
    nesterov: bool = False  # of sgd; muon always looks ahead
    beta_1: float | None = None  # of adam and its kin: how much of the mean gradient is kept a step
    beta_2: float | None = None  # the same of its square
    weight_decay: float | None = None  # of adamw, lamb, lion and muon 0.01, of others 0, if not given
    schedule: Schedule = "cosine"
    end: float | None = None  # the last rate as a share of the peak; of exponential 0.01, of others 0, if not given
    factor: float = 0.1
    drops: tuple[float, ...] = (0.5, 0.75)  # shares of the phase's steps
    power: float = 1.0  # of the polynomial
    cycles: int = 3
    growth: float = 2.0
    wait: int = 2  # epochs
    clip: float | None = None  # a limit for gradients
    clip_by: ClipBy = "global_norm"  # of all gradients together, of each variable's norm, or of each number
    ema: float = 0.0  # decay of the moving average of the weights, which is evaluated and exported; 0: none
    l1: float = 0.0  # times the sum of absolute weights, added to the loss
    l2: float = 0.0  # times the sum of squared weights, added to the loss

    def __post_init__(self) -> None:
        object.__setattr__(self, "drops", tuple(self.drops))
        check_choice("Optimization(optimizer)", self.optimizer, Optimizer)
        check_choice("Optimization(schedule)", self.schedule, Schedule)
        check_choice("Optimization(clip_by)", self.clip_by, ClipBy)
        self._check_ranges()
        self._check_use()

    @property
    def usual_momentum(self) -> float:
        """The momentum, that which is usual where none is given."""
        return _MOMENTUM.get(self.optimizer, 0.0) if self.momentum is None else self.momentum

    @property
    def usual_decay(self) -> float:
        """The weight decay, that which is usual where none is given."""
        return _DECAY.get(self.optimizer, 0.0) if self.weight_decay is None else self.weight_decay

    @property
    def usual_end(self) -> float:
        """The share of the peak at the end, that which is usual where none is given."""
        return _END.get(self.schedule, 0.0) if self.end is None else self.end

    def summary(self) -> str:
        """What was done, in a phrase for reports: 'adamw, weight decay 0.05, cosine'."""
        parts: list[str] = [self.optimizer]
        parts += [f"momentum {self.usual_momentum:g}"] if self.usual_momentum else []
        parts += [f"betas {self._beta(1)}, {self._beta(2)}"] if (self.beta_1, self.beta_2) != (None, None) else []
        parts += [f"weight decay {self.usual_decay:g}"] if self.usual_decay else []
        parts += [self.schedule]
        parts += [f"gradients clipped at {self.clip:g} ({self.clip_by})"] if self.clip else []
        parts += [f"{name.upper()} {value:g}" for name, value in (("l1", self.l1), ("l2", self.l2)) if value]
        average = f"; the weights evaluated and kept are their moving average (decay {self.ema:g})" if self.ema else ""
        return ", ".join(parts) + average

    def _beta(self, number: int) -> str:
        value = (self.beta_1, self.beta_2)[number - 1]
        return "usual" if value is None else f"{value:g}"

    def _check_ranges(self) -> None:
        ranges = {
            "momentum": (self.momentum is None or 0 <= self.momentum < 1, "at least 0 and under 1"),
            "beta_1": (self.beta_1 is None or 0 <= self.beta_1 < 1, "at least 0 and under 1"),
            "beta_2": (self.beta_2 is None or 0 <= self.beta_2 < 1, "at least 0 and under 1"),
            "weight_decay": (self.weight_decay is None or 0 <= self.weight_decay < 1, "at least 0 and under 1"),
            "end": (self.end is None or 0 <= self.end <= 1, "a share of the peak, 0 to 1"),
            "factor": (0 < self.factor < 1, "over 0 and under 1"),
            "drops": (_ascending(self.drops), "shares of the phase, ascending, over 0 and under 1"),
            "power": (0 < self.power < math.inf, "over 0"),
            "cycles": (type(self.cycles) is int and self.cycles >= 1, "a whole number of at least 1"),
            "growth": (1 <= self.growth < math.inf, "at least 1"),
            "wait": (type(self.wait) is int and self.wait >= 1, "a whole number of epochs, at least 1"),
            "clip": (self.clip is None or 0 < self.clip < math.inf, "over 0"),
            "ema": (0 <= self.ema < 1, "at least 0 and under 1, such as 0.999"),
            "l1": (0 <= self.l1 < math.inf, "at least 0"),
            "l2": (0 <= self.l2 < math.inf, "at least 0"),
        }
        for name, (fine, allowed) in ranges.items():
            if not fine:
                raise ValueError(f"Optimization({name}={getattr(self, name)!r}) must be {allowed}.")
        if self.schedule == "exponential" and self.end == 0:
            raise ValueError("Optimization(schedule='exponential', end=0): it never gets to 0; try end=0.01.")

    def _check_use(self) -> None:
        """Refuse what would be ignored."""
        if self.momentum is not None and self.optimizer not in _MOMENTUM:
            raise ValueError(f"Optimization(momentum={self.momentum}) is of {_list(_MOMENTUM)}, not {self.optimizer}.")
        for name in ("beta_1", "beta_2"):
            if getattr(self, name) is not None and self.optimizer not in _BETAS:
                raise ValueError(
                    f"Optimization({name}={getattr(self, name)}) is of {_list(_BETAS)}, not {self.optimizer}."
                )
        if self.nesterov and (self.optimizer != "sgd" or not self.usual_momentum):
            raise ValueError(
                f"Optimization(nesterov=True) is of sgd with a momentum over 0, not of {self.optimizer} with "
                f"momentum={self.momentum}."
            )
        usual: Mapping[str, Any] = {f.name: f.default for f in dataclasses.fields(self)}
        for name, schedules in _SCHEDULES_WITH.items():
            if getattr(self, name) != usual[name] and self.schedule not in schedules:
                raise ValueError(
                    f"Optimization({name}={getattr(self, name)!r}) is of schedule={_list(schedules)}, "
                    f"not of {self.schedule!r}."
                )
        if self.clip is None and self.clip_by != usual["clip_by"]:
            raise ValueError(f"Optimization(clip_by={self.clip_by!r}) needs a limit, such as clip=1.0.")


def _ascending(shares: tuple[float, ...]) -> bool:
    inside = all(0 < share < 1 for share in shares)
    return bool(shares) and inside and all(a < b for a, b in itertools.pairwise(shares))


def _list(names: Any) -> str:
    return " or ".join(map(repr, names))


USUAL = Optimization()  # Adam without decay, along a cosine
