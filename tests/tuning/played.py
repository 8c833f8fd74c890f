"""A search whose trials train nothing: they score what their values say, at once, so that what is tested is the search.

python -m tests.tuning.played FOLDER begins one, or goes on with it.
"""

from __future__ import annotations

import math
import os
import signal
import sys
import time
from pathlib import Path

from pipelines.data import Tables
from pipelines.interruption import Interruption
from pipelines.recipes import from_scratch
from pipelines.run import Run
from tuning import plan as plans
from tuning.carrier import Carrier
from tuning.conductor import Conductor
from tuning.job import Job
from tuning.journal import Journal
from tuning.plan import Objective, Plan
from tuning.processes import Processes
from tuning.space import Space
from tuning.terms import Clock, Terms
from tuning.trial import Result
from tuning.watching import Board

RANGES = {
    "recipe": "from_scratch",
    "recipe.epochs": 9,
    "recipe.learning_rate": {"float": [1e-5, 1e-1], "sampling": "log"},
    "batch": [16, 32],
    "optimization.optimizer": ["adam", "sgd"],
}


def plan(oracle: str = "random", *, trials: int = 6, **ranges) -> Plan:
    """A search for a learning rate of 0.001."""
    run = Run("mlp", Tables("iris"), from_scratch(), Path())
    return Plan(run, Space({**RANGES, **ranges}), (Objective.of("val_loss"),), oracle, trials)  # type: ignore[arg-type]


def play(job: Job) -> Result:
    """Score a trial; what it is told to do otherwise is in files of the search's folder."""
    search = job.folder.parents[1]
    with (job.folder / "starts.txt").open("a") as stream:
        stream.write("begun\n")
    (job.folder / "checkpoints").mkdir(exist_ok=True)
    if (search / "ends_itself").is_file():
        os.kill(os.getpid(), signal.SIGTERM)
    if job.run.batch == 13:
        raise ValueError("A batch of 13 brings bad luck.")
    while (search / "waits").is_file():
        time.sleep(0.02)
    epochs = job.epochs or 9
    distance = abs(math.log10(job.run.phases[0].learning_rate) + 3)
    if job.start is not None:
        assert (job.start / "starts.txt").is_file(), "it goes on from a trial that was there"
    return Result("completed", scores={"val_loss": distance + 1 / epochs}, epochs=epochs)


def carry_out(folder: Path, *, processes: Processes, asked: Interruption | None = None, **granted) -> Conductor:
    """Begin the search in a folder with a plan, or go on with it, until it ends."""
    found = plans.load(folder)
    clock = Clock(Terms(**granted), folder)
    with Journal(folder) as journal, Board(found, folder, clock, progress=False) as board:
        conductor = Conductor(found, folder, journal, clock, board, asked or Interruption())
        conductor.run(Carrier(found, folder, processes, parallel=clock.terms.parallel))
    return conductor


def played(**options) -> Processes:
    """Processes for such trials."""
    return Processes(body="tests.tuning.played:play", preload=(), **options)


if __name__ == "__main__":
    with played() as made:
        carry_out(Path(sys.argv[1]), processes=made)
