"""A request of more rows than a batch takes: cut into pieces that wait like requests, and joined again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from foretell.engine.ticket import Done, Ticket
from foretell.errors import ForetellError
from foretell.request import InferResponse, Timing

__all__ = ["Whole", "cut"]


def cut(inputs: dict[str, NDArray[Any]], rows: int, most_rows: int) -> list[tuple[int, dict[str, NDArray[Any]]]]:
    """Cut the inputs of a request into pieces of at most `most_rows`: (index of the first row, views of the inputs)."""
    starts = range(0, rows, most_rows)
    return [(at, {name: array[at : at + most_rows] for name, array in inputs.items()}) for at in starts]


class Whole:
    """The ticket of a request that was cut."""

    __slots__ = ("_done", "_gone", "_id", "_left", "_parts", "pieces")

    def __init__(self, id: str, count: int, done: Done, gone: Callable[[], None]) -> None:
        self._id = id
        self._done: Done | None = done
        self._gone = gone
        self._left = count
        self._parts: list[InferResponse | None] = [None] * count
        self.pieces: list[Ticket] = []

    def part(self, index: int) -> Done:
        """Return what the piece of this index calls when it is settled."""
        return lambda result: self._settled(index, result)

    def cancel(self) -> bool:
        """Forget the caller and every piece. False: it was settled already."""
        if self._done is None:
            return False
        self._drop()
        self._gone()
        return True

    def _drop(self) -> None:
        self._done = None
        for piece in self.pieces:
            piece.cancel()

    def _settled(self, index: int, result: InferResponse | ForetellError) -> None:
        done = self._done
        if done is None:
            return
        if isinstance(result, ForetellError):
            # No answer without all of its rows: the other pieces need not run.
            self._drop()
            done(result)
            return
        self._parts[index] = result
        self._left -= 1
        if self._left == 0:
            self._done = None
            done(_joined(self._id, [part for part in self._parts if part is not None]))


def _joined(id: str, parts: list[InferResponse]) -> InferResponse:
    outputs = [np.concatenate(column) for column in zip(*(part.outputs for part in parts), strict=True)]
    timing = Timing(
        queue_ns=min(part.timing.queue_ns for part in parts),
        run_ns=sum(part.timing.run_ns for part in parts),
        total_ns=max(part.timing.total_ns for part in parts),
        batch_rows=max(part.timing.batch_rows for part in parts),
    )
    return InferResponse.of(parts[0].model, parts[0].version, id, outputs, timing)
