"""Reads JSON Lines: an object a line, its keys the columns. The rows mean what the same dicts mean in Python.

Knows lines and JSON, and leaves every question about values to the model's own preparation.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from foretell.bulk.blocks import Block, Opens, Rows
from foretell.bulk.columns import Keep
from foretell.bulk.cut import MAX_ROW_BYTES, NoRowEnd, cut
from foretell.errors import InvalidInput
from foretell.model.data.cells import quote

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["JsonLinesSource"]

_BLOCK_BYTES = 1 << 19
_BOM = b"\xef\xbb\xbf"


class JsonLinesSource:
    """One file of JSON Lines."""

    def __init__(
        self,
        name: str,
        open_stream: Opens,
        size_bytes: int,
        keep: Keep,
        *,
        max_row_bytes: int = MAX_ROW_BYTES,
    ) -> None:
        self.name = name
        self.size_bytes = size_bytes
        self._open = open_stream
        self._keep = keep
        self._max_row_bytes = max_row_bytes

    def blocks(self) -> Iterator[Block]:
        """Yield blocks of about half a MiB of text.

        Raises:
            InvalidInput: A line is too long.
        """
        line, kept = 1, None if self._keep == "all" else tuple(dict.fromkeys(self._keep))
        with self._open() as stream:
            head = stream.read(len(_BOM))
            texts = cut(
                stream.read,
                b"" if head == _BOM else head,
                delimiter=None,
                block_bytes=_BLOCK_BYTES,
                max_row_bytes=self._max_row_bytes,
            )
            try:
                for text in texts:
                    # "all" means the keys of the first row: an output has the same columns throughout.
                    kept = _first_keys(text) if kept is None else kept
                    yield _LinesBlock(self.name, text, line, kept or ())
                    line += text.count(b"\n")
            except NoRowEnd as e:
                raise InvalidInput(
                    f"{self.name} line {line}: a line of more than {self._max_row_bytes:,} bytes, the most that is read"
                ) from e
            if line == 1:
                yield _LinesBlock(self.name, b"", line, kept or ())


@dataclass(frozen=True)
class _LinesBlock:
    name: str
    text: bytes
    line: int
    kept: tuple[str, ...]

    @property
    def size_bytes(self) -> int:
        return len(self.text)

    def parse(self) -> Rows:
        rows = [_object(line, row) for row, line in enumerate(_lines(self.text))]
        return Rows(rows, {name: _kept(rows, name) for name in self.kept}, len(rows))

    def place(self, row: int | None) -> str:
        numbers = [n for n, line in enumerate(self.text.split(b"\n")) if line.strip()]
        return f"{self.name} line {self.line + (numbers[row] if row is not None else 0)}"


def _lines(text: bytes) -> list[bytes]:
    return [line for line in text.split(b"\n") if line.strip()]


def _object(line: bytes, row: int) -> dict[str, Any]:
    try:
        found = json.loads(line)
    except UnicodeDecodeError as e:
        raise InvalidInput(f"byte 0x{line[e.start]:02x} is not UTF-8; save the file as UTF-8", row=row) from e
    except ValueError as e:
        raise InvalidInput(f"not JSON ({e}); expected one object a line", row=row) from e
    except RecursionError as e:
        raise InvalidInput("JSON nested too deep; expected one flat object a line", row=row) from e
    if not isinstance(found, dict):
        raise InvalidInput(f'got {type(found).__name__}, expected an object such as {{"column": 1.5}}', row=row)
    return found


def _first_keys(text: bytes) -> tuple[str, ...] | None:
    first = next(iter(_lines(text)), None)
    if first is None:
        return None
    try:
        return tuple(_object(first, 0))
    except InvalidInput:
        return None  # the block itself says so, with its line


def _kept(rows: list[dict[str, Any]], name: str) -> pa.Array:
    """Return one key of all rows; values that no column can hold together are written as JSON."""
    import pyarrow as pa

    if not rows:
        return pa.array([], pa.string())
    values = []
    for row, found in enumerate(rows):
        if name not in found:
            raise InvalidInput(f"column {quote(name)} is to be kept and missing here", column=name, row=row)
        values.append(found[name])
    try:
        return pa.array(values)
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError):
        return pa.array([v if isinstance(v, str) or v is None else json.dumps(v) for v in values], pa.string())
