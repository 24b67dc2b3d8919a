"""Rows to warm a model up with, and how long it takes over them.

The rows are drawn from what the signature says, so that a tree walks different branches and a category is known.
Knows no process.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from foretell.dtypes import dtype_of
from foretell.errors import InvalidOutput, LoadError
from foretell.signature import Column, Signature, TensorSpec

__all__ = ["ROWS", "check_outputs", "draw_inputs", "measure"]

ROWS = (1, 4, 16, 64)
"""Rows of the batches that are measured, as long as they are expected to be quick."""
_BUDGET_S = 0.15
"""Seconds for all measuring, of which a batch may take a third."""
_REPEATS = 12
_FREE_DIMENSION = 8
_GOLDEN = (math.sqrt(5.0) - 1.0) / 2.0
_DATE_NS = 1_600_000_000_000_000_000
Tensors = dict[str, NDArray[Any]]


def draw_inputs(signature: Signature, rows: int) -> Tensors:
    """Return tensors that fit the signature, the same each time; a free dimension other than the rows is 8."""
    spread = _Spread()
    return {spec.name: _draw(spec, signature, rows, spread) for spec in signature.inputs}


def measure(
    infer: Callable[[Tensors, int], list[NDArray[Any]]],
    signature: Signature,
    now: Callable[[], float] = time.perf_counter,
) -> tuple[tuple[int, float], ...]:
    """Warm a model up; return (rows, seconds) of batches, each the median of several.

    Raises:
        LoadError: It cannot run rows drawn from its own signature.
    """
    paces: list[tuple[int, float]] = []
    start = now()
    for rows in ROWS:
        spent, last = now() - start, paces[-1] if paces else (1, 0.0)
        if paces and (spent > _BUDGET_S or last[1] * rows / last[0] > _BUDGET_S / 3):
            break
        inputs = draw_inputs(signature, rows)
        try:
            check_outputs(infer(inputs, rows), signature, rows)  # the first call of a size is never like the others
        except Exception as error:
            if _is_guess(signature):
                return ()
            raise _failed(error) from error
        taken: list[float] = []
        while not taken or (len(taken) < _REPEATS and sum(taken) < _BUDGET_S / len(ROWS)):
            before = now()
            infer(inputs, rows)
            taken.append(now() - before)
        paces.append((rows, sorted(taken)[len(taken) // 2]))
    return tuple(paces)


def check_outputs(outputs: list[NDArray[Any]], signature: Signature, rows: int) -> None:
    """Check what a runtime gave against the signature: how many, which datatype, as many rows as came in.

    Raises:
        InvalidOutput: It does not fit; the message names the output.
    """
    if len(outputs) != len(signature.outputs):
        raise InvalidOutput(f"the model gave {len(outputs)} outputs, its signature says {len(signature.outputs)}")
    for output, spec in zip(outputs, signature.outputs, strict=True):
        if output.ndim == 0 or len(output) != rows:
            raise InvalidOutput(
                f'output "{spec.name}": shape {output.shape} for {rows} rows; the model does not answer row by row'
            )
        expected = dtype_of(spec.datatype)
        if output.dtype != expected and not (expected.kind == "O" and output.dtype.kind in "US"):
            raise InvalidOutput(f'output "{spec.name}": datatype {output.dtype}, its signature says {expected}')


def _failed(error: Exception) -> LoadError:
    if isinstance(error, MemoryError):
        return LoadError("warm-up failed: not enough memory")
    return LoadError(f"warm-up failed: {error}")


def _is_guess(signature: Signature) -> bool:
    """Return whether a bare tensor has free dimensions, for which nobody can draw a size that is right."""
    return any(dim < 0 for spec in signature.inputs for dim in spec.shape[1:])


class _Spread:
    """Numbers spread evenly, by the golden ratio. numpy.random would be two megabytes of each worker."""

    def __init__(self) -> None:
        self._at = 0

    def between(self, low: float, high: float, shape: tuple[int, ...]) -> NDArray[np.float64]:
        """Return the next numbers from `low` up to, but not including, `high`."""
        count = math.prod(shape)
        steps = np.arange(self._at, self._at + count, dtype=np.float64)
        self._at += count
        return (low + (high - low) * np.modf(steps * _GOLDEN)[0]).reshape(shape)


def _draw(spec: TensorSpec, signature: Signature, rows: int, spread: _Spread) -> NDArray[Any]:
    dtype = dtype_of(spec.datatype)
    shape = (rows, *(_FREE_DIMENSION if dim < 0 else dim for dim in spec.shape[1:])) if spec.shape else ()
    if dtype.kind == "O":
        texts = np.empty(shape, np.object_)
        texts.fill("")
        return texts
    columns = signature.columns.get(spec.name)
    if columns is None:
        return (spread.between(0.0, 1.0, shape) if dtype.kind == "f" else np.zeros(shape)).astype(dtype)
    values = np.stack([_column(column, signature, rows, spread) for column in columns], axis=1)
    return values.reshape(shape).astype(dtype)


def _column(column: Column, signature: Signature, rows: int, spread: _Spread) -> NDArray[Any]:
    field = signature.field_named(column.field)
    if column.encoding == "code":
        return np.floor(spread.between(0.0, max(1, len(field.categories)), (rows,)))
    if column.encoding == "date":
        return np.full(rows, _DATE_NS)
    low = 0.0 if field.low is None else field.low
    high = low + 1.0 if field.high is None else field.high
    return spread.between(low, max(low, high), (rows,))
