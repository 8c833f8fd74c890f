"""What a chief and its workers say to one another: keras-tuner's own calls, and what those have no place for besides.

The values of a trial, what came of it, and the folder of the search go along as JSON in the calls' metadata: for
keras-tuner values are numbers, texts and truth values alone, and failures have no reason.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from keras_tuner.src import protos
from keras_tuner.src.engine.hyperparameters import HyperParameters
from keras_tuner.src.engine.trial import Trial as TunerTrial
from keras_tuner.src.engine.trial import TrialStatus

from tuning.plan import PORT
from tuning.trial import Result, Trial

__all__ = ["TrialStatus", "address", "calls", "message", "messages", "read", "read_result", "said", "service"]

_KEY = "zoo-bin"  # of the metadata; -bin has gRPC pass on any bytes
_ADDRESS = re.compile(r"(?P<host>[^\s:/\[\]]+|\[[0-9a-fA-F:.]+\])(:(?P<port>[0-9]{1,5}))?")

messages = protos.get_service()
calls = protos.get_service_grpc()


def address(text: str) -> str:
    """HOST:PORT, with the usual port where none is given.

    Raises:
        ValueError: it is no such address.
    """
    match = _ADDRESS.fullmatch(text)
    port = int(match["port"] or PORT) if match else 0
    if not match or not 1 <= port <= 65_535:
        raise ValueError(f"{text!r} is no address of a chief; such as machine1:{PORT}.")
    return f"{match['host']}:{port}"


def said(**values: Any) -> tuple[tuple[str, bytes], ...]:
    """Metadata that holds some values."""
    return ((_KEY, json.dumps(values).encode()),)


def read(metadata: Iterable[tuple[str, str | bytes]]) -> dict[str, Any]:
    """The values in metadata; none where the other side is keras-tuner's own."""
    return next((json.loads(value) for key, value in metadata if key == _KEY), {})


def message(trial: Trial | None, status: str) -> Any:
    """A trial as keras-tuner's message, in which only its id and status are looked at."""
    return TunerTrial(HyperParameters(), trial_id=trial.id if trial else "", status=status).to_proto()


def service() -> type:
    """What answers keras-tuner's calls, to be inherited from."""
    return calls.OracleServicer


def read_result(values: dict[str, Any]) -> Result | None:
    """A result from metadata; None where the trial was stopped."""
    found = values.get("result")
    return None if found is None else Result(**found)


def result_values(result: Result | None) -> dict[str, Any] | None:
    """A result for metadata."""
    return None if result is None else asdict(result)
