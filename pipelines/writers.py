"""The parts of a language model that write text: a step with what it keeps as inputs and outputs, and an encoder."""

from __future__ import annotations

import dataclasses

import keras

from pipelines.exported_steps import ENCODER, STEP
from pipelines.interface import Interface, input_tensors
from zoo.layers.decoding import decoder_of, fixed_step


def parts(
    model: keras.Model, interface: Interface, *, batch: int | None = 1
) -> dict[str, tuple[keras.Model, Interface]]:
    """The models of the signatures "step" and, where text hangs on something, "encoder", with what they take.

    The step keeps `interface.steps` tokens.

    Raises:
        ValueError: the model is no language model, or has no positions for so many tokens.
    """
    step, start = fixed_step(model, interface.steps, batch=batch), decoder_of(model).start
    kept = {"cache_positions": interface.steps} if "cache_positions" in step.input else {}
    found = {STEP: (step, dataclasses.replace(interface, lengths=kept, steps=0))}
    if start is not None:
        tensors = input_tensors(start)
        lengths = {name: interface.steps for name, tensor in tensors.items() if None in tensor.shape[1:]}
        found[ENCODER] = (start, dataclasses.replace(interface, lengths=lengths, steps=0))
    return found
