"""Encoders asked for all they know."""

import numpy as np
import pytest

from foretell.model.estimators.codes import emit, probe
from foretell.model.estimators.graph import Graph, Raw, Tensor
from foretell.model.estimators.inputs import Inputs
from foretell.model.estimators.refused import NoGraphError, step


def inputs_of(*vocabularies):
    inputs = Inputs(tuple(f"x{i}" for i in range(len(vocabularies))), named=False)
    for column, values in enumerate(vocabularies):
        inputs.learn(column, values)
    return inputs


def run(table, codes):
    import onnxruntime

    graph = Graph(Tensor("features", "FP64", codes.shape[1]))
    content = graph.model([("y", emit(graph, table, graph.source), False)])
    return onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"]).run(None, {"features": codes})[0]


def lengths(rows):
    return np.array([[len(v) if isinstance(v, str) else -1 for v in row] for row in rows])


def one_hot(rows):
    return np.array([[float(v == k) for v in row for k in ("a", "b")] for row in rows])


CODES = np.array([[0.0, 1.0], [np.nan, 0.0], [-1.0, np.nan]])


def test_one_value_a_column():
    table = probe(lengths, Raw((0, 1)), inputs_of(["a", "bbb"], ["cc", "dddd"]))
    assert run(table, CODES).tolist() == [[1, 4], [-1, 2], [len("\x1funknown"), -1]]


def test_one_hot_columns():
    table = probe(one_hot, Raw((0, 1)), inputs_of(["a", "b"], ["b", "a"]))
    assert run(table, CODES).tolist() == [[1, 0, 1, 0], [0, 0, 0, 1], [0, 0, 0, 0]]


def test_columns_that_depend_on_each_other_are_refused():
    def mixed(rows):
        return np.array([[len(row[0] or "") if isinstance(row[0], str) and row[1] == "c" else 0] for row in rows])

    with pytest.raises(NoGraphError, match="independently"):
        probe(mixed, Raw((0, 1)), inputs_of(["a", "bbb"], ["c", "d"]))


def test_what_is_refused_is_remembered():
    def strict(rows):
        if any(v not in ("a", "b") for row in rows for v in row):
            raise ValueError("unknown")
        return one_hot(rows)

    inputs = inputs_of(["a", "b"], ["a", "b"])
    probe(strict, Raw((0, 1)), inputs)
    assert inputs.closed == {0, 1}
    assert inputs.required == {0, 1}


def test_a_refusal_says_where():
    def refuse():
        with step("pipeline"), step("log"):
            raise NoGraphError("no graph")

    with pytest.raises(NoGraphError, match=r'step "pipeline.log": no graph'):
        refuse()
