"""The contract between those who read files, those who predict, and those who write.

A source yields blocks in order, cheaply, in one thread. A block is parsed by any thread, on its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from foretell.signature import Signature

if TYPE_CHECKING:
    import pyarrow as pa
    from PIL.Image import Image

__all__ = [
    "START",
    "Answered",
    "AnsweredPictures",
    "Block",
    "Fault",
    "Mark",
    "Opens",
    "Origin",
    "Predictor",
    "Rows",
    "Source",
]


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


@dataclass(frozen=True, slots=True)
class Fault:
    """Why a row cannot be answered. A function of the row alone: not of its neighbours."""

    row: int
    """Counted from the first row of the block."""
    column: str | None
    reason: str
    """Got, expected, what to do; column and row are not named again."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a row stands in its file, and what it is there."""

    line: int | None
    """Of a text file, from 1."""
    row: int | None
    """Of a Parquet or Arrow file, from 0."""
    text: str
    """As in a text file, without its newline, bytes that are not UTF-8 as `\\xNN`; else a JSON object of columns."""


class Mark(NamedTuple):
    """A place in a file between two rows, where reading can go on."""

    at: int
    """Of text the offset in bytes, unpacked; else the index of the row behind the place."""
    line: int = 1
    """Number of the line there, where the file's reader counts lines."""


START = Mark(0)


class Block(Protocol):
    """Some consecutive rows of one file, not yet parsed. Which rows follows from the file alone."""

    @property
    def size_bytes(self) -> int:
        """How far it moves the progress bar."""
        ...

    @property
    def ends(self) -> Mark:
        """Return the place behind its last row."""
        ...

    @property
    def about_rows(self) -> int:
        """How many rows it has; of text, how many lines."""
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

    def faults(self) -> list[Fault]:
        """Return all rows that cannot be parsed, in their order."""
        ...

    def without(self, rows: Sequence[int]) -> Block:
        """Return the block as it would be without these rows; only its `parse` and `without` have a meaning.

        Args:
            rows: In rising order, each once.
        """
        ...

    def origins(self, rows: Sequence[int]) -> list[Origin]:
        """Return where rows come from, and what they are there."""
        ...


class Source(Protocol):
    """One file."""

    name: str
    size_bytes: int
    """Of the file, or 0 where it is not known."""

    def blocks(self, start: Mark = START) -> Iterator[Block]:
        """Yield all rows in order; at least one block, which may have no row.

        Args:
            start: Where to begin: the end of a block. The blocks behind it are the same as they are from the start.
        """
        ...
