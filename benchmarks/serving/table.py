"""What was measured as a table in Markdown: medians over the rounds, and ratios of single rounds.

Knows no server by name; ours are marked.
"""

from collections.abc import Callable, Sequence
from statistics import median

from serving.load import Load
from serving.turns import Measured

HEAD = (
    "| server | c=1, req/s (p50) | c=16 | c=64 | p99 at c=64 | resident MB, idle / loaded | ready after "
    "| Foretell is, at c=1 | c=16 | c=64 |\n|---|---|---|---|---|---|---|---|---|---|"
)


def markdown(measured: Sequence[Measured], ours: Measured | None) -> str:
    """Return a line for each server; the last columns say how many times its requests/s `ours` answers."""
    lines = [HEAD]
    for one in measured:
        if one.failed or not one.loads:
            lines.append(f"| {one.name} | {one.failed} " + "| " * 8 + "|")
            continue
        cells = [one.name, *(_rate(loads) for loads in one.loads.values())]
        cells.append(f"{_of(one.loads['64'], lambda load: load.p99_ms):.3g} ms")
        cells.append(f"{median(one.idle_mb):.0f} / {median(one.loaded_mb):.0f}")
        cells.append(f"{median(one.ready_s):.2f} s")
        for connections in one.loads:
            times = "" if one.is_ours or not ours or ours.failed else f"{ratio(ours, one, connections):.1f} x"
            cells.append(times)
        lines.append(f"| {' | '.join(cells)} |")
    notes = [f"* {one.name}: {one.settings}." for one in measured]
    return "\n".join([*lines, "", *notes])


def ratio(ours: Measured, rival: Measured, connections: str) -> float:
    """Return how many times the rival's requests/s ours answers: the median over the rounds both took part in."""
    turns = zip(ours.loads[connections], rival.loads[connections], strict=False)
    return median(mine.per_s / theirs.per_s for mine, theirs in turns)


def _of(loads: Sequence[Load], number: Callable[[Load], float]) -> float:
    return median(number(load) for load in loads)


def _rate(loads: Sequence[Load]) -> str:
    bad = _of(loads, lambda load: load.bad_share)
    refused = f", {bad:.0%} refused" if bad >= 0.005 else ""
    return f"{_of(loads, lambda load: load.per_s):,.0f} ({_of(loads, lambda load: load.p50_ms):.3g} ms{refused})"
