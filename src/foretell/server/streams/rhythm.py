"""When the next frame of a camera is due, and whether it is worth waiting for.

A frame that waits for a model that has just become free may be nearly as old as the camera's interval. Where the next
one is about to come, starting that one gives a fresher answer, hardly later: zero waiting is not what keeps answers
young (Sun et al. 2017, IEEE Transactions on Information Theory 63(11), "Update or Wait").

Pure: the time comes in as a number.
"""

from __future__ import annotations

__all__ = ["Rhythm"]

_NEWS = 1 / 8
"""How much of what is believed of the interval comes from the last one."""
_LEAST_FRAMES = 8
_SHARE = 1 / 4
"""Of the interval, how long the next frame is waited for."""
_SLACK = 1 / 8
"""Of the interval, how late it may be."""


class Rhythm:
    """The rhythm of one stream.

    Attributes:
        interval_s: Seconds between frames, as far as is known.
    """

    __slots__ = ("_deviation_s", "_frames", "_last", "interval_s")

    def __init__(self) -> None:
        self._frames = 0
        self._last = self._deviation_s = self.interval_s = 0.0

    @property
    def is_steady(self) -> bool:
        """Whether frames come so evenly that the next one can be told."""
        return self._frames >= _LEAST_FRAMES and self._deviation_s < _SHARE * self.interval_s

    def beat(self, now: float) -> None:
        """Enter that a frame has come, at an instant in seconds."""
        gap_s, self._last = now - self._last, now
        self._frames += 1
        if self._frames == 1:
            return
        if self._frames == 2:
            self.interval_s = gap_s
            return
        self._deviation_s += _NEWS * (abs(gap_s - self.interval_s) - self._deviation_s)
        self.interval_s += _NEWS * (gap_s - self.interval_s)

    def wait_s(self, now: float) -> float:
        """Return for how many seconds the next frame is worth waiting for; 0: start the one that is there."""
        left_s = self._last + self.interval_s - now
        if not self.is_steady or left_s > _SHARE * self.interval_s or left_s < -_SLACK * self.interval_s:
            return 0.0
        return left_s + _SLACK * self.interval_s
