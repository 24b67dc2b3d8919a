"""How urgent a call is, as its headers say. Knows no engine."""

from __future__ import annotations

from typing import NamedTuple

from foretell.protocol.status import Refused
from foretell.request import BULK, INTERACTIVE

__all__ = ["Urgency", "may_be_longer", "urgency_of"]

_LONGEST_MS = 86_400_000.0


class Urgency(NamedTuple):
    """The time a caller gives, and its priority."""

    timeout_s: float | None
    """None: the default."""
    priority: int


_USUAL = Urgency(None, INTERACTIVE)


def urgency_of(headers: dict[bytes, bytes]) -> Urgency:
    """Return how urgent a call is.

    Raises:
        Refused: A header does not say what it should.
    """
    timeout, priority = headers.get(b"x-request-timeout-ms"), headers.get(b"x-request-priority")
    if timeout is None and priority is None:
        return _USUAL
    return Urgency(None if timeout is None else _seconds(timeout), _priority(priority))


def may_be_longer(urgency: Urgency, body: bytes) -> bool:
    """Whether a body not yet read may give its request more time than it has by its headers.

    Where they give none, a parameter of the body may say more than the default; else it can only say less.
    """
    return urgency.timeout_s is None and b'"timeout"' in body


def _seconds(given: bytes) -> float:
    try:
        milliseconds = float(given)
    except ValueError:
        milliseconds = -1.0
    if not 0.0 < milliseconds <= _LONGEST_MS:
        raise Refused("x-request-timeout-ms: expected milliseconds, more than 0 and at most a day", code="bad_header")
    return milliseconds / 1000.0


def _priority(given: bytes | None) -> int:
    if given is None or given == b"interactive":
        return INTERACTIVE
    if given != b"bulk":
        raise Refused("x-request-priority: expected interactive or bulk", code="bad_header")
    return BULK
