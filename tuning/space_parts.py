"""What ready-made spaces are put together from: ranges that suit models of a kind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tuning import targets
from tuning.space import Cases, Choice, Float
from zoo.core.naming import nearest
from zoo.weights.curated import published

RECIPES = ("progressive_unfreezing", "fine_tuning", "feature_extraction")
_ACTIVATIONS = ("relu", "gelu", "leaky_relu")

# What of a Config is worth trying in models that are trained from scratch, by the first part of their names.
_SIZES: Mapping[str, Mapping[str, tuple[Any, ...]]] = {
    "cnn": {
        "widths": ((32, 64, 128), (16, 32, 64), (64, 128, 256), (32, 64)),
        "kernel": (3, 5),
        "hidden": (512, 128),
        "batch_norm": (False, True),
        "activation": _ACTIVATIONS,
    },
    "lenet5": {"activation": ("tanh", "relu"), "pooling": ("average", "max")},
    "mlp": {
        "widths": ((512, 512), (256, 256), (128, 64), (64,), (256, 128, 64)),
        "batch_norm": (False, True),
        "activation": _ACTIVATIONS,
    },
    "rnn": {"width": (256, 128, 64), "depth": (2, 1), "bidirectional": (False, True)},
    "transformer": {"depth": (2, 1, 3, 4), "activation": ("relu", "gelu")},
}


def pretrained(models: Sequence[str], weights: str | None) -> dict[str, Any]:
    """Models, and the weights of each."""
    tags = [Choice(tag(model) if weights is None else weights, when=when([model])) for model in models]
    return {"model": Choice(*map(variant, models)), "weights": Cases(*tags)}


def from_scratch(models: Sequence[str], epochs: int | None) -> dict[str, Any]:
    """Models with random weights: rates, batch, regularization, sizes."""
    return {
        "model": Choice(*models),
        "weights": None,
        "recipe": "from_scratch",
        "recipe.learning_rate": Float(1e-4, 1e-2, sampling="log", default=1e-3),
        **lasting(epochs),
        "batch": Choice(32, 16, 64, 128),
        **decay(),
        **dropout(models, default=None, most=0.6),
        **_sizes(models),
    }


def _sizes(models: Sequence[str]) -> dict[str, Any]:
    """Fields of Configs, each with the values that suit each kind of model."""
    found: dict[str, list[Choice]] = {}
    for kind, fields in _SIZES.items():
        of_kind = [model for model in models if model.split("_")[0] == kind]
        for field, values in fields.items() if of_kind else ():
            found.setdefault(f"overrides.{field}", []).append(Choice(*values, when=when(of_kind)))
    return {name: Cases(*ranges) for name, ranges in found.items()}


def images() -> dict[str, Any]:
    """How images of a class each are shown."""
    return {
        "batch": Choice(32, 16, 64),
        "data.augment": Choice("light", "none", "standard"),
        "data.mixup": Choice(0.0, 0.2),
        "label_smoothing": Choice(0.0, 0.1),
    }


def decay() -> dict[str, Any]:
    """Adam, or AdamW with its decay."""
    return {
        "optimization.optimizer": Choice("adam", "adamw"),
        "optimization.weight_decay": Float(
            1e-3, 1e-1, sampling="log", when={"optimization.optimizer": "adamw"}, default=1e-2
        ),
    }


def lasting(epochs: int | None) -> dict[str, Any]:
    """The epochs of each of a recipe's phases, if they are given."""
    return {} if epochs is None else {"recipe.epochs": epochs}


def dropout(models: Sequence[str], *, default: float | None = 0.2, most: float = 0.5) -> dict[str, Any]:
    """Dropout, if a model has a field for it."""
    fields = [targets.options(model) for model in models]
    has = any(names is not None and "dropout" in names for names in fields)
    return {"overrides.dropout": Float(0.0, most, default=default)} if has else {}


def when(models: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """The condition that the model is one of these."""
    return {"model": tuple(map(variant, models))}


def variant(model: str) -> str:
    """A variant without a tag behind it; of a checkpoint all of it."""
    return model if "/" in model else model.partition(".")[0]


def tag(model: str) -> str | None:
    """The weights of a model: the tag behind its name, or the first that is known, those in the package before others.

    Raises:
        ValueError: there is none.
    """
    if "/" in model:
        return None  # a checkpoint has its own
    name, _, wanted = model.partition(".")
    known = [line.tag for line in published() if line.variant == name]
    if wanted or not known:
        if wanted in known:
            return wanted
        raise ValueError(
            f"No weights {wanted or 'at all'!r} are published of {name!r}.{nearest(wanted, known)} Known: "
            f"{', '.join(known) or 'none; take a space from scratch'}."
        )
    return "bundled" if "bundled" in known else known[0]
