"""What to do next: admit or refuse, how many rows now, who is hung, how many instances. Pure: time is a number.

Every function takes what is known at that moment and decides; the batcher and the crew act.
"""

from __future__ import annotations

import math
from typing import Literal

from foretell.engine.limits import Limits
from foretell.engine.pace import Pace

__all__ = [
    "Refusal",
    "admit",
    "back_off_s",
    "batch_rows",
    "count_instances",
    "count_threads",
    "hang_after_s",
    "is_silence",
    "next_caution",
    "patience_s",
]

Refusal = Literal["too_large", "queue_full", "overloaded", "expired"]

_COMPANY = 0.25
"""Of the time of one row, how much longer several may take together."""
_EFFICIENCY = 20.0
_BRIEF_S = 0.003
_BURST_S = (0.002, 0.010)
_FRONT_ROW_S = 0.000_05
_CAUTION = (1.0, 3.0)
_PATIENCE_S = 0.15
_CALLERS = 64
_SILENCE_S = 0.25
_BULK_SHARE = 0.75


def admit(
    rows: int,
    nbytes: int,
    queued_rows: int,
    queued_bytes: int,
    wait_s: float,
    left_s: float,
    patience_s: float,
    idle: bool,
    limits: Limits,
    *,
    is_bulk: bool = False,
) -> Refusal | None:
    """Decide about one request.

    Args:
        rows: Of the request.
        nbytes: Of its tensors.
        queued_rows: Rows that wait already.
        queued_bytes: Bytes of their tensors.
        wait_s: Predicted seconds until its answer.
        left_s: Seconds until its deadline.
        patience_s: Longest wait, whatever the deadline.
        idle: Nothing waits and an instance is free. Then a prediction refuses nothing: a wrong one would never be
            put right if nothing ran.
        limits: The bounds.
        is_bulk: It may fill three quarters of the queue; the rest is for interactive requests.

    Returns:
        None to admit, or why not.
    """
    if rows > limits.max_queue_rows or nbytes > limits.max_queue_bytes:
        return "too_large"
    if left_s <= 0:
        return "expired"
    share = _BULK_SHARE if is_bulk and queued_rows else 1.0
    if queued_rows + rows > share * limits.max_queue_rows or queued_bytes + nbytes > share * limits.max_queue_bytes:
        return "queue_full"
    # The last quarter of the time, at most 50 ms, is for the ways in and out, and for what nobody could predict.
    by_s = left_s * 0.75 if left_s < 0.2 else left_s - 0.05
    if not idle and wait_s > min(by_s, patience_s):
        return "overloaded"
    return None


def is_silence(expected_s: float, ran_s: float) -> bool:
    """Whether a batch takes so much longer than it should that its instance, or the machine, must have stood still."""
    return ran_s > max(_SILENCE_S, 10.0 * expected_s)


def patience_s(own_s: float, is_bulk: bool, is_calm: bool, limits: Limits) -> float:
    """Return the longest predicted wait at which a request that brings no deadline is still taken.

    Nobody knows how long its caller waits. A queue longer than most would wait makes everybody late, so it ends
    early; but not so early that a slow model refuses as many callers at once as a busy service has.

    Args:
        own_s: Seconds it takes by itself, or one like most where those take longer.
        is_bulk: Nobody sits and waits for it.
        is_calm: No instance was lost or silent lately. What waits for a replacement is no overload.
        limits: The bounds.
    """
    if is_bulk or not is_calm:
        return limits.max_queue_s
    longest_s = own_s + max(_PATIENCE_S, _CALLERS * own_s) if limits.patience_s is None else limits.patience_s
    return min(longest_s, limits.max_queue_s)


def batch_rows(pace: Pace, slack_s: float, most_rows: int, *, is_brief: bool = False) -> int:
    """Return how many rows to run at once.

    More rows than it takes to make the fixed cost a twentieth of the batch gain nothing and make the first of them
    wait for the last; but a batch lasts at least some milliseconds, because it costs the front something too.

    Args:
        pace: The cost of a batch.
        slack_s: Seconds until the first deadline of the batch.
        most_rows: The bound.
        is_brief: Others may come that go first, and they wait for what is in flight.
    """
    if pace.row_s <= 0.0:
        return most_rows
    share_s = _BRIEF_S if is_brief else slack_s / 8
    burst_s = min(max(share_s, _BURST_S[0]), _BURST_S[1])
    # Where the fixed cost is overrated, as it is while others take the processor, a batch is still no longer than this.
    gains_until_s = min(_EFFICIENCY * pace.fixed_s, max(share_s, 2.0 * pace.fixed_s))
    return max(1, min(most_rows, math.ceil(max(gains_until_s, burst_s) / pace.row_s)))


def company(pace: Pace, limits: Limits) -> int:
    """Return how many rows run at once in about the time of one: those of live streams join only where it is free."""
    if not pace.is_known:
        return 1
    if pace.row_s <= 0.0:
        return limits.max_batch_size
    free = int(1.0 + _COMPANY * (pace.fixed_s + pace.row_s) / pace.row_s)
    return max(1, min(free, limits.max_batch_size))


def next_caution(caution: float, late: bool) -> float:
    """Return the factor on predicted waits: it grows when an admitted request was late, and slowly falls again."""
    return min(caution * 1.1, _CAUTION[1]) if late else max(caution * 0.995, _CAUTION[0])


def hang_after_s(pace: Pace, expected_s: float, retries: int, limits: Limits) -> float:
    """Return how long an instance may go without an answer before it counts as hung.

    Args:
        pace: The cost of a batch.
        expected_s: Predicted seconds of the batch it runs.
        retries: How often this batch was cut off before; a second chance gets twice the time.
        limits: The bounds.
    """
    if not pace.is_known:
        return limits.first_batch_s
    return max(limits.hang_s, 10.0 * expected_s, 4.0 * pace.longest_s) * 2.0**retries


def back_off_s(deaths: int) -> float:
    """Return how long to wait before an instance is started again.

    Args:
        deaths: Instances in a row that died, or did not start, without answering anything.
    """
    return 0.0 if deaths <= 1 else min(0.1 * 2.0 ** (deaths - 2), 30.0)


def count_instances(cores: int, versions: int, pace: Pace, limits: Limits) -> int:
    """Return how many instances a version gets.

    As many as the front can keep busy, which spends some 50 us on a row, and at most one for each processor.

    Args:
        cores: Processors this server may use.
        versions: Loaded versions that share them.
        pace: The cost of a batch, measured while warming up.
        limits: The bounds.
    """
    if limits.instances is not None:
        return limits.instances
    share = max(1, cores // max(1, versions))
    keeps_busy = math.ceil(pace.row_s / _FRONT_ROW_S) if pace.is_known else 1
    return max(1, min(share, keeps_busy))


def count_threads(cores: int, versions: int, limits: Limits) -> int:
    """Return the threads a runtime may use: instances times threads never exceed the processors."""
    if limits.threads is not None:
        return limits.threads
    share = max(1, cores // max(1, versions))
    return max(1, share // limits.instances) if limits.instances is not None else 1
