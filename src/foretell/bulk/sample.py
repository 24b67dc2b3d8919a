"""Reads a sample of rows for `foretell convert`: all columns of a file, texts as they stand in it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from foretell.bulk.delimited import DelimitedSource
from foretell.bulk.numbers import BadCell, read_numbers
from foretell.bulk.sources import find_files, judged, open_source
from foretell.errors import ConfigError
from foretell.model.data.cells import MISSING_TEXTS
from foretell.signature import Signature

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["read_sample"]

_NO_MODEL = Signature(inputs=(), outputs=())


def read_sample(given: str, max_rows: int = 100_000) -> pa.Table:
    """Return the first rows of a file, with all of its columns.

    Args:
        given: A file, or a folder or glob of which the first file is read.
        max_rows: About how many rows are read at most.

    Returns:
        Columns of a text file as numbers where all of their cells are numbers or missing, else as texts.

    Raises:
        InvalidInput: The file cannot be read.
        ConfigError: Nothing is there.
    """
    import pyarrow as pa

    source = judged(open_source(find_files([given])[0], _NO_MODEL, "all"))
    parts, rows = [], 0
    for block in source.blocks():
        parts.append(pa.table(block.parse().kept))
        rows += parts[-1].num_rows
        if rows >= max_rows:
            break
    table = pa.concat_tables(parts, promote_options="permissive").slice(0, max_rows)
    if table.num_columns == 0:
        raise ConfigError(f'sample "{given}": it has no columns; give a file with a header and rows')
    if not isinstance(source, DelimitedSource):
        return table
    return pa.table({name: _typed(table.column(name)) for name in table.column_names})


def _typed(texts: pa.ChunkedArray) -> pa.Array:
    """Return texts as truths or numbers if all of them are, as texts otherwise: 0123 is no number, it is a code."""
    import pyarrow as pa
    import pyarrow.compute as pc

    column = texts.combine_chunks() if texts.num_chunks else pa.array([], texts.type)
    if pc.any(pc.match_substring_regex(column, r"^\s*[+-]?0\d")).as_py():
        return column
    missing = pc.is_in(column, value_set=pa.array(list(MISSING_TEXTS), column.type))
    words = pc.is_in(column, value_set=pa.array(["true", "True", "TRUE", "false", "False", "FALSE"], column.type))
    if pc.any(words).as_py() and pc.all(pc.or_(missing, words)).as_py():
        return pc.if_else(missing, pa.scalar(None, column.type), column).cast(pa.bool_())
    try:
        numbers, had_truths = read_numbers(column, "int64")
    except BadCell:
        return column
    return column if had_truths else numbers
