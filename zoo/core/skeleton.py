"""Models whose variables have shapes but no values yet, so that a model of any size costs no memory.

The only place that knows how Keras postpones values. It has no public way to give a postponed variable a
value of one's own, and it keeps a list of them all: left in there, they would get random values at the next
end of a StatelessScope, such as in fit() or at a layer of the user's, whether or not anybody still wants that
model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import keras
    import numpy as np

_POSTPONED = "uninitialized_variables"


def skeleton(build: Callable[[], keras.Model]) -> keras.Model:
    """The model that `build` makes, its variables without values: fit for reading shapes and for `materialize`."""
    import keras
    from keras.src.backend.common import global_state

    others = list(global_state.get_global_attribute(_POSTPONED) or ())
    try:
        with keras.StatelessScope(initialize_variables=False):
            return build()
    finally:
        global_state.set_global_attribute(_POSTPONED, others)


def materialize(model: keras.Model, values: Iterable[tuple[str, np.ndarray]]) -> None:
    """Give the variables of a skeleton values, by path; what gets none here is initialized as its layer says."""
    empty = {variable.path: variable for variable in model.variables}
    for path, array in values:
        variable = empty.pop(path)
        variable._initializer = partial(_as_tensor, array)
        variable._deferred_initialize()  # which forgets the initializer, and the array with it
    for variable in empty.values():
        variable._deferred_initialize()


def _as_tensor(array: np.ndarray, shape: tuple[int, ...], dtype: str) -> keras.KerasTensor:
    """An initializer that gives `array`. Transposed views are transposed by the backend: numpy takes thrice as long."""
    import keras

    order = sorted(range(array.ndim), key=lambda axis: -array.strides[axis])
    if order == sorted(order):
        return keras.ops.convert_to_tensor(array, dtype)
    back = sorted(range(array.ndim), key=order.__getitem__)
    return keras.ops.transpose(keras.ops.convert_to_tensor(array.transpose(order), dtype), back)
