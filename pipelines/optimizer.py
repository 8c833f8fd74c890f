"""The optimizer of a phase: a rate for each group, decay where it belongs, state carried over from the phase before."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import keras

from pipelines import adam
from pipelines.decay import decays
from pipelines.freezing import Groups, unfrozen
from pipelines.optimization import USUAL, Optimization
from pipelines.run import Phase
from pipelines.schedules import Plateau, Rate, WarmUp, schedule

DISCRIMINATOR = "discriminator."  # begins the names of a GAN's groups that have a rate of their own

_MOMENTS = (  # the attributes of Keras' optimizers that hold a variable for each weight
    "momentums", "_momentums", "_velocities", "_average_gradients", "adam_velocities", "_r", "_c", "_v",
)  # fmt: skip


@keras.saving.register_keras_serializable("zoo")
class GroupOptimizer(keras.optimizers.MultiOptimizer):
    """An optimizer for each group of variables; `plateau` lowers all their rates, where that is asked for."""

    plateau: Plateau | None = None

    def of(self, variable: keras.Variable) -> keras.optimizers.Optimizer:
        """The optimizer of a variable."""
        return self.optimizers[self._var_to_optimizer_idx[self._var_key(variable)]]

    def apply(self, grads, trainable_variables=None):
        """Move variables: all of them, as Keras does, or those of some groups, which it refuses."""
        if trainable_variables is None or len(trainable_variables) == len(self._trainable_variables_indices):
            return super().apply(grads, trainable_variables)
        chosen: dict[keras.optimizers.Optimizer, list] = {}
        for gradient, variable in zip(grads, trainable_variables, strict=True):
            chosen.setdefault(self.of(variable), []).append((gradient, variable))
        for each, pairs in chosen.items():
            each.apply(*map(list, zip(*pairs, strict=True)))
        self.iterations.assign_add(1)


@keras.saving.register_keras_serializable("zoo")
class _ByGroup(keras.optimizers.OptimizerMap):
    """The optimizer of each variable. Keras finds it by the variable's path, which two nested models may share.

    What is saved is Keras' own map, by paths.
    """

    def __init__(self, variables: Mapping[keras.optimizers.Optimizer, Sequence[keras.Variable]]):
        patterns, seen = {}, set[str]()
        for place, (each, found) in enumerate(variables.items()):
            paths = [re.escape(variable.path) for variable in found if variable.path not in seen]
            seen.update(variable.path for variable in found)
            if found:
                patterns["|".join(paths) or f"(?!){place}"] = each  # or what matches nothing
        super().__init__(next(iter(variables)), patterns)
        self._of = {id(variable): each for each, found in variables.items() for variable in found}

    def __call__(self, variable: keras.Variable) -> keras.optimizers.Optimizer:
        return self._of.get(id(variable), self.default_optimizer)

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> keras.optimizers.OptimizerMap:
        return keras.optimizers.OptimizerMap.from_config(config, custom_objects)


def build(
    model: keras.Model, groups: Groups, phase: Phase, optimization: Optimization = USUAL, *, steps: int
) -> keras.optimizers.Optimizer:
    """The optimizer over the variables that learn, built: each group at its own rate, `steps` in the whole phase.

    Toward the input, each group's rate is `layer_decay` times that of the group after it.
    """
    learning = {
        name: [variable for layer in groups[name] for variable in layer.trainable_variables]
        for name in unfrozen(groups, phase)
    }
    rates = {
        name: schedule(rate, phase, optimization, steps=steps) for name, rate in group_rates(groups, phase).items()
    }
    optimizers = {name: _one(optimization, rates[name], variables) for name, variables in learning.items()}
    grouped = GroupOptimizer(_ByGroup({optimizers[name]: variables for name, variables in learning.items()}))
    if optimization.schedule == "plateau":
        grouped.plateau = Plateau(grouped, factor=optimization.factor, wait=optimization.wait)
        for rate in rates.values():
            assert isinstance(rate, WarmUp)
            rate.factor = grouped.plateau.factor
    optimizer: keras.optimizers.Optimizer = grouped
    if any(layer.compute_dtype == "float16" for layer in model._flatten_layers()):
        optimizer = keras.optimizers.LossScaleOptimizer(grouped)
    optimizer.build(model.trainable_variables)
    return optimizer


def _one(optimization: Optimization, rate: Rate, variables: Sequence[keras.Variable]) -> keras.optimizers.Optimizer:
    """The optimizer of one group."""
    known, momentum, decay = keras.optimizers, optimization.usual_momentum, optimization.usual_decay or None
    given = {"beta_1": optimization.beta_1, "beta_2": optimization.beta_2}
    betas = {name: value for name, value in given.items() if value is not None}
    match optimization.optimizer:
        case "sgd":
            made = known.SGD(rate, momentum=momentum, nesterov=optimization.nesterov, weight_decay=decay)
        case "rmsprop":
            made = known.RMSprop(rate, momentum=momentum, weight_decay=decay)
        case "muon":
            others = [f"^{re.escape(v.path)}$" for v in variables if not _orthogonal(v)]
            options = {"momentum": momentum, "weight_decay": decay, "adam_weight_decay": decay}
            made = known.Muon(rate, exclude_layers=others, **options)
        case "adamw":
            made = adam.AdamW(rate, weight_decay=optimization.usual_decay, **betas)
        case "adam" | "lamb" | "lion" | "adafactor":
            kinds = {"adam": adam.Adam, "lamb": known.Lamb, "lion": known.Lion, "adafactor": known.Adafactor}
            made = kinds[optimization.optimizer](rate, weight_decay=decay, **betas)
    made.exclude_from_weight_decay(var_list=[variable for variable in variables if not decays(variable)])
    return made


def _orthogonal(variable: keras.Variable) -> bool:
    """Whether Muon is for a weight: hidden matrices; embeddings and the last layer are Adam's, as its author says."""
    layer, leaf = variable.path.split("/", 1)[0], variable.path.rsplit("/", 1)[-1]
    last = layer.rsplit(".", 1)[-1].startswith("head_logits")
    return len(variable.shape) == 2 and decays(variable) and not last and not re.match(r"embedding|table", leaf)


def group_rates(groups: Groups, phase: Phase) -> dict[str, float]:
    """The peak learning rate of each group that learns, from the output toward the input."""
    return {
        name: phase.learning_rate
        * phase.layer_decay**i
        * (phase.discriminator_rate if name.startswith(DISCRIMINATOR) else 1.0)
        for i, name in enumerate(unfrozen(groups, phase))
    }


def learning_rates(
    groups: Groups, phase: Phase, optimization: Optimization, *, step: int, steps: int, factor: float = 1.0
) -> dict[str, float]:
    """The rate of each group that learns at a step of a phase, counted from 0, times that of a `plateau_factor`."""
    share = factor * float(schedule(1.0, phase, optimization, steps=steps)(step))
    return {name: share * rate for name, rate in group_rates(groups, phase).items()}


def after_epoch(optimizer: keras.optimizers.Optimizer, metrics: Mapping[str, float]) -> bool:
    """Let the optimizer know how an epoch went; whether its rates are lower from now on."""
    plateau = _grouped(optimizer).plateau
    return plateau is not None and plateau.record(metrics.get("val_loss", metrics["loss"]))


def plateau_factor(optimizer: keras.optimizers.Optimizer) -> float:
    """What the rates are multiplied by for want of improvement; 1 where nothing lowers them."""
    plateau = _grouped(optimizer).plateau
    return 1.0 if plateau is None else float(keras.ops.convert_to_numpy(plateau.factor))


def carry_state(old: keras.optimizers.Optimizer | None, new: keras.optimizers.Optimizer) -> None:
    """Copy the moments of every variable that both optimizers know.

    Compiling anew would drop them: what a layer has learned of its gradients in one phase would be
    lost in the next. Counters, rates and the scale of a loss start anew.
    """
    known = _moments(old) if old else {}
    for key, variable in _moments(new).items():
        if key in known and known[key].shape == variable.shape:
            variable.assign(known[key])


def _moments(optimizer: keras.optimizers.Optimizer) -> dict[tuple[str, str, int], keras.Variable]:
    """By kind, path and identity of the weight: paths are not unique (nested models), nor names (Adafactor's)."""
    return {
        (kind, weight.path, id(weight)): moment
        for inner in _grouped(optimizer).optimizers
        for kind in _MOMENTS
        for weight, moment in zip(inner._trainable_variables, getattr(inner, kind, ()), strict=False)
        if moment is not None
    }


def _grouped(optimizer: keras.optimizers.Optimizer) -> GroupOptimizer:
    return getattr(optimizer, "inner_optimizer", optimizer)
