"""The gate before one version: lets its streams start frames when it is their turn. The shell round `turns`."""

from __future__ import annotations

from typing import Protocol

from foretell.server.streams.turns import Round, Turns

__all__ = ["Gate", "Starter"]


class Starter(Protocol):
    """A stream that waits for its turn."""

    def begin(self, joined: Round) -> None:
        """Start a frame, of a round; or tell the gate that it is done. Raises nothing."""
        ...


class Gate:
    """The gate of one version."""

    def __init__(self) -> None:
        self._turns: Turns[Starter] = Turns()
        self._instances = self._company = 1
        self._is_running = False

    @property
    def is_wanted(self) -> bool:
        """Whether a stream waits for its turn."""
        return self._turns.waiting > 0

    def ask(self, stream: Starter, instances: int, company: int) -> None:
        """Let a stream start a frame, now or when it is its turn.

        Args:
            stream: That has one.
            instances: Of the version, now.
            company: Frames each of them runs at once in about the time of one.
        """
        self._instances, self._company = instances, company
        self._turns.ask(stream)
        self._run()

    def leave(self, stream: Starter) -> None:
        """Let a stream wait no more."""
        self._turns.leave(stream)

    def done(self, joined: Round) -> None:
        """Enter that a frame of a round is settled, or was not started."""
        self._turns.done(joined)
        self._run()

    def _run(self) -> None:
        # A frame that is refused at once is done before `begin` returns: the loop goes on, and nothing is nested.
        if self._is_running:
            return
        self._is_running = True
        try:
            while chosen := self._turns.next(self._instances, self._company):
                for stream, joined in chosen:
                    stream.begin(joined)
        finally:
            self._is_running = False
