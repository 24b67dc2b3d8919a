"""Rules for what is made of steps: pipelines, column transformers, unions, searches; and encoders over raw columns.

Knows the shape of the composites, and of an encoder only that it knows the values of its columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from foretell.model.estimators.codes import emit, probe
from foretell.model.estimators.compile import Compiler, Rule, Source
from foretell.model.estimators.graph import Raw, Tensor
from foretell.model.estimators.inputs import is_missing
from foretell.model.estimators.refused import NoGraphError, step
from foretell.model.estimators.ufuncs import UFUNCS

__all__ = ["ENCODERS", "STEPS"]

ENCODERS = ("OneHotEncoder", "OrdinalEncoder", "TargetEncoder")
_BEFORE_ENCODERS = ("SimpleImputer", "MissingIndicator", *ENCODERS)


def pipeline(compiler: Compiler, estimator: Any, source: Source, method: str) -> Tensor:
    """Write the steps in order; encoders of raw columns at the front become one table."""
    steps = [(n, s) for n, s in estimator.steps if s is not None and _class(s) != "str"]
    last = steps.pop() if method != "transform" or _ends(estimator) else None
    if isinstance(source, Raw) and (front := _front([s for _, s in steps])):
        with step(steps[front - 1][0]):
            source = encode(compiler, [s for _, s in steps[:front]], source)
        steps = steps[front:]
    for name, transformer in steps:
        with step(name):
            source = compiler.emit(transformer, source, "transform")
    if last is None:
        return compiler.numbers(source) if isinstance(source, Raw) else source
    with step(last[0]):
        return compiler.emit(last[1], source, method)


def _ends(estimator: Any) -> bool:
    """Return whether the last step counts apart: never where all of them transform."""
    return not hasattr(estimator.steps[-1][1], "transform") and _class(estimator.steps[-1][1]) != "str"


def column_transformer(compiler: Compiler, estimator: Any, source: Source, method: str) -> Tensor:
    """Write each transformer over its own columns, side by side."""
    weights, parts = estimator.transformer_weights or {}, []
    for name, transformer, chosen in estimator.transformers_:
        places = [int(i) for i in estimator._transformer_to_input_indices[name]]
        if (_class(transformer) == "str" and transformer == "drop") or not places:
            continue
        with step(name):
            if isinstance(chosen, str) or (isinstance(chosen, int) and not isinstance(chosen, bool)):
                _mark_text(compiler, source, places)
                raise NoGraphError("it takes one column as a list of texts")
            part = _transformed(compiler, transformer, _subset(compiler, source, places))
        parts.append(_weighted(compiler, part, weights.get(name)))
    if not parts:
        raise NoGraphError("it drops every column")
    joined = compiler.graph.join(parts)
    compiler.origins[joined.name] = tuple(c for part in parts for c in compiler.raw_columns(part))
    if estimator.sparse_output_:
        compiler.sparse.add(joined.name)
    return joined


def feature_union(compiler: Compiler, estimator: Any, source: Source, method: str) -> Tensor:
    """Write each transformer over the same columns, side by side."""
    weights, parts = estimator.transformer_weights or {}, []
    for name, transformer in estimator.transformer_list:
        if _class(transformer) == "str" and transformer == "drop":
            continue
        with step(name):
            part = _transformed(compiler, transformer, source)
        parts.append(_weighted(compiler, part, weights.get(name)))
    joined = compiler.graph.join(parts)
    if any(part.name in compiler.sparse for part in parts):
        compiler.sparse.add(joined.name)
    return joined


def search(compiler: Compiler, estimator: Any, source: Source, method: str) -> Tensor:
    """Write the best estimator that a search found."""
    return compiler.emit(estimator.best_estimator_, source, method)


def encoder(compiler: Compiler, estimator: Any, source: Source, method: str) -> Tensor:
    """Write an encoder: over raw columns as a table of codes, over numbers by comparing them."""
    if isinstance(source, Raw):
        return encode(compiler, [estimator], source)
    from foretell.model.estimators.numeric import encode_numbers

    return encode_numbers(compiler, estimator, source)


def encode(compiler: Compiler, steps: Sequence[Any], raw: Raw) -> Tensor:
    """Write encoders, and the imputers before them, as one table over codes of raw columns."""
    _learn(compiler, steps, raw)

    def transform(table: Any) -> Any:
        for transformer in steps:
            table = transformer.transform(table)
        return table

    known = tuple(len(compiler.inputs.vocabulary[c]) for c in raw.columns)
    table = compiler.remembered((tuple(map(id, steps)), raw, known), lambda: probe(transform, raw, compiler.inputs))
    encoded = emit(compiler.graph, table, compiler.codes(raw))
    if table.sparse:
        compiler.sparse.add(encoded.name)
    return encoded


def _learn(compiler: Compiler, steps: Sequence[Any], raw: Raw) -> None:
    """Learn the values that encoders know, and those that imputers treat in their own way."""
    columns = list(raw.columns)
    for transformer in steps:
        if hasattr(transformer, "categories_"):
            for column, values in zip(columns, transformer.categories_, strict=False):
                compiler.inputs.learn(column, values)
        elif hasattr(transformer, "statistics_"):
            special = transformer.missing_values
            for column in columns:
                compiler.inputs.learn(column, [special] if special is None or not is_missing(special) else [])
            kept = transformer.keep_empty_features
            columns = [c for c, s in zip(columns, transformer.statistics_, strict=True) if kept or not is_missing(s)]


def _front(steps: Sequence[Any]) -> int:
    """Return how many steps at the front are encoders, or lead to one."""
    front = 0
    for place, transformer in enumerate(steps):
        if _class(transformer) not in _BEFORE_ENCODERS:
            break
        if _class(transformer) in ENCODERS:
            front = place + 1
    return front


def _transformed(compiler: Compiler, transformer: Any, source: Source) -> Tensor:
    if _class(transformer) == "str":
        return compiler.numbers(source) if isinstance(source, Raw) else source
    return compiler.emit(transformer, source, "transform")


def _subset(compiler: Compiler, source: Source, places: Sequence[int]) -> Source:
    if isinstance(source, Raw):
        return Raw(tuple(source.columns[p] for p in places))
    return compiler.graph.pick(source, places)


def _weighted(compiler: Compiler, part: Tensor, weight: float | None) -> Tensor:
    if weight is None:
        return part
    graph = compiler.graph
    heavier = graph.like(graph.op("Mul", part.name, graph.number(weight, part)), part)
    if part.name in compiler.sparse:
        compiler.sparse.add(heavier.name)
    return heavier


def _mark_text(compiler: Compiler, source: Source, places: Sequence[int]) -> None:
    if isinstance(source, Raw):
        compiler.inputs.texts |= {source.columns[p] for p in places}


def _class(estimator: Any) -> str:
    kind = type(estimator)
    return kind.__name__ if kind.__module__.partition(".")[0] in ("sklearn", "builtins") else ""


def function_transformer(compiler: Compiler, estimator: Any, source: Source, method: str) -> Tensor:
    """Write a function that is the identity, a check, or a function of numpy that ONNX has too."""
    graph, function = compiler.graph, estimator.func
    name = getattr(getattr(function, "func", function), "__name__", "")
    module = str(getattr(getattr(function, "func", function), "__module__", ""))
    if function is None or (name == "check_array" and module.startswith("sklearn.")):
        return compiler.numbers(source) if isinstance(source, Raw) else source
    if not isinstance(function, np.ufunc) or name not in UFUNCS or estimator.kw_args:
        raise NoGraphError(f'FunctionTransformer calls "{name or type(function).__name__}", which has no graph')
    x = compiler.numbers(source)
    return graph.like(UFUNCS[name](graph, x), x)


STEPS: dict[str, Rule] = {
    "Pipeline": pipeline,
    "ColumnTransformer": column_transformer,
    "FeatureUnion": feature_union,
    "GridSearchCV": search,
    "RandomizedSearchCV": search,
    "HalvingGridSearchCV": search,
    "HalvingRandomSearchCV": search,
    "FunctionTransformer": function_transformer,
    **dict.fromkeys(ENCODERS, encoder),
}
