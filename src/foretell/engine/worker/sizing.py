"""How many instances and threads, and how long until the next start. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

__all__ = ["Sizing", "restart_delay_s", "share_out"]

_CHEAP_ROW_S = 0.001
"""A model that answers a row faster than this keeps up with its front on one processor."""
_WORTH = 0.7
"""Share of the ideal speed-up from which threads inside a call beat batches beside each other."""


class Sizing(NamedTuple):
    """Copies of a model, and threads of each."""

    instances: int
    threads: int


def share_out(
    cores: int,
    *,
    instances: int | None = None,
    threads: int | None = None,
    one_row_s: float | None = None,
    one_row_all_cores_s: float | None = None,
) -> Sizing:
    """Share the processors out among instances and the threads inside a call, never more than there are.

    Args:
        cores: Processors this process may keep busy.
        instances: As set by the user, or None.
        threads: As set by the user, or None.
        one_row_s: Measured seconds of a row on one thread, or None while it is not known.
        one_row_all_cores_s: The same on all threads, where it was measured.

    Returns:
        With instances x threads at most `cores`: more than fit are cut, instances first kept. A cheap model gets one
        of each. A dear one gets threads if they make it faster by most of what they could, else instances.
    """
    cores = max(1, cores)
    if instances is not None:
        instances = min(max(1, instances), cores)
        most = cores // instances
        if threads is None:
            threads = 1 if one_row_s is not None and one_row_s < _CHEAP_ROW_S else most
        return Sizing(instances, min(max(1, threads), most))
    if threads is not None:
        threads = min(max(1, threads), cores)
        cheap = one_row_s is None or one_row_s < _CHEAP_ROW_S
        return Sizing(1 if cheap else cores // threads, threads)
    if one_row_s is None or one_row_s < _CHEAP_ROW_S:
        return Sizing(1, 1)
    if one_row_all_cores_s and one_row_s / one_row_all_cores_s >= _WORTH * cores:
        return Sizing(1, cores)
    return Sizing(cores, 1)


def restart_delay_s(deaths: Sequence[float], now: float, *, first_s: float = 0.1, most_s: float = 30.0) -> float:
    """Return how long to wait before an instance is started again.

    The first death is answered at once, so that callers wait no longer than a start takes. Each further one within
    the time that heals doubles the wait.

    Args:
        deaths: Instants of the deaths so far, the latest one last.
        now: Instant.
        first_s: Wait after the second death in a row.
        most_s: Longest wait. A run of ten times this length heals: deaths before it do not count.
    """
    run, later = 0, now
    for death in reversed(deaths):
        if later - death > 10 * most_s:
            break
        run, later = run + 1, death
    return 0.0 if run <= 1 else float(min(most_s, first_s * 2.0 ** min(run - 2, 60)))
