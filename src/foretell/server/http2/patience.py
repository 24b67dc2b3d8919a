"""How much a peer may cost that brings nothing: frames without a request, and requests taken back.

What is allowed grows with what the peer gets answered, so that a busy client is not taken for an attacker: pings,
updates of windows and calls cancelled at their deadlines come with every load. Counts are halved every ten seconds.
"""

from __future__ import annotations

from foretell.server.http2.frames import Broken, Code

__all__ = ["Patience"]

_FRAMES = 1000
_FRAMES_EACH = 16
_RESETS = 200
_HALVED_S = 10.0


class Patience:
    """The patience with one peer.

    Attributes:
        served: Requests and parts of them that were answered lately.
    """

    __slots__ = ("_frames", "_halved", "_resets", "served")

    def __init__(self, now: float) -> None:
        self.served = 0
        self._frames = 0
        self._resets = 0
        self._halved = now

    def bear(self, frames: int = 1) -> None:
        """Count a frame that brings nothing.

        Raises:
            Broken: There were too many.
        """
        self._frames += frames
        if self._frames > _FRAMES + _FRAMES_EACH * self.served:
            raise Broken(Code.ENHANCE_YOUR_CALM, "frames: too many that carry nothing")

    def bear_reset(self) -> None:
        """Count a request that was taken back, or ended for a fault.

        Raises:
            Broken: There were too many.
        """
        self._resets += 1
        if self._resets > _RESETS + self.served:
            raise Broken(Code.ENHANCE_YOUR_CALM, "streams: too many were reset")

    def check(self, now: float) -> None:
        """Forget with time; called every second or so."""
        if now - self._halved >= _HALVED_S:
            self._halved = now
            self._frames //= 2
            self._resets //= 2
            self.served //= 2
