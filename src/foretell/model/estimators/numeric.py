"""Rules for transformers of numbers: imputers, scalers, selectors, encoders of numbers.

They are written in float64, in the order in which scikit-learn computes, so that they agree to the last bit or two.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from foretell.model.estimators.compile import Compiler, Rule, Source
from foretell.model.estimators.graph import Raw, Scaled, Tensor
from foretell.model.estimators.inputs import is_missing
from foretell.model.estimators.refused import NoGraphError
from foretell.model.estimators.ufuncs import log1p

__all__ = ["NUMERIC", "encode_numbers"]


def simple_imputer(compiler: Compiler, estimator: Any, source: Source, method: str) -> Tensor:
    """Fill missing numbers, drop columns that were empty in training, and add indicators."""
    if isinstance(source, Raw):
        _refuse_text(compiler, estimator, source)
    graph, x = compiler.graph, compiler.numbers(source)
    gone = _missing(compiler, x, estimator.missing_values)
    try:
        fill = np.asarray(estimator.statistics_, np.float64)
    except (TypeError, ValueError) as error:
        raise NoGraphError("it fills in text") from error
    kept = np.arange(len(fill)) if estimator.keep_empty_features else np.flatnonzero(~np.isnan(fill))
    mask = graph.pick(gone, kept.tolist())
    values = graph.pick(x, kept.tolist())
    filled = graph.like(graph.op("Where", mask.name, graph.array(fill[kept], x), values.name), values)
    raw = compiler.raw_columns(source)
    compiler.origins[filled.name] = tuple(raw[int(k)] for k in kept)
    return graph.join([filled, *_indicators(compiler, estimator.indicator_, gone, x)])


def missing_indicator(compiler: Compiler, estimator: Any, source: Source, method: str) -> Tensor:
    """Write 1 where a number is missing, for the columns that may be."""
    x = compiler.numbers(source)
    return compiler.graph.join(_indicators(compiler, estimator, _missing(compiler, x, estimator.missing_values), x))


def _refuse_text(compiler: Compiler, estimator: Any, raw: Raw) -> None:
    for column, value in zip(raw.columns, estimator.statistics_, strict=True):
        if isinstance(value, str):
            compiler.inputs.texts.add(column)


def _missing(compiler: Compiler, x: Tensor, marker: Any) -> Tensor:
    graph = compiler.graph
    if is_missing(marker):
        return Tensor(graph.op("IsNaN", x.name), "BOOL", x.width)
    return Tensor(graph.op("Equal", x.name, graph.number(float(marker), x)), "BOOL", x.width)


def _indicators(compiler: Compiler, indicator: Any, gone: Tensor, x: Tensor) -> list[Tensor]:
    if indicator is None:
        return []
    marked = compiler.graph.pick(gone, [int(i) for i in indicator.features_])
    return [compiler.graph.cast(marked, x.datatype)] if marked.width else []


def _scale(compiler: Compiler, source: Tensor, steps: list[tuple[str, Any]]) -> Tensor:
    x, factor, shift = source, np.ones(source.width), np.zeros(source.width)
    for kind, values in steps:
        if values is None:
            continue
        array = np.broadcast_to(np.asarray(values, np.float64), (x.width,))
        x = compiler.graph.like(compiler.graph.op(kind, x.name, compiler.graph.array(array, x)), x)
        step = _STEPS[kind]
        shift = step(shift, array)
        if kind in ("Mul", "Div"):
            factor = step(factor, array)
    compiler.graph.scaled[x.name] = Scaled(source, factor, shift)
    return x


_STEPS = {"Add": np.add, "Sub": np.subtract, "Mul": np.multiply, "Div": np.divide}


def _clip(compiler: Compiler, x: Tensor, low: float, high: float) -> Tensor:
    graph = compiler.graph
    return graph.like(graph.op("Clip", x.name, graph.number(low, x), graph.number(high, x)), x)


def _span(compiler: Compiler, source: Source, low: Any, high: Any) -> None:
    if low is not None and high is not None:
        compiler.span(source, np.asarray(low, float), np.asarray(high, float))


def standard_scaler(compiler: Compiler, estimator: Any, source: Source, method: str) -> Tensor:
    """Write (x - mean) / scale."""
    mean, spread = estimator.mean_, estimator.scale_
    if estimator.mean_ is not None and estimator.var_ is not None:
        deviation = np.sqrt(estimator.var_)
        _span(compiler, source, mean - 2 * deviation, mean + 2 * deviation)
    shift = mean if estimator.with_mean else None
    return _scale(compiler, compiler.numbers(source), [("Sub", shift), ("Div", spread if estimator.with_std else None)])


def min_max_scaler(compiler: Compiler, estimator: Any, source: Source, method: str) -> Tensor:
    """Write x * scale + min, cut to the range if told so."""
    _span(compiler, source, estimator.data_min_, estimator.data_max_)
    x = _scale(compiler, compiler.numbers(source), [("Mul", estimator.scale_), ("Add", estimator.min_)])
    return _clip(compiler, x, *estimator.feature_range) if estimator.clip else x


def max_abs_scaler(compiler: Compiler, estimator: Any, source: Source, method: str) -> Tensor:
    """Write x / scale."""
    _span(compiler, source, -estimator.max_abs_, estimator.max_abs_)
    x = _scale(compiler, compiler.numbers(source), [("Div", estimator.scale_)])
    return _clip(compiler, x, -1, 1) if getattr(estimator, "clip", False) else x


def robust_scaler(compiler: Compiler, estimator: Any, source: Source, method: str) -> Tensor:
    """Write (x - center) / scale."""
    center, spread = estimator.center_, estimator.scale_
    if center is not None and spread is not None:
        _span(compiler, source, center - 1.5 * spread, center + 1.5 * spread)
    return _scale(compiler, compiler.numbers(source), [("Sub", center), ("Div", spread)])


def power_transformer(compiler: Compiler, estimator: Any, source: Source, method: str) -> Tensor:
    """Write the transformation of Yeo and Johnson, or of Box and Cox, and the scaler after it."""
    graph, x = compiler.graph, compiler.numbers(source, "FP64")
    powers, zero = np.asarray(estimator.lambdas_, np.float64), graph.constant(np.float64(0))
    if estimator.method == "box-cox":
        y = _raised(compiler, graph.like(graph.op("Log", x.name), x), graph.array(powers, x))
    else:
        size = graph.like(graph.op("Abs", x.name), x)
        positive = graph.op("GreaterOrEqual", x.name, zero)
        power = graph.op("Where", positive, graph.array(powers, x), graph.array(2 - powers, x))
        y = _raised(compiler, graph.like(log1p(graph, size), x), power)
        y = graph.op("Where", positive, y, graph.op("Neg", y))
    scaler = getattr(estimator, "_scaler", None) if estimator.standardize else None
    answer = graph.like(y, x)
    return answer if scaler is None else standard_scaler(compiler, scaler, answer, method)


def _raised(compiler: Compiler, logs: Tensor, power: str) -> str:
    """Return (exp(power * log) - 1) / power, and the log itself where the power is 0."""
    graph = compiler.graph
    none = graph.op("Less", graph.op("Abs", power), graph.number(np.spacing(1.0), logs))
    safe = graph.op("Where", none, graph.number(1, logs), power)
    grown = graph.op("Exp", graph.op("Mul", logs.name, safe))
    raised = graph.op("Div", graph.op("Sub", grown, graph.number(1, logs)), safe)
    return graph.op("Where", none, logs.name, raised)


def selector(compiler: Compiler, estimator: Any, source: Source, method: str) -> Tensor:
    """Pick the columns that a selector keeps."""
    kept = [int(i) for i in estimator.get_support(indices=True)]
    if not kept:
        raise NoGraphError("it keeps no column")
    if isinstance(source, Raw):
        return compiler.numbers(Raw(tuple(source.columns[i] for i in kept)))
    return compiler.graph.pick(source, kept)


def encode_numbers(compiler: Compiler, estimator: Any, source: Tensor) -> Tensor:
    """Write an encoder of numbers: ask it for all it knows, and look numbers up by comparing them."""
    graph, x = compiler.graph, compiler.numbers(source, "FP64")
    known = [_known(c) for c in estimator.categories_]
    most = max(map(len, known), default=0)
    padded = np.full((1, len(known), max(most, 1)), np.inf)
    for column, values in enumerate(known):
        padded[0, column, : len(values)] = values
    wide = graph.op("Unsqueeze", x.name, graph.constant(np.array([2], np.int64)))
    equal = graph.op("Cast", graph.op("Equal", wide, graph.constant(padded)), to=7)
    place = graph.op("ArgMax", equal, axis=2, keepdims=0)
    found = graph.op("Cast", graph.op("ReduceMax", equal, graph.constant(np.array([2], np.int64)), keepdims=0), to=9)
    missing = graph.op("IsNaN", x.name)
    codes = graph.op("Cast", place, to=11)
    codes = graph.op("Where", found, codes, graph.constant(np.float64(-1)))
    codes = graph.op("Where", missing, graph.constant(np.float64(np.nan)), codes)
    return _encoded(compiler, estimator, known, Tensor(codes, "FP64", x.width))


def _encoded(compiler: Compiler, estimator: Any, known: list[NDArray[np.float64]], codes: Tensor) -> Tensor:
    from foretell.model.estimators.codes import emit, probe
    from foretell.model.estimators.inputs import Inputs

    inner = Inputs(tuple(f"x{i}" for i in range(len(known))), named=False)
    for column, values in enumerate(known):
        inner.learn(column, values.tolist())
    table = probe(estimator.transform, Raw(tuple(range(len(known)))), inner)
    return emit(compiler.graph, table, codes)


def _known(categories: Any) -> NDArray[np.float64]:
    try:
        values = np.asarray(categories, np.float64)
    except (TypeError, ValueError) as error:
        raise NoGraphError("it encodes text that an earlier step made") from error
    return values[~np.isnan(values)]


NUMERIC: dict[str, Rule] = {
    "SimpleImputer": simple_imputer,
    "MissingIndicator": missing_indicator,
    "StandardScaler": standard_scaler,
    "MinMaxScaler": min_max_scaler,
    "MaxAbsScaler": max_abs_scaler,
    "RobustScaler": robust_scaler,
    "PowerTransformer": power_transformer,
    **dict.fromkeys(
        (
            "SelectKBest", "SelectPercentile", "SelectFpr", "SelectFdr", "SelectFwe", "GenericUnivariateSelect",
            "VarianceThreshold", "SelectFromModel", "RFE", "RFECV", "SequentialFeatureSelector",
        ),
        selector,
    ),
}  # fmt: skip
