"""Who may start a frame, among the streams that share a model.

A frame that is started while every instance is busy grows old in the engine's queue, where no newer one takes its
place. So frames wait in their streams, and a free instance takes the newest of the stream that has waited longest:
however many streams there are, the answer to a frame that was started is never older than it needs to be.

A round is what an instance runs at once: one frame, or those of several streams where they cost no more together.

Pure: knows no clock, no socket and no model.
"""

from __future__ import annotations

from typing import Generic, TypeVar

__all__ = ["Round", "Turns"]

S = TypeVar("S")


class Round:
    """Frames that run together."""

    __slots__ = ("left",)

    def __init__(self, frames: int) -> None:
        self.left = frames


class Turns(Generic[S]):
    """The streams of one version."""

    def __init__(self) -> None:
        self._waiting: dict[S, None] = {}
        self._rounds = 0

    @property
    def waiting(self) -> int:
        """Streams that wait."""
        return len(self._waiting)

    @property
    def rounds(self) -> int:
        """Rounds that run."""
        return self._rounds

    def __repr__(self) -> str:
        return f"<Turns: {self.waiting} waiting, {self._rounds} rounds running>"

    def ask(self, stream: S) -> None:
        """Wait for a turn; a stream that waits already keeps its place."""
        self._waiting.setdefault(stream)

    def leave(self, stream: S) -> None:
        """Wait no more."""
        self._waiting.pop(stream, None)

    def next(self, instances: int, company: int) -> list[tuple[S, Round]]:
        """Return whose turn it is, each with its round; every one of them starts a frame now.

        Args:
            instances: That run at the same time.
            company: Frames an instance runs at once in about the time of one.
        """
        found: list[tuple[S, Round]] = []
        while self._waiting and self._rounds < max(1, instances):
            chosen = list(self._waiting)[: max(1, company)]
            for stream in chosen:
                del self._waiting[stream]
            joined = Round(len(chosen))
            self._rounds += 1
            found += [(stream, joined) for stream in chosen]
        return found

    def done(self, joined: Round) -> None:
        """Enter that a frame of a round is settled, or was not started after all."""
        joined.left -= 1
        if not joined.left:
            self._rounds -= 1
