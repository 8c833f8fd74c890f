"""A worker of a search: asks the chief for trials, one at a time, and carries them out on this machine."""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc

from pipelines import interruption
from pipelines.interruption import Interrupted, Interruption
from tuning import plan, protocol, terms
from tuning.carrier import Carrier
from tuning.processes import Processes
from tuning.protocol import TrialStatus
from tuning.trial import Result, Trial

PATIENCE = 600.0  # seconds in which a chief has to come, or come back
_LOOK = 0.5  # seconds between two questions for a trial, and two looks at one that runs
_OFTEN = 5.0  # seconds between two words of a worker that has a trial
_log = logging.getLogger(__name__)


class ChiefLost(OSError):
    """There is no chief at the address any more."""


class Client:
    """A worker's side of what it and the chief say; waits for a chief that is away.

    Raises:
        ChiefLost: it is away for too long.
    """

    def __init__(self, address: str, *, name: str, patience: float, asked: Interruption):
        self._address, self._name, self._patience, self._asked = protocol.address(address), name, patience, asked
        self._channel = grpc.insecure_channel(self._address, options=(("grpc.max_reconnect_backoff_ms", 2000),))
        self._stub = protocol.calls.OracleStub(self._channel)

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self._channel.close()

    def folder(self) -> Path:
        """The folder of the search, as the chief calls it."""
        found = self._call(self._stub.GetSpace, protocol.messages.GetSpaceRequest())[1]
        if "folder" not in found:
            raise ChiefLost(f"At {self._address} there is a chief of keras-tuner's own, and none of zoo tune --chief.")
        return Path(found["folder"])

    def ask(self) -> Trial | str:
        """A trial, or keras-tuner's status where there is none: idle or stopped."""
        request = protocol.messages.CreateTrialRequest(tuner_id=self._name)
        answer, found = self._call(self._stub.CreateTrial, request)
        status = TrialStatus.from_proto(answer.trial.status)
        return Trial(found["id"], found["values"]) if status == TrialStatus.RUNNING else status

    def goes_on(self, trial: Trial) -> bool:
        """Say that this worker still has a trial; whether it is to go on with it."""
        request = protocol.messages.UpdateTrialRequest(trial_id=trial.id, metrics={}, step=0)
        answer, _ = self._call(self._stub.UpdateTrial, request)
        return TrialStatus.from_proto(answer.trial.status) == TrialStatus.RUNNING

    def end(self, trial: Trial, result: Result | None, *, leaves: bool = False) -> None:
        """Give a trial back, with what came of it, or without where it was stopped; `leaves`: and go."""
        statuses = {None: TrialStatus.INVALID, "completed": TrialStatus.COMPLETED, "failed": TrialStatus.FAILED}
        status = statuses[result.status if result else None]
        request = protocol.messages.EndTrialRequest(trial=protocol.message(trial, status))
        self._call(self._stub.EndTrial, request, result=protocol.result_values(result), leaves=leaves)

    def _call(self, call: Callable[..., Any], request: Any, **values: Any) -> tuple[Any, dict[str, Any]]:
        """The answer and the values in its metadata."""
        metadata, end = protocol.said(worker=self._name, **values), time.monotonic() + self._patience
        while True:
            try:
                answer, made = call.with_call(request, metadata=metadata, timeout=10)
                return answer, protocol.read(made.trailing_metadata() or ())
            except grpc.RpcError as error:
                if time.monotonic() > end:
                    raise ChiefLost(f"There is no chief at {self._address}: {error.details()}.") from None
            if self._asked.asked is not None:
                raise Interrupted(self._asked.asked)
            time.sleep(_LOOK)


def work(
    address: str, *, folder: str | Path | None = None, patience: float = PATIENCE, say: Callable[[str], None] = print
) -> int:
    """Carry out trials of the search of the chief at an address until there are no more; how many came to their end.

    `folder` is the search's, which all machines share, where this one calls it otherwise than the chief does.

    Raises:
        ChiefLost: there is no chief there, for longer than `patience` seconds.
        FileNotFoundError: this machine does not see the search's folder.
        Interrupted: Ctrl-C or SIGTERM came; the trial is saved and given back.
    """
    name = f"{socket.gethostname()}-{os.getpid()}"
    ended = 0
    with (
        interruption.watched() as asked,
        Client(address, name=name, patience=patience, asked=asked) as chief,
        Processes() as processes,
    ):
        found = Path(folder or chief.folder())
        given, granted = plan.load(found), terms.load(found)
        carrier = Carrier(given, found, processes, memory=granted.memory, trial_seconds=granted.trial_seconds)
        while (trial := chief.ask()) != TrialStatus.STOPPED:
            if not isinstance(trial, Trial):
                _rest(asked)
                continue
            result = _carry_out(trial, carrier, chief, asked)
            ended += result is not None
            say(f"trial {trial.id} {result.status if result else 'given back'}")
    return ended


def _rest(asked: Interruption) -> None:
    if asked.asked is not None:
        raise Interrupted(asked.asked)
    time.sleep(_LOOK)


def _carry_out(trial: Trial, carrier: Carrier, chief: Client, asked: Interruption) -> Result | None:
    """What came of a trial, which the chief has been told; None where it was stopped.

    Raises:
        Interrupted: this worker was asked to end; the trial is saved and given back.
        ChiefLost: as Client.
    """
    carrier.start(trial)
    said = time.monotonic()
    while not (done := carrier.wait(_LOOK)):
        if asked.asked is not None:
            carrier.stop(trial.id)
        elif time.monotonic() - said > _OFTEN:
            said = time.monotonic()
            if not chief.goes_on(trial):
                carrier.stop(trial.id)
    result = done[0].result
    chief.end(trial, result, leaves=asked.asked is not None)
    if asked.asked is not None:
        raise Interrupted(asked.asked)
    return result
