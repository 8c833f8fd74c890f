"""What stays of a search: the best run as JSON and as a finished bundle, the table of its trials, and the report."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.files import write_text
from pipelines.run import Run
from tuning import aside, carrier
from tuning.forks import ForkServer
from tuning.plan import Plan
from tuning.trial import Trial

if TYPE_CHECKING:
    from pipelines.bundle import Bundle

RUN, BUNDLE = "best.json", "best"
_PARTIAL = ".best.partial"
_ABOUT = "trial.json"  # in the bundle: which trial it is of, and what it scored
_LINKED = (".safetensors", ".h5")  # files that are replaced, never changed, and so need no copy of their own
_EXACT, _CLOSE = 1e-5, 1e-2  # how far, relatively, a score may be from itself: of float32, and of half precision


class ScoresDiffer(ArithmeticError):
    """The best model, read again from its file, does not score what its trial did."""


@dataclass(frozen=True)
class Proof:
    """The best model as it was read again: its bundle, and each of its validation scores as logged and as found."""

    bundle: Path
    scores: Mapping[str, tuple[float, float]]
    test: str  # what it scores on the test split, in a line; empty where there is none


def write_best(folder: Path, best: Trial) -> Run:
    """Write the best run down as `zoo fit --run` takes it."""
    found = _own(folder, best)
    write_text(folder / RUN, found.to_json())
    return found


def finish(folder: Path, plan: Plan, best: Trial, server: ForkServer) -> Proof:
    """Make the bundle of the best trial, unless it is there, and compare its validation scores with those logged.

    The trial's folder stays as it is. The bundle takes its place when all of it is right; here the test split is
    looked at, for the first time.

    Raises:
        ScoresDiffer: they are not the same.
        OSError: it cannot be written.
    """
    assert best.result is not None
    about = {"trial": best.id, "scores": dict(best.result.scores), "epochs": best.result.epochs}
    final, partial = folder / BUNDLE, folder / _PARTIAL
    known = _known(final)
    if known.get("trial") == about:
        return _proof(final, known)
    shutil.rmtree(partial, ignore_errors=True)
    shutil.copytree(best.folder(folder), partial, copy_function=_link, ignore=shutil.ignore_patterns("lock"))
    own = _own(folder, best)
    log = folder / "best.log"
    trained = carrier.job(plan, folder, best).epochs
    found = aside.call(server, _finish, str(partial), own.to_json(), trained, log=log)
    scores = {name: (best.result.scores[name], value) for name, value in found["scores"].items()}
    _compare(scores, own)
    known = {"trial": about, "scores": scores, "test": found["test"]}
    write_text(partial / _ABOUT, json.dumps(known, indent=2) + "\n")
    shutil.rmtree(final, ignore_errors=True)
    os.replace(partial, final)
    return _proof(final, known)


def _own(folder: Path, best: Trial) -> Run:
    """The best run, with the batch that was found for it if it was to be, in the folder of its bundle."""
    text = (best.folder(folder) / "run.json").read_text(encoding="utf-8")
    return dataclasses.replace(Run.from_json(text), out=folder / BUNDLE)


def _known(bundle: Path) -> dict[str, Any]:
    """What was written down of a bundle that is whole; nothing where there is none."""
    try:
        return json.loads((bundle / _ABOUT).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}


def _proof(bundle: Path, known: Mapping[str, Any]) -> Proof:
    return Proof(bundle, {name: (logged, again) for name, (logged, again) in known["scores"].items()}, known["test"])


def _compare(scores: Mapping[str, tuple[float, float]], run: Run) -> None:
    tolerance = _EXACT if run.hardware.precision == "float32" and run.hardware.deterministic else _CLOSE
    for name, (logged, again) in scores.items():
        if not math.isclose(logged, again, rel_tol=tolerance, abs_tol=tolerance):
            raise ScoresDiffer(
                f"The best model, read again from its file, has {name} {again:.7g}, and its trial logged {logged:.7g}. "
                "No bundle was made of it. Have the data changed since?"
            )


def _link(source: str, target: str) -> None:
    """The same file under another name where it never changes in place, which takes no space; else a copy."""
    if source.endswith(_LINKED):
        try:
            os.link(source, target)
            return
        except OSError:  # another file system, or one without links
            pass
    shutil.copy2(source, target)


def _finish(path: str, text: str, epochs: int | None) -> dict[str, Any]:
    """In a child: the bundle of a trained run in a folder; its validation scores, and that of the test in a line."""
    from pipelines import bundle, outcome
    from pipelines.train import advanced

    folder = Path(path)
    with advanced(dataclasses.replace(Run.from_json(text), out=folder), epochs=epochs) as trained:  # no step is left
        outcome.conclude(trained)
    write_text(folder / "run.json", text)  # where it will lie
    made = bundle.load(folder)
    test = made.scores.summary(made.run.data.unit) if made.scores else ""
    return {"scores": _validated(made), "test": test}


def _validated(made: Bundle) -> dict[str, float]:
    """The validation scores of a bundle, again from its files, as the history names them."""
    from pipelines import datasets, objectives
    from pipelines.recovery import in_smaller_batches

    run = dataclasses.replace(made.run, task=made.task)
    data = datasets.load(run, folder=made.path)
    objective = objectives.of_run(run, data)
    model = made.load_model()
    learner = objective.learner(model) if objective.learner else model
    learner.compile(loss=objective.loss(), weighted_metrics=objective.metrics())

    def score(size: int) -> dict[str, float]:
        batches = objective.complete(
            data.evaluation_set(learner, "validation", batch=size), seed=run.seed, training=False
        )
        return learner.evaluate(batches, return_dict=True, verbose=0)

    assert run.batch != "auto"  # a run that has begun has a number
    found = in_smaller_batches(score, run.batch)
    if run.distillation is not None:
        del found["loss"]  # that of the trial was the teacher's too
    return {f"val_{name}": float(value) for name, value in found.items()}
