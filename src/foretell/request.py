"""One question and its answer, as arrays and names. Knows no wire."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from numpy.typing import NDArray

__all__ = ["BULK", "INTERACTIVE", "Base64", "Batch", "InferRequest", "InferResponse", "Parts", "Timing"]

INTERACTIVE, BULK = 0, 1
"""Priorities: interactive requests run before bulk ones."""

_NOTHING: Mapping[str, Any] = MappingProxyType({})


class Base64:
    """An element of a BYTES tensor that came as base64: what stands between the quotes of a JSON text, as it came.

    Decoding it takes too long for an event loop, so whoever runs the request does it.
    """

    __slots__ = ("content",)

    def __init__(self, content: bytes | memoryview) -> None:
        self.content = content

    def __len__(self) -> int:
        return len(self.content)

    def __bytes__(self) -> bytes:
        return bytes(self.content)


class Parts:
    """An element of a BYTES tensor that came in parts, and need not be joined here."""

    __slots__ = ("parts",)

    def __init__(self, parts: Sequence[bytes]) -> None:
        self.parts = parts

    def __len__(self) -> int:
        return sum(map(len, self.parts))

    def __bytes__(self) -> bytes:
        return b"".join(self.parts)


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


class Batch:
    """What was run at once: shared by the answers to all of its requests.

    Attributes:
        model: Name of the model.
        version: That ran it.
        outputs: In the order of the signature's outputs, each of shape (rows, *rest).
        rows: Of all its requests.
        sent: Instant at which it went to its instance, in seconds.
        run_ns: In the runtime, as its worker measured it.
        answered: Instant at which its outputs came.
        notes: For the doors, which write something down once for all of its requests.
    """

    __slots__ = ("answered", "model", "notes", "outputs", "rows", "run_ns", "sent", "version")

    def __init__(
        self,
        model: str,
        version: str,
        outputs: list[NDArray[Any]],
        rows: int,
        sent: float,
        run_ns: int,
        answered: float,
    ) -> None:
        self.model = model
        self.version = version
        self.outputs = outputs
        self.rows = rows
        self.sent = sent
        self.run_ns = run_ns
        self.answered = answered
        self.notes: Any = None


class InferResponse:
    """The answer to one request: its rows of a batch.

    Attributes:
        batch: It ran in.
        id: Of the request.
        first_row: Of the request, in the batch.
        rows: Of the request.
        admitted: Instant at which it was admitted, in seconds.
    """

    __slots__ = ("admitted", "batch", "first_row", "id", "rows")

    def __init__(self, batch: Batch, id: str, first_row: int, rows: int, admitted: float) -> None:
        self.batch = batch
        self.id = id
        self.first_row = first_row
        self.rows = rows
        self.admitted = admitted

    @classmethod
    def of(cls, model: str, version: str, id: str, outputs: list[NDArray[Any]], timing: Timing) -> InferResponse:
        """Return an answer that is not one of a batch's: joined from several, or without rows."""
        sent, answered = timing.queue_ns * 1e-9, timing.total_ns * 1e-9
        rows = len(outputs[0]) if outputs and outputs[0].ndim else 0
        batch = Batch(model, version, outputs, timing.batch_rows or rows, sent, timing.run_ns, answered)
        return cls(batch, id, 0, batch.rows, 0.0)

    @property
    def model(self) -> str:
        """Name of the model."""
        return self.batch.model

    @property
    def version(self) -> str:
        """That answered."""
        return self.batch.version

    @property
    def outputs(self) -> list[NDArray[Any]]:
        """In the order of the signature's outputs; the rows of this caller alone. May be views of shared arrays."""
        batch = self.batch
        if self.rows == batch.rows:
            return batch.outputs
        first, end = self.first_row, self.first_row + self.rows
        return [output[first:end] for output in batch.outputs]

    @property
    def timing(self) -> Timing:
        """Where its time went."""
        batch, admitted = self.batch, self.admitted
        queue_ns, total_ns = round((batch.sent - admitted) * 1e9), round((batch.answered - admitted) * 1e9)
        return Timing(queue_ns, batch.run_ns, total_ns, batch.rows)
