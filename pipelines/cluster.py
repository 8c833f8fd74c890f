"""Which machines train together, each a worker that runs the same command: from options, or from TF_CONFIG.

TensorFlow is not imported here: a mistake is told before anything waits for anybody.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

_ADDRESS = re.compile(r"(?:[^\s:/\[\],]+|\[[0-9a-fA-F:.]+\]):([0-9]{1,5})")  # host:port, or [IPv6]:port
_LAST_PORT = 65_535
_by_options: list[Cluster] = []  # what `configure` has set


@dataclass(frozen=True)
class Cluster:
    """The addresses of all workers, the same everywhere and in the same order, and which of them this process is.

    Raises:
        ValueError: an address is no host:port or is there twice, or the index is not one of them.
    """

    workers: tuple[str, ...]
    index: int

    def __post_init__(self) -> None:
        for address in self.workers:
            match = _ADDRESS.fullmatch(str(address))
            if not match:
                raise ValueError(f"A worker's address is host:port, such as machine1:2222, got {address!r}.")
            if not 1 <= int(match[1]) <= _LAST_PORT:
                raise ValueError(f"The port of a worker is 1 to {_LAST_PORT}, got {address!r}.")
        twice = [address for place, address in enumerate(self.workers) if address in self.workers[:place]]
        if twice:
            raise ValueError(f"A worker's address is there twice: {twice[0]} in {', '.join(self.workers)}.")
        if not 0 <= self.index < len(self.workers):
            raise ValueError(
                f"Worker {self.index} of {len(self.workers)}: the index counts from 0 to {len(self.workers) - 1}."
            )

    def __str__(self) -> str:
        return f"worker {self.index} of {', '.join(self.workers)}"

    def to_json(self) -> str:
        """As TF_CONFIG."""
        return json.dumps({"cluster": {"worker": self.workers}, "task": {"type": "worker", "index": self.index}})

    @property
    def others(self) -> tuple[str, ...]:
        """The addresses of the other workers."""
        return tuple(address for place, address in enumerate(self.workers) if place != self.index)


def configure(workers: Sequence[str], index: int) -> None:
    """Set TF_CONFIG for this process, as a cluster manager would have.

    Raises:
        ValueError: as Cluster, or TF_CONFIG is set to another cluster already.
    """
    wanted, known = Cluster(tuple(workers), index), cluster()
    if known not in (None, wanted):
        raise ValueError(f"TF_CONFIG says {known}; the options say {wanted}. Give only one of them.")
    os.environ["TF_CONFIG"] = wanted.to_json()
    _by_options[:] = [wanted]


def is_first() -> bool:
    """Whether this process is the one that writes what is to be written."""
    known = cluster()
    return known is None or known.index == 0


def given() -> str:
    """The options that say who trains together, to follow a command that is to be given again; else nothing."""
    return "".join(f" --workers {','.join(each.workers)} --index {each.index}" for each in _by_options)


def cluster() -> Cluster | None:
    """What TF_CONFIG says; None where there is one worker or no TF_CONFIG. A "chief" in it is the first worker.

    Raises:
        ValueError: it cannot be understood, or has tasks that are not for training in step.
    """
    text = os.environ.get("TF_CONFIG", "")
    if not text.strip():
        return None
    try:
        found = json.loads(text)
        if found == {}:
            return None
        jobs: Mapping[str, Sequence[str]] = found["cluster"]
        kind, index = found["task"]["type"], int(found["task"]["index"])
        chiefs, others = tuple(jobs.get("chief", ())), tuple(jobs.get("worker", ()))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f'TF_CONFIG={text!r} is not {{"cluster": {{"worker": [addresses]}}, "task": {{"type": "worker", '
            f'"index": 0}}}}: {type(error).__name__} {error}.'
        ) from None
    if kind not in ("chief", "worker") or set(jobs) - {"chief", "worker", "evaluator"}:
        raise ValueError(
            f"TF_CONFIG is of a {kind!r} among {', '.join(jobs)}; workers that train in step are only 'chief' and "
            "'worker'. There are no parameter servers and evaluators."
        )
    workers = Cluster((*chiefs, *others), index + (len(chiefs) if kind == "worker" else 0))
    return workers if len(workers.workers) > 1 else None
