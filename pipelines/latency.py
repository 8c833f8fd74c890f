"""How long one call takes."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

THREADS = 2  # of every exported file while it is checked and timed, so that rows can be compared


def median_milliseconds(call: Callable[[], object], *, seconds: float = 0.3, at_least: int = 5) -> float:
    """The median time of a call, after two calls to warm up.

    Calls until `seconds` have passed, but `at_least` so often.
    """
    for _ in range(2):
        call()
    times: list[float] = []
    while len(times) < at_least or sum(times) < seconds:
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return 1000 * statistics.median(times)
