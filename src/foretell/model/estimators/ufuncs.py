"""Functions of numpy, as nodes: what a FunctionTransformer or a transformed target may call."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from foretell.model.estimators.graph import Graph, Tensor

__all__ = ["UFUNCS", "log1p"]

Written = Callable[[Graph, Tensor], str]


def _plain(kind: str) -> Written:
    return lambda graph, x: graph.op(kind, x.name)


def log1p(graph: Graph, x: Tensor) -> str:
    """Write log(1 + x) for doubles as 2 atanh(x / (2 + x)) where x is small: 1 + x would round it away."""
    one, two = graph.number(1, x), graph.number(2, x)
    ratio = graph.op("Div", x.name, graph.op("Add", x.name, two))
    square = graph.op("Mul", ratio, ratio)
    series = graph.number(1 / 9, x)
    for power in (7, 5, 3, 1):
        series = graph.op("Add", graph.op("Mul", series, square), graph.number(1 / power, x))
    small = graph.op("Mul", graph.op("Mul", ratio, two), series)
    is_small = graph.op("Less", graph.op("Abs", x.name), graph.number(0.01, x))
    return graph.op("Where", is_small, small, graph.op("Log", graph.op("Add", x.name, one)))


def _expm1(graph: Graph, x: Tensor) -> str:
    return graph.op("Sub", graph.op("Exp", x.name), graph.number(1, x))


def _scaled(kind: str, factor: float) -> Written:
    def write(graph: Graph, x: Tensor) -> str:
        return graph.op("Mul", graph.op(kind, x.name), graph.number(factor, x))

    return write


def _square(graph: Graph, x: Tensor) -> str:
    return graph.op("Mul", x.name, x.name)


UFUNCS: dict[str, Written] = {
    "log": _plain("Log"),
    "log1p": log1p,
    "log2": _scaled("Log", 1 / np.log(2)),
    "log10": _scaled("Log", 1 / np.log(10)),
    "exp": _plain("Exp"),
    "expm1": _expm1,
    "sqrt": _plain("Sqrt"),
    "square": _square,
    "absolute": _plain("Abs"),
    "negative": _plain("Neg"),
    "reciprocal": _plain("Reciprocal"),
    "sign": _plain("Sign"),
    "floor": _plain("Floor"),
    "ceil": _plain("Ceil"),
    "positive": _plain("Identity"),
}
"""How functions of numpy are written in ONNX."""
