"""What was measured as a table in Markdown: medians over the rounds, and ratios of these.

A load counts if other work left the machine to it; which do is known without looking at what they showed. Where none
does all count, and the cell has a `~`.

Knows no server by name; ours are marked.
"""

from collections.abc import Callable, Sequence
from statistics import median

from serving.load import Load
from serving.turns import Measured


def markdown(measured: Sequence[Measured], ours: Measured | None) -> str:
    """Return a line for each server; the last columns say how many times its requests/s `ours` answers."""
    at = next((list(one.loads) for one in measured if one.loads), [])
    has_rivals = ours is not None and bool(ours.loads) and any(not one.is_ours for one in measured)
    times = [f"times c={c}" for c in at] if has_rivals else []
    head = [
        "server",
        *(f"c={c}, req/s (p50)" for c in at),
        "p99 at c=64",
        "server's CPU us an answer, c=64",
        "resident MB idle / loaded (shared pages once)",
        "ready after",
    ]
    lines = [_line([*head, *times]), _line(["---"] * len([*head, *times]))]
    for one in measured:
        if not one.loads:
            lines.append(_line([one.name, f"not measured: {one.failed}", *[""] * (len(head) + len(times) - 2)]))
            continue
        cells = [one.name, *(_rate(one, c) for c in at)]
        cells.append(f"{of(one, '64', lambda load: load.p99_ms):.3g} ms")
        cells.append(f"{of(one, '64', lambda load: load.cpu_us):,.0f}")
        cells.append(f"{median(one.idle_mb):.0f} / {median(one.loaded_mb):.0f} ({median(one.loaded_pss_mb):.0f})")
        cells.append(f"{median(one.ready_s):.2f} s")
        if has_rivals and ours is not None:
            cells.extend("" if one.is_ours else f"{ratio(ours, one, c):.1f}" for c in at)
        lines.append(_line(cells))
    shares = [load.others_share for one in measured for loads in one.loads.values() for load in loads]
    if shares:
        said = f"{median(shares):.0%} of the processors (median of the loads), {max(shares):.0%} at most"
        lines += ["", f"Other work took {said}."]
    return "\n".join([*lines, "", *(_note(one) for one in measured)])


def ratio(ours: Measured, rival: Measured, connections: str) -> float:
    """Return how many times the rival's requests/s ours answers."""
    return of(ours, connections, lambda load: load.per_s) / of(rival, connections, lambda load: load.per_s)


def of(one: Measured, connections: str, number: Callable[[Load], float]) -> float:
    """Return the median of a number over the quiet loads."""
    return median(number(load) for load in one.quiet(connections))


def _note(one: Measured) -> str:
    failed = f" Left out after it failed: {one.failed}." if one.failed and one.loads else ""
    return f"* {one.name}: {one.settings}.{failed}"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _rate(one: Measured, connections: str) -> str:
    bad = of(one, connections, lambda load: load.bad_share)
    refused = f", {bad:.0%} refused" if bad >= 0.005 else ""
    disturbed = "~" if one.is_disturbed(connections) else ""
    per_s, p50_ms = of(one, connections, lambda load: load.per_s), of(one, connections, lambda load: load.p50_ms)
    return f"{disturbed}{per_s:,.0f} ({p50_ms:.3g} ms{refused})"
