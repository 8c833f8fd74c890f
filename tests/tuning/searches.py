"""Searches that nobody carried out: their folders, as trials of a known merit would have left them."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pipelines.monitor import Epoch, History
from pipelines.recipes import feature_extraction
from pipelines.run import Images, Run
from tuning.journal import NAME, Created, Ended, _line
from tuning.plan import Objective, Plan
from tuning.space import Space
from tuning.trial import FOLDER, Result

SPACE = {
    "batch": [16, 32, 64],
    "recipe": ["feature_extraction", "lora"],
    "recipe.learning_rate": {"float": [1e-5, 1e-1], "sampling": "log"},
    "recipe.rank": {"int": [2, 32]},
    "loss": ["cross_entropy", "focal"],
}
REASON = "TrainingDiverged: the loss is <nan> in step 14 & the weights [red]too[/]"


def scores_of(values: Mapping[str, Any]) -> dict[str, float]:
    """The further from 1e-3 the rate, the worse; the larger the batch, the faster."""
    loss = abs(math.log10(values.get("recipe.learning_rate", 1e-3)) + 3)
    return {
        "loss": loss / 2, "val_loss": loss, "val_accuracy": 1 - loss / 4,
        "latency": 64 / values.get("batch", 16), "size": 1e5 * values.get("batch", 16),
    }  # fmt: skip


def plan_of(ranges: Mapping[str, Any] | None = None, *, trials: int = 12, objectives: tuple[str, ...] = ("val_loss",)):
    """A search of the digits."""
    run = Run("mobilenet_v2", Images("digits", size=32), feature_extraction(epochs=4), Path("run"), weights="bundled")
    oracle = "pareto" if len(objectives) > 1 else "bayesian"
    wanted = tuple(map(Objective.of, objectives))
    return Plan(run, Space(SPACE if ranges is None else ranges), wanted, oracle=oracle, trials=trials)


def search(
    folder: Path,
    ended: int,
    *,
    ranges: Mapping[str, Any] | None = None,
    trials: int | None = None,
    objectives: tuple[str, ...] = ("val_loss",),
    fails: Callable[[int], bool] = lambda number: False,
    running: int = 0,
    scores: Callable[[Mapping[str, Any]], dict[str, float]] = scores_of,
    more: Callable[[int], dict[str, Any]] = lambda number: {},
    epochs: int = 4,
) -> Path:
    """The folder of a search in which so many trials ended, at random points of the space, and others run."""
    plan = plan_of(ranges, trials=trials or max(1, ended + running), objectives=objectives)
    folder.mkdir(parents=True)
    (folder / "search.json").write_text(plan.to_json(), encoding="utf-8")
    generator, events = random.Random(0), []
    for number in range(ended + running):
        name, values = f"{number:04d}", {**plan.space.draw(generator), **more(number)}
        events.append(Created(name, "hand0", values))
        trained = epochs if number < ended and not fails(number) else 1
        _history(folder / FOLDER / name, scores(values), trained)
        if number >= ended:
            continue
        failed = Result("failed", REASON, {}, trained, 2.0, 10**9)
        done = Result("completed", "", scores(values), trained, 70.0, 5 * 10**8)
        events.append(Ended(name, failed if fails(number) else done))
    (folder / NAME).write_bytes(b"".join(map(_line, events)))  # at once: a Journal waits for the disk after each
    return folder


def _history(folder: Path, scores: Mapping[str, float], epochs: int) -> None:
    found = [
        Epoch(1, epoch, 1e-3, {name: value + 1 / epoch - 1 / epochs for name, value in scores.items()}, 1.0)
        for epoch in range(1, epochs + 1)
    ]
    folder.mkdir(parents=True)
    (folder / "history.json").write_text(History(found, found[-1]).to_json(), encoding="utf-8")
