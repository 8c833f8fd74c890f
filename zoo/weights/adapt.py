"""Arrays of a checkpoint for other images than it was trained on: more or fewer channels, a larger or smaller size."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from zoo.core.family import Pixels
from zoo.weights.layouts import Shape

if TYPE_CHECKING:
    import keras

Grid = tuple[int, int]  # patches in a column, in a row


class Adapter(Protocol):
    """Turns an array, laid out as ours already, into one of another shape."""

    def __call__(self, array: np.ndarray, shape: Shape) -> np.ndarray:
        """The array for a variable of `shape`.

        Raises:
            ValueError: it cannot become that.
        """

    def describe(self, found: Shape, shape: Shape) -> str:
        """What is done to an array of the shape `found`, in words; nothing where it stays as it is."""


@dataclass(frozen=True)
class OtherChannels:
    """A first kernel for images of other channels, as timm does it: (h, w, C, out) -> (h, w, N, out).

    For one channel the kernel is summed, as if that channel were fed to all. For more, its channels are
    repeated in turn and scaled by C / N, so that activations keep their size.
    """

    layer: str

    def __call__(self, array: np.ndarray, shape: Shape) -> np.ndarray:
        _, _, trained, _ = array.shape
        channels = shape[-2]
        if channels == trained:
            return array
        kernel = array.astype("float32")
        if channels == 1:
            return kernel.sum(axis=2, keepdims=True)
        return np.take(kernel, range(channels), axis=2, mode="wrap") * np.float32(trained / channels)

    def describe(self, found: Shape, shape: Shape) -> str:
        """As in Adapter."""
        return f"{self.layer} adapted from {found[-2]} to {shape[-2]} channels" if found != shape else ""


@dataclass(frozen=True)
class OtherGrid:
    """A table of positions for another grid of patches, as timm does it: (T, D) -> (T', D).

    What stands before the grid (class token, distillation token) is kept. `likely` are the grids that the
    table may have been trained on, most trusted first; else it is square.
    """

    layer: str
    grid: Grid
    likely: tuple[Grid, ...]

    def __call__(self, array: np.ndarray, shape: Shape) -> np.ndarray:
        trained = self._trained(array.shape, shape)
        if trained == self.grid:
            return array
        prefix = shape[0] - math.prod(self.grid)
        positions = array[prefix:].astype("float32").reshape(*trained, -1)
        resized = resize_grid(positions, self.grid).reshape(-1, shape[1])
        return np.concatenate([array[:prefix].astype("float32"), resized])

    def describe(self, found: Shape, shape: Shape) -> str:
        """As in Adapter."""
        before, after = ("x".join(map(str, grid)) for grid in (self._trained(found, shape), self.grid))
        return f"{self.layer} resized from {before} to {after} patches" if before != after else ""

    def _trained(self, found: Shape, shape: Shape) -> Grid:
        """The grid of a table with as many tokens before it as ours has."""
        length, width = found
        patches = length - (shape[0] - math.prod(self.grid))
        side = math.isqrt(max(0, patches))
        for grid in (*self.likely, (side, side)):
            if width == shape[1] and math.prod(grid) == patches > 0:
                return grid
        raise ValueError(f"a table of {found} is not for a grid of patches")


def adapters(model: keras.Model, trained: Pixels, *, certain: bool) -> dict[str, Adapter]:
    """By variable, what a checkpoint trained on images like `trained` needs for those that `model` takes.

    `certain`: the checkpoint itself says so; else a table that fits as it is will be left so.
    """
    from zoo.layers.pixels import PixelInput
    from zoo.layers.tokens import LearnedPositions

    found: dict[str, Adapter] = {}
    for image in (layer for layer in model.layers if isinstance(layer, PixelInput)):
        first = _first_with_weights(model, image)
        if image.pixels.channels != trained.channels:
            found[first.kernel.path] = OtherChannels(first.name)
        if image.pixels.shape != trained.shape:
            grid, before = (_grid(pixels, first) for pixels in (image.pixels, trained))
            tower = image.name.rpartition(".")[0]
            for layer in model.layers:
                if isinstance(layer, LearnedPositions) and layer.name.rpartition(".")[0] == tower:
                    likely = (before,) if certain else (grid, before)
                    found[layer.table.path] = OtherGrid(layer.name, grid, likely)
    return found


def _first_with_weights(model: keras.Model, image: keras.layers.Layer) -> keras.layers.Layer:
    """The layer that takes what `image` gives, past those without weights, such as padding."""
    reached = {id(image.output)}
    for layer in model.layers[model.layers.index(image) + 1 :]:
        if id(layer.input) in reached:
            if layer.weights:
                return layer
            reached.add(id(layer.output))
    raise ValueError(f"{model.name!r} has no layer with weights after {image.name!r}.")


def _grid(pixels: Pixels, patches: keras.layers.Layer) -> Grid:
    """How many patches an image holds, where a layer cuts it into such of its stride."""
    height, width = (side // stride for side, stride in zip(pixels.shape, patches.strides, strict=True))
    return height, width


def resize_grid(grid: np.ndarray, size: Grid) -> np.ndarray:
    """A map resized by bicubic interpolation with antialiasing, equal to PyTorch's: (h, w, D) -> (*size, D)."""
    rows, columns = (_bicubic(before, after) for before, after in zip(grid.shape[:2], size, strict=True))
    return np.einsum("ai,bj,ijd->abd", rows, columns, grid, optimize=True).astype("float32")


def _bicubic(before: int, after: int) -> np.ndarray:
    """The share of each old pixel in each new one, (after, before); Keys' kernel with a = -0.5, as PIL has it."""
    scale = before / after
    centers = (np.arange(after) + 0.5) * scale
    distances = np.abs(np.arange(before) + 0.5 - centers[:, None]) / max(scale, 1.0)
    near = (1.5 * distances - 2.5) * distances**2 + 1
    far = ((-0.5 * distances + 2.5) * distances - 4) * distances + 2
    shares = np.where(distances < 1, near, np.where(distances < 2, far, 0.0))
    return shares / shares.sum(axis=1, keepdims=True)
