"""What standardizes columns of numbers, and the layers that turn predictions back into their units."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import keras
import numpy as np
from keras import layers, ops


@dataclass(frozen=True)
class Scale:
    """Columns of numbers by name, and the mean and standard deviation of each in the units of the data.

    A `std` of 0 says that the column never varied.

    Raises:
        ValueError: the three are not equally many, or a number is out of range.
    """

    names: tuple[str, ...] = ("value",)
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)

    def __post_init__(self) -> None:
        if not len(self.names) == len(self.mean) == len(self.std) > 0:
            raise ValueError(
                f"Scale(names={self.names}, mean={self.mean}, std={self.std}) must hold a name, mean and std a column."
            )
        if not all(map(math.isfinite, (*self.mean, *self.std))) or min(self.std) < 0:
            raise ValueError(f"Scale(mean={self.mean}, std={self.std}) must be finite numbers, std at least 0.")

    @classmethod
    def measured(cls, names: Sequence[str], values: np.ndarray) -> Scale:
        """The mean and standard deviation of each column of (N, columns); NaN is left out."""
        values = np.asarray(values, np.float64)
        least, most = np.nanmin(values, axis=0), np.nanmax(values, axis=0)
        constant = least == most  # whose mean and std come out with rounding noise
        mean = np.where(constant, least, np.nanmean(values, axis=0))
        std = np.where(constant, 0.0, np.nanstd(values, axis=0))
        return cls(tuple(names), tuple(mean.tolist()), tuple(std.tolist()))

    @classmethod
    def from_config(cls, values: Mapping[str, Any]) -> Scale:
        """A scale from what dataclasses.asdict and JSON made of it."""
        return cls(**{name: tuple(value) for name, value in values.items()})


UNIT = Scale()  # of one number that is standardized already


@keras.saving.register_keras_serializable("zoo")
class Restore(layers.Layer):
    """Mean 0 and standard deviation 1 -> units of the data: (..., columns) -> (..., columns).

    Computes in float32, since not every unit fits a half-precision number.
    """

    def __init__(self, scale: Scale | dict[str, Any], **kwargs: Any):
        super().__init__(**{**kwargs, "dtype": "float32"})
        self.scale = Scale.from_config(scale) if isinstance(scale, dict) else scale

    def call(self, x: keras.KerasTensor) -> keras.KerasTensor:
        mean, std = (ops.convert_to_tensor(values, "float32") for values in (self.scale.mean, self.scale.std))
        return ops.cast(x, "float32") * std + mean

    def compute_output_shape(self, shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return shape

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "scale": asdict(self.scale)}


def in_units(model: keras.Model, scale: Scale) -> keras.Model:
    """A model of logits (B, columns) as one of numbers in the units of the data, its layers shared.

    Of a dict of logits, such as that of a model with auxiliary classifiers, each becomes such numbers.
    """

    def restored(logits: keras.KerasTensor, name: str) -> keras.KerasTensor:
        return Restore(scale, name="head_units" if name == "logits" else f"head_{name}_units")(logits)

    if not isinstance(model.output, Mapping):
        return keras.Model(model.input, restored(model.output, "logits"), name=model.name)
    outputs = {name: restored(logits, name) for name, logits in model.output.items()}
    return type(model)(model.input, outputs, name=model.name)


def scale_of(model: keras.Model) -> Scale | None:
    """What a model's numbers are called and measured in; None if it gives no such numbers."""
    return next((layer.scale for layer in model.layers if isinstance(layer, Restore)), None)


def value_head(
    x: keras.KerasTensor, scale: Scale, *, regularizer: keras.regularizers.Regularizer | None = None
) -> keras.KerasTensor:
    """Numbers in the units of the data, float32 whatever the precision of the model: (B, D) -> (B, columns)."""
    x = layers.Dense(len(scale.names), kernel_regularizer=regularizer, dtype="float32", name="head_logits")(x)
    return Restore(scale, name="head_units")(x)
