"""What a version has done so far: counts, and nanoseconds. Knows no wire; the protocol's names are its own."""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = ["Duration", "Statistics"]


@dataclass(slots=True)
class Duration:
    """How often, and how long in all."""

    count: int = 0
    ns: int = 0

    def add(self, ns: int, count: int = 1) -> None:
        """Count `count` more that took `ns` together."""
        self.count += count
        self.ns += ns


@dataclass(slots=True)
class Statistics:
    """Counts of one version since it was loaded."""

    inference_rows: int = 0
    """Rows answered."""
    execution_batches: int = 0
    """Batches run."""
    last_inference_ms: int = 0
    """Wall clock of the last answer, milliseconds since 1970; 0: none yet."""
    success: Duration = field(default_factory=Duration)
    """Requests answered: from `infer` to the answer."""
    fail: Duration = field(default_factory=Duration)
    """Requests that ended in an error after they were admitted."""
    cancel: Duration = field(default_factory=Duration)
    """Requests whose caller went away."""
    queue: Duration = field(default_factory=Duration)
    """Requests answered: from `infer` until their batch was sent."""
    run: Duration = field(default_factory=Duration)
    """Requests answered: in the runtime, each counted with the time of its whole batch."""
    batches: dict[int, Duration] = field(default_factory=dict)
    """By rows of a batch: how many, and how long they ran."""
