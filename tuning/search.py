"""A search from its plan to its best model, and on from where it stopped."""

from __future__ import annotations

import logging
import shutil
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pipelines import interruption
from pipelines.files import remove_partial
from tuning import conclusion, conductor, place, plan, preflight, ranking, report, terms
from tuning.carrier import CACHE, Carrier
from tuning.conclusion import Proof
from tuning.conductor import Conductor
from tuning.journal import Ended, Journal
from tuning.plan import Plan
from tuning.processes import Processes
from tuning.terms import LEASE, Clock, Terms
from tuning.trial import FOLDER, Trial
from tuning.watching import Board

if TYPE_CHECKING:
    from tuning.chief import Chief

_log = logging.getLogger(__name__)


class SearchFailed(ValueError):
    """No trial of a search came to a score; the message says why."""


@dataclass(frozen=True)
class Found:
    """What a search has come to, in how many seconds; `left` are the trials that its budget did not suffice for."""

    folder: Path
    best: Trial
    front: tuple[Trial, ...]  # with several objectives: the trials that none is better than
    trials: tuple[Trial, ...]
    proof: Proof
    seconds: float
    left: int = 0


def search(
    given: Plan,
    *,
    folder: str | Path,
    parallel: int = 1,
    budget: float | None = None,
    memory: int | None = None,
    trial_seconds: float | None = None,
    progress: bool = True,
    overwrite: bool = False,
    listen: str | None = None,
    lease: float = LEASE,
) -> Found:
    """Carry out a search: its trials, then the best one's bundle in `folder`/best.

    `parallel` is the number of trials at a time, `budget` seconds for all of them, `memory` bytes and `trial_seconds`
    seconds for each. Whenever the process dies, `resume` goes on to the same trials.

    With an address to `listen` at, such as "0.0.0.0:7070", trials are carried out by `tuning.worker.work` on other
    machines, as many at a time as there are workers; one that says nothing for `lease` seconds has lost its trial.

    Raises:
        FileExistsError: the folder holds something already, and `overwrite` is not set.
        ValueError, FileNotFoundError: the plan, the data or the model cannot be had as described.
        SearchFailed: the first trials all failed.
        Interrupted: Ctrl-C or SIGTERM came; what is done is saved.
        JournalError: another process searches there, or nothing can be written.
        ChiefError: the address cannot be had.
    """
    folder = Path(folder)
    granted = Terms(parallel, budget, memory, trial_seconds)
    place.check_room(folder, overwrite=overwrite)
    given.space.check(given.run)
    with Processes() as processes:
        given = _examine(given, processes)
        place.check_writable(folder)
        with Journal(folder) as journal:
            place.prepare(folder, given, journal)
            carrier = _carrier(given, folder, granted, processes, listen=listen, lease=lease)
            return _go_on(given, folder, journal, granted, processes, carrier, progress=progress)


def resume(
    folder: str | Path,
    *,
    parallel: int | None = None,
    budget: float | None = None,
    memory: int | None = None,
    trial_seconds: float | None = None,
    progress: bool = True,
    listen: str | None = None,
    lease: float = LEASE,
) -> Found:
    """Go on with the search in a folder, on the terms that it had but for those that are given.

    No trial that ended runs again; those that ran go on from their checkpoints. A `budget` counts from now on; without
    one there is what is left of the one before. Of a search that was done, what it had come to.

    Raises:
        FileNotFoundError: no search began there.
        ValueError: it cannot be read, or its space or keras-tuner have changed since.
        SearchFailed, Interrupted, JournalError, ChiefError: as `search`.
    """
    folder = Path(folder)
    known = plan.load(folder)
    changed = terms.load(folder).changed(
        parallel=parallel, budget=budget, memory=memory, trial_seconds=trial_seconds
    )  # fmt: skip
    with Journal(folder) as journal, Processes() as processes:
        ended = sum(isinstance(event, Ended) for event in journal.events)
        if ended < known.trials:
            _examine(known, processes)
        carrier = _carrier(known, folder, changed, processes, listen=listen, lease=lease)
        return _go_on(known, folder, journal, changed, processes, carrier, progress=progress)


def _carrier(
    given: Plan, folder: Path, granted: Terms, processes: Processes, *, listen: str | None, lease: float
) -> Carrier | Chief:
    """Who carries out the trials: this machine, or those that come to an address."""
    if listen is not None:
        from tuning.chief import Chief  # which takes its time: it imports keras-tuner

        return Chief(given, folder, listen=listen, lease=lease)
    limits = {"memory": granted.memory, "trial_seconds": granted.trial_seconds}
    return Carrier(given, folder, processes, parallel=granted.parallel, **limits)  # type: ignore[arg-type]


def _examine(given: Plan, processes: Processes) -> Plan:
    """The plan as it can be carried out; one that no trial could carry out is refused."""
    conductor.oracles()  # while the server of the processes imports what it needs
    model = preflight.shares_model(given)
    known = preflight.examine(given.run, processes.server, model=model)
    return preflight.settled(given, known)


def _go_on(
    given: Plan,
    folder: Path,
    journal: Journal,
    granted: Terms,
    processes: Processes,
    carrier: Carrier | Chief,
    *,
    progress: bool,
) -> Found:
    """The trials that are left, then what stays of them; all that was learned by then stays if this is interrupted."""
    remove_partial(folder)
    clock = Clock(granted, folder)
    try:
        with Board(given, folder, clock, progress=progress) as board, interruption.watched() as asked:
            going = Conductor(given, folder, journal, clock, board, asked)
            try:
                with carrier:
                    going.run(carrier)
            finally:
                clock.write()
        seconds, trials = clock.spent, going.trials
        best = ranking.best(trials, given)
        if best is None:
            raise SearchFailed(_nothing(trials, folder, left=going.left))
        conclusion.write_best(folder, best)
        board.say(f"The bundle of trial {best.id} is made, and read again ...")
        proof = conclusion.finish(folder, given, best, processes.server)
        if not going.left:  # no trial is to come that could read it
            shutil.rmtree(folder / CACHE, ignore_errors=True)
    finally:
        _report(folder)
    front = tuple(ranking.front(trials, given)) if len(given.objectives) > 1 else (best,)
    return Found(folder, best, front, tuple(trials), proof, seconds, going.left)


def _report(folder: Path) -> None:
    """Write the report; what cannot be drawn costs nothing of what was found."""
    try:
        report.write(folder, alive=False)
    except Exception:
        _log.warning("The report of '%s' cannot be written.", folder, exc_info=True)


def _nothing(trials: list[Trial], folder: Path, *, left: int) -> str:
    """Why there is no best trial."""
    reasons = Counter(trial.result.reason for trial in trials if trial.result is not None)
    if not reasons:
        return f"The budget was over before the first trial was. Go on: zoo tune --resume {folder} --budget 30m."
    told = "\n".join(
        f"  {reason} ({count} trials)" if count > 1 else f"  {reason}" for reason, count in reasons.items()
    )
    logs = f"What they printed is in {folder / FOLDER}/*/log.txt."
    next_step = f"Go on: zoo tune --resume {folder}." if left else "None are left: change the space or the run."
    return f"All of the first {reasons.total()} trials failed:\n{told}\n{logs} {next_step}"
