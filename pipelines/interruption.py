"""Ctrl-C and SIGTERM while a model trains: the running step ends first, and its state is saved."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupted(KeyboardInterrupt):
    """Training was asked to end, and its state is saved. `signal` is what asked."""

    def __init__(self, asked: signal.Signals):
        super().__init__(f"{asked.name} came while training; its state is saved.")
        self.signal = asked


class Interruption:
    """Which signal has asked for the end, if any has."""

    def __init__(self) -> None:
        self.asked: signal.Signals | None = None

    def _take(self, number: int, frame: FrameType | None) -> None:
        if self.asked is not None:  # a second one does not wait
            raise KeyboardInterrupt
        self.asked = signal.Signals(number)


@contextlib.contextmanager
def watched() -> Iterator[Interruption]:
    """Inside, the first signal is only noted. Python lets the main thread alone say so; in others nothing changes."""
    interruption = Interruption()
    if threading.current_thread() is not threading.main_thread():
        yield interruption
        return
    before = {number: signal.signal(number, interruption._take) for number in SIGNALS}
    try:
        yield interruption
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
