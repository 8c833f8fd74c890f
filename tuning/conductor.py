"""The trials of a search as they come and go: proposed, begun, ended, gone on with."""

from __future__ import annotations

import dataclasses
import itertools
import shutil
from collections import Counter
from pathlib import Path
from types import ModuleType

from pipelines.commands.terminal import import_tensorflow
from pipelines.interruption import Interrupted, Interruption
from tuning import journal as journals
from tuning import ranking
from tuning.carrier import Carrier, Done
from tuning.journal import Created, Ended, Journal
from tuning.plan import Plan
from tuning.terms import Clock
from tuning.trial import Result, Trial
from tuning.watching import Board

FEW = 5  # trials: when the first ones all fail, the others would too
_LOOK = 0.5  # seconds between two looks at what goes on
_OFTEN = 3  # times that a trial may be ended from outside until it counts as failed


def oracles() -> ModuleType:
    """The module of the oracles. It imports TensorFlow, for which the server of the trials need not wait."""
    import_tensorflow()
    from tuning import oracles

    return oracles


class Conductor:
    """Has trials begun, and notes their ends. The journal knows of each before anything is done about it."""

    def __init__(self, given: Plan, folder: Path, journal: Journal, clock: Clock, board: Board, asked: Interruption):
        self._plan, self._folder, self._journal = given, folder, journal
        self._clock, self._board, self._asked = clock, board, asked
        self._oracles = oracles()
        self._oracle = self._oracles.make(given)
        self._oracles.replay(self._oracle, journal.events)
        self._trials = {trial.id: trial for trial in journals.trials(journal.events)}
        self._hands = {event.trial: event.hand for event in journal.events if isinstance(event, Created)}
        self._waiting = [trial.id for trial in self._trials.values() if trial.result is None]
        self._places: dict[str, int] = {}  # of the trials that run
        self._stopped: Counter[str] = Counter()
        self._ended = 0  # since this process goes on with it
        self._exhausted = False  # the oracle has nothing more to propose
        board.know(self.trials)
        self._forget()

    @property
    def trials(self) -> list[Trial]:
        """All trials in the order in which they began."""
        return list(self._trials.values())

    @property
    def left(self) -> int:
        """Trials that have not ended, or not begun; none where the space holds no others."""
        waiting = sum(trial.result is None for trial in self._trials.values())
        if self._exhausted:
            return waiting
        return self._plan.trials - sum(trial.result is not None for trial in self._trials.values())

    def run(self, carrier: Carrier) -> None:
        """Carry out trials until there are no more, the budget is over, or the end is asked for.

        Raises:
            Interrupted: it is; the trials that ran have saved their state.
        """
        while self._asked.asked is None and self._clock.left > 0:
            self._begin(carrier)
            if not self._places:
                return
            self._wait(carrier)
        for name in carrier.running:
            carrier.stop(name)
        while self._places:
            self._wait(carrier)
        if self._asked.asked is not None:
            raise Interrupted(self._asked.asked)

    @property
    def hopeless(self) -> bool:
        """Whether the first trials have all failed."""
        ended = [trial.result.status for trial in self._trials.values() if trial.result is not None]
        return self._ended >= FEW and "completed" not in ended

    def _begin(self, carrier: Carrier) -> None:
        """Have all hands full, as far as there are trials, and hope."""
        while len(self._places) < self._clock.terms.parallel and not self.hopeless:
            name = self._waiting.pop(0) if self._waiting else self._propose()
            if name is None:
                return
            self._places[name] = next(n for n in itertools.count() if n not in self._places.values())
            carrier.start(self._trials[name], place=self._places[name])
            self._board.begin(self._trials[name])

    def _propose(self) -> str | None:
        """Another trial, if there is one now."""
        if self._exhausted or len(self._trials) >= self._plan.trials:
            return None
        busy = {self._hands[trial.id] for trial in self._trials.values() if trial.result is None}
        hand = next(f"hand{n}" for n in itertools.count() if f"hand{n}" not in busy)
        trial = self._oracles.propose(self._oracle, hand)
        if not isinstance(trial, Trial):
            self._exhausted = trial == "stopped"
            return None
        self._journal.add(Created(trial.id, hand, trial.values))
        self._trials[trial.id], self._hands[trial.id] = trial, hand
        return trial.id

    def _wait(self, carrier: Carrier) -> None:
        for done in carrier.wait(_LOOK):
            del self._places[done.trial]
            self._end(done)
        self._board.tick()
        self._clock.tick()

    def _end(self, done: Done) -> None:
        """Note what came of a trial; one that was stopped by somebody else goes on, unless that happens often."""
        result = done.result
        if result is None:
            self._stopped[done.trial] += 1
            self._waiting.insert(0, done.trial)
            if self._stopped[done.trial] < _OFTEN:
                return self._board.end(self._trials[done.trial])
            self._waiting.remove(done.trial)
            result = Result("failed", f"its process was ended by somebody else {_OFTEN} times.")
        self._journal.add(Ended(done.trial, result))
        self._trials[done.trial] = dataclasses.replace(self._trials[done.trial], result=result)
        self._oracles.end(self._oracle, done.trial, result, self._plan)
        self._ended += 1
        self._forget()
        self._board.end(self._trials[done.trial])

    def _forget(self) -> None:
        """Remove the checkpoints of trials that nothing goes on from: Hyperband may from all, others from the best."""
        if self._plan.oracle == "hyperband":
            return
        kept = {trial.id for trial in ranking.front(self.trials, self._plan)}
        for trial in self._trials.values():
            if trial.result is not None and trial.id not in kept:
                shutil.rmtree(trial.folder(self._folder) / "checkpoints", ignore_errors=True)
