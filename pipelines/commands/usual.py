"""What `zoo fit` takes where nothing is asked for: weights, a recipe and its phases."""

from __future__ import annotations

from pipelines import tasks
from pipelines.recipes import RECIPES
from pipelines.run import Phase


def usual_recipe(model: str, task: str | None) -> str | None:
    """The recipe of a model that has one of its own; None where weights and teachers decide."""
    return "adversarial" if (task or tasks.usual(model)) == "generate" else None


def phases_of(
    recipe: str, epochs: int | None, learning_rate: float | None, warmup: float | None = None
) -> tuple[Phase, ...]:
    """The phases of a recipe, with what is given.

    Raises:
        ValueError: there is no such recipe, or a value is out of range.
    """
    from dataclasses import replace

    if recipe not in RECIPES:
        raise ValueError(f"No recipe {recipe!r}. Recipes: {', '.join(RECIPES)}.")
    given = {"epochs": epochs, "learning_rate": learning_rate}
    phases = RECIPES[recipe](**{name: value for name, value in given.items() if value is not None})
    return phases if warmup is None else tuple(replace(phase, warmup=warmup) for phase in phases)


def usual_weights(model: str) -> str | None:
    """The weights that come with the package, if the model has any."""
    from zoo.weights.curated import published

    return next((line.tag for line in published() if line.variant == model and line.tag == "bundled"), None)
