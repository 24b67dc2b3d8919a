"""Rows of a CSV or Arrow body to tensors, by the readers that `foretell predict` has for files."""

from __future__ import annotations

from contextlib import closing
from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy as np

from foretell.bulk.delimited import DelimitedSource
from foretell.errors import InvalidInput
from foretell.model.data.table import Prepared, TablePreparation

if TYPE_CHECKING:
    import pyarrow as pa

    from foretell.server.doors import Door

__all__ = ["read_table"]


def read_table(body: bytes, kind: bytes, door: Door) -> Prepared:
    """Return the tensors of a table. Takes long; safe to call in a thread.

    Args:
        body: CSV with a header, or an Arrow IPC stream.
        kind: Its media type.
        door: Of the version that is asked.

    Raises:
        InvalidInput: The body is damaged, or does not fit the model.
    """
    preparation = door.preparation
    if not isinstance(preparation, TablePreparation):
        raise InvalidInput("body: this model takes bare tensors, not columns; send JSON")
    batches = _arrow(body) if b"arrow" in kind else _csv(body, door)
    parts, row = [], 0
    for batch in batches:
        parts.append(preparation.prepare_arrow(batch, row))
        row += batch.num_rows
    if len(parts) == 1:
        return parts[0]
    inputs: dict[str, Any] = {name: np.concatenate([part.inputs[name] for part in parts]) for name in parts[0].inputs}
    return Prepared(inputs, row, ())


def _csv(body: bytes, door: Door) -> list[pa.RecordBatch]:
    source = DelimitedSource("body", lambda: closing(BytesIO(body)), len(body), door.signature, ())
    batches, row = [], 0
    for block in source.blocks():
        try:
            rows = block.parse()
        except InvalidInput as error:
            at = None if error.row is None else row + error.row
            raise InvalidInput(f"{block.place(error.row)}: {error}", column=error.column, row=at) from error
        batches.append(rows.data)
        row += rows.count
    return batches


def _arrow(body: bytes) -> list[pa.RecordBatch]:
    import pyarrow as pa

    try:
        with pa.ipc.open_stream(pa.BufferReader(body)) as reader:
            for field in reader.schema:
                if isinstance(field.type, pa.BaseExtensionType):
                    raise InvalidInput(f'body: column "{field.name[:80]}" has an extension type; send a plain one')
            batches = list(reader)
            for batch in batches:
                batch.validate(full=True)  # a stream can point anywhere: Arrow takes its offsets on trust
            return batches or [pa.RecordBatch.from_pylist([], schema=reader.schema)]
    except (pa.ArrowException, OSError, ValueError) as error:
        raise InvalidInput("body: it is no whole Arrow IPC stream; write it anew") from error
