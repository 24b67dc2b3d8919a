"""From columns to what a file takes: lines of CSV or JSON as bytes, or a batch. Runs in any thread.

Numbers are written with the fewest digits that read back the same. Knows no file.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from foretell.errors import ConfigError
from foretell.model.data.cells import quote

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["csv_header", "decode_part", "encode_csv", "encode_jsonl", "encode_part", "pack", "to_arrow"]

_CSV_SPECIAL = '[",\r\n]'
_JSON_SPECIAL = '["\\\\\x00-\x1f]'


def to_arrow(columns: Mapping[str, NDArray[Any]]) -> dict[str, pa.Array]:
    """Return output columns as Arrow arrays; labels of mixed types as texts."""
    import pyarrow as pa

    found = {}
    for name, column in columns.items():
        if column.dtype == np.float16:
            column = column.astype(np.float32)
        try:
            found[name] = pa.array(column)
        except (pa.ArrowInvalid, pa.ArrowTypeError):
            found[name] = pa.array([str(v) for v in column.tolist()], pa.string())
    return found


def csv_header(names: list[str]) -> bytes:
    """Return the header line."""
    import pyarrow as pa

    return ",".join(_csv_texts(pa.array(names, pa.large_string())).to_pylist()).encode() + b"\n"


def encode_csv(columns: Mapping[str, pa.Array]) -> bytes:
    """Return the rows as lines of CSV, without a header."""
    parts: list[Any] = []
    for name, column in columns.items():
        texts = _texts(column, name)
        parts += [",", texts if _is_number(column.type) else _csv_texts(texts)]
    return _lines([*parts[1:], "\n"])


def _is_number(kind: pa.DataType) -> bool:
    """Whether texts of this type hold digits, letters and points alone, so that nothing needs quotes."""
    import pyarrow as pa

    return bool(pa.types.is_floating(kind) or pa.types.is_integer(kind) or pa.types.is_boolean(kind))


def encode_jsonl(columns: Mapping[str, pa.Array]) -> bytes:
    """Return the rows as JSON Lines. What JSON has no number for, NaN and infinities, is null."""
    parts: list[Any] = []
    for name, column in columns.items():
        parts += [f"{',' if parts else '{'}{json.dumps(name, ensure_ascii=False)}:", _json_texts(column)]
    return _lines([*parts, "}\n"])


def encode_part(blocks: Iterable[Mapping[str, pa.Array]]) -> bytes:
    """Return columns of blocks as streams of Arrow IPC, a new one where the types of columns change."""
    import pyarrow as pa

    sink, writer, schema = pa.BufferOutputStream(), None, None
    for columns in blocks:
        batch = pa.RecordBatch.from_arrays(list(columns.values()), list(columns))
        if writer is None or not batch.schema.equals(schema):
            if writer is not None:
                writer.close()
            schema = batch.schema
            writer = pa.ipc.new_stream(sink, schema)
        writer.write_batch(batch)
    if writer is not None:
        writer.close()
    encoded: bytes = sink.getvalue().to_pybytes()
    return encoded


def decode_part(encoded: bytes) -> Iterator[pa.RecordBatch]:
    """Yield what `encode_part` was given."""
    import pyarrow as pa

    source = pa.BufferReader(encoded)
    while source.tell() < len(encoded):
        with pa.ipc.open_stream(source) as stream:
            yield from stream


def pack(lines: bytes) -> bytes:
    """Return lines as a gzip archive; archives one after the other are one archive."""
    return gzip.compress(lines, 5, mtime=0)


def _lines(parts: list[Any]) -> bytes:
    """Join arrays of texts and constants row by row; the memory of the result is the file."""
    joined = _join(*parts)
    if not len(joined):
        return b""
    offsets = np.frombuffer(joined.buffers()[1], np.int64)[joined.offset : joined.offset + len(joined) + 1]
    lines: bytes = joined.buffers()[2].slice(int(offsets[0]), int(offsets[-1] - offsets[0])).to_pybytes()
    return lines


def _join(*parts: Any) -> pa.Array:
    import pyarrow as pa
    import pyarrow.compute as pc

    wide = [pa.scalar(p, pa.large_string()) if isinstance(p, str) else p for p in (*parts, "")]
    return pc.binary_join_element_wise(*wide)


def _texts(column: pa.Array, name: str) -> pa.Array:
    """Return a column as texts; a null is the empty text."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    try:
        return pc.fill_null(column.cast(pa.large_string()), "")
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as e:
        raise ConfigError(
            f"column {quote(name)}: {column.type} has no text form; do not keep it, or write Parquet or Arrow"
        ) from e


def _csv_texts(texts: pa.Array) -> pa.Array:
    import pyarrow.compute as pc

    special = pc.match_substring_regex(texts, _CSV_SPECIAL)
    if not special.true_count:
        return texts
    doubled = pc.replace_substring(texts, '"', '""')
    return pc.if_else(special, _join('"', doubled, '"'), texts)


def _json_texts(column: pa.Array) -> pa.Array:
    import pyarrow as pa
    import pyarrow.compute as pc

    kind, types = column.type, pa.types
    if types.is_boolean(kind) or types.is_integer(kind):
        return pc.fill_null(column.cast(pa.large_string()), "null")
    if types.is_floating(kind):
        finite = pc.fill_null(pc.is_finite(column), False)
        return pc.if_else(finite, column.cast(pa.large_string()), "null")
    if types.is_string(kind) or types.is_large_string(kind):
        texts = column.cast(pa.large_string())
        if not pc.any(pc.match_substring_regex(texts, _JSON_SPECIAL)).as_py():
            return pc.fill_null(_join('"', texts, '"'), "null")
    cells = [json.dumps(v, ensure_ascii=False, default=str) for v in column.to_pylist()]
    return pa.array(cells, pa.large_string())
