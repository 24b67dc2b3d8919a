"""When connections write: all of them once for each iteration of the event loop, or when somebody says so."""

from __future__ import annotations

import asyncio
from typing import Protocol

__all__ = ["Flushed", "Writing"]


class Flushed(Protocol):
    """Has collected something to write."""

    def flush(self) -> None:
        """Write it."""
        ...


class Writing:
    """Writes what the connections of a server have to send, in one go for each iteration of the event loop.

    Attributes:
        held: Whoever set it will call `flush`.
    """

    __slots__ = ("_call_soon", "_is_due", "_outs", "held")

    def __init__(self) -> None:
        self._call_soon = asyncio.get_running_loop().call_soon
        self._outs: list[Flushed] = []
        self._is_due = self.held = False

    def add(self, out: Flushed) -> None:
        """Write what a connection collects."""
        self._outs.append(out)
        if not self._is_due and not self.held:
            self._is_due = True
            self._call_soon(self._flush_due)

    def flush(self) -> None:
        """Write what was collected."""
        outs, self._outs = self._outs, []
        for out in outs:
            out.flush()

    def _flush_due(self) -> None:
        self._is_due = False
        self.flush()
