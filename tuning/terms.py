"""On which terms a search goes on: trials at a time, time, memory. They decide nothing of what is tried."""

from __future__ import annotations

import dataclasses
import json
import math
import re
import time
from dataclasses import dataclass
from pathlib import Path

from pipelines.files import write_text

NAME = "terms.json"
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_BYTES = {"k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}
_EVERY = 10.0  # seconds after which the time that was spent is written down again


@dataclass(frozen=True)
class Terms:
    """What a user grants a search: trials at a time, seconds in all, and for each trial bytes of memory and seconds."""

    parallel: int = 1
    budget: float | None = None
    memory: int | None = None
    trial_seconds: float | None = None
    spent: float = 0.0  # seconds of the budget

    def __post_init__(self) -> None:
        if type(self.parallel) is not int or self.parallel < 1:
            raise ValueError(f"parallel={self.parallel!r} must be a whole number of at least 1: trials at a time.")
        for name, what in (("budget", "seconds"), ("memory", "bytes"), ("trial_seconds", "seconds")):
            value = getattr(self, name)
            if value is not None and not (isinstance(value, int | float) and 0 < value < math.inf):
                raise ValueError(f"{name}={value!r} must be a number of {what} over 0.")

    def changed(self, **given: float | int | None) -> Terms:
        """With what is given in place of what there is; a budget that is given counts from now on."""
        values = {name: value for name, value in given.items() if value is not None}
        return dataclasses.replace(self, **values, **({"spent": 0.0} if "budget" in values else {}))  # type: ignore[arg-type]


def load(folder: Path) -> Terms:
    """The terms that a search in a folder went on with; the usual ones where it has none."""
    path = folder / NAME
    try:
        return Terms(**json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else Terms()
    except (TypeError, ValueError) as error:
        raise ValueError(f"'{path}' cannot be read: {error}. Remove it to go on with the usual terms.") from None


class Clock:
    """Counts the time that a search spends, and keeps it in the search's folder, where one that goes on finds it."""

    def __init__(self, terms: Terms, folder: Path):
        self.terms, self._folder = terms, folder
        self._begun = self._written = time.monotonic()
        self.write()

    @property
    def spent(self) -> float:
        """Seconds, with those before the search was gone on with."""
        return self.terms.spent + time.monotonic() - self._begun

    @property
    def left(self) -> float:
        """Seconds of the budget; without one, without end."""
        return math.inf if self.terms.budget is None else self.terms.budget - self.spent

    def tick(self) -> None:
        """Write down what is spent, now and then."""
        if time.monotonic() - self._written > _EVERY:
            self.write()

    def write(self) -> None:
        """Write down what is spent."""
        self._written = time.monotonic()
        values = dataclasses.asdict(dataclasses.replace(self.terms, spent=round(self.spent, 3)))
        write_text(self._folder / NAME, json.dumps(values, indent=2) + "\n")


def seconds(text: str, *, option: str = "--budget") -> float:
    """What "30m", "90s", "2h" or "1h30m" say, in seconds.

    Raises:
        ValueError: it is none of that kind.
    """
    if re.fullmatch(r"(\d+(\.\d+)?[smhd])+", text.strip().lower()):
        parts = re.findall(r"(\d+(?:\.\d+)?)([smhd])", text.strip().lower())
        if total := sum(float(number) * _SECONDS[unit] for number, unit in parts):
            return total
    raise ValueError(f"{option} {text} is no length of time: 90s, 30m, 2h or 1h30m.")


def size(text: str, *, option: str = "--memory") -> int:
    """What "2G", "512MB" or "1.5GiB" say, in bytes; a G is 2**30 of them.

    Raises:
        ValueError: it is none of that kind.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmgt])(?:i?b)?", text.strip().lower())
    if match and (found := int(float(match[1]) * _BYTES[match[2]])):
        return found
    raise ValueError(f"{option} {text} is no amount of memory: 512M, 2G or 1.5G.")


def shown(duration: float) -> str:
    """Seconds as "42 s", "3m20s" or "2h05m"."""
    whole = round(duration)
    if whole < 60:
        return f"{whole} s"
    return f"{whole // 60}m{whole % 60:02}s" if whole < 3600 else f"{whole // 3600}h{whole % 3600 // 60:02}m"
