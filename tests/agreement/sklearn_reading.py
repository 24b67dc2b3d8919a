"""Read an estimator in this process, and run the graph that was written."""

import warnings

import numpy as np
import onnxruntime
import pyarrow as pa

from foretell.model.data.table import TablePreparation
from foretell.model.estimators.reading import read
from foretell.model.tasks.predictions import Predictions


def table_of(rows):
    """Return a frame, or an array of shape (rows, features), as a table as a user would send it."""
    if isinstance(rows, np.ndarray):
        return pa.table({f"x{i}": rows[:, i] for i in range(rows.shape[1])})
    return pa.Table.from_pandas(rows, preserve_index=False)


def converted(estimator, sample=None):
    """Read an estimator and insist on a graph."""
    reading = read(estimator, None if sample is None else table_of(sample))
    assert reading.graphs, reading.notes
    return reading


def predict(reading, rows, file="model.onnx"):
    """Run a graph on rows; return values and probabilities."""
    prepared = TablePreparation(reading.signature).prepare(table_of(rows))
    session = onnxruntime.InferenceSession(reading.graphs[file], providers=["CPUExecutionProvider"])
    said = Predictions(reading.task, list(session.run(None, prepared.inputs)))
    return np.asarray(said.values), said.probabilities


def assert_agrees(estimator, reading, rows, tolerance=1e-6, flips=0):
    """Hold every graph against the estimator on rows: labels, values, probabilities.

    Trees that compare float32 may move a row of a thousand; `flips` says how many rows may move.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = np.asarray(estimator.predict(rows))
        asked = hasattr(estimator, "classes_") and hasattr(estimator, "predict_proba")
        chances = estimator.predict_proba(rows) if asked else None
    for file in reading.graphs:
        values, probabilities = predict(reading, rows, file)
        assert values.shape == (expected[:, 0].shape if expected.shape[1:] == (1,) else expected.shape)
        if reading.task.classes:
            assert (values.astype(str) != expected.astype(str)).sum() <= flips
        else:
            expected = expected.reshape(values.shape)
            far = np.abs(values - expected) > tolerance * (np.abs(expected) + expected.std())
            assert far.sum() <= flips, (file, np.abs(values - expected).max())
        if chances is not None:
            far = (np.abs(probabilities - chances) > tolerance).any(axis=1)
            assert far.sum() <= flips, (file, np.abs(probabilities - chances).max())
