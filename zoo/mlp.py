"""Multi-layer perceptron: small images, rows of a table, windows of a series. Paper: https://doi.org/10.1038/323533a0.

Differs from the paper: ReLU between the layers unless another activation is asked for, any number of
layers, and logits: the softmax is in the loss (from_logits=True) or follows the model.
"""

from __future__ import annotations

from dataclasses import dataclass

import keras
from keras import layers

from zoo.core.family import Family, Pixels, Task
from zoo.layers.heads import logits
from zoo.layers.hidden import Textbook, check_counts, dense
from zoo.layers.pixels import image_input
from zoo.layers.scale import UNIT, Scale, value_head
from zoo.layers.series import Windows, forecast_head, series_input
from zoo.layers.table import Columns, table_input


@dataclass(frozen=True, kw_only=True)
class Config(Textbook):
    """Hidden layers, what stands between them, and what is fed to them: images unless `columns` or `series` is given.

    Raises:
        ValueError: both are given.
    """

    widths: tuple[int, ...] = (512, 512)  # units of each hidden layer
    pixels: Pixels = Pixels(size=28, crop=1.0, mean=(127.5,) * 3, std=(127.5,) * 3)
    columns: Columns | None = None  # of a table
    series: Windows | None = None  # of a time series, and what is to be forecast of it
    target: Scale = UNIT  # what a regression predicts, in its own units

    def __post_init__(self):
        super().__post_init__()
        if self.columns is not None and self.series is not None:
            raise ValueError("columns= are of a table and series= is of a time series; give one of them.")


def build(config: Config, *, task: Task, classes: int, name: str) -> keras.Model:
    """Images (B, H, W, 3), rows (B, columns) or windows (B, window, columns) -> what the task asks for.

    That is logits (B, classes), or numbers in the units of the data: (B, targets), of a forecast (B, horizon, targets).

    Raises:
        ValueError: a width is no whole number over 0, or a forecast is asked for without a series.
    """
    check_counts(widths=config.widths)
    if task == "forecast" and config.series is None:
        raise ValueError(f"{name!r} forecasts a series of which it knows nothing. Give series=Windows(...).")
    inputs, x = _inputs(config)
    for block, width in enumerate(config.widths):
        x = dense(x, width, name=f"block{block}", options=config)
    if task == "forecast":
        return keras.Model(inputs, forecast_head(x, inputs, config.series, regularizer=config.penalty), name=name)
    if task == "regress":
        return keras.Model(inputs, value_head(x, config.target, regularizer=config.penalty), name=name)
    return keras.Model(inputs, logits(x, classes, regularizer=config.penalty), name=name)


def _inputs(config: Config) -> tuple[keras.KerasTensor, keras.KerasTensor]:
    """What is fed in, and the same as numbers around 0: (B, D)."""
    if config.columns is not None:
        return table_input(config.columns)
    inputs, x = image_input(config.pixels) if config.series is None else series_input(config.series)
    return inputs, layers.Flatten(name="stem_flatten")(x)


FAMILY = Family(
    paper="https://doi.org/10.1038/323533a0",
    build=build,
    tasks=("classify", "multi_label", "regress", "forecast"),
    classes=10,
    variants={"mlp": Config()},
)
