"""One request that was admitted, on its way to its answer. Decides nothing."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any, Protocol

from numpy.typing import NDArray

from foretell.errors import ForetellError
from foretell.request import Batch, InferResponse

__all__ = ["Done", "Sink", "Ticket"]

Done = Callable[[InferResponse | ForetellError], None]

_NEVER = float("inf")


class Sink(Protocol):
    """Takes the answers to many tickets at once: what is done once for a batch need not be done for each request."""

    def answer(self, batch: Batch, tickets: list[Ticket]) -> None:
        """Answer the callers of these tickets of a batch. Raises nothing."""
        ...


class Ticket:
    """A request that was admitted, or a piece of one; its holder may cancel it."""

    __slots__ = (
        "_inputs", "admitted", "batch_row", "bucket", "caller", "chunk", "chunk_row", "deadline", "deaths", "done",
        "due", "first_row", "gone", "id", "is_queued", "key", "nbytes", "priority", "rows", "sink", "weight",
    )  # fmt: skip

    def __init__(
        self,
        id: str,
        inputs: dict[str, NDArray[Any]] | None,
        rows: int,
        nbytes: int,
        key: Hashable,
        priority: int,
        admitted: float,
        deadline: float,
        done: Done,
        gone: Callable[[Ticket], None],
    ) -> None:
        self.id = id
        self._inputs = inputs
        self.rows = rows
        self.nbytes = nbytes
        self.key = key
        self.priority = priority
        self.admitted = admitted
        self.deadline = deadline
        self.done: Done | None = done
        """None once it is settled or its caller has gone."""
        self.gone = gone
        self.due = _NEVER
        """When the answer should be there to one who brings no deadline; that it was not teaches admission."""
        self.sink: Sink | None = None
        """Takes its answer instead of `done`, with those of its other tickets in the batch."""
        self.caller: Any = None
        """The sink's own."""
        self.batch_row = 0
        """Index of its first row in the batch, for the sink."""
        self.bucket = 0
        self.is_queued = False
        self.weight = 1
        """Requests it stands for in the counts: 0 for a piece, whose whole is counted by itself."""
        self.first_row = 0
        """Index of its first row in the request it is a piece of."""
        self.deaths = 0
        """Instances that died while they had it."""
        self.chunk: dict[str, NDArray[Any]] = {}
        """Inputs of many tickets in one piece, its own among them, where it was made without inputs."""
        self.chunk_row = 0

    @property
    def inputs(self) -> dict[str, NDArray[Any]]:
        """Its tensors, each of shape (rows, *rest)."""
        inputs = self._inputs
        if inputs is None:
            first, end = self.chunk_row, self.chunk_row + self.rows
            inputs = self._inputs = {name: array[first:end] for name, array in self.chunk.items()}
        return inputs

    def piece(self, first_row: int, inputs: dict[str, NDArray[Any]], rows: int, done: Done) -> Ticket:
        """Return a ticket for some rows of it, which counts for nothing."""
        share = self.nbytes * rows // self.rows
        piece = Ticket(
            self.id, inputs, rows, share, self.key, self.priority, self.admitted, self.deadline, done, self.gone
        )
        piece.weight, piece.first_row = 0, first_row
        return piece

    def cancel(self) -> bool:
        """Forget the caller: its `done` is never called. False: it was settled already."""
        if self.done is None:
            return False
        self.done = None
        self.gone(self)
        return True
