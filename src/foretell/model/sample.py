"""Rows of a sample, as the original model is to see them; and how predictions do against the truth."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from foretell.errors import InvalidInput
from foretell.model.data.cells import MISSING_TEXTS
from foretell.model.formats.base import Answers
from foretell.signature import Field, Signature

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["fit_sample", "score"]


def fit_sample(sample: pa.Table, signature: Signature) -> pa.Table:
    """Return the sample with a column per field, as the preparation reads it: the spellings of missing become nulls.

    The rule is the preparation's own: a spelling that is a known category is that category.

    Raises:
        InvalidInput: A column is missing, or cannot be what its field says.
    """
    import pyarrow as pa

    columns = {}
    for field in signature.fields:
        if field.name not in sample.column_names:
            known = ", ".join(sample.column_names[:8])
            raise InvalidInput(
                f'sample: column "{field.name}" is missing, it has {known} ...; give rows like those of training',
                column=field.name,
            )
        columns[field.name] = _fit(sample.column(field.name), field)
    return pa.table(columns)


def score(answers: Answers, truth: pa.ChunkedArray | None, labels: bool, rows: int) -> Mapping[str, float]:
    """Return how predictions do against the truth: accuracy, or R2 and mean absolute error.

    Empty without a truth, and where the truth is of another kind than the predictions.

    Args:
        answers: For at least `rows` rows; the first ones are the sample's.
        truth: The target column of the sample.
        labels: Whether the model is a classifier.
        rows: How many rows of the sample were predicted.
    """
    if truth is None or rows == 0:
        return {}
    known = np.array([v is not None for v in truth.slice(0, rows).to_pylist()])
    actual = truth.slice(0, rows).to_numpy()[known]
    found = answers.values[:rows][known]
    if labels:
        named, true = found.astype(str), actual.astype(str)
        return {"accuracy": float((named == true).mean())} if np.isin(true, np.unique(named)).any() else {}
    if found.ndim > 1 or not np.issubdtype(actual.dtype, np.number):
        return {}
    residual = found.astype(np.float64) - actual
    spread = float(((actual - actual.mean()) ** 2).sum())
    return {
        "r2": 1 - float((residual**2).sum()) / spread if spread else 0.0,
        "mean_absolute_error": float(np.abs(residual).mean()),
    }


def _fit(column: pa.ChunkedArray, field: Field) -> pa.ChunkedArray:
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if pa.types.is_null(column.type):
        return column.cast(pa.string() if field.kind in ("category", "text", "date") else pa.float64())
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        missing = [text for text in MISSING_TEXTS if text not in field.categories]
        gone = pc.is_in(column, value_set=pa.array(missing, column.type))
        column = pc.if_else(gone, pa.scalar(None, column.type), column)
    return column.cast(_wanted(column, field), safe=False)


def _wanted(column: pa.ChunkedArray, field: Field) -> Any:
    import pyarrow as pa

    if field.kind == "category":
        return pa.string() if any(isinstance(c, str) for c in field.categories) else pa.float64()
    if field.kind == "text":
        return pa.string()
    if field.kind == "boolean":
        return pa.bool_() if pa.types.is_boolean(column.type) else pa.float64()
    if field.kind == "date":
        return column.type
    return pa.int64() if field.kind == "integer" else pa.float64()
