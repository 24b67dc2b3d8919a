"""Reads JSON Lines: an object a line, its keys the columns. The rows mean what the same dicts mean in Python.

Knows lines and JSON, and leaves every question about values to the model's own preparation.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from foretell.bulk.blocks import START, Block, Fault, Mark, Opens, Origin, Rows
from foretell.bulk.columns import Keep
from foretell.bulk.cut import MAX_ROW_BYTES, NoRowEnd, cut, go_to
from foretell.errors import InvalidInput
from foretell.model.data.cells import quote

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["JsonLinesSource"]

_BLOCK_BYTES = 1 << 19
_BOM = b"\xef\xbb\xbf"
_LACKING = "it is to be kept and missing here"


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

    def blocks(self, start: Mark = START) -> Iterator[Block]:
        """Yield blocks of about half a MiB of text.

        Raises:
            InvalidInput: A line is too long.
        """
        kept, line = self._kept_from(start), start.line
        with self._open() as stream:
            head = stream.read(len(_BOM))
            begun = at = max(start.at, len(_BOM) if head == _BOM else 0)
            rest = go_to(stream, at, 0, head)
            texts = cut(
                stream.read,
                rest,
                delimiter=None,
                block_bytes=_BLOCK_BYTES,
                max_row_bytes=self._max_row_bytes,
                position=at + len(rest),
            )
            try:
                for text in texts:
                    # "all" means the keys of the first row: an output has the same columns throughout.
                    kept = _first_keys(text) if kept is None else kept
                    yield _LinesBlock(self.name, text, line, kept or (), at)
                    at += len(text)
                    line += text.count(b"\n")
            except NoRowEnd as e:
                raise InvalidInput(
                    f"{self.name} line {line}: a line of more than {self._max_row_bytes:,} bytes, the most that is read"
                ) from e
            if at == begun and not start.at:
                yield _LinesBlock(self.name, b"", line, kept or (), at)

    def _kept_from(self, start: Mark) -> tuple[str, ...] | None:
        """Return the keys to keep, None where those of the first row will say."""
        if self._keep != "all":
            return tuple(dict.fromkeys(self._keep))
        if not start.at:
            return None
        return next((b.kept for b in self.blocks() if isinstance(b, _LinesBlock) and b.kept), ())


@dataclass(frozen=True)
class _LinesBlock:
    name: str
    text: bytes
    line: int
    kept: tuple[str, ...]
    offset: int

    @property
    def size_bytes(self) -> int:
        return len(self.text)

    @property
    def ends(self) -> Mark:
        return Mark(self.offset + len(self.text), self.line + self.about_rows)

    @property
    def about_rows(self) -> int:
        return self.text.count(b"\n")

    def parse(self) -> Rows:
        rows = [_object(line, row) for row, line in enumerate(_lines(self.text))]
        return Rows(rows, {name: _kept(rows, name) for name in self.kept}, len(rows))

    def place(self, row: int | None) -> str:
        line = self.line if row is None else self.origins([row])[0].line
        return f"{self.name} line {line}"

    def faults(self) -> list[Fault]:
        found = []
        for row, line in enumerate(_lines(self.text)):
            try:
                given = _object(line, row)
            except InvalidInput as e:
                found.append(Fault(row, None, str(e)))
                continue
            lacking = next((name for name in self.kept if name not in given), None)
            if lacking is not None:
                found.append(Fault(row, lacking, _LACKING))
        return found

    def without(self, rows: Sequence[int]) -> Block:
        left_out = set(rows)
        lines = (line for row, line in enumerate(_lines(self.text)) if row not in left_out)
        return replace(self, text=b"\n".join(lines))

    def origins(self, rows: Sequence[int]) -> list[Origin]:
        lines = [(at, line) for at, line in enumerate(self.text.split(b"\n"), self.line) if line.strip()]
        return [
            Origin(lines[row][0], None, lines[row][1].rstrip(b"\r").decode("utf-8", "backslashreplace")) for row in rows
        ]


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
    """Return the keys of the first row; one that cannot be read has none, the block itself says so, with its line."""
    for line in _lines(text):
        with suppress(InvalidInput):
            return tuple(_object(line, 0))
    return None


def _kept(rows: list[dict[str, Any]], name: str) -> pa.Array:
    """Return one key of all rows; values that no column can hold together are written as JSON."""
    import pyarrow as pa

    if not rows:
        return pa.array([], pa.string())
    values = []
    for row, found in enumerate(rows):
        if name not in found:
            raise InvalidInput(f"column {quote(name)}: {_LACKING}", column=name, row=row)
        values.append(found[name])
    try:
        return pa.array(values)
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError):
        return pa.array([v if isinstance(v, str) or v is None else json.dumps(v) for v in values], pa.string())
