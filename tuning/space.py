"""What a search tries: ranges of the fields of a run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipelines.run import Run


class Space:
    """Ranges by the names of what they set, and how a run is made of a value of each."""

    def run(self, base: Run, values: Mapping[str, Any]) -> Run:
        """The base run with the values of a trial in it."""
        raise NotImplementedError

    def to_json(self) -> str:
        """The space as JSON text."""
        raise NotImplementedError

    @classmethod
    def from_json(cls, text: str) -> Space:
        """The space that `to_json` wrote."""
        raise NotImplementedError
