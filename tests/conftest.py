"""What every test stands on: no accelerator, no network, a fresh and seeded Keras."""

from __future__ import annotations

import gc
import ipaddress
import os
import socket
import sys
from collections.abc import Callable
from typing import Any

import pytest

# Before any test module imports TensorFlow, and inherited by the processes that tests start.
# oneDNN as `import pipelines` has it: some test modules import Keras before, and other kernels round otherwise.
os.environ.update(TF_CPP_MIN_LOG_LEVEL="3", CUDA_VISIBLE_DEVICES="-1", HF_HUB_OFFLINE="1", MPLBACKEND="Agg")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")


def pytest_collection_finish() -> None:
    """Take what is imported out of the garbage collector's rounds: three large graphs are built in 0.8 s, not 1.1 s."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


class NetworkBlocked(RuntimeError):
    """A test wanted to leave this machine. No OSError, so that no fallback of the code under test hides it."""


@pytest.fixture(autouse=True)
def no_network(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sockets that reach this machine only, unless the test is marked `network`."""
    if request.node.get_closest_marker("network"):
        return
    for name in ("connect", "connect_ex"):
        monkeypatch.setattr(socket.socket, name, _local_only(getattr(socket.socket, name)))
    resolve = socket.getaddrinfo

    def resolve_local(host: str | bytes | None, *rest: Any, **options: Any) -> Any:
        _check_host(host)
        return resolve(host, *rest, **options)

    monkeypatch.setattr(socket, "getaddrinfo", resolve_local)


@pytest.fixture(autouse=True)
def fresh_keras() -> None:
    """Keras as in a new process (names, dtype policy) and seeded; not imported for tests that do without it."""
    if keras := sys.modules.get("keras"):
        keras.backend.clear_session(free_memory=False)  # collecting garbage after every test takes longer than most
        keras.utils.set_random_seed(0)


def _local_only(connect: Callable[..., Any]) -> Callable[..., Any]:
    def guarded(self: socket.socket, address: Any) -> Any:
        if self.family != socket.AF_UNIX:
            _check_host(address[0])
        return connect(self, address)

    return guarded


def _check_host(host: str | bytes | None) -> None:
    name = host.decode() if isinstance(host, bytes) else host
    if name in (None, "", "localhost"):
        return
    try:
        local = ipaddress.ip_address(name).is_loopback
    except ValueError:  # a host's name
        local = False
    if not local:
        raise NetworkBlocked(f"A test opens a connection to {name!r}; tests run offline, or are marked `network`.")
