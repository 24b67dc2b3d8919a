"""Rules for linear models: one product, one sum, and what turns scores into probabilities."""

from __future__ import annotations

from typing import Any

import numpy as np

from foretell.model.estimators.compile import Compiler, Rule, Source
from foretell.model.estimators.graph import Tensor
from foretell.model.estimators.refused import NoGraphError

__all__ = ["LINEAR", "label_of_scores", "sigmoid_pair"]

_SAFE_SHIFT = 1e4


def scores(compiler: Compiler, estimator: Any, source: Source) -> Tensor:
    """Write x @ coef.T + intercept; a scaler right before goes into the coefficients."""
    graph, x = compiler.graph, compiler.numbers(source, "FP64")
    weights = np.atleast_2d(_dense(estimator.coef_)).astype(np.float64)
    offset = np.broadcast_to(np.asarray(estimator.intercept_, np.float64).reshape(-1), (len(weights),))
    scaled = graph.scaled.get(x.name)
    # A mean far from 0, in units of the spread, would cancel digits that the scaler keeps.
    if scaled is not None and np.abs(scaled.shift).max(initial=0) < _SAFE_SHIFT:
        x, offset, weights = scaled.source, offset + weights @ scaled.shift, weights * scaled.factor
    product = graph.op("MatMul", x.name, graph.array(np.ascontiguousarray(weights.T), x))
    return Tensor(graph.op("Add", product, graph.array(offset, x)), "FP64", len(weights))


def regressor(compiler: Compiler, estimator: Any, source: Source, method: str) -> Tensor:
    """Write a linear regression."""
    return scores(compiler, estimator, source)


def generalized(compiler: Compiler, estimator: Any, source: Source, method: str) -> Tensor:
    """Write a generalized linear model: the exponential of the scores, or the scores."""
    link = type(estimator._base_loss.link).__name__
    x = scores(compiler, estimator, source)
    if link == "IdentityLink":
        return x
    if link != "LogLink":
        raise NoGraphError(f"its link {link} has no graph")
    return compiler.graph.like(compiler.graph.op("Exp", x.name), x)


def classifier(compiler: Compiler, estimator: Any, source: Source, method: str) -> Tensor:
    """Write a linear classifier: scores, positions of labels, probabilities of a logistic regression."""
    x = scores(compiler, estimator, source)
    if method == "decision_function":
        return x
    if method == "predict":
        if type(estimator).__name__.startswith("Ridge") and len(estimator.classes_) != max(x.width, 2):
            raise NoGraphError("it gives several labels a row")
        return label_of_scores(compiler, x)
    if x.width == 1:
        return sigmoid_pair(compiler, x)
    graph = compiler.graph
    if getattr(estimator, "multi_class", "auto") == "ovr" or getattr(estimator, "solver", "") == "liblinear":
        return _shares_of_sigmoids(compiler, x)
    return graph.like(graph.op("Softmax", x.name, axis=1), x)


def stochastic(compiler: Compiler, estimator: Any, source: Source, method: str) -> Tensor:
    """Write a linear classifier by stochastic gradient descent; probabilities by the rule of its loss."""
    if method != "predict_proba":
        return classifier(compiler, estimator, source, method)
    graph, x = compiler.graph, scores(compiler, estimator, source)
    if estimator.loss == "modified_huber" and x.width == 1:
        cut = graph.op("Clip", x.name, graph.number(-1, x), graph.number(1, x))
        second = graph.op("Div", graph.op("Add", cut, graph.number(1, x)), graph.number(2, x))
        first = graph.op("Sub", graph.number(1, x), second)
        return graph.join([graph.like(first, x), graph.like(second, x)])
    if estimator.loss != "log_loss":
        raise NoGraphError(f'probabilities of the loss "{estimator.loss}" have no graph')
    if x.width == 1:
        return sigmoid_pair(compiler, x)
    return _shares_of_sigmoids(compiler, x)


def _shares_of_sigmoids(compiler: Compiler, x: Tensor) -> Tensor:
    """Write 1 / (1 + exp(-x)), divided by the sum of the row, as `_predict_proba_lr` of scikit-learn does.

    Where all of a row are 0 each class gets the same. The operator Sigmoid never gives 0, so it is written out.
    """
    graph = compiler.graph
    each = graph.op("Reciprocal", graph.op("Add", graph.op("Exp", graph.op("Neg", x.name)), graph.number(1, x)))
    total = graph.total(graph.like(each, x))
    empty = graph.op("Equal", total, graph.number(0, x))
    share = graph.op("Div", each, graph.op("Where", empty, graph.number(1, x), total))
    return graph.like(graph.op("Where", empty, graph.number(1 / x.width, x), share), x)


def label_of_scores(compiler: Compiler, x: Tensor) -> Tensor:
    """Write the position of the label: of the largest score, or whether the only score is above 0."""
    graph = compiler.graph
    if x.width > 1:
        return Tensor(graph.op("ArgMax", x.name, axis=1, keepdims=1), "INT64", 1)
    above = graph.op("Greater", x.name, graph.number(0, x))
    return Tensor(graph.op("Cast", above, to=7), "INT64", 1)


def sigmoid_pair(compiler: Compiler, x: Tensor) -> Tensor:
    """Write 1 - p and p, where p is the logistic function of a score."""
    graph = compiler.graph
    second = graph.op("Sigmoid", x.name)
    first = graph.op("Sub", graph.number(1, x), second)
    return graph.join([graph.like(first, x, 1), graph.like(second, x, 1)])


def _dense(weights: Any) -> Any:
    return weights.toarray() if hasattr(weights, "toarray") else weights


LINEAR: dict[str, Rule] = {
    "SGDClassifier": stochastic,
    **dict.fromkeys(
        (
            "LinearRegression", "Ridge", "RidgeCV", "Lasso", "LassoCV", "ElasticNet", "ElasticNetCV", "Lars", "LarsCV",
            "LassoLars", "LassoLarsCV", "LassoLarsIC", "OrthogonalMatchingPursuit", "OrthogonalMatchingPursuitCV",
            "BayesianRidge", "ARDRegression", "HuberRegressor", "TheilSenRegressor", "SGDRegressor", "LinearSVR",
            "QuantileRegressor", "MultiTaskLasso", "MultiTaskLassoCV", "MultiTaskElasticNet",
            "MultiTaskElasticNetCV", "PassiveAggressiveRegressor",
        ),
        regressor,
    ),
    **dict.fromkeys(("PoissonRegressor", "GammaRegressor", "TweedieRegressor"), generalized),
    **dict.fromkeys(
        (
            "LogisticRegression", "LogisticRegressionCV", "RidgeClassifier", "RidgeClassifierCV", "LinearSVC",
            "Perceptron", "PassiveAggressiveClassifier", "LinearDiscriminantAnalysis",
        ),
        classifier,
    ),
}  # fmt: skip
