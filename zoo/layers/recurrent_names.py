"""What torch calls the weights of recurrent layers, and how it lays them out."""

from __future__ import annotations

import numpy as np

from zoo.weights.dialect import Dialect, Rule
from zoo.weights.layouts import Arrange, Layout, Shape


def torch_dialect(*tensors: str) -> Dialect:
    """The names of torch.nn.RNN, LSTM and GRU; `tensors` are those of a cell, its kernels first."""

    def named(ending: str) -> tuple[str, ...]:
        return tuple(rf"{tensor}_l\1{ending}" for tensor in tensors)

    forward, backward = r"block(\d+)(?:/forward_\w+)?/\w+_cell", r"block(\d+)/backward_\w+/\w+_cell"
    return Dialect(_CELLS, (Rule(forward, named(""), _columns), Rule(backward, named("_reverse"), _columns)))


def _columns(*tensors: np.ndarray) -> np.ndarray:
    """All tensors of a torch cell side by side, zeros for biases that it has not: (gates * H, F + H + 2)."""
    kernels, biases = tensors[:2], [bias[:, None] for bias in tensors[2:]]
    return np.concatenate([*kernels, *(biases or [np.zeros((len(kernels[0]), 2), kernels[0].dtype)])], axis=1)


def _part(part: str, gates: int) -> Arrange:
    """How one variable of a cell comes out of its columns."""

    def arrange(array: np.ndarray, shape: Shape) -> np.ndarray:
        if gates == 3:  # torch has the reset gate before the update gate
            reset, update, new = np.split(array, 3)
            array = np.concatenate([update, reset, new])
        width = len(array) // gates
        if part == "bias":  # a GRU keeps its two, since it resets the second with the state
            return array[:, -2:].T if gates == 3 else array[:, -2:].sum(axis=1)
        return (array[:, : -width - 2] if part == "kernel" else array[:, -width - 2 : -2]).T

    return arrange


_CELLS: Layout = {
    (cell, part): ("", _part(part, gates))
    for cell, gates in (("SimpleRNNCell", 1), ("LSTMCell", 4), ("GRUCell", 3))
    for part in ("kernel", "recurrent_kernel", "bias")
}
