"""What a client wants of its stream, as the query of its address says. Knows no socket and no model."""

from __future__ import annotations

from typing import NamedTuple
from urllib.parse import parse_qsl

from foretell.protocol.status import Refused
from foretell.server.streams.freshest import Mode

__all__ = ["MOST_IN_FLIGHT", "Options", "options_of"]

MOST_IN_FLIGHT = 64
_SWITCH = {"0": False, "1": True}


class Options(NamedTuple):
    """How a stream runs."""

    mode: Mode
    in_flight: int
    """Most frames of it that run at once."""
    track: bool
    """Whether objects are numbered across its frames."""


def options_of(target: bytes, default: Mode) -> Options:
    """Return the options in a request's target.

    Args:
        target: Path and query as they came.
        default: The mode where the query names none.

    Raises:
        Refused: An option that is unknown, there twice, or has no such value.
    """
    query = target.partition(b"?")[2].decode("latin-1")
    try:
        pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query), max_num_fields=8)
    except ValueError:
        raise _refused("query: not understood") from None
    given = dict(pairs)
    if len(given) < len(pairs):
        raise _refused("query: an option is there twice")
    mode = given.pop("mode", default)
    if mode != "latest" and mode != "every":
        raise _refused(f'query: mode "{mode[:20]}"')
    track = _SWITCH.get(given.pop("track", "0"))
    most = given.pop("in_flight", str(MOST_IN_FLIGHT))
    if track is None or not (most.isascii() and most.isdigit() and len(most) < 4 and 0 < int(most) <= MOST_IN_FLIGHT):
        raise _refused("query: a value is not understood")
    if given:
        raise _refused(f'query: unknown option "{next(iter(given))[:20]}"')
    return Options(mode, int(most), track)  # type: ignore[arg-type]


def _refused(what: str) -> Refused:
    return Refused(
        f"{what}; expected mode=latest or mode=every, track=0 or 1, in_flight=1 to {MOST_IN_FLIGHT}",
        code="bad_parameter",
    )
