"""What forecasting models take and give: a window of the past, and the values that follow it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import keras
from keras import layers, ops

from zoo.layers.scale import UNIT, Scale


@dataclass(frozen=True)
class Windows:
    """The columns that are seen over `window` time steps, and those that are predicted over the next `horizon`.

    Raises:
        ValueError: a number of steps is no whole number over 0.
    """

    columns: Scale = UNIT
    targets: Scale = UNIT
    window: int = 24
    horizon: int = 1

    def __post_init__(self) -> None:
        for name in ("window", "horizon"):
            steps = getattr(self, name)
            if type(steps) is not int or steps < 1:
                raise ValueError(f"Windows({name}={steps!r}) must be a whole number of time steps over 0.")


class _Windowed(layers.Layer):
    """Holds Windows through JSON; computes in float32, since not every unit fits a half-precision number."""

    def __init__(self, windows: Windows | dict[str, Any], **kwargs: Any):
        super().__init__(**{**kwargs, "dtype": "float32"})
        self.windows = _windows(**windows) if isinstance(windows, dict) else windows

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "windows": asdict(self.windows)}


@keras.saving.register_keras_serializable("zoo")
class SeriesInput(_Windowed):
    """Standardizes each column, and says how far it is from its last step: (B, window, F) -> (B, window, 2 F).

    The second half is what a model can still read where a series has left the range of its training, as one with
    a trend does. A column that never varied in training gives 0.
    """

    def call(self, x: keras.KerasTensor) -> keras.KerasTensor:
        scale = self.windows.columns
        factor = ops.convert_to_tensor([1 / std if std else 0.0 for std in scale.std], "float32")
        x = ops.cast(x, "float32")
        level = (x - ops.convert_to_tensor(scale.mean, "float32")) * factor
        return ops.concatenate([level, (x - x[:, -1:]) * factor], axis=-1)

    def compute_output_shape(self, shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return (*shape[:-1], 2 * len(self.windows.columns.names))


@keras.saving.register_keras_serializable("zoo")
class SeriesOutput(_Windowed):
    """Standardized changes and the window they follow -> values in units of the data: (B, horizon, targets).

    A change is counted from the target's last value seen; from its mean where the target is not seen.
    """

    def call(self, changes: keras.KerasTensor, series: keras.KerasTensor) -> keras.KerasTensor:
        targets, seen = self.windows.targets, self.windows.columns.names
        last = ops.cast(series[:, -1:], "float32")  # (B, 1, F)
        starts = []
        for name, mean in zip(targets.names, targets.mean, strict=True):
            place = seen.index(name) if name in seen else None
            starts.append(ops.full_like(last[..., :1], mean) if place is None else last[..., place : place + 1])
        changes = ops.cast(changes, "float32") * ops.convert_to_tensor(targets.std, "float32")
        return changes + ops.concatenate(starts, axis=-1)

    def compute_output_shape(self, shape: tuple[int | None, ...], *_: Any) -> tuple[int | None, ...]:
        return shape


def _windows(columns: dict[str, Any], targets: dict[str, Any], **steps: int) -> Windows:
    """Windows from a layer's JSON config."""
    return Windows(Scale.from_config(columns), Scale.from_config(targets), **steps)


def series_input(windows: Windows) -> tuple[keras.KerasTensor, keras.KerasTensor]:
    """The model's input, (B, window, columns) in units of the data, oldest step first, and what is computed with."""
    series = keras.Input((windows.window, len(windows.columns.names)), name="series")
    return series, SeriesInput(windows, name="stem_series")(series)


def forecast_head(
    x, series: keras.KerasTensor, windows: Windows, *, regularizer: keras.regularizers.Regularizer | None = None
):
    """All steps at once, in units of the data and float32: (B, D) and the input -> (B, horizon, targets).

    As long as nothing is learned, it forecasts that all stays as it was last.
    """
    shape = (windows.horizon, len(windows.targets.names))
    changes = layers.Dense(
        shape[0] * shape[1],
        kernel_initializer="zeros",
        kernel_regularizer=regularizer,
        dtype="float32",
        name="head_logits",
    )
    x = layers.Reshape(shape, dtype="float32", name="head_steps")(changes(x))
    return SeriesOutput(windows, name="head_units")(x, series)


def windows_of(model: keras.Model) -> Windows:
    """The columns that a forecasting model sees and predicts, and over how many steps.

    Raises:
        ValueError: the model takes no windows of a series.
    """
    for layer in model.layers:
        if isinstance(layer, SeriesInput):
            return layer.windows
    raise ValueError(f"{model.name!r} has no SeriesInput layer: it takes no windows of a series.")
