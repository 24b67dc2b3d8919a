"""What was measured, in words and in JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from foretell.bench.asking import Question
from foretell.bench.lines import Run

__all__ = ["as_json", "as_text", "quantile"]

_STAGES = ("queue", "run")
_BUSY = 0.9


def quantile(times: Sequence[float], share: float) -> float | None:
    """Return the time that this share of all times does not exceed: one that was measured; None: there is none."""
    return sorted(times)[max(0, -int(-share * len(times) // 1) - 1)] if times else None


def as_json(question: Question, runs: Sequence[Run]) -> dict[str, Any]:
    """Return all of it for programs. Times in milliseconds."""
    return {
        "url": question.url,
        "rows": question.rows,
        "body_bytes": question.body_bytes,
        "source": question.source,
        "runs": [_run(run) for run in runs],
    }


def _run(run: Run) -> dict[str, Any]:
    stages = {
        name: {"p50": quantile(times, 0.5), "p99": quantile(times, 0.99)} for name, times in run.stages_ms.items()
    }
    return {
        "connections": run.connections,
        "rate": run.rate,
        "seconds": round(run.seconds, 3),
        "answers": len(run.times_s),
        "requests_per_s": round(len(run.times_s) / run.seconds, 1),
        **{name: _ms(run, share) for name, share in (("p50_ms", 0.5), ("p99_ms", 0.99), ("p99.9_ms", 0.999))},
        "errors": dict(run.errors),
        "server_timing_ms": stages,
        "client_share": round(run.client_s / run.seconds, 3),
    }


def _ms(run: Run, share: float) -> float | None:
    found = quantile(run.times_s, share)
    return None if found is None else round(found * 1e3, 4)


def as_text(question: Question, runs: Sequence[Run]) -> str:
    """Return all of it for people."""
    rows = "1 row" if question.rows == 1 else f"{question.rows:,} rows"
    lines = [f"{question.url}: {rows} a request, {question.body_bytes:,} bytes, from {question.source}"]
    head = f"{'connections':>11}{'requests/s':>12}" + "".join(f"{n:>10}" for n in ("p50, ms", "p99", "p99.9"))
    lines.append(head + "".join(f"{n:>10}" for n in _STAGES) + f"{'errors':>9}")
    lines += [_line(run) for run in runs]
    for run in runs:
        if run.errors:
            told = ", ".join(f"{code} {count:,}" for code, count in run.errors.most_common())
            lines.append(f"errors at {run.connections} connections: {told}")
    if any(run.rate for run in runs):
        lines.append(f"{runs[0].rate:g} requests were due each second; times count from when each was due")
    if any(run.client_s > _BUSY * run.seconds for run in runs):
        lines.append("note: this client used a whole processor: the server may be faster than it could ask")
    return "".join(f"{line}\n" for line in lines)


def _line(run: Run) -> str:
    told = [_ms(run, share) for share in (0.5, 0.99, 0.999)]
    told += [quantile(run.stages_ms.get(stage, ()), 0.5) for stage in _STAGES]
    times = "".join(f"{'-' if t is None else format(t, ',.3f'):>10}" for t in told)
    return f"{run.connections:>11,}{len(run.times_s) / run.seconds:>12,.0f}{times}{run.errors.total():>9,}"
