"""The proof for a model of bare tensors: drawn ones go through every runner, and each output is compared.

The last runner is the original. Knows no file and no format.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from foretell.dtypes import dtype_of
from foretell.model.bundle import Golden
from foretell.model.formats.base import Answers, Opened
from foretell.model.model import Model
from foretell.model.pace import time_s
from foretell.model.proof import Comparison, Tolerance, compare
from foretell.signature import Signature, TensorSpec

__all__ = ["TensorProof", "draw_tensors", "prove_tensors"]

_SPEED_ROWS = (1, 32)
_MOST_ROWS = 128
_MOST_ELEMENTS = 1 << 22
_GOLDEN_ELEMENTS = 4096
_GOLDEN_ROWS = 4
_FREE_DIMENSION = 8

Tensors = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class TensorProof:
    """What was found."""

    rows: int
    comparisons: Mapping[str, Comparison]
    """By the file of the runner; with several outputs, `model.onnx boxes`."""
    seconds: Mapping[str, Mapping[int, float]]
    """By the file of the runner: seconds of a call by its rows."""
    golden: Golden
    """Rows with what the original said; none where a row is too large to be read by people."""


def prove_tensors(opened: Opened, limit: Tolerance) -> TensorProof:
    """Compare every runner with the last one, and measure all.

    Args:
        opened: With two runners or more.
        limit: How far apart answers may be.
    """
    signature = opened.signature
    rows = max(1, min(_MOST_ROWS, _MOST_ELEMENTS // max(1, sum(_elements(s) for s in signature.inputs))))
    original = opened.runners[-1].file
    answers, seconds = {}, {}
    for runner in opened.runners:
        with Model(replace(opened, runners=(replace(runner, rows_from=1),)), threads=1) as model:
            answers[runner.file] = model.infer(draw_tensors(signature, rows), rows)
            seconds[runner.file] = {n: _time(model, n) for n in _SPEED_ROWS}
            if runner.file == original:
                golden = _golden(model, rows)
    comparisons = {
        f"{file} {spec.name}" if len(signature.outputs) > 1 else file: _compared(
            answers[original][at], found[at], limit
        )
        for file, found in answers.items()
        if file != original
        for at, spec in enumerate(signature.outputs)
    }
    return TensorProof(rows, comparisons, seconds, golden)


def draw_tensors(signature: Signature, rows: int, seed: int = 7) -> Tensors:
    """Return tensors that fit a signature, the same each time.

    Floats are drawn from a normal distribution; whole numbers are 0 or 1, because they may be places in a table.
    """
    random = np.random.default_rng(seed)
    return {spec.name: _draw(random, spec, rows) for spec in signature.inputs}


def _draw(random: np.random.Generator, spec: TensorSpec, rows: int) -> NDArray[Any]:
    shape = [(rows if at == 0 else _FREE_DIMENSION) if d < 0 else d for at, d in enumerate(spec.shape)]
    if shape and spec.shape[0] > 0:
        shape[0] = rows
    dtype = dtype_of(spec.datatype)
    if dtype.kind == "f":
        return random.standard_normal(shape, np.float32).astype(dtype)
    return random.integers(0, 2, shape).astype(dtype)


def _elements(spec: TensorSpec) -> int:
    return math.prod(_FREE_DIMENSION if d < 0 else d for d in spec.shape[1:])


def _compared(original: NDArray[Any], found: NDArray[Any], limit: Tolerance) -> Comparison:
    if original.shape != found.shape:
        found = np.full_like(original, np.nan, np.float64)  # which agrees with no number
    return compare(Answers(original), Answers(found), limit, labels=False)


def _time(model: Model, rows: int) -> float:
    inputs = draw_tensors(model.signature, rows)
    return time_s(lambda: model.infer(inputs, rows))


def _golden(model: Model, rows: int) -> Golden:
    if sum(_elements(s) for s in model.signature.inputs) > _GOLDEN_ELEMENTS:
        return Golden([], [])
    inputs = {name: array[:_GOLDEN_ROWS] for name, array in draw_tensors(model.signature, rows).items()}
    predictions = model.predict(inputs)
    key = "label" if model.task_reader.classes else "value"
    answers: list[dict[str, Any]] = [{key: value} for value in np.asarray(predictions.values).tolist()]
    if model.task_reader.classes and predictions.probabilities is not None:
        for answer, row in zip(answers, predictions.probabilities.tolist(), strict=True):
            answer["probabilities"] = row
    count = len(answers)
    return Golden([{name: array[at].tolist() for name, array in inputs.items()} for at in range(count)], answers)
