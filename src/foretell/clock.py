"""What time it is. An instant is in seconds on a clock that never goes back; it means nothing outside this process.

Whoever decides by time is given a clock, so that tests own it. Knows nothing of dates.
"""

from __future__ import annotations

import time
from typing import Protocol

__all__ = ["Clock", "FakeClock", "MonotonicClock"]


class Clock(Protocol):
    """Tells the instant."""

    def now(self) -> float:
        """Return the instant, in seconds."""
        ...


class MonotonicClock:
    """The system's monotonic clock."""

    now = staticmethod(time.monotonic)


class FakeClock:
    """A clock that stands still until it is told to go on."""

    def __init__(self, start: float = 1000.0) -> None:
        self._now = start

    def now(self) -> float:
        """Return the instant, in seconds."""
        return self._now

    def advance(self, seconds: float) -> None:
        """Go on by `seconds`; never back."""
        self._now += max(0.0, seconds)
