"""Ready-made spaces: what is worth trying first, for each kind of data.

All are spaces like any other: `spaces.tables() | Space({"batch": 16})` fixes the batch, and their first trial is what
`zoo fit` does when nothing else is asked.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pipelines.run import Images, Run
from tuning import targets
from tuning.space import Cases, Choice, Float, Space
from zoo.core.naming import nearest
from zoo.weights.curated import published

_RECIPES = ("progressive_unfreezing", "fine_tuning", "feature_extraction")
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


def transfer_images(
    models: Sequence[str] = ("mobilenet_v2",), *, weights: str | None = None, epochs: int | None = None
) -> Space:
    """Published weights on images with a class each: recipe, rates, augmentation, regularization, batch.

    A model is a variant, with the first weights that are known of it, or a variant and a tag: "resnet50.a1_in1k";
    `weights` are those of all models instead. `epochs` are those of each of a recipe's phases.

    Raises:
        ValueError: nothing is published of a model.
    """
    return Space(
        {
            **_pretrained(models, weights),
            "recipe": Choice(*_RECIPES),
            "recipe.learning_rate": Float(1e-4, 1e-2, sampling="log", default=1e-3),
            "recipe.layer_decay": Float(0.6, 1.0, default=0.8),
            **_epochs(epochs),
            **_images(),
            **_decaying(),
            **_dropout([_variant(model) for model in models]),
        }
    )


def transfer_text(
    models: Sequence[str] = ("distilbert_base",), *, weights: str | None = None, epochs: int | None = None
) -> Space:
    """Published transformers on texts: all of one, or low-rank factors of its attention, each at rates that suit it.

    The options are as in `transfer_images`; a model may be a checkpoint, "hf://org/repo" or a directory's path, too.

    Raises:
        ValueError: nothing is published of a model.
    """
    tuned, low_rank = {"recipe": "fine_tuning"}, {"recipe": "lora"}
    return Space(
        {
            **_pretrained(models, weights),
            "recipe": Choice("fine_tuning", "lora"),
            "recipe.learning_rate": Cases(
                Float(3e-5, 1e-3, sampling="log", when=tuned, default=2e-4),
                Float(1e-4, 3e-3, sampling="log", when=low_rank, default=1e-3),
            ),
            "recipe.layer_decay": Float(0.7, 1.0, default=0.9),
            "recipe.rank": Choice(4, 8, 16, default=8),
            "recipe.mlp": Choice(False, True),
            **_epochs(epochs),
            "batch": Choice(16, 32, 8),
            "data.length": Choice(128, 64, 256),
            "optimization.optimizer": "adamw",
            "optimization.weight_decay": Float(1e-3, 1e-1, sampling="log", default=1e-2),
            **_dropout([_variant(model) for model in models], default=0.1, most=0.3),
        }
    )


def from_scratch_text(
    models: Sequence[str] = ("transformer_tiny", "rnn_lstm", "rnn_gru"), *, epochs: int | None = None
) -> Space:
    """Small models of texts from random weights, which need no download."""
    return Space({**_from_scratch(models, epochs), "data.length": Choice(128, 64, 256)})


def from_scratch_images(models: Sequence[str] = ("cnn",), *, epochs: int | None = None) -> Space:
    """Models of images with a class each from random weights: sizes and activation too."""
    return Space({**_from_scratch(models, epochs), **_images()})


def tables(models: Sequence[str] = ("mlp",), *, epochs: int | None = None) -> Space:
    """Models of tables: sizes, rates, regularization."""
    return Space(_from_scratch(models, epochs))


def series(models: Sequence[str] = ("rnn_lstm", "rnn_gru", "mlp"), *, epochs: int | None = None) -> Space:
    """Models that forecast time series: sizes, rates, regularization.

    The steps that are seen are those of the run; add {"data.window": [24, 48]} where the series has them.
    """
    return Space(_from_scratch(models, epochs))


def mobile(
    models: Sequence[str] = ("mobilenet_v2", "mobilenet_v2_050", "mobilenet_v2_035", "mobilenet_v3_small_minimal"),
    *,
    weights: bool | Sequence[str] = ("mobilenet_v2",),
    epochs: int | None = None,
    sizes: Sequence[int] = (224, 192, 160, 128, 96),
) -> Space:
    """Small models at several sizes of image, for latency and size beside accuracy.

    The models have ReLU6 or ReLU alone, which 8 bits hold well; others of the family have hard swish and squeeze and
    excitation. Those of `weights` begin from what is published (all of them with True: the others need a download),
    the others are trained from scratch.

    Raises:
        ValueError: nothing is published of a model in `weights`.
    """
    chosen = models if weights is True else weights or ()
    begun = [model for model in models if model in chosen]
    fresh = [model for model in models if model not in chosen]
    recipes = []
    tags: list[Choice] = []
    if begun:
        recipes.append(Choice(*_RECIPES[:2], when=_when(begun)))
        tags += [Choice(_tag(model), when=_when([model])) for model in begun]
    if fresh:
        recipes.append(Choice("from_scratch", when=_when(fresh)))
        tags.append(Choice(None, when=_when(fresh)))
    return Space(
        {
            "model": Choice(*map(_variant, models)),
            "weights": Cases(*tags),
            "recipe": Cases(*recipes),
            "recipe.learning_rate": Float(3e-4, 1e-2, sampling="log", default=1e-3),
            **_epochs(epochs),
            "data.size": Choice(*sizes),
            **_images(),
            **_dropout([_variant(model) for model in models]),
        }
    )


SPACES: Mapping[str, Callable[..., Space]] = {
    make.__name__: make
    for make in (transfer_images, transfer_text, from_scratch_images, from_scratch_text, tables, series, mobile)
}


def find(name: str) -> Callable[..., Space]:
    """What makes a ready-made space.

    Raises:
        ValueError: there is none of this name; the message gives the nearest.
    """
    if name not in SPACES:
        raise ValueError(f"No space named {name!r}.{nearest(name, SPACES)} There are: {', '.join(SPACES)}.")
    return SPACES[name]


def of_run(name: str, run: Run, *, epochs: int | None = None) -> Space:
    """A ready-made space for the model and the data of a run, and for its weights if it has any.

    Raises:
        ValueError: as `find`, or nothing is published of the model and the run has no weights.
    """
    make = find(name)
    options: dict[str, Any] = {}
    if make in (transfer_images, transfer_text):
        options["weights"] = run.weights
    elif make is mobile:
        options["weights"] = (run.model,) if run.weights else ()
    made = make((run.model,), epochs=epochs, **options)
    if make is mobile and run.weights:
        made |= Space({"weights": run.weights})
    return suited(made, run)


def suited(space: Space, run: Run) -> Space:
    """A ready-made space without what is for classes alone, where the run has numbers to predict."""
    numbers = run.task == "regress" or (isinstance(run.data, Images) and bool(run.data.target))
    return Space({name: given for name, given in space.ranges.items() if not (numbers and name == "label_smoothing")})


def _pretrained(models: Sequence[str], weights: str | None) -> dict[str, Any]:
    """Models, and the weights of each."""
    tags = [Choice(_tag(model) if weights is None else weights, when=_when([model])) for model in models]
    return {"model": Choice(*map(_variant, models)), "weights": Cases(*tags)}


def _from_scratch(models: Sequence[str], epochs: int | None) -> dict[str, Any]:
    return {
        "model": Choice(*models),
        "weights": None,
        "recipe": "from_scratch",
        "recipe.learning_rate": Float(1e-4, 1e-2, sampling="log", default=1e-3),
        **_epochs(epochs),
        "batch": Choice(32, 16, 64, 128),
        **_decaying(),
        **_dropout(models, default=None, most=0.6),
        **_sizes(models),
    }


def _sizes(models: Sequence[str]) -> dict[str, Any]:
    """Fields of Configs, each with the values that suit each kind of model."""
    found: dict[str, list[Choice]] = {}
    for kind, fields in _SIZES.items():
        of_kind = [model for model in models if model.split("_")[0] == kind]
        for field, values in fields.items() if of_kind else ():
            found.setdefault(f"overrides.{field}", []).append(Choice(*values, when=_when(of_kind)))
    return {name: Cases(*ranges) for name, ranges in found.items()}


def _images() -> dict[str, Any]:
    return {
        "batch": Choice(32, 16, 64),
        "data.augment": Choice("light", "none", "standard"),
        "data.mixup": Choice(0.0, 0.2),
        "label_smoothing": Choice(0.0, 0.1),
    }


def _decaying() -> dict[str, Any]:
    return {
        "optimization.optimizer": Choice("adam", "adamw"),
        "optimization.weight_decay": Float(
            1e-3, 1e-1, sampling="log", when={"optimization.optimizer": "adamw"}, default=1e-2
        ),
    }


def _epochs(epochs: int | None) -> dict[str, Any]:
    return {} if epochs is None else {"recipe.epochs": epochs}


def _dropout(models: Sequence[str], *, default: float | None = 0.2, most: float = 0.5) -> dict[str, Any]:
    """Dropout, if a model has a field for it."""
    fields = [targets.options(model) for model in models]
    has = any(names is not None and "dropout" in names for names in fields)
    return {"overrides.dropout": Float(0.0, most, default=default)} if has else {}


def _when(models: Sequence[str]) -> dict[str, tuple[str, ...]]:
    return {"model": tuple(map(_variant, models))}


def _variant(model: str) -> str:
    """A variant without a tag behind it; of a checkpoint all of it."""
    return model if "/" in model else model.partition(".")[0]


def _tag(model: str) -> str | None:
    """The weights of a model: the tag behind its name, or the first that is known, those in the package before others.

    Raises:
        ValueError: there is none.
    """
    if "/" in model:
        return None  # a checkpoint has its own
    variant, _, tag = model.partition(".")
    known = [line.tag for line in published() if line.variant == variant]
    if tag or not known:
        if tag in known:
            return tag
        raise ValueError(
            f"No weights {tag or 'at all'!r} are published of {variant!r}.{nearest(tag, known)} Known: "
            f"{', '.join(known) or 'none; take a space from scratch'}."
        )
    return "bundled" if "bundled" in known else known[0]
