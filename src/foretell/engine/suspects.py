"""Which request brought an instance down: who is run again, in what company, and who is convicted. Pure.

An instance runs its batches in order, so the first in flight is accused of its death and the others are innocent.
An instance may also be killed from outside, so the accused run once more as they were, on an instance that holds
nothing else. If that dies too, each of the requests runs alone: alone at once and not in halves, because an innocent
run costs a millisecond and a death costs a new process. A request is convicted when an instance died of it alone and
it was accused before. Then its rows run one by one until one of them kills: that row is named and quarantined.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from foretell.engine.ticket import Ticket
from foretell.errors import Quarantined
from foretell.request import Base64, Parts

__all__ = ["Group", "Quarantine", "after_death", "after_error", "deaths_needed", "fingerprint"]

_KEPT = 4096
_ROWS_CHECKED = 1024
_LARGE_BYTES, _END_BYTES = 1 << 20, 1 << 16


@dataclass(slots=True)
class Group:
    """Requests that run together exactly as they are."""

    tickets: list[Ticket]
    exclusive: bool = True
    """Nothing else is in flight on its instance, so that a death accuses nobody else."""
    row: int | None = None
    """The one row of its only ticket that is run, to find out which row kills."""


def deaths_needed(why: str, reason: str) -> int:
    """Return how many deaths convict a request, by how the last one came about.

    Args:
        why: `died` or `hung`.
        reason: Why it died. A SIGKILL comes from outside, and some operator may be at it again and again; what an
            instance does to itself cannot be a coincidence twice. A busy machine may look like a hang.
    """
    if why == "hung":
        return 3
    return 6 if "SIGKILL" in reason else 2


def after_death(tickets: list[Ticket], group: Group | None, needed: int) -> tuple[list[Group], list[Ticket]]:
    """Decide about the batch that an instance ran when it died.

    Args:
        tickets: Those of the batch that somebody still waits for; their `deaths` count this one already.
        group: The group they ran as, or None for an ordinary batch.
        needed: Deaths that convict a request, the last of them alone; see `deaths_needed`.

    Returns:
        Groups to run next, and tickets that are convicted.
    """
    if len(tickets) == 1 and group is not None and group.exclusive:
        if tickets[0].deaths >= needed:
            return [], tickets
        return [Group(tickets)], []
    if group is None or not group.exclusive:
        return ([Group(tickets)] if tickets else []), []
    return [Group([ticket]) for ticket in tickets], []


def after_error(tickets: list[Ticket]) -> list[Group]:
    """Return what to run when the runtime raised on a batch of several: each alone, so that only one gets the error."""
    return [Group([ticket], exclusive=False) for ticket in tickets]


def fingerprint(inputs: Mapping[str, NDArray[Any]], row: int | None = None) -> bytes:
    """Return a hash of the inputs of a request, or of one row of them; of one row both are the same.

    A picture that came in other parts, or in base64, is another one.
    """
    digest = hashlib.blake2b(digest_size=16)
    for name in sorted(inputs):
        array = inputs[name] if row is None else inputs[name][row : row + 1]
        digest.update(f"{name}|{array.dtype.str}|{array.shape}|".encode())
        if array.dtype.kind == "O":
            for element in array.ravel():
                if element is None:
                    digest.update(b"missing")
                    continue
                digest.update(b"%d:" % len(element))
                for part in _told_by(element):
                    digest.update(part)
        else:
            digest.update(np.ascontiguousarray(array).data)
    return digest.digest()


def _told_by(element: Any) -> list[bytes | memoryview]:
    """Return the bytes of an element; of a large picture how it begins and ends, for the rest takes long to go over."""
    if isinstance(element, str):
        return [element.encode(errors="surrogatepass")]
    if isinstance(element, Parts):
        parts = element.parts
        return list(parts) if len(element) <= _LARGE_BYTES else [parts[0], parts[-1][-_END_BYTES:]]
    content = memoryview(element.content if isinstance(element, Base64) else element)
    return [content] if len(content) <= _LARGE_BYTES else [content[:_END_BYTES], content[-_END_BYTES:]]


@dataclass(slots=True)
class Quarantine:
    """Inputs that are refused for a while."""

    keep_s: float
    until: dict[bytes, float] = field(default_factory=dict)

    def add(self, print_: bytes, now: float) -> None:
        """Refuse inputs of this fingerprint from now on; of very many the oldest are let go."""
        self.until[print_] = now + self.keep_s
        while len(self.until) > _KEPT:
            del self.until[next(iter(self.until))]

    def check(self, inputs: Mapping[str, NDArray[Any]], rows: int, now: float) -> None:
        """Look for a quarantined request or row.

        Raises:
            Quarantined: The message names the row.
        """
        self.until = {print_: until for print_, until in self.until.items() if until > now}
        if not self.until:
            return
        if fingerprint(inputs) in self.until:
            raise Quarantined(_why("request: these inputs", self.keep_s))
        if not 2 <= rows <= _ROWS_CHECKED or any(len(array) != rows for array in inputs.values()):
            return
        for row in range(rows):
            if fingerprint(inputs, row) in self.until:
                raise Quarantined(_why(f"row {row}: its values", self.keep_s))


def _why(subject: str, keep_s: float) -> str:
    return f"{subject} have just brought a worker down; refused for {keep_s:g} s; change them or leave them out"
