"""Rows in, predictions out: the bodies of `:predict` and `/invocations` that are JSON.

    {"instances": [{"Gr_Liv_Area": 1500, ...}, ...]}   or rows as lists, in the order of the fields
    {"predictions": [...]}                             a number, or a label with its probabilities, for each row

The forms of MLflow, `dataframe_records` and `dataframe_split`, mean the same. A value is read by the preparation
that every other door uses. Knows no HTTP.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from foretell.errors import InvalidInput
from foretell.model.data.table import Prepared, TablePreparation, TensorPreparation
from foretell.model.tasks.predictions import Predictions, Task
from foretell.protocol.status import Refused
from foretell.protocol.strict_json import read_json

__all__ = ["decode_rows", "encode_predictions", "rows_of"]

_FORMS = "instances", "dataframe_records", "dataframe_split"


def decode_rows(body: bytes, preparation: TablePreparation | TensorPreparation) -> Prepared:
    """Return the tensors of the rows in a JSON body.

    Raises:
        Refused: The body is not of a known form.
        InvalidInput: A row does not fit the model; column, row and value are named.
    """
    rows = rows_of(read_json(body, _keys_of))
    if isinstance(preparation, TensorPreparation):
        return preparation.prepare(_tensors_of(rows)) if rows else Prepared({}, 0, ())
    if rows and type(rows[0]) not in (dict, list):
        rows = [row if type(row) in (dict, list) else [row] for row in rows]
    return preparation.prepare(rows)


def encode_predictions(task: Task, outputs: list[NDArray[Any]]) -> bytes:
    """Return the JSON body of predictions; a number that is not finite is null."""
    return orjson.dumps({"predictions": Predictions(task, outputs).to_list()}, default=_plain)


def _plain(value: Any) -> Any:
    """Return what orjson does not know as what it does: numpy's own numbers, rows of tensors, bytes."""
    if isinstance(value, (np.generic, np.ndarray)):
        return value.tolist()
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return str(value)


def rows_of(document: Any) -> list[Any]:
    """Return the rows of a JSON document, as objects or lists.

    Raises:
        Refused: It is not of a known form.
        InvalidInput: A row of `dataframe_split` has too few or too many values.
    """
    if type(document) is not dict:
        raise Refused('body: expected a JSON object {"instances": [...]}')
    if len(document) != 1 or next(iter(document)) not in _FORMS:
        strange = next((key for key in document if key not in _FORMS), "")
        got = f'unknown field "{strange[:80]}"' if strange else f"{len(document)} fields"
        raise Refused(f"body: {got}, expected exactly one of {', '.join(_FORMS)}", code="unknown_field")
    ((form, rows),) = document.items()
    if form == "dataframe_split":
        return _split(rows)
    if type(rows) is not list:
        raise Refused(f'"{form}": expected a list of rows')
    return rows


def _split(table: Any) -> list[Any]:
    if type(table) is not dict or not {"columns", "data"} <= table.keys() <= {"columns", "data", "index"}:
        raise Refused('"dataframe_split": expected {"columns": [...], "data": [[...], ...]}')
    names, rows = table["columns"], table["data"]
    if type(names) is not list or type(rows) is not list or not all(type(n) is str for n in names):
        raise Refused('"dataframe_split": columns must be texts, data a list of rows')
    if len(set(names)) < len(names):
        raise Refused('"dataframe_split": two columns have the same name')
    for at, row in enumerate(rows):
        if type(row) is not list or len(row) != len(names):
            raise InvalidInput(f"data, row {at}: expected a list of {len(names)} values, as there are columns", row=at)
    return [dict(zip(names, row, strict=True)) for row in rows]


def _tensors_of(rows: list[Any]) -> Any:
    """Return rows for a model that takes bare tensors: an array, or one by name where rows are objects."""
    if not rows or type(rows[0]) is not dict:
        return rows
    names = rows[0].keys()
    for at, row in enumerate(rows):
        if type(row) is not dict or row.keys() != names:
            raise InvalidInput(f"data, row {at}: its inputs are not those of row 0; send all alike", row=at)
    return {name: [row[name] for row in rows] for name in names}


def _keys_of(document: Any) -> int:
    """Count the keys of a request whose rows are objects of plain values."""
    try:
        return len(document) + sum(map(len, document["instances"])) if type(document["instances"][0]) is dict else 1
    except (TypeError, KeyError, IndexError):
        return -1
