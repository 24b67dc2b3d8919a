"""The tree writer against a slow evaluator in plain Python, and the proof that trees are trees."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foretell.errors import ArtifactInvalid
from foretell.model.trees import Ensemble, Tree, to_onnx
from foretell.model.trees.graph import bulk_split, tree_nodes
from foretell.model.trees.nodes import round_thresholds

FEATURES = 3
CATEGORY = 2
"""The feature that holds codes: integers, -1 or NaN."""
NUMBERS = [-np.inf, -1.5, -1.0, -0.0, 0.1, 0.5, float(np.float32(0.1)), 1.0, 2.0, 1e-40, 3.5e38, np.inf]


def walk(tree: Tree, row: list[float], comparison: str) -> int:
    node = 0
    while tree.left[node] != -1:
        x = row[tree.feature[node]]
        if math.isnan(x):
            left = bool(tree.default_left[node])
        elif node in tree.categories:
            left = x in {int(c) for c in tree.categories[node]}
        else:
            t = float(tree.threshold[node])
            left = x <= t if comparison == "<=" else x < t
        node = int(tree.left[node] if left else tree.right[node])
    return node


def evaluate(ensemble: Ensemble, rows: np.ndarray) -> np.ndarray:
    sums = np.zeros((len(rows), ensemble.targets))
    counts = np.zeros(ensemble.targets)
    for tree in ensemble.trees:
        where = slice(None) if np.ndim(tree.value) == 2 else tree.target
        counts[where] += 1
        for i, row in enumerate(rows.tolist()):
            sums[i, where] += tree.value[walk(tree, row, ensemble.comparison)]
    if ensemble.average:
        sums /= np.maximum(counts, 1)
    return sums + (0 if ensemble.base is None else ensemble.base)


@st.composite
def trees(draw: st.DrawFn, targets: int, vector: bool) -> Tree:
    inner = draw(st.integers(0, 6))
    left, right = [-1], [-1]
    for _ in range(inner):
        leaf = draw(st.sampled_from([i for i, child in enumerate(left) if child == -1]))
        left[leaf], right[leaf] = len(left), len(left) + 1
        left += [-1, -1]
        right += [-1, -1]
    n = len(left)
    value = draw(st.lists(st.integers(-8, 8), min_size=n * targets, max_size=n * targets))
    feature = draw(st.lists(st.integers(0, FEATURES - 1), min_size=n, max_size=n))
    categorical = [i for i in range(n) if left[i] != -1 and feature[i] == CATEGORY]
    sets = st.lists(st.sampled_from([0, 1, 2, 30, 31, 32, 33, 64, 500]), max_size=6, unique=True)
    return Tree(
        np.array(feature),
        np.array(draw(st.lists(st.sampled_from(NUMBERS), min_size=n, max_size=n))),
        np.array(left),
        np.array(right),
        np.array(draw(st.lists(st.booleans(), min_size=n, max_size=n))),
        np.array(value, float)
        .reshape(n, targets)[:, : targets if vector else 1]
        .reshape((n, targets) if vector else n),
        0 if vector else draw(st.integers(0, targets - 1)),
        {i: np.array(draw(sets), np.int64) for i in categorical},
    )


@st.composite
def ensembles(draw: st.DrawFn) -> Ensemble:
    targets = draw(st.integers(1, 3))
    vector = draw(st.booleans())
    return Ensemble(
        tuple(draw(st.lists(trees(targets, vector), min_size=1, max_size=4))),
        FEATURES,
        comparison=draw(st.sampled_from(["<=", "<"])),
        datatype=draw(st.sampled_from(["FP32", "FP64"])),
        targets=targets,
        base=draw(st.none() | st.just(np.arange(1.0, targets + 1))),
        average=draw(st.booleans()),
    )


NUMERIC = st.sampled_from([*NUMBERS, np.nan])
CODES = st.sampled_from([np.nan, -1.0, 0.0, 1.0, 2.0, 3.0, 30.0, 31.0, 32.0, 33.0, 34.0, 64.0, 65.0, 500.0, 501.0])


def run(content: bytes, rows: np.ndarray) -> np.ndarray:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(content, options)
    return session.run(None, {"features": rows})[0]


@settings(max_examples=120, deadline=None)
@given(
    ensembles(),
    st.lists(st.tuples(NUMERIC, NUMERIC, CODES), min_size=1, max_size=6),
    st.integers(0, 2),
)
def test_graph_answers_like_a_slow_walk(ensemble: Ensemble, rows: list[tuple[float, float, float]], split: int) -> None:
    dtype = np.float32 if ensemble.datatype == "FP32" else np.float64
    with np.errstate(over="ignore"):
        matrix = np.array(rows).astype(dtype)
    expected = evaluate(ensemble.check(), matrix)
    np.testing.assert_allclose(run(to_onnx(ensemble, split=split), matrix), expected, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(run(_opset_3(ensemble, split), matrix), expected, rtol=1e-6, atol=1e-6)


def _opset_3(ensemble: Ensemble, split: int) -> bytes:
    from onnx import TensorProto, helper

    element = TensorProto.FLOAT if ensemble.datatype == "FP32" else TensorProto.DOUBLE
    graph = helper.make_graph(
        tree_nodes(ensemble, "features", "y", split=split, opset=3),
        "g",
        [helper.make_tensor_value_info("features", element, [None, FEATURES])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None, ensemble.targets])],
    )
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("ai.onnx.ml", 3)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10).SerializeToString()


@given(st.floats(allow_nan=False), st.floats(allow_nan=False, width=32))
def test_rounded_threshold_compares_every_float32_as_before(threshold: float, x: float) -> None:
    for comparison in ("<=", "<"):
        rounded = float(round_thresholds(np.array([threshold]), comparison)[0])
        assert (x <= rounded if comparison == "<=" else x < rounded) == (
            x <= threshold if comparison == "<=" else x < threshold
        )


def stump(**change: object) -> Tree:
    tree = Tree(
        np.array([1, 0, 0]), np.array([0.5, 0, 0]), np.array([1, -1, -1]), np.array([2, -1, -1]),
        np.zeros(3, bool), np.array([0.0, 1.0, -1.0]),
    )  # fmt: skip
    return replace(tree, **change)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"left": np.array([0, -1, -1])}, "a child outside"),
        ({"left": np.array([3, -1, -1])}, "a child outside"),
        ({"left": np.array([2, -1, -1])}, "each node but the root once"),
        ({"left": np.array([-1, -1, -1])}, "one child"),
        ({"feature": np.array([3, 0, 0])}, "a feature outside"),
        ({"feature": np.array([-1, 0, 0])}, "a feature outside"),
        ({"threshold": np.array([np.nan, 0, 0])}, "a threshold that is not a number"),
        ({"value": np.array([0, np.inf, 0])}, "a leaf that is not finite"),
        ({"value": np.zeros((3, 2))}, "expected 1 targets"),
        ({"target": 1}, "expected 1 targets"),
        ({"threshold": np.zeros(2)}, "one length"),
        ({"categories": {1: np.array([1])}}, "not an inner node"),
        ({"categories": {0: np.array([-1])}}, "a category outside"),
        ({"categories": {0: np.array([1 << 40])}}, "a category outside"),
    ],
)
def test_check_refuses(change: dict[str, object], says: str) -> None:
    with pytest.raises(ArtifactInvalid, match=says) as caught:
        Ensemble((stump(), stump(**change)), FEATURES).check()
    assert "tree 1" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_check_refuses_a_cycle_that_the_root_does_not_reach() -> None:
    left, right = np.array([1, -1, -1, 5, -1, 3, -1]), np.array([2, -1, -1, 4, -1, 6, -1])
    tree = Tree(np.zeros(7, int), np.zeros(7), left, right, np.zeros(7, bool), np.zeros(7))
    with pytest.raises(ArtifactInvalid, match="3 of 7 nodes can be reached"):
        Ensemble((tree,), 1).check()


def test_check_refuses_a_tree_of_too_many_levels() -> None:
    n = 601
    left, right = np.full(n, -1), np.full(n, -1)
    left[0:600:2], right[0:600:2] = np.arange(1, n, 2), np.arange(2, n, 2)
    tree = Tree(np.zeros(n, int), np.zeros(n), left, right, np.zeros(n, bool), np.zeros(n))
    with pytest.raises(ArtifactInvalid, match="more than 256 levels"):
        Ensemble((tree,), 1).check()


def logit(p: float) -> float:
    return math.log(p / (1 - p))


@pytest.mark.parametrize("datatype", ["FP32", "FP64"])
@pytest.mark.parametrize(
    ("link", "scale", "sums", "expected"),
    [
        ("identity", 1, [3.0, -2], [3, -2]),
        ("logistic", 1, [logit(1e-6)], [1 - 1e-6, 1e-6]),
        ("logistic", 2, [logit(0.25) / 2], [0.75, 0.25]),
        ("logistic_each", 1, [logit(0.25), logit(1e-7)], [0.25, 1e-7]),
        ("softmax", 1, [math.log(1), math.log(3)], [0.25, 0.75]),
        ("exp", 1, [math.log(3.0)], [3]),
        ("log1p_exp", 2, [logit(0.5), math.log(3.0) / 2], [math.log(2), math.log(4)]),
        ("sign", 1, [0.5, 0.0], [1, 0]),
        ("sqrt_abs", 1, [-3.0, 2], [-9, 4]),
    ],
)
def test_links(datatype: str, link: str, scale: float, sums: list[float], expected: list[float]) -> None:
    leaf = np.full(1, -1)
    trees = tuple(
        Tree(np.zeros(1, int), np.zeros(1), leaf, leaf, np.zeros(1, bool), np.full(1, value), target)
        for target, value in enumerate(sums)
    )
    ensemble = Ensemble(trees, 1, datatype=datatype, targets=len(sums), link=link, scale=scale).check()  # type: ignore[arg-type]
    got = run(to_onnx(ensemble), np.zeros((2, 1), np.float32 if datatype == "FP32" else np.float64))
    np.testing.assert_allclose(got, [expected] * 2, rtol=3e-6 if datatype == "FP32" else 1e-12, atol=1e-15)


def test_bulk_split_keeps_small_ensembles_whole() -> None:
    assert bulk_split(Ensemble((stump(),) * 100, FEATURES)) == 0
    assert bulk_split(Ensemble((stump(),) * 1000, FEATURES)) == 170
