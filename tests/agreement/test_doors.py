"""The same rows give the same tensors, or the same refusal, through every door."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from foretell.errors import InvalidInput
from foretell.model.data.cells import MISSING_TEXTS
from foretell.model.data.table import Prepared, TablePreparation
from foretell.signature import Column, Field, Signature, TensorSpec

NAMES = ["Größe", "a b", "x0", "price", 'with "quotes"', "日付"]
TEXT = st.text(st.characters(exclude_categories=("Cs", "Cc")), max_size=4) | st.sampled_from(
    ["None", "NA", "nan", "", "20", "20.0", "-1", "1e3", "true", "True", " x ", "é", "e\u0301", "ß", "🏠"]
)
INTEGERS = st.integers(-(2**53), 2**53) | st.sampled_from([0, 1, -1, 20])
FLOATS = st.floats(allow_nan=False, allow_infinity=False, width=32) | st.sampled_from([0.5, 20.0, -0.0, 1.0])
MISSING = st.sampled_from([None, math.nan])


@st.composite
def fields(draw: st.DrawFn, name: str) -> Field:
    kind = draw(st.sampled_from(["number", "integer", "boolean", "category", "category", "text", "date"]))
    categories: tuple[Any, ...] = ()
    if kind == "category":
        of = draw(st.sampled_from([TEXT, INTEGERS, FLOATS, st.booleans()]))
        categories = tuple(draw(st.lists(of, min_size=1, max_size=5, unique=True)))
    closed = kind == "category" and draw(st.booleans())
    return Field(name, kind, nullable=draw(st.booleans()), categories=categories, closed=closed)


def values(field: Field) -> st.SearchStrategy[Any]:
    """Values for a field: mostly good, some that it must refuse."""
    good: dict[str, st.SearchStrategy[Any]] = {
        "number": FLOATS | INTEGERS,
        "integer": INTEGERS,
        "boolean": st.booleans() | st.sampled_from([0, 1, "true", "FALSE"]),
        "category": (st.sampled_from(field.categories) if field.categories else TEXT) | TEXT | INTEGERS,
        "text": TEXT,
        "date": st.datetimes(pd.Timestamp.min.ceil("D").to_pydatetime(), pd.Timestamp.max.floor("D").to_pydatetime())
        | st.sampled_from(["2026-01-31", "1999-12-31T23:59:59.123456789Z", "2020-02-29T12:00:00+02:00"]),
    }
    mean = st.sampled_from([math.inf, -math.inf, 5.5, 1e39, 2, "abc", "12.5", "NA", "None", "", True, 10**30, b"by"])
    return st.one_of([good[field.kind]] * 9 + [MISSING] * (2 * field.nullable) + [MISSING | mean])


@st.composite
def cases(draw: st.DrawFn) -> tuple[Signature, list[list[Any]]]:
    names = draw(st.lists(st.sampled_from(NAMES), min_size=1, max_size=4, unique=True))
    chosen = tuple(draw(fields(name)) for name in names)
    inputs, columns, matrix = [], {}, []
    floats = draw(st.sampled_from(["FP32", "FP64"]))
    for field in chosen:
        if field.kind == "date":
            spec, encoding = TensorSpec(f"t_{field.name}", "INT64", (-1, 1)), "date"
        elif field.kind == "text" or (field.kind == "category" and draw(st.booleans())):
            spec, encoding = TensorSpec(f"t_{field.name}", "BYTES", draw(st.sampled_from([(-1, 1), (-1,)]))), "text"
        elif field.kind != "category" and draw(st.booleans()):
            matrix.append(Column(field.name, "number"))
            continue
        elif field.kind == "category":
            matrix.append(Column(field.name, "code"))
            continue
        else:
            datatype = draw(st.sampled_from(["INT64", "FP32", "FP16", "INT8", "BOOL"]))
            spec, encoding = TensorSpec(f"t_{field.name}", datatype, (-1, 1)), "number"
        inputs.append(spec)
        columns[spec.name] = (Column(field.name, encoding),)
    if matrix:
        inputs.append(TensorSpec("matrix", floats, (-1, len(matrix))))
        columns["matrix"] = tuple(matrix)
    rows = draw(st.lists(st.tuples(*map(values, chosen)).map(list), min_size=1, max_size=6))
    return Signature(tuple(inputs), (), chosen, columns), rows


Answer = dict[str, np.ndarray] | tuple[str | None, int | None]


def ask(preparation: TablePreparation, data: Any) -> Answer:
    try:
        found = preparation.prepare(data)
    except InvalidInput as refusal:
        return refusal.column, refusal.row
    return checked(found)


def checked(found: Prepared) -> dict[str, np.ndarray]:
    assert all(len(a) == found.rows for a in found.inputs.values())
    assert all(a.flags.c_contiguous for a in found.inputs.values())
    return found.inputs


def same(one: Answer, other: Answer) -> bool:
    if isinstance(one, tuple) or isinstance(other, tuple):
        return isinstance(one, tuple) and isinstance(other, tuple) and one == other
    return one.keys() == other.keys() and all(
        a.dtype == other[name].dtype
        and a.shape == other[name].shape
        and (a.tolist() == other[name].tolist() if a.dtype == object else np.array_equal(a, other[name], _floats(a)))
        for name, a in one.items()
    )


def _floats(a: np.ndarray) -> bool:
    return a.dtype.kind == "f"


def doors(signature: Signature, rows: list[list[Any]]) -> dict[str, Any]:
    """The rows in every form that can hold them."""
    names = [f.name for f in signature.fields]
    columns = {name: [row[i] for row in rows] for i, name in enumerate(names)}
    objects = np.empty((len(rows), len(names)), object)
    objects[:] = rows
    frame = pd.DataFrame({n: pd.Series(v, dtype=object) for n, v in columns.items()})
    found = {
        "dict of columns": columns,
        "dict of columns, reversed and more": {**dict(reversed(columns.items())), "more": [1] * len(rows)},
        "dict of tuples": {n: tuple(v) for n, v in columns.items()},
        "dict of Series": {n: frame[n] for n in names},
        "rows": rows,
        "tuples": [tuple(row) for row in rows],
        "object array": objects,
        "structured array": np.array([tuple(row) for row in rows], [(n, object) for n in names]),
        "pandas of objects": frame,
        "pandas, inferred": frame.infer_objects(),
        "pandas, nullable": frame.convert_dtypes(),
        "pandas, many": pd.concat([frame] * 33, ignore_index=True),
        "pandas, many inferred": pd.concat([frame] * 33, ignore_index=True).infer_objects(),
        "pandas, many nullable": pd.concat([frame] * 33, ignore_index=True).convert_dtypes(),
        "pandas of categories": pd.concat([frame] * 33, ignore_index=True).astype(
            {f.name: "category" for f in signature.fields if hashable(columns[f.name])}
        ),
    }
    table = arrow_of(columns)
    if table is not None:
        found["arrow"] = table
        found["arrow batch"] = table.to_batches()[0]
        found["arrow, chunks"] = pa.concat_tables([table, table])
        found["arrow dictionaries"] = pa.table({n: encoded(table[n]) for n in names})
        found["polars"] = pl.from_arrow(table)
    if all(v is None or (type(v) in (int, float) and (v != v or float(v) == v)) for row in rows for v in row):
        found["float array"] = np.array(rows, np.float64)
        narrow = quiet_half(np.array(rows, np.float64))
        if np.array_equal(narrow, np.array(rows, np.float64), equal_nan=True):
            found["half array"] = narrow
            found["single array"] = narrow.astype(np.float32)
            found["single columns"] = {n: narrow[:, i].astype(np.float32) for i, n in enumerate(names)}
        found["float array, by columns"] = np.asfortranarray(np.array(rows, np.float64))
    return found


def quiet_half(values: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):
        return values.astype(np.float16)


def hashable(column: list[Any]) -> bool:
    return not any(isinstance(v, bytes) for v in column) and len({type(v) for v in column} - {type(None)}) <= 1


def arrow_of(columns: dict[str, list[Any]]) -> pa.Table | None:
    """The rows in Arrow; None where a column has several types, which Arrow refuses, or turns into one another."""
    for column in columns.values():
        kinds = {type(v) for v in column if v is not None and v == v}
        if len(kinds) > 1 and not kinds <= {int, float}:
            return None
    try:
        return pa.table({n: pa.array(v, from_pandas=True) for n, v in columns.items()})
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError):
        return None


def encoded(column: pa.ChunkedArray) -> pa.ChunkedArray:
    return column if pa.types.is_null(column.type) else column.dictionary_encode()


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(cases())
def test_every_door(case: tuple[Signature, list[list[Any]]]) -> None:
    signature, rows = case
    preparation = TablePreparation(signature)
    names = [f.name for f in signature.fields]
    expected = ask(preparation, [dict(zip(names, row, strict=True)) for row in rows])
    for door, data in doors(signature, rows).items():
        found = ask(preparation, data)
        if isinstance(found, dict) and isinstance(expected, dict):
            found = {name: a[: len(rows)] for name, a in found.items()}
        assert same(expected, found), f"{door}: {found}, expected {expected}"


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(cases())
def test_one_row_is_answered_as_among_many(case: tuple[Signature, list[list[Any]]]) -> None:
    signature, rows = case
    preparation = TablePreparation(signature)
    names = [f.name for f in signature.fields]
    dicts = [dict(zip(names, row, strict=True)) for row in rows]
    together = ask(preparation, dicts)
    for at, row in enumerate(dicts):
        alone = ask(preparation, row)
        for data in ([row], list(row.values()), pd.Series(row, dtype=object), {n: [v] for n, v in row.items()}):
            assert same(ask(preparation, data), alone)
        if isinstance(together, dict):
            assert same({name: a[at : at + 1] for name, a in together.items()}, alone)
        elif together[1] == at:
            # The rows' first refusal is by column; this row may have an earlier column at fault only if that one
            # would have been refused among the rows too.
            assert alone == (together[0], 0)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(cases())
def test_csv_as_its_reader_gives_it(case: tuple[Signature, list[list[Any]]]) -> None:
    signature, rows = case
    columns = {}
    for at, field in enumerate(signature.fields):
        column = as_csv(field, [row[at] for row in rows])
        if column is None:
            return
        columns[field.name] = column
    preparation = TablePreparation(signature)
    expected = ask(preparation, {f.name: [row[at] for row in rows] for at, f in enumerate(signature.fields)})
    batch = pa.record_batch(columns)
    try:
        found: Answer = checked(preparation.prepare_arrow(batch, 1000))
    except InvalidInput as refusal:
        found = (refusal.column, None if refusal.row is None else refusal.row - 1000)
    assert same(expected, found)


def as_csv(field: Field, column: list[Any]) -> pa.Array | None:
    """A column as a reader of CSV gives it: numbers as float64, all else as text. None where text would say less."""
    if any(isinstance(v, bytes) or (isinstance(v, int) and abs(v) > 2**53) for v in column):
        return None
    if field.kind in ("number", "integer"):
        if any(isinstance(v, str) and v not in MISSING_TEXTS for v in column):
            return None
        return pa.array([None if v is None or isinstance(v, str) else float(v) for v in column], pa.float64())
    texts = []
    for value in column:
        is_text = value is None or isinstance(value, str) or (type(value) is int and field.kind != "date")
        missing = value is None or value in MISSING_TEXTS
        if not is_text or (missing and value not in field.categories and "" in field.categories):
            return None
        if value is None:
            texts.append("")
        elif type(value) is int and str(value) not in field.categories and f"{value:.1f}" in field.categories:
            return None
        else:
            texts.append(str(value))
    return pa.array(texts, pa.string())
