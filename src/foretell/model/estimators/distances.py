"""Rules for what measures distances: nearest neighbours and k-means.

Neighbours are ranked by |x|^2 - 2 x.s + |s|^2, one product for all; the few that are chosen are measured exactly.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from foretell.model.estimators.compile import Compiler, Rule, Source
from foretell.model.estimators.external import by_skl2onnx
from foretell.model.estimators.graph import Tensor
from foretell.model.estimators.linear import label_of_scores
from foretell.model.estimators.refused import NoGraphError

__all__ = ["DISTANCES"]


def neighbours(compiler: Compiler, estimator: Any, source: Source, method: str) -> Tensor:
    """Write the mean, or the votes, of the nearest rows of training."""
    points = estimator._fit_X
    euclidean = estimator.effective_metric_ == "euclidean"
    if not euclidean or hasattr(points, "toarray") or estimator.weights not in ("uniform", "distance", None):
        return by_skl2onnx(compiler, estimator, source, method)
    compiler.span(source, points.min(axis=0), points.max(axis=0))
    x = compiler.numbers(source, "FP64")
    points = np.asarray(points, np.float64)
    chosen = _nearest(compiler, x, points, estimator.n_neighbors)
    weights = _weights(compiler, x, points, chosen) if estimator.weights == "distance" else None
    votes = _votes(compiler, _targets(estimator), chosen, weights)
    if method != "predict" or not hasattr(estimator, "classes_"):
        return votes
    return label_of_scores(compiler, votes)


def _targets(estimator: Any) -> NDArray[np.float64]:
    """Return what each row of training votes for: its target, or 1 in the column of its class."""
    y = np.asarray(estimator._y)
    if not hasattr(estimator, "classes_"):
        return y.reshape(len(y), -1).astype(np.float64)
    if getattr(estimator, "outputs_2d_", False):
        raise NoGraphError("it gives several labels a row")
    return np.asarray(np.eye(len(estimator.classes_))[y.reshape(-1)])


def _squares(compiler: Compiler, x: Tensor, points: NDArray[np.float64]) -> str:
    """Return |s|^2 - 2 x.s, which ranks points like their distance to x."""
    graph = compiler.graph
    product = graph.op("MatMul", x.name, graph.constant(np.ascontiguousarray(-2 * points.T)))
    return graph.op("Add", product, graph.constant((points**2).sum(axis=1)))


def _nearest(compiler: Compiler, x: Tensor, points: NDArray[np.float64], count: int) -> str:
    """Return the indices of the nearest points, (rows, count)."""
    graph = compiler.graph
    centre = points.mean(axis=0)  # far from the origin squares lose the digits that tell points apart
    moved = graph.like(graph.op("Sub", x.name, graph.constant(centre)), x)
    ranked = _squares(compiler, moved, points - centre)
    many = graph.constant(np.array([count], np.int64))
    return graph.ops("TopK", [ranked, many], 2, axis=1, largest=0, sorted=1)[1]


def _weights(compiler: Compiler, x: Tensor, points: NDArray[np.float64], chosen: str) -> str:
    """Return 1 / distance, (rows, count); where a distance is 0, 1 for those at 0 and 0 for the others."""
    graph = compiler.graph
    found = graph.op("Gather", graph.constant(points), chosen)
    apart = graph.op("Sub", found, graph.op("Unsqueeze", x.name, graph.constant(np.array([1], np.int64))))
    square = graph.op("ReduceSum", graph.op("Mul", apart, apart), graph.constant(np.array([2], np.int64)), keepdims=0)
    distance = graph.op("Sqrt", square)
    here = graph.op("Cast", graph.op("Equal", distance, graph.number(0, x)), to=11)
    any_here = graph.op("ReduceMax", here, graph.constant(np.array([1], np.int64)))
    at_all = graph.op("Greater", any_here, graph.number(0, x))
    return graph.op("Where", at_all, here, graph.op("Reciprocal", distance))


def _votes(compiler: Compiler, targets: NDArray[np.float64], chosen: str, weights: str | None) -> Tensor:
    graph = compiler.graph
    found = graph.op("Gather", graph.constant(targets), chosen)
    second = graph.constant(np.array([1], np.int64))
    if weights is None:
        mean = graph.op("ReduceMean", found, second, keepdims=0)
    else:
        heavy = graph.op("Mul", found, graph.op("Unsqueeze", weights, graph.constant(np.array([2], np.int64))))
        total = graph.op("ReduceSum", heavy, second, keepdims=0)
        mean = graph.op("Div", total, graph.op("ReduceSum", weights, second))
    return Tensor(mean, "FP64", targets.shape[1])


def k_means(compiler: Compiler, estimator: Any, source: Source, method: str) -> Tensor:
    """Write the nearest centre, or the distances to all of them."""
    graph, x = compiler.graph, compiler.numbers(source, "FP64")
    centres = np.asarray(estimator.cluster_centers_, np.float64)
    ranked = _squares(compiler, x, centres)
    if method == "predict":
        return Tensor(graph.op("ArgMin", ranked, axis=1, keepdims=1), "INT64", 1)
    own = graph.op("ReduceSum", graph.op("Mul", x.name, x.name), graph.constant(np.array([1], np.int64)))
    square = graph.op("Max", graph.op("Add", ranked, own), graph.number(0, x))
    return Tensor(graph.op("Sqrt", square), "FP64", len(centres))


DISTANCES: dict[str, Rule] = {
    "KNeighborsRegressor": neighbours,
    "KNeighborsClassifier": neighbours,
    "KMeans": k_means,
    "MiniBatchKMeans": k_means,
}
