"""The contract between those who read files, those who predict, and those who write.

A source yields blocks in order, cheaply, in one thread. A block is parsed by any thread, on its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol

import numpy as np
from numpy.typing import NDArray

from foretell.signature import Signature

if TYPE_CHECKING:
    import pyarrow as pa
    from PIL.Image import Image

__all__ = ["Answered", "AnsweredPictures", "Block", "Opens", "Predictor", "Rows", "Source"]


Opens = Callable[[], AbstractContextManager[BinaryIO]]
"""Opens a file at its start; a pipe can be opened once."""


class Answered(Protocol):
    """Predictions of some rows, as `model.tasks` gives them."""

    notes: tuple[str, ...]

    def to_columns(self) -> dict[str, NDArray[np.generic]]:
        """Return the output columns by name."""
        ...


class AnsweredPictures(Answered, Protocol):
    """Predictions of pictures."""

    def draw(self, row: int | None = None) -> Image:
        """Return a copy of a picture with what was found in it."""
        ...


class Predictor(Protocol):
    """What `bulk` needs of a model. Safe to call from several threads, each call in the thread that makes it."""

    @property
    def signature(self) -> Signature:
        """What the model takes and gives."""
        ...

    def predict(self, data: Any) -> Answered:
        """Predict rows given as dicts."""
        ...

    def predict_pictures(self, pictures: Sequence[Any]) -> AnsweredPictures:
        """Predict pictures."""
        ...

    def predict_arrow(self, batch: pa.RecordBatch, first_row: int = 0) -> Answered:
        """Predict the rows of a batch; `first_row` is the index of its first row, for messages."""
        ...


@dataclass(frozen=True)
class Rows:
    """A parsed block."""

    data: Any
    """A `pyarrow.RecordBatch` with a column per field, or a list of dicts."""
    kept: dict[str, pa.Array]
    """Columns to keep, by name."""
    count: int
    notes: tuple[str, ...] = ()


class Block(Protocol):
    """Some consecutive rows of one file, not yet parsed."""

    @property
    def size_bytes(self) -> int:
        """How far it moves the progress bar."""
        ...

    def parse(self) -> Rows:
        """Return its rows.

        Raises:
            InvalidInput: With the row counted from the first one of the block.
        """
        ...

    def place(self, row: int | None) -> str:
        """Return where a row of this block stands, such as `homes.csv line 19`. May read the file again."""
        ...


class Source(Protocol):
    """One file."""

    name: str
    size_bytes: int
    """Of the file, or 0 where it is not known."""

    def blocks(self) -> Iterator[Block]:
        """Yield all rows in order; at least one block, which may have no row."""
        ...
