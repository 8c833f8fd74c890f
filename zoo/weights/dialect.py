"""A declarative map from our layer paths to the tensor names of one publisher."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from zoo.weights.layouts import KERAS, TORCH, TORCH_LEGACY, Arrange, Layout, Shape

__all__ = [
    "KERAS",
    "TORCH",
    "TORCH_LEGACY",
    "Copy",
    "Dialect",
    "Rule",
    "Source",
    "channels_last",
    "rgb_from_bgr",
    "squeezed",
    "third",
]

Theirs = str | tuple[str, ...] | Callable[[re.Match[str]], str]
_HEAD = re.compile(r"([a-z]+\\\.)?head")  # what a rule for a layer of a head begins with, also of a tower's


class Rule(NamedTuple):
    """Our layer path (a regex that must match it whole) -> their module path.

    `theirs` is a template for `re.Match.expand`, several of them (their arrays go to `piece`
    together), or a function of the match. `piece` takes the part that is ours of their array. `leaf` is what their
    tensor is called inside that module where the layout's name for it is wrong; "" where the path is the tensor's own.
    """

    ours: str
    theirs: Theirs
    piece: Callable[..., np.ndarray] | None = None
    leaf: str | None = None


class Copy(NamedTuple):
    """A tensor that only repeats another, such as the tied output layer of a language model.

    Checkpoints have it or not. Where they have it, it must be equal to `of`, or the two are not tied at all and a
    model that ties them computes something else. It matters to models with a layer `where`; to others it is nothing.
    """

    theirs: str
    of: str
    where: str


class Source(NamedTuple):
    """Where one variable comes from: tensor names, and what to do with their arrays."""

    names: tuple[str, ...]
    piece: Callable[..., np.ndarray] | None
    arrange: Arrange
    adapt: Arrange | None = None  # to images that the checkpoint was not trained on

    def array(self, parts: Sequence[np.ndarray], shape: Shape) -> np.ndarray:
        """The variable's array, from those of the tensors.

        Raises:
            ValueError: the tensors have not the shapes that lead to `shape`.
            IndexError: they have too few axes.
        """
        arranged = self.arrange(self.piece(*parts) if self.piece else parts[0], shape)
        return self.adapt(arranged, shape) if self.adapt else arranged


@dataclass(frozen=True)
class Dialect:
    """How one publisher names and lays out the weights of a family.

    The first rule whose regex matches wins. `ignore` lists regexes of tensors that hold nothing a
    model needs. Tensors of rules for head layers that the model was built without are ignored too.
    `copies` are ignored if they are equal to what they repeat. `towers` holds a regex of their tensors for each
    tower of ours, which are ignored where a model has no layer of that tower.
    `overrides` are the Config fields that every checkpoint of this publisher has in common (epsilon,
    padding, pixels); a config.json and the user's options come after them.
    """

    layout: Layout
    rules: tuple[Rule, ...]
    ignore: tuple[str, ...] = (r".*num_batches_tracked",)
    overrides: Mapping[str, Any] = field(default_factory=dict)
    copies: tuple[Copy, ...] = ()
    towers: Mapping[str, str] = field(default_factory=dict)

    @property
    def separator(self) -> str:
        """What stands between module path and leaf name in a tensor's name."""
        return "/" if self.layout is KERAS else "."

    def source(self, path: str, layer_class: str, variable: str) -> Source | None:
        """The tensors for one variable of the layer at `path`, or None if no rule knows the layer."""
        for rule in self.rules:
            match = re.fullmatch(rule.ours, path)
            if match:
                leaf, arrange = (
                    self.layout.get((layer_class, variable))
                    or self.layout.get(("*", variable))
                    or ("", lambda array, shape: array)  # a token or a table: the rule names the tensor itself
                )
                leaf = leaf if rule.leaf is None else rule.leaf
                modules = _expand(rule.theirs, match)
                return Source(tuple(self._tensor(module, leaf) for module in modules), rule.piece, arrange)
        return None

    def _tensor(self, module: str, leaf: str) -> str:
        """A module's tensor; a module such as 'attn.in_proj_' is a prefix: torch fuses projections under such names."""
        return module + leaf if module.endswith("_") else self.separator.join(filter(None, (module, leaf)))

    def is_unused(self, tensor: str, paths: set[str]) -> bool:
        """Whether a tensor belongs to a head layer or to a tower that no path of the model asks for."""
        for tower, theirs in self.towers.items():
            if re.fullmatch(theirs, tensor) and not any(path.startswith(f"{tower}.") for path in paths):
                return True
        return any(
            f"{tensor}{self.separator}".startswith(f"{module}{self.separator}")  # the module's, or the table it names
            for rule in self.rules
            if _HEAD.match(rule.ours) and not any(re.fullmatch(rule.ours, path) for path in paths)
            for module in (rule.theirs if isinstance(rule.theirs, tuple) else (rule.theirs,))
            if isinstance(module, str)
        )


def _expand(theirs: Theirs, match: re.Match[str]) -> tuple[str, ...]:
    if callable(theirs):
        return (theirs(match),)
    return tuple(match.expand(template) for template in ((theirs,) if isinstance(theirs, str) else theirs))


def third(index: int) -> Callable[[np.ndarray], np.ndarray]:
    """Query (0), key (1) or value (2) of a fused projection: (3 * D, ...) -> (D, ...)."""
    return lambda array: np.split(array, 3, axis=0)[index]


def squeezed(array: np.ndarray) -> np.ndarray:
    """A table saved with a batch axis: (1, T, D) -> (T, D)."""
    return np.squeeze(array, axis=0)


def rgb_from_bgr(array: np.ndarray) -> np.ndarray:
    """A first kernel that was trained on BGR, for RGB: (h, w, 3, out), its input channels reversed."""
    return array[:, :, ::-1] if array.ndim == 4 else array


def channels_last(height: int, width: int) -> Callable[[np.ndarray], np.ndarray]:
    """A Linear on a flattened (C, h, w) map, for a flattened (h, w, C): (out, C * h * w) -> (out, h * w * C)."""

    def rearranged(array: np.ndarray) -> np.ndarray:
        if array.ndim == 1:  # the bias
            return array
        cells = array.reshape(array.shape[0], -1, height, width)
        return cells.transpose(0, 2, 3, 1).reshape(array.shape)

    return rearranged
