"""Rules for what stands round one estimator: calibration, thresholds, transformed targets, boosting libraries."""

from __future__ import annotations

from typing import Any

import numpy as np

from foretell.errors import ArtifactInvalid
from foretell.model.estimators.compile import Compiler, Rule, Source
from foretell.model.estimators.graph import Tensor
from foretell.model.estimators.linear import label_of_scores
from foretell.model.estimators.members import averaged, one_column
from foretell.model.estimators.native import native_bytes
from foretell.model.estimators.refused import NoGraphError, step
from foretell.model.estimators.trees import emit_ensemble
from foretell.model.estimators.ufuncs import UFUNCS
from foretell.model.trees import Ensemble

__all__ = ["WRAPPED"]

_LOGIT_EPS = 1e-12


def calibrated(compiler: Compiler, estimator: Any, source: Source, method: str) -> Tensor:
    """Write the mean of the calibrated classifiers."""
    parts = []
    for place, member in enumerate(estimator.calibrated_classifiers_):
        with step(f"calibrated_classifiers_[{place}]"):
            parts.append(_one_calibrated(compiler, member, source))
    mean = averaged(compiler, parts)
    return mean if method == "predict_proba" else label_of_scores(compiler, mean)


def _one_calibrated(compiler: Compiler, member: Any, source: Source) -> Tensor:
    classes, inner = len(member.classes), member.estimator
    if member.method not in ("sigmoid", "isotonic", "temperature"):
        raise NoGraphError(f'calibration by "{member.method}" has no graph')
    if len(inner.classes_) != classes:
        raise NoGraphError("it saw only some of the classes")
    asked = "decision_function" if hasattr(inner, "decision_function") else "predict_proba"
    scores = compiler.graph.cast(compiler.emit(inner, source, asked), "FP64")
    if member.method == "temperature":
        return _warm(compiler, member.calibrators[0], scores, asked)
    if classes == 2 and scores.width == 2:
        scores = one_column(compiler, scores, 1)
    parts = [
        _calibrator(compiler, calibrator, one_column(compiler, scores, place))
        for place, calibrator in enumerate(member.calibrators)
    ]
    return _normalized(compiler, parts, classes)


def _warm(compiler: Compiler, calibrator: Any, scores: Tensor, asked: str) -> Tensor:
    """Write softmax(beta * logits). scikit-learn's `_convert_to_logits` makes logits of scores and probabilities."""
    graph = compiler.graph
    logits = scores
    if asked == "predict_proba":
        logits = graph.like(graph.op("Log", graph.op("Add", scores.name, graph.number(_LOGIT_EPS, scores))), scores)
    elif scores.width == 1:
        logits = graph.join([graph.like(graph.op("Neg", scores.name), scores), scores])
    warm = graph.op("Mul", logits.name, graph.number(float(calibrator.beta_), logits))
    return graph.like(graph.op("Softmax", warm, axis=1), logits)


def _normalized(compiler: Compiler, parts: list[Tensor], classes: int) -> Tensor:
    graph, each = compiler.graph, compiler.graph.join(parts)
    if classes == 2:
        first = graph.op("Sub", graph.number(1, each), each.name)
        return graph.join([graph.like(first, each), each])
    total = graph.total(each)
    empty = graph.op("Equal", total, graph.number(0, each))
    share = graph.op("Div", each.name, graph.op("Where", empty, graph.number(1, each), total))
    return graph.like(graph.op("Where", empty, graph.number(1 / classes, each), share), each)


def _calibrator(compiler: Compiler, calibrator: Any, score: Tensor) -> Tensor:
    graph = compiler.graph
    if type(calibrator).__name__ == "_SigmoidCalibration":
        scaled = graph.op("Mul", score.name, graph.number(-float(calibrator.a_), score))
        moved = graph.op("Sub", scaled, graph.number(float(calibrator.b_), score))
        return graph.like(graph.op("Sigmoid", moved), score)
    return isotonic(compiler, calibrator, score, "predict")


def isotonic(compiler: Compiler, estimator: Any, source: Source, method: str) -> Tensor:
    """Write an isotonic regression: between the thresholds on straight lines, constant outside."""
    graph, x = compiler.graph, compiler.numbers(source, "FP64")
    if estimator.out_of_bounds != "clip":
        raise NoGraphError(f'IsotonicRegression with out_of_bounds="{estimator.out_of_bounds}" has no graph')
    at = np.asarray(estimator.X_thresholds_, np.float64)
    to = np.asarray(estimator.y_thresholds_, np.float64)
    if len(at) == 1:
        zero = graph.op("Mul", x.name, graph.number(0, x))
        return graph.like(graph.op("Add", zero, graph.number(float(to[0]), x)), x)
    x = graph.like(graph.op("Clip", x.name, graph.number(at[0], x), graph.number(at[-1], x)), x)
    passed = graph.op("Cast", graph.op("Greater", x.name, graph.constant(at[1:-1].reshape(1, -1))), to=7)
    place = graph.op("ReduceSum", passed, graph.constant(np.array([1], np.int64)))
    slope, start, base = np.diff(to) / np.diff(at), at[:-1], to[:-1]
    rise, begin, level = (graph.op("Gather", graph.constant(v), place) for v in (slope, start, base))
    return graph.like(graph.op("Add", graph.op("Mul", rise, graph.op("Sub", x.name, begin)), level), x)


def threshold(compiler: Compiler, estimator: Any, source: Source, method: str) -> Tensor:
    """Write a classifier whose label turns at a threshold of its own."""
    inner = getattr(estimator, "estimator_", estimator.estimator)
    if method != "predict":
        return compiler.emit(inner, source, method)
    graph, (asked, limit, pos_label) = compiler.graph, _threshold(estimator, inner)
    classes = list(inner.classes_)
    positive = 1 if pos_label is None else classes.index(pos_label)
    scores = compiler.emit(inner, source, asked)
    if asked == "predict_proba":
        scores = one_column(compiler, scores, positive)
    elif positive == 0:
        scores = graph.like(graph.op("Neg", scores.name), scores)
    above = graph.op("GreaterOrEqual", scores.name, graph.number(limit, scores))
    labels = [graph.constant(np.array([[v]], np.int64)) for v in (positive, 1 - positive)]
    return Tensor(graph.op("Where", above, *labels), "INT64", 1)


def _threshold(estimator: Any, inner: Any) -> tuple[str, float, Any]:
    """Return the method that is asked, the threshold and the label above it."""
    wanted = estimator._get_response_method()
    wanted = [wanted] if isinstance(wanted, str) else list(wanted)
    asked = next((m for m in wanted if hasattr(inner, m)), None)
    if asked not in ("predict_proba", "decision_function"):
        raise NoGraphError("it asks for neither probabilities nor scores")
    if hasattr(estimator, "best_threshold_"):
        return asked, float(estimator.best_threshold_), estimator._curve_scorer._get_pos_label()
    automatic = 0.5 if asked == "predict_proba" else 0.0
    limit = automatic if estimator.threshold == "auto" else float(estimator.threshold)
    return asked, limit, estimator.pos_label


def transformed_target(compiler: Compiler, estimator: Any, source: Source, method: str) -> Tensor:
    """Write a regression, and undo what was done to its target."""
    graph = compiler.graph
    x = graph.cast(compiler.emit(estimator.regressor_, source, "predict"), "FP64")
    undo, name = estimator.transformer_, type(estimator.transformer_).__name__
    with step(name):
        if name == "FunctionTransformer":
            function = undo.inverse_func
            if function is None:
                return x
            known = getattr(function, "__name__", "")
            if not isinstance(function, np.ufunc) or known not in UFUNCS or undo.inv_kw_args:
                raise NoGraphError(f'its inverse "{known or type(function).__name__}" has no graph')
            return graph.like(UFUNCS[known](graph, x), x)
        if name == "StandardScaler":
            return _moved(compiler, x, undo.scale_ if undo.with_std else None, undo.mean_ if undo.with_mean else None)
        if name == "RobustScaler":
            return _moved(compiler, x, undo.scale_, undo.center_)
        if name == "MaxAbsScaler":
            return _moved(compiler, x, undo.scale_, None)
        if name == "MinMaxScaler":
            return _moved(compiler, x, 1 / undo.scale_, -undo.min_ / undo.scale_)
    raise NoGraphError(f"its target was transformed by a {name}, whose inverse has no graph")


def _moved(compiler: Compiler, x: Tensor, scale: Any, shift: Any) -> Tensor:
    graph = compiler.graph
    for kind, values in (("Mul", scale), ("Add", shift)):
        if values is not None:
            array = np.broadcast_to(np.asarray(values, np.float64), (x.width,))
            x = graph.like(graph.op(kind, x.name, graph.array(array, x)), x)
    return x


def _xgboost(estimator: Any) -> Ensemble:
    from foretell.model.trees.xgboost import read

    return _trees(read(native_bytes(estimator, "xgboost")).model)


def _lightgbm(estimator: Any) -> Ensemble:
    from foretell.model.trees.lightgbm import read

    return _trees(read(native_bytes(estimator, "lightgbm")).model)


def _catboost(estimator: Any) -> Ensemble:
    from foretell.model.trees.catboost import read

    return _trees(read(native_bytes(estimator, "catboost")).model)


def _trees(model: Any) -> Ensemble:
    if not isinstance(model, Ensemble):
        raise NoGraphError("its trees have no graph")
    if any(tree.categories for tree in model.trees):
        raise NoGraphError("its trees split on categories of its own")
    return model


def boosted_by(make: Any) -> Rule:
    """Return the rule for the wrappers of a boosting library."""

    def write(compiler: Compiler, estimator: Any, source: Source, method: str) -> Tensor:
        try:
            ensemble = compiler.once(estimator, make)
        except ArtifactInvalid as error:
            raise NoGraphError(str(error)) from error
        answer = emit_ensemble(compiler, ensemble, _with_missing(compiler, estimator, source))
        labels = hasattr(estimator, "classes_")
        return label_of_scores(compiler, answer) if labels and method == "predict" else answer

    return write


def _with_missing(compiler: Compiler, estimator: Any, source: Source) -> Source:
    """Write as NaN what XGBoost takes as missing: a value of its choice, and what a sparse matrix leaves out."""
    if not type(estimator).__name__.startswith("XGB"):
        return compiler.numbers(source, "FP32") if type(estimator).__name__.startswith("CatBoost") else source
    marker = getattr(estimator, "missing", None)
    if isinstance(source, Tensor) and source.name in compiler.sparse:
        marker = 0.0
    if not isinstance(marker, (int, float)) or marker != marker:
        return source
    graph, x = compiler.graph, compiler.numbers(source, "FP32")
    gone = graph.op("Equal", x.name, graph.number(float(marker), x))
    return graph.like(graph.op("Where", gone, graph.number(float("nan"), x), x.name), x)


WRAPPED: dict[str, Rule] = {
    "CalibratedClassifierCV": calibrated,
    "IsotonicRegression": isotonic,
    "FixedThresholdClassifier": threshold,
    "TunedThresholdClassifierCV": threshold,
    "TransformedTargetRegressor": transformed_target,
    **dict.fromkeys(("XGBClassifier", "XGBRegressor", "XGBRFClassifier", "XGBRFRegressor"), boosted_by(_xgboost)),
    **dict.fromkeys(("LGBMClassifier", "LGBMRegressor"), boosted_by(_lightgbm)),
    **dict.fromkeys(("CatBoostClassifier", "CatBoostRegressor"), boosted_by(_catboost)),
}
