"""An estimator asked: rows that it surely takes, which columns may be missing, whether a graph answers like it.

Whatever an estimator raises when it is asked is an answer too: it does not take such rows.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from foretell.errors import ForetellError
from foretell.model.draw import draw_rows
from foretell.model.estimators.inputs import Inputs
from foretell.model.estimators.outcome import Outcome
from foretell.model.estimators.refused import NoGraphError
from foretell.model.estimators.rows import frame_of_table
from foretell.model.formats.base import Answers
from foretell.model.proof import compare, default_tolerance
from foretell.model.tasks.predictions import Predictions
from foretell.signature import Signature

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["check", "learn_required", "plain_frame"]

_DRAWN_ROWS = 256


def plain_frame(inputs: Inputs, rows: int = 1) -> Any:
    """Return rows that an estimator surely takes: the first known value, or the middle of the range."""
    columns: dict[int, Any] = {}
    for column in range(len(inputs.names)):
        known = inputs.vocabulary.get(column)
        value: Any = known[0] if known else "" if inputs.is_text(column) else _middle(inputs, column)
        columns[column] = [value] * rows
    return inputs.frame(columns, rows)


def _middle(inputs: Inputs, column: int) -> float:
    low, high = inputs.low.get(column), inputs.high.get(column)
    return 1.0 if low is None or high is None or not math.isfinite(low + high) else (low + high) / 2


def learn_required(estimator: Any, inputs: Inputs, outcome: Outcome) -> None:
    """Find the columns of numbers that may not be missing, by asking with each of them missing."""
    numbers = [c for (c, encoding) in inputs.uses if encoding == "number" and c not in inputs.required]
    inputs.required |= set(_refused(estimator, inputs, outcome, numbers))


def _refused(estimator: Any, inputs: Inputs, outcome: Outcome, columns: list[int]) -> list[int]:
    """Return the columns that may not be missing: halves of those refused together are tried apart."""
    if not columns:
        return []
    frame = plain_frame(inputs, len(columns))
    for row, column in enumerate(columns):
        if inputs.named:
            frame[inputs.names[column]] = frame[inputs.names[column]].astype(np.float64)
            frame.iat[row, column] = np.nan
        else:
            frame[row, column] = np.nan
    try:
        outcome.answers(estimator, frame)
    except Exception:  # noqa: BLE001 - whatever it raises, it does not take these
        if len(columns) == 1:
            return columns
        half = len(columns) // 2
        return [c for part in (columns[:half], columns[half:]) for c in _refused(estimator, inputs, outcome, part)]
    return []


def check(
    inputs: Inputs,
    outcome: Outcome,
    signature: Signature,
    estimator: Any,
    sample: pa.Table | None,
    graph: tuple[str, bytes],
) -> None:
    """Hold a graph beside the estimator.

    Raises:
        NoGraphError: They differ, or the graph does not run.
    """
    name, content = graph
    tables = [draw_rows(signature, _DRAWN_ROWS)]
    if sample is not None:
        tables.append(_fitted(sample, signature))
    asked = 0
    for table in tables:
        try:
            expected = outcome.answers(estimator, frame_of_table(table, inputs))
        except Exception:  # noqa: BLE001 - drawn rows may be such as it refuses
            continue
        asked += 1
        found = _run(signature, outcome, table, content)
        limit = default_tolerance(float32=signature.inputs[0].datatype == "FP32")
        result = compare(expected, found, limit, labels=bool(outcome.task.classes))
        if not result.holds:
            raise NoGraphError(
                f"its graph {name} differs from it in {max(result.moved_rows, result.flipped_labels)} of "
                f"{result.rows} rows, by up to {result.max_relative:.2g}"
            )
    if not asked:
        raise NoGraphError("it takes none of the rows drawn for a check; give --sample")


def _fitted(sample: pa.Table, signature: Signature) -> pa.Table:
    from foretell.model.sample import fit_sample

    return fit_sample(sample, signature)


def _run(signature: Signature, outcome: Outcome, table: pa.Table, content: bytes) -> Answers:
    import onnxruntime

    from foretell.model.data.table import TablePreparation

    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = 4
    try:
        inputs = TablePreparation(signature).prepare_arrow(table.combine_chunks().to_batches()[0]).inputs
        session = onnxruntime.InferenceSession(content, settings, providers=["CPUExecutionProvider"])
        outputs = session.run(None, inputs)
    except ForetellError as error:
        raise NoGraphError(f"the rows of the check do not fit its signature ({error})") from error
    except Exception as error:
        raise NoGraphError(f"its graph does not run ({' '.join(str(error).split())[:160]})") from error
    said = Predictions(outcome.task, list(outputs))
    return Answers(np.asarray(said.values), said.probabilities)
