"""`zoo runs`: the runs under a folder, how far each has come and how good it is."""

from __future__ import annotations

import contextlib
import json
import math
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich import box
from rich.markup import escape
from rich.table import Table

from pipelines.commands.terminal import out

_SCORES = (
    "perplexity", "mean_average_precision", "balanced_accuracy", "accuracy", "f1", "macro_f1", "auroc", "exact", "mae",
    "rmse", "loss",
)  # fmt: skip
_OF_KIND: Mapping[str, str] = {  # where the list above would tell of something else, or of nothing
    "autoencoding": "elbo",
    "drawing": "image_loss",
    "generation": "frechet_distance",
    "retrieval": "caption_recall",
}
_SMALL_IS_GOOD = ("perplexity", "mae", "rmse", "loss", "image_loss", "frechet_distance")


class Order(StrEnum):
    """What runs can be sorted by."""

    when = "when"
    name = "name"
    test = "test"


@dataclass(frozen=True)
class Listed:
    """A run as its folder tells of it."""

    name: str  # its path under the folder that was searched
    model: str
    data: str
    state: str
    best: tuple[str, float] | None  # what the best epoch was chosen by, on the validation split if there is one
    test: tuple[str, float] | None
    when: float  # of the last sign of life, seconds since 1970


def runs(
    folder: Annotated[Path, typer.Argument(help="Where to look for runs, at any depth.")] = Path("runs"),
    sort: Annotated[Order, typer.Option(help="The latest first, by name, or the best test score first.")] = Order.when,
) -> None:
    """List the runs under a folder: model, data, how far each has come, its best epoch and its test score."""
    if not folder.is_dir():
        raise FileNotFoundError(f"There is no folder '{folder}'. Name the one that holds your runs: zoo runs FOLDER.")
    found = [_read(path, under=folder) for path in _folders(folder)]
    if not found:
        raise ValueError(f"There are no runs under '{folder}'. zoo fit MODEL --images FOLDER --out RUN makes one.")
    out.print(_table(sorted(found, key=_KEYS[sort])))


def _merit(run: Listed) -> tuple[str, float]:
    """Sorts runs with the same kind of score together, the best of them first, and those without any at the end."""
    if run.test is None or not math.isfinite(run.test[1]):
        return "~", 0
    name, value = run.test
    return name, value if name in _SMALL_IS_GOOD else -value


_KEYS: dict[Order, Callable[[Listed], Any]] = {
    Order.when: lambda run: -run.when,
    Order.name: lambda run: run.name,
    Order.test: lambda run: (*_merit(run), -run.when),
}


def _folders(root: Path) -> Iterator[Path]:
    """The folders with a run.json; what is inside a run is not searched."""
    for path, folders, files in os.walk(root):
        if "run.json" in files:
            folders.clear()
            yield Path(path)
        folders[:] = sorted(name for name in folders if not name.startswith("."))


def _read(path: Path, *, under: Path) -> Listed:
    run = _json(path / "run.json")
    data = run.get("data")
    data = data if isinstance(data, dict) else {}
    source = data.get("source") or data.get("train") or ""
    return Listed(
        name=str(path.relative_to(under)) if path != under else path.resolve().name,
        model=str(run.get("model", "?")),
        data=f"{data.get('kind', 'Images').lower()} {source}".strip() if run else "?",
        state=_state(path, run),
        best=_best(path),
        test=_test(path),
        when=_last_change(path),
    )


def _state(path: Path, run: Mapping[str, Any]) -> str:
    if not isinstance(run.get("phases"), list):
        return "run.json cannot be read"
    if (path / "bundle.json").is_file():
        return "finished"
    kind = "running" if _is_locked(path / "checkpoints" / "lock") else "interrupted"
    at = _position(path / "checkpoints")
    if at is None:
        return f"{kind}: no checkpoint yet" if kind == "running" else f"{kind} before its first checkpoint"
    epochs = [phase["epochs"] for phase in run["phases"]]
    if at["phase"] > len(epochs):
        return f"{kind}: all {len(epochs)} phases done"
    last = epochs[at["phase"] - 1]
    epoch = min(at["epoch"] + 1, last)
    return f"{kind}: phase {at['phase']}/{len(epochs)}, epoch {epoch}/{last}, step {at['step']}"


def _last_change(path: Path) -> float:
    times = [path.stat().st_mtime]
    for each in path.iterdir():
        with contextlib.suppress(FileNotFoundError):  # a file on its way to its final name
            times.append(each.stat().st_mtime)
    return max(times)


def _is_locked(lock: Path) -> bool:
    """Whether a living process trains there. Asking takes the lock for no longer than it takes to ask."""
    try:
        import fcntl

        with lock.open() as stream:
            fcntl.flock(stream, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except (ImportError, OSError):
        return False
    return False


def _position(checkpoints: Path) -> dict[str, int] | None:
    """Where the newest checkpoint with a readable state is: {"phase": 1, "epoch": whole ones, "step": of all}."""
    for folder in sorted(checkpoints.glob("checkpoint-*"), reverse=True):
        at = _json(folder / "state.json").get("position") or {}
        if all(isinstance(at.get(name), int) for name in ("phase", "epoch", "step")):
            return at
    return None


def _best(path: Path) -> tuple[str, float] | None:
    """The loss of the best epoch, by which it was chosen."""
    metrics = (_json(path / "bundle.json").get("best") or {}).get("metrics")
    if metrics is None:
        history = _json(path / "history.json")
        with contextlib.suppress(KeyError, TypeError, IndexError):
            metrics = history["epochs"][history["best"]]["metrics"]
    for name in ("val_loss", "loss"):
        value = (metrics or {}).get(name)
        if isinstance(value, (int, float)):
            return name, float(value)
    return None


def _test(path: Path) -> tuple[str, float] | None:
    """The number that says most of the scores on the test split; of several numbers to predict, that of the first."""
    scores = _json(path / "evaluation.json")
    if name := _OF_KIND.get(str(scores.get("kind"))):
        value = scores.get(name)
        first, name = (value[0], f"{name}@1") if value and isinstance(value, list) else (value, name)
        return (name, float(first)) if isinstance(first, (int, float)) else None
    parts = scores.get("entities") or scores.get("targets") or [{}]
    part = parts[-1 if scores.get("entities") else 0]  # the last one of entities is of all kinds together
    for found in (part, scores):
        for name in _SCORES:
            if isinstance(found, Mapping) and isinstance(found.get(name), (int, float)):
                return name, float(found[name])
    return None


def _json(path: Path) -> dict[str, Any]:
    """What a JSON file holds; nothing where it is not there, is damaged or holds something else."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return values if isinstance(values, dict) else {}


def _table(found: list[Listed]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    for title in ("run", "model", "data", "state", "best", "test", "when"):
        table.add_column(title, overflow="fold", min_width=len("interrupted") if title == "state" else None)
    for run in found:
        cells = (run.name, run.model, run.data, run.state, _score(run.best), _score(run.test), _time(run.when))
        table.add_row(*map(escape, cells))
    return table


def _score(found: tuple[str, float] | None) -> str:
    return "" if found is None else f"{found[0]} {found[1]:.4g}"


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds).strftime("%Y-%m-%d %H:%M")
