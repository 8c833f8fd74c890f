"""The loop: phase by phase, epoch by epoch, step by step, from wherever a checkpoint says that it is."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from pipelines import diagnosis, optimizer, workers
from pipelines.accord import Accord
from pipelines.checkpoints import Checkpoint, Checkpoints, Remembered
from pipelines.clipping import Clip
from pipelines.decay import penalty
from pipelines.ema import MovingAverage
from pipelines.engine import Engine
from pipelines.feed import Feed, example
from pipelines.freezing import Freezer, Groups, unfrozen
from pipelines.interruption import Interrupted, Interruption
from pipelines.keeper import Keeper
from pipelines.monitor import Epoch, TrainingDiverged, Watcher
from pipelines.optimization import USUAL, Optimization
from pipelines.recovery import BY_GRADIENT, Course, Recovery, RolledBack, assign, begins_epoch, begins_phase, evaluate
from pipelines.run import Phase
from pipelines.shortcut import Given, Source, shorten

SECONDS = 60.0  # between two checkpoints within an epoch, unless steps are counted


@dataclass(frozen=True)
class Settings:
    """How a fit goes about it, whatever it fits."""

    optimization: Optimization = USUAL
    accumulate: int = 1  # micro-batches of each replica's part of a batch
    save_steps: int | None = None  # between two checkpoints within an epoch; None: about a minute
    rollbacks: int = 0  # how often a fit whose loss is no number goes back, to go on at half the learning rate
    divide: bool = True  # whether it goes on in more micro-batches where memory does not suffice
    about: Mapping[str, Any] = field(default_factory=dict)  # what checkpoints say of the data
    names: Callable[[int], Sequence[str]] = lambda number: ()  # what the examples of a batch are called
    features: Source | None = None  # the examples, where layers that are frozen in a phase may see each of them once
    engine: type[Engine] = Engine  # what takes the steps
    draw: Callable[[str], None] | None = None  # pictures of the model as it is evaluated, under the name of an epoch
    until: int | None = None  # epochs of all phases together, after which it stops where it is, to go on another time


@dataclass
class Position:
    """Where a fit is: what is done. Phases count from 1."""

    phase: int = 1  # the one that runs
    epoch: int = 0  # whole epochs of this phase
    batch: int = 0  # steps of this epoch
    step: int = 0  # of all phases together: the number of the next batch
    trained: dict[str, float] | None = None  # metrics of an epoch whose validation has not come to its end


class Loop:
    """Trains a model through its phases, and can write down all that decides how it goes on, and read it again."""

    def __init__(
        self,
        model: keras.Model,
        groups: Groups,
        phases: Sequence[Phase],
        feed: Feed,
        validation: tf.data.Dataset | None,
        *,
        loss: keras.losses.Loss | str,
        metrics: Callable[[], Sequence],
        keeper: Keeper,
        settings: Settings = Settings(),
        checkpoints: Checkpoints | None = None,
        watchers: Iterable[Watcher] = (),
        interruption: Interruption | None = None,
    ):
        self.at = Position()
        self._model, self._groups, self._phases = model, groups, phases
        self._feed, self._validation = feed, validation
        self._loss, self._metrics = loss, metrics
        self._keeper, self._settings, self._checkpoints = keeper, settings, checkpoints
        self._states, self._course = checkpoints or Remembered(), Course(settings.accumulate)
        self._recovery = Recovery(model, feed, self._states, self._course, keeper, rollbacks=settings.rollbacks)
        self._watchers = tuple(watchers)
        several = workers.train_together(model)
        self._accord = Accord(interruption or Interruption(), self._is_late, several=several)
        self._saved, self._new_best = time.monotonic(), False
        self._average: MovingAverage | None = None
        self._features = settings.features
        self._given: Given = Given(feed, validation)

    def run(self, resumed: Checkpoint | None = None) -> None:
        """Train until all phases are done, or as many epochs as are asked for; the model ends with the best weights.

        Raises:
            Interrupted: a signal came, and the state is saved.
            TrainingDiverged: the loss or a gradient is no number any more.
        """
        if resumed is not None:
            course = resumed.state.get("course", {})
            self._course.become(course)
            self._features = self._features if "cached" in course else None  # it began when there was no such thing
            self._restore(resumed)
        before, given = None, resumed
        with Freezer(self._model, self._groups) as freezer, self._model.distribute_strategy.scope():
            while self.at.phase <= len(self._phases):
                phase = self._course.slowed(self._phases[self.at.phase - 1])
                freezer.apply(phase)
                engine = self._compile(phase, before)
                if resumed is not None:
                    assign(self._variables(), resumed.arrays)
                else:
                    self._keeper.begin()
                    self._course.cached = None
                if resumed is None or resumed is not given or not self._checkpoints:
                    self._save()
                try:
                    self._given = self._shortened(phase, engine)
                    self._run_phase(phase, engine)
                except RolledBack as back:
                    resumed = back.checkpoint
                    self._restore(resumed)
                    continue
                resumed, before = None, self._model.optimizer
                self._keeper.restore_best()
                if self._is_enough:
                    return
                self.at = Position(self.at.phase + 1, step=self.at.step)

    def _compile(self, phase: Phase, before: keras.optimizers.Optimizer | None) -> Engine:
        chosen = self._settings.optimization
        built = optimizer.build(self._model, self._groups, phase, chosen, steps=self._feed.steps * phase.epochs)
        optimizer.carry_state(before, built)
        self._model.compile(built, loss=self._loss, weighted_metrics=list(self._metrics()))
        self._model._symbolic_build(data_batch=example(self._feed.spec))
        learning = {name: self._groups[name] for name in unfrozen(self._groups, phase)}
        for watcher in self._watchers:
            watcher.begin_phase(self.at.phase, phase, list(learning))
        variables = {
            name: [v for layer in layers for v in layer.trainable_variables] for name, layers in learning.items()
        }
        self._average = MovingAverage(self._model, chosen.ema) if chosen.ema else None
        return self._settings.engine(
            self._model, variables, accumulate=self._course.accumulate, clip=Clip.of(chosen),
            average=self._average, penalty=penalty(self._model, chosen),
        )  # fmt: skip

    def _shortened(self, phase: Phase, engine: Engine) -> Given:
        """What this phase trains and validates on: what its frozen layers answer, where that is right and pays."""
        found = self._given = Given(self._feed, self._validation)  # the memory of the phase before is free then
        self._recovery.read(self._feed)
        if self._features is not None and self._course.cached is not False:
            found = shorten(
                self._model, phase, self._features, found, engine, between=self._accord.leave_if_asked,
                history=self._keeper.history, begun=self._course.cached is True,
            )  # fmt: skip
        self._course.cached = found.feed is not self._feed
        self._recovery.read(found.feed)
        return found

    def _run_phase(self, phase: Phase, engine: Engine) -> None:
        while self.at.epoch < phase.epochs and not self._keeper.exhausted and not self._is_enough:
            begun = time.perf_counter()
            if self.at.trained is None:
                self._train_epoch(phase, engine)
            try:
                epoch = self._conclude_epoch(phase, engine, begun)
            except Interrupted:
                self._save()
                raise
            optimizer.after_epoch(self._model.optimizer, epoch.metrics)
            for watcher in self._watchers:
                watcher.after_epoch(epoch)
            self._save()
            self._accord.meet()
            self._accord.leave_if_asked()

    def _train_epoch(self, phase: Phase, engine: Engine) -> None:
        save = self._save if self._settings.divide else None
        for watcher in self._watchers:
            watcher.begin_epoch(self.at.epoch + 1, self._feed.steps, self.at.batch)
        if self.at.batch == 0:
            self._model.reset_metrics()
        while self.at.batch < self._feed.steps:
            step = self._recovery.step(engine, self.at, self._variables, save, *self._accord.wishes())
            self._accord.hear(step.wishes)
            self.at.batch, self.at.step = self.at.batch + 1, self.at.step + 1
            if not (step.skipped or (math.isfinite(step.loss) and all(map(math.isfinite, step.norms)))):
                self._recovery.roll_back(self.at, step.loss)
                self._diverge(phase, engine, step.loss)
            for watcher in self._watchers:
                watcher.after_step(self.at.step, step)
            if self._is_due():
                self._save()
            self._end_if_asked()
        self.at.trained = engine.results()

    def _conclude_epoch(self, phase: Phase, engine: Engine, begun: float) -> Epoch:
        """Validate and keep what has been learned: its moving average, where there is one."""
        with self._average.in_model() if self._average else contextlib.nullcontext():
            found = {**(self.at.trained or {}), **self._validate(engine)}
            if not math.isfinite(found.get("val_loss", 0.0)):
                self._recovery.roll_back(self.at, found["val_loss"], what="validation loss")
            self.at.epoch, self.at.batch, self.at.trained = self.at.epoch + 1, 0, None
            if self._settings.draw is not None:
                self._settings.draw(f"phase{self.at.phase}_epoch{self.at.epoch:03}")
            epoch = Epoch(self.at.phase, self.at.epoch, phase.learning_rate, found, time.perf_counter() - begun)
            self._new_best |= self._keeper.record(epoch)
        return epoch

    def _validate(self, engine: Engine) -> dict[str, float]:
        if self._given.validation is None:
            return {}
        found = evaluate(engine, self._given.validation, between=self._accord.leave_if_asked)
        return {f"val_{name}": value for name, value in found.items()}

    @property
    def _is_enough(self) -> bool:
        until = self._settings.until
        return until is not None and len(self._keeper.history.epochs) >= until

    def _is_due(self) -> bool:
        every = self._settings.save_steps
        return self.at.step % every == 0 if every else self._accord.late

    def _is_late(self) -> bool:
        return time.monotonic() - self._saved > SECONDS

    def _end_if_asked(self) -> None:
        """Save and end if a signal asked for it."""
        if self._accord.asked:
            self._save()
        self._accord.leave_if_asked()

    def _diverge(self, phase: Phase, engine: Engine, loss: float) -> None:
        number = self.at.step - 1
        before = self._values_before(engine, number)
        batch = next(iter(self._feed.start(number)))
        found = diagnosis.explain(self._model, batch, before=before, names=self._settings.names(number))
        self._keeper.restore_best()
        what = "loss" if not math.isfinite(loss) else BY_GRADIENT
        raise TrainingDiverged(
            f"The {what} became {loss} in phase {self.at.phase}, epoch {self.at.epoch + 1}, step {self.at.step}, at "
            f"a peak learning rate of {phase.learning_rate:g}{self._course.told}. Try a tenth. "
            f"The model holds the best weights so far.\n{found}"
        )

    def _values_before(self, engine: Engine, number: int) -> list[np.ndarray] | None:
        """What the model's variables were before a step of this phase, had again from its last checkpoint, if any."""
        known = self._checkpoints.latest() if self._checkpoints else None
        if known is None or known.state["position"]["phase"] != self.at.phase:
            return None
        assign(self._variables(), known.arrays)
        begun = known.state["position"]["step"]
        batches = engine.batches(self._given.feed.start(begun))
        for _ in range(begun, number):
            engine.train(batches)
        before = [np.array(variable) for variable in self._model.variables]
        engine.train(batches)
        return before

    def _variables(self) -> dict[str, keras.Variable]:
        """All that a step of training changes, by names that do not hang on what else the process has made."""
        kinds = {
            "model": self._model.variables,
            "optimizer": self._model.optimizer.variables,
            "metric": self._model.metrics_variables,
            "average": self._average.variables if self._average else [],
        }
        return {
            f"{kind}.{place:05}.{variable.path.rsplit('/', 1)[-1]}": variable
            for kind, found in kinds.items()
            for place, variable in enumerate(found)
        }

    def _restore(self, known: Checkpoint) -> None:
        """Be where a checkpoint was written, but for the values of variables; what was noted since is noted still."""
        notes = self._keeper.history.notes
        self.at = Position(**known.state["position"])
        self._keeper.restore(known.state["keeper"], known.best)
        self._keeper.history.notes = notes or self._keeper.history.notes
        self._new_best = bool(known.best)  # which the next checkpoint is to hold too
        for watcher in self._watchers:
            watcher.go_back(self.at.step)

    def _save(self) -> None:
        for watcher in self._watchers:
            watcher.before_checkpoint()
        arrays = {name: np.asarray(variable) for name, variable in self._variables().items()}
        state = {"position": asdict(self.at), "keeper": self._keeper.state(), "data": self._settings.about}
        stay = (begins_epoch, begins_phase) if self._settings.rollbacks else ()
        best = self._keeper.arrays() if self._new_best else None
        self._states.save(arrays, {**state, "course": asdict(self._course)}, best=best, stay=stay)
        self._new_best, self._saved = False, time.monotonic()
