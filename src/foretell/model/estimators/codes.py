"""Encoders of categories as tables over codes.

An encoder, with the imputers before it, works on each column alone and knows its values: so all it will ever
answer is found by asking it once for each value, for missing, and for an unknown one. What it was told (drop,
infrequent values, encoded missing values ...) need not be understood, and columns are not assumed to be
independent: that is checked. Knows no type of estimator.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from foretell.model.estimators.graph import Graph, Raw, Tensor
from foretell.model.estimators.inputs import Inputs
from foretell.model.estimators.refused import NoGraphError

__all__ = ["CodeTable", "emit", "probe"]

_PROBE_ROWS = 512
_CHECK_ROWS = 64


@dataclass(frozen=True)
class CodeTable:
    """What an encoder answers: each output column belongs to one input column, and is a function of its code."""

    owner: NDArray[np.int64]
    """For each output column the input column it depends on."""
    values: tuple[NDArray[np.float64], ...]
    """For each output column its value by code: unknown, the vocabulary, missing."""
    sparse: bool = False
    """Whether the encoder answers with a sparse matrix."""


def probe(transform: Callable[[Any], Any], raw: Raw, inputs: Inputs) -> CodeTable:
    """Ask an encoder for all it knows.

    Unknown or missing values that it refuses are noted in `inputs`.

    Raises:
        NoGraphError: Its columns are not independent, or it does not answer with numbers.
    """
    asked = _Asked(transform, raw, inputs)
    base = asked.rows([asked.first])[0]
    owner, cells = np.zeros(len(base), np.int64), [np.empty(0)] * len(base)
    claimed = np.zeros(len(base), bool)
    for place, options in enumerate(asked.options()):
        answers = np.stack([base if row is None else row for row in options])
        moves = ~np.all((answers == base) | (np.isnan(answers) & np.isnan(base)), axis=0)
        if (claimed & moves).any():
            raise NoGraphError("its columns are not encoded independently")
        for output in np.flatnonzero(moves | ((place == 0) & ~claimed)):
            owner[output], cells[output] = place, answers[:, output]
        claimed |= moves
    table = CodeTable(owner, tuple(cells), asked.sparse)
    asked.check(table)
    return table


class _Asked:
    """Rows made of values, given to the encoder in small lots."""

    def __init__(self, transform: Callable[[Any], Any], raw: Raw, inputs: Inputs) -> None:
        self.transform, self.raw, self.inputs = transform, raw, inputs
        self.sparse = False
        self.known = [inputs.vocabulary[c] for c in raw.columns]
        self.first = [v[0] if v else inputs.missing(c) for v, c in zip(self.known, raw.columns, strict=True)]

    def rows(self, rows: Sequence[Sequence[Any]]) -> NDArray[np.float64]:
        parts = [self._lot(rows[at : at + _PROBE_ROWS]) for at in range(0, len(rows), _PROBE_ROWS)]
        return np.concatenate(parts)

    def _lot(self, rows: Sequence[Sequence[Any]]) -> NDArray[np.float64]:
        given = {c: [row[place] for row in rows] for place, c in enumerate(self.raw.columns)}
        table = self.inputs.select(self.inputs.frame(given, len(rows)), self.raw)
        answer = self.transform(table)
        self.sparse = hasattr(answer, "toarray")
        dense = answer.toarray() if self.sparse else np.asarray(answer)
        try:
            return np.asarray(dense, np.float64).reshape(len(rows), -1)
        except (TypeError, ValueError) as error:
            raise NoGraphError("it does not encode to numbers") from error

    def options(self) -> Iterator[list[NDArray[np.float64] | None]]:
        """Yield for each column the answers for unknown, each known value, missing; None where it refuses."""
        columns, inputs = self.raw.columns, self.inputs
        unknown = self._tried([self._with(p, inputs.unknown(c)) for p, c in enumerate(columns)])
        missing = self._tried([self._with(p, inputs.missing(c)) for p, c in enumerate(columns)])
        inputs.closed |= {c for c, answer in zip(columns, unknown, strict=True) if answer is None}
        inputs.required |= {c for c, answer in zip(columns, missing, strict=True) if answer is None}
        for place, values in enumerate(self.known):
            known: Iterable[NDArray[np.float64]] = self.rows([self._with(place, v) for v in values]) if values else []
            yield [unknown[place], *known, missing[place]]

    def _with(self, place: int, value: Any) -> list[Any]:
        row = list(self.first)
        row[place] = value
        return row

    def _tried(self, rows: list[list[Any]]) -> list[NDArray[np.float64] | None]:
        """Answer all rows at once or, where that is refused, each on its own."""
        try:
            return list(self.rows(rows))
        except (ValueError, TypeError):
            if len(rows) == 1:
                return [None]
        return [answer for row in rows for answer in self._tried([row])]

    def check(self, table: CodeTable) -> None:
        """Compare the table with the encoder on random rows of known values."""
        random = np.random.default_rng(0)
        codes = np.stack([random.integers(0, max(len(v), 1), _CHECK_ROWS) for v in self.known], axis=1)
        rows = [
            [v[i] if v else first for v, i, first in zip(self.known, row, self.first, strict=True)] for row in codes
        ]
        empty = np.array([not v for v in self.known])
        at = np.where(empty, 1, codes + 1)
        found = np.stack([c[at[:, o]] for o, c in zip(table.owner, table.values, strict=True)], axis=1)
        if not np.array_equal(found, self.rows(rows), equal_nan=True):
            raise NoGraphError("its columns are not encoded independently")


def emit(graph: Graph, table: CodeTable, codes: Tensor) -> Tensor:
    """Write a table as nodes over codes, (rows, input columns): NaN is missing, -1 unknown."""
    width, columns = len(table.owner), codes.width
    if width > columns and (spots := _spots(table, columns)) is not None:
        return _scattered(graph, codes, spots, width)
    spread = graph.pick(codes, table.owner.tolist())
    return Tensor(_looked_up(graph, spread, table.values), "FP64", width)


def _looked_up(graph: Graph, codes: Tensor, cells: Sequence[NDArray[Any]]) -> str:
    """Look each column of codes up in its own part of one flat table."""
    starts = np.cumsum([0, *(len(c) for c in cells)])
    moved = graph.op("Add", codes.name, graph.array(starts[:-1] + 1, codes))
    missing = graph.array(starts[1:] - 1, codes)
    index = graph.op("Where", graph.op("IsNaN", codes.name), missing, moved)
    flat = graph.constant(np.concatenate(cells))
    return graph.op("Gather", flat, graph.op("Cast", index, to=7))


def _spots(table: CodeTable, columns: int) -> list[NDArray[np.int64]] | None:
    """Return for each input column the output column that each code sets to 1, or None if it is not so simple.

    A code that sets none points beyond the last one.
    """
    width = len(table.owner)
    spots = []
    for place in range(columns):
        own = np.flatnonzero(table.owner == place)
        if not len(own):
            spots.append(np.array([width] * 2, np.int64))
            continue
        block = np.stack([table.values[o] for o in own], axis=1)
        if not np.isin(block, (0.0, 1.0)).all() or (block.sum(axis=1) > 1).any():
            return None
        spots.append(np.where(block.any(axis=1), own[block.argmax(axis=1)], width))
    return spots


def _scattered(graph: Graph, codes: Tensor, spots: Sequence[NDArray[np.int64]], width: int) -> Tensor:
    """Set ones in rows of zeros; one more column takes what sets none, and is cut off."""
    index = _looked_up(graph, codes, spots)
    shape = graph.op("Shape", index)
    ones = graph.op("ConstantOfShape", shape, value=_scalar(1.0))
    rows = graph.op("Shape", index, end=1)
    zeros = graph.op(
        "ConstantOfShape",
        graph.op("Concat", rows, graph.constant(np.array([width + 1], np.int64)), axis=0),
        value=_scalar(0.0),
    )
    filled = graph.op("ScatterElements", zeros, index, ones, axis=1)
    return graph.pick(Tensor(filled, "FP64", width + 1), range(width))


def _scalar(value: float) -> Any:
    import onnx

    return onnx.numpy_helper.from_array(np.array([value], np.float64))
