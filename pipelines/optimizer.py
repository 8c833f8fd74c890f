"""The optimizer of a phase: a rate for each group, warm-up and cosine, state carried over from the phase before."""

from __future__ import annotations

import keras

from pipelines.freezing import Groups, unfrozen
from pipelines.run import Phase

_OWN_STATE = ("iteration", "learning_rate", "step_counter", "dynamic_scale")  # starts anew with each phase


def build(model: keras.Model, groups: Groups, phase: Phase, *, steps: int) -> keras.optimizers.Optimizer:
    """Adam over the variables that learn, built: each group at its own rate, `steps` in the whole phase.

    Toward the input, each group's rate is `layer_decay` times that of the group after it.
    """
    rates = group_rates(groups, phase)
    optimizers = {name: keras.optimizers.Adam(_schedule(rate, phase, steps)) for name, rate in rates.items()}
    by_path = {
        variable.path: optimizers[name]
        for name in rates
        for layer in groups[name]
        for variable in layer.trainable_variables
    }
    output = next(iter(optimizers.values()))
    optimizer: keras.optimizers.Optimizer = keras.optimizers.MultiOptimizer(
        keras.optimizers.OptimizerMap(output, by_path)
    )
    if any(layer.compute_dtype == "float16" for layer in model._flatten_layers()):
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
    optimizer.build(model.trainable_variables)
    return optimizer


def group_rates(groups: Groups, phase: Phase) -> dict[str, float]:
    """The peak learning rate of each group that learns, from the output toward the input."""
    return {name: phase.learning_rate * phase.layer_decay**i for i, name in enumerate(unfrozen(groups, phase))}


def carry_state(old: keras.optimizers.Optimizer | None, new: keras.optimizers.Optimizer) -> None:
    """Copy the moments of every variable that both optimizers know, by its name.

    Compiling anew would drop them: what a layer has learned of its gradients in one phase would be
    lost in the next.
    """
    known = {_slot(variable): variable for variable in (old.variables if old else ())}
    for variable in new.variables:
        slot = _slot(variable)
        if slot not in _OWN_STATE and slot in known and known[slot].shape == variable.shape:
            variable.assign(known[slot])


def _slot(variable: keras.Variable) -> str:
    """'stage1_conv_kernel_momentum': the name without the optimizer's own, which is numbered anew in each phase."""
    return variable.path.rsplit("/", 1)[-1]


def _schedule(rate: float, phase: Phase, steps: int) -> keras.optimizers.schedules.LearningRateSchedule:
    """Linear from 0 to the peak over the warm-up, then a half cosine to 0."""
    warmup = min(round(phase.warmup * steps), steps - 1)
    if warmup == 0:
        return keras.optimizers.schedules.CosineDecay(rate, steps)
    return keras.optimizers.schedules.CosineDecay(0.0, steps - warmup, warmup_target=rate, warmup_steps=warmup)
