"""What the three boosting libraries have in common: fields, runners, and the way a data scientist asks them.

Knows no library and no file.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from foretell.errors import ArtifactInvalid, RuntimeMissing
from foretell.model.runtimes import LONG_CHUNK_ROWS, Runner
from foretell.model.tasks.classification import Classification
from foretell.model.tasks.predictions import Task
from foretell.model.trees.ensemble import Ensemble
from foretell.model.trees.graph import BULK_ROWS, bulk_split, to_onnx
from foretell.signature import Column, Field, Label, Signature, TensorSpec

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = [
    "class_labels",
    "frame",
    "graph_runners",
    "is_installed",
    "median_s",
    "missing",
    "names_of",
    "signature_of",
]


def is_installed(library: str) -> bool:
    """Say whether a library can be imported, without importing it."""
    return find_spec(library) is not None


def missing(library: str, why: str) -> RuntimeMissing:
    """Return the error for a library that is not installed."""
    return RuntimeMissing(f"{library} is not installed, {why}: pip install 'foretell[{library}]'")


def names_of(found: Sequence[str], count: int) -> tuple[tuple[str, ...], bool]:
    """Return a name for each feature, and whether they come from the file.

    Raises:
        ArtifactInvalid: A name occurs twice.
    """
    if not found:
        return tuple(f"x{i}" for i in range(count)), False
    if len(set(found)) != len(found):
        twice = next(name for i, name in enumerate(found) if name in found[:i])
        raise ArtifactInvalid(f'feature names: "{twice}" occurs twice, expected distinct names')
    return tuple(found), True


def class_labels(given: Sequence[Label] | None, found: Sequence[Label], count: int) -> tuple[Label, ...]:
    """Return the labels of the classes: given by the caller, else found in the file, else 0, 1, 2 ...

    Raises:
        ArtifactInvalid: There are not as many as the model has classes.
    """
    labels = tuple(given if given is not None else found or range(count))
    if len(labels) != count:
        raise ArtifactInvalid(f"classes: got {len(labels)} labels, the model has {count}")
    return labels


def signature_of(
    fields: Sequence[Field], named: bool, datatype: str, task: Task, width: int, output_datatype: str
) -> Signature:
    """Return the signature of a model that takes one matrix, a column for each field, and gives one."""
    columns = tuple(Column(f.name, "code" if f.kind == "category" else "number") for f in fields)
    output = "probabilities" if isinstance(task, Classification) else "prediction"
    return Signature(
        inputs=(TensorSpec("features", datatype, (-1, len(fields))),),
        outputs=(TensorSpec(output, output_datatype, (-1, width)),),
        fields=tuple(fields),
        columns={"features": columns},
        named=named,
    )


def graph_runners(ensemble: Ensemble, output: str, library: Runner | None, **before: Any) -> tuple[Runner, ...]:
    """Return ONNX for one row, and for many rows the library if it is given, else ONNX cut for the cache."""
    first = Runner("onnxruntime", "model.onnx", to_onnx(ensemble, output=output, **before))
    split = bulk_split(ensemble)
    if library is not None:
        return first, library
    if not split:
        return (first,)
    bulk = to_onnx(ensemble, output=output, split=split, **before)
    return first, Runner("onnxruntime", "bulk.onnx", bulk, rows_from=BULK_ROWS, chunk_rows=LONG_CHUNK_ROWS)


def frame(rows: pa.Table, fields: Sequence[Field], library: str) -> Any:
    """Return the rows as a data scientist holds them: a matrix, or with categories a pandas DataFrame.

    Columns come in the order of the fields; numbers are float64, missing ones NaN.

    Raises:
        RuntimeMissing: There are categories and pandas is not installed.
    """
    if not any(f.kind == "category" for f in fields):
        columns = [_numbers(rows.column(f.name)) for f in fields]
        return np.stack(columns, axis=1) if columns else np.zeros((rows.num_rows, 0))
    try:
        import pandas as pd
    except ModuleNotFoundError:
        raise RuntimeMissing(f"pandas is not installed, {library} takes categories by it: pip install pandas") from None
    return pd.DataFrame(
        {
            f.name: pd.Categorical(rows.column(f.name).to_pylist(), categories=_known(rows.column(f.name), f))
            if f.kind == "category"
            else _numbers(rows.column(f.name))
            for f in fields
        }
    )


def _known(column: pa.ChunkedArray, field: Field) -> list[Any]:
    """Return the field's categories, and after them what else is in the column: the library decides what it is."""
    seen = [v for v in dict.fromkeys(column.to_pylist()) if v is not None and v not in field.categories]
    return [*field.categories, *seen]


def _numbers(column: pa.ChunkedArray) -> NDArray[np.float64]:
    import pyarrow as pa

    if not pa.types.is_floating(column.type):
        column = column.cast(pa.int8() if pa.types.is_boolean(column.type) else column.type).cast(pa.float64())
    return np.asarray(column.cast(pa.float64()).to_numpy(), np.float64)


def median_s(call: Callable[[], object], runs: int = 5) -> float:
    """Return the median seconds of several calls, after one that does not count."""
    call()
    taken = []
    for _ in range(runs):
        start = time.perf_counter()
        call()
        taken.append(time.perf_counter() - start)
    return statistics.median(taken)
