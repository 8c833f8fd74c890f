"""Ready-made spaces: what is worth trying first, for each kind of data.

All are spaces like any other: `spaces.tables() | Space({"batch": 16})` fixes the batch, and their first trial is what
`zoo fit` does when nothing else is asked.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pipelines.run import Images, Run
from tuning import space_parts as parts
from tuning.space import Cases, Choice, Float, Space
from zoo.core.naming import nearest


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
            **parts.pretrained(models, weights),
            "recipe": Choice(*parts.RECIPES),
            "recipe.learning_rate": Float(1e-4, 1e-2, sampling="log", default=1e-3),
            "recipe.layer_decay": Float(0.6, 1.0, default=0.8),
            **parts.lasting(epochs),
            **parts.images(),
            **parts.decay(),
            **parts.dropout([parts.variant(model) for model in models]),
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
            **parts.pretrained(models, weights),
            "recipe": Choice("fine_tuning", "lora"),
            "recipe.learning_rate": Cases(
                Float(3e-5, 1e-3, sampling="log", when=tuned, default=2e-4),
                Float(1e-4, 3e-3, sampling="log", when=low_rank, default=1e-3),
            ),
            "recipe.layer_decay": Float(0.7, 1.0, default=0.9),
            "recipe.rank": Choice(4, 8, 16, default=8),
            "recipe.mlp": Choice(False, True),
            **parts.lasting(epochs),
            "batch": Choice(16, 32, 8),
            "data.length": Choice(128, 64, 256),
            "optimization.optimizer": "adamw",
            "optimization.weight_decay": Float(1e-3, 1e-1, sampling="log", default=1e-2),
            **parts.dropout([parts.variant(model) for model in models], default=0.1, most=0.3),
        }
    )


def from_scratch_text(
    models: Sequence[str] = ("transformer_tiny", "rnn_lstm", "rnn_gru"), *, epochs: int | None = None
) -> Space:
    """Small models of texts from random weights, which need no download."""
    return Space({**parts.from_scratch(models, epochs), "data.length": Choice(128, 64, 256)})


def from_scratch_images(models: Sequence[str] = ("cnn",), *, epochs: int | None = None) -> Space:
    """Models of images with a class each from random weights: sizes and activation too."""
    return Space({**parts.from_scratch(models, epochs), **parts.images()})


def transfer_pairs(
    models: Sequence[str] = ("hf://openai/clip-vit-base-patch32",),
    *,
    weights: str | None = None,
    epochs: int | None = None,
) -> Space:
    """Published models of images and texts, on images with captions: recipe, rates, augmentation.

    The options are as in `transfer_text`. The batch is the run's: among more captions the right one is harder to find.

    Raises:
        ValueError: nothing is published of a model.
    """
    return Space(
        {
            **parts.pretrained(models, weights),
            "recipe": Choice(*parts.RECIPES, "lora"),
            "recipe.learning_rate": Float(1e-5, 1e-2, sampling="log", default=1e-3),
            "recipe.layer_decay": Float(0.6, 1.0, default=0.8),
            "recipe.rank": Choice(8, 4, 16),
            **parts.lasting(epochs),
            "data.augment": Choice("light", "none"),
            **parts.decay(),
        }
    )


def from_scratch_pairs(models: Sequence[str] = ("clip_vit_base32",), *, epochs: int | None = None) -> Space:
    """Models of images with captions from random weights, in batches of the run's size."""
    ranges = parts.from_scratch(models, epochs) | {"data.augment": Choice("light", "none")}
    return Space({name: given for name, given in ranges.items() if name != "batch"})


def tables(models: Sequence[str] = ("mlp",), *, epochs: int | None = None) -> Space:
    """Models of tables: sizes, rates, regularization."""
    return Space(parts.from_scratch(models, epochs))


def series(models: Sequence[str] = ("rnn_lstm", "rnn_gru", "mlp"), *, epochs: int | None = None) -> Space:
    """Models that forecast time series: sizes, rates, regularization.

    The steps that are seen are those of the run; add {"data.window": [24, 48]} where the series has them.
    """
    return Space(parts.from_scratch(models, epochs))


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
        recipes.append(Choice(*parts.RECIPES[:2], when=parts.when(begun)))
        tags += [Choice(parts.tag(model), when=parts.when([model])) for model in begun]
    if fresh:
        recipes.append(Choice("from_scratch", when=parts.when(fresh)))
        tags.append(Choice(None, when=parts.when(fresh)))
    return Space(
        {
            "model": Choice(*map(parts.variant, models)),
            "weights": Cases(*tags),
            "recipe": Cases(*recipes),
            "recipe.learning_rate": Float(3e-4, 1e-2, sampling="log", default=1e-3),
            **parts.lasting(epochs),
            "data.size": Choice(*sizes),
            **parts.images(),
            **parts.dropout([parts.variant(model) for model in models]),
        }
    )


SPACES: Mapping[str, Callable[..., Space]] = {
    make.__name__: make
    for make in (
        *(transfer_images, transfer_text, transfer_pairs),
        *(from_scratch_images, from_scratch_text, from_scratch_pairs),
        *(tables, series, mobile),
    )
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
    if make in (transfer_images, transfer_text, transfer_pairs):
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
