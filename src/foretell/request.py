"""One question and its answer, as arrays and names. Knows no wire."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from numpy.typing import NDArray

__all__ = ["BULK", "INTERACTIVE", "InferRequest", "InferResponse", "Timing"]

INTERACTIVE, BULK = 0, 1
"""Priorities: interactive requests run before bulk ones."""

_NOTHING: Mapping[str, Any] = MappingProxyType({})


@dataclass(slots=True)
class InferRequest:
    """What a caller asks of a model. Its arrays belong to the engine until it is settled; nobody writes to them."""

    model: str
    version: str
    """Empty: the model's default version."""
    id: str
    inputs: dict[str, NDArray[Any]]
    """By name of the signature's inputs; each of shape (rows, *rest)."""
    rows: int
    outputs: tuple[str, ...] | None = None
    """Names of the outputs the caller wants, or None for all. The engine answers with all of them: a door picks."""
    deadline: float | None = None
    """Instant of the engine's clock by which the answer must be there. None: the engine's default timeout."""
    priority: int = INTERACTIVE
    parameters: Mapping[str, Any] = field(default_factory=lambda: _NOTHING)
    nbytes: int = 0
    """Bytes its tensors hold, for the bound of the queue. 0: counted from the arrays (a BYTES element counts 64)."""


@dataclass(slots=True)
class Timing:
    """Where the time of one request went, in nanoseconds."""

    queue_ns: int
    """From the call of `infer` until its batch was sent."""
    run_ns: int
    """In the runtime, as its worker measured it; of the whole batch."""
    total_ns: int
    """From the call of `infer` until its answer."""
    batch_rows: int = 0
    """Rows of the batch it ran in, its own included."""


@dataclass(slots=True)
class InferResponse:
    """The answer to one request."""

    model: str
    version: str
    id: str
    outputs: list[NDArray[Any]]
    """In the order of the signature's outputs; the rows of this caller alone. May be views of a shared array."""
    timing: Timing
