"""When a fit saves and when it ends: as this process wishes, or, with several workers, as any of them does."""

from __future__ import annotations

import signal
from collections.abc import Callable, Sequence

from pipelines import workers
from pipelines.interruption import SIGNALS, Interrupted, Interruption


class Accord:
    """What all workers do after the same step, though clocks differ and a signal comes to one of them, or now and then.

    A step is what they take together: each says with it what it wishes, and all do what any of them wished. On one
    machine there is nothing to agree on, and no step is waited for.

    `late` says whether it is time for a checkpoint.
    """

    def __init__(self, interruption: Interruption, late: Callable[[], bool], *, several: bool):
        self._interruption, self._late, self._several = interruption, late, several
        self._asked: signal.Signals | None = None
        self._is_late = False

    @property
    def asked(self) -> signal.Signals | None:
        """The signal that has asked for the end, if any has."""
        return self._asked if self._several else self._interruption.asked

    @property
    def late(self) -> bool:
        """Whether it is time for a checkpoint."""
        return self._is_late if self._several else self._late()

    def wishes(self) -> tuple[bool, ...]:
        """What this worker says with the next step."""
        if not self._several:
            return ()
        return self._late(), *(self._interruption.asked == each for each in SIGNALS)

    def hear(self, wishes: Sequence[bool]) -> None:
        """Take note of what any worker said with the last step."""
        if self._several:
            self._is_late, *asked = wishes
            self._asked = next((each for each, wished in zip(SIGNALS, asked, strict=True) if wished), None)

    def meet(self) -> None:
        """Hear what the workers wish where they take no step."""
        if self._several:
            self.hear(workers.any_of(self.wishes()))

    def leave_if_asked(self) -> None:
        """End if a signal asked for it, not before the chief has written what it writes.

        Raises:
            Interrupted: a signal did.
        """
        if self.asked:
            workers.wait()
            raise Interrupted(self.asked)
