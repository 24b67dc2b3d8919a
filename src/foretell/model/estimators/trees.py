"""Rules for scikit-learn's trees: single ones, forests, gradient boosting, boosting by histograms, AdaBoost of trees.

Forests and gradient boosting compare float32 values with float64 thresholds; histograms compare float64. Where the
matrix is float64 anyway trees are summed in float64 too, so that the graph agrees with the original to the last bits.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from foretell.model.estimators.compile import Compiler, Rule, Source
from foretell.model.estimators.graph import Tensor
from foretell.model.estimators.linear import label_of_scores, sigmoid_pair
from foretell.model.estimators.refused import NoGraphError
from foretell.model.trees import Ensemble, Tree

__all__ = ["TREES", "TREE_NAMES", "emit_ensemble", "leaves_of", "tree_of"]

_MAX_BINS = 256


def emit_ensemble(compiler: Compiler, ensemble: Ensemble, source: Source) -> Tensor:
    """Write an ensemble over columns; float32 trees behind a float64 matrix are evaluated in float64."""
    from foretell.model.trees.graph import bulk_split, opset_for, output_datatype, output_width, tree_nodes

    graph = compiler.graph
    _span(compiler, source, ensemble)
    x = compiler.numbers(source, ensemble.datatype)
    if ensemble.datatype == "FP32" and graph.source.datatype == "FP64":
        ensemble, x = replace(ensemble, datatype="FP64"), graph.cast(x, "FP64")
    opset = compiler.ml_opset(opset_for(ensemble))
    split = bulk_split(ensemble)
    compiler.splits = max(compiler.splits, split)
    output = Tensor(graph.name("trees"), output_datatype(ensemble, opset), output_width(ensemble))
    if not compiler.dry:
        given = split if compiler.bulk else 0
        graph.add(tree_nodes(ensemble, x.name, output.name, prefix=graph.name("t") + "_", split=given, opset=opset))
    return output


def _span(compiler: Compiler, source: Source, ensemble: Ensemble) -> None:
    low, high = np.full(ensemble.n_features, np.inf), np.full(ensemble.n_features, -np.inf)
    for tree in ensemble.trees:
        inner = (tree.left >= 0) & ~np.isin(np.arange(tree.nodes), list(tree.categories))
        np.minimum.at(low, tree.feature[inner], tree.threshold[inner])
        np.maximum.at(high, tree.feature[inner], tree.threshold[inner])
    compiler.span(source, low, high)


def tree_of(fitted: Any, value: NDArray[np.float64], target: int = 0) -> Tree:
    """Return a fitted `tree_` with the given leaves: (nodes,) for one target, or (nodes, targets)."""
    leaf = fitted.children_left < 0
    going = (
        fitted.missing_go_to_left.astype(bool) if hasattr(fitted, "missing_go_to_left") else np.zeros(len(leaf), bool)
    )
    return Tree(
        feature=np.where(leaf, 0, fitted.feature),
        threshold=np.where(leaf, 0.0, fitted.threshold),
        left=fitted.children_left,
        right=fitted.children_right,
        default_left=going,
        value=value,
        target=target,
    )


def leaves_of(estimator: Any) -> NDArray[np.float64]:
    """Return what each leaf says: (nodes,) or (nodes, targets); of two classes the second alone."""
    value = estimator.tree_.value
    if not hasattr(estimator, "classes_"):
        return np.asarray(value[:, 0, 0] if value.shape[1] == 1 else value[:, :, 0])
    if value.shape[1] > 1:
        raise NoGraphError("it gives several labels a row")
    classes = value.shape[2]
    return np.asarray(value[:, 0, 1] if classes == 2 else value[:, 0, :classes])


def _forest(estimator: Any) -> Ensemble:
    members = getattr(estimator, "estimators_", [estimator])
    trees = [tree_of(m.tree_, leaves_of(m)) for m in members]
    wide = trees[0].value.shape[1] if trees[0].value.ndim == 2 else 1
    return Ensemble(tuple(trees), estimator.n_features_in_, targets=wide).check()


def forest(compiler: Compiler, estimator: Any, source: Source, method: str) -> Tensor:
    """Write a tree or a forest. Shares of votes are summed first and divided then, so that ties stay ties."""
    graph = compiler.graph
    total = emit_ensemble(compiler, compiler.once(estimator, _forest), source)
    count = len(getattr(estimator, "estimators_", [estimator]))
    mean = total if count == 1 else graph.like(graph.op("Div", total.name, graph.number(count, total)), total)
    if not hasattr(estimator, "classes_"):
        return mean
    if mean.width == 1 and len(estimator.classes_) == 2:
        first = graph.like(graph.op("Sub", graph.number(1, mean), mean.name), mean)
        mean = graph.join([first, mean])
    return mean if method == "predict_proba" else label_of_scores(compiler, mean)


def _gradient(estimator: Any) -> Ensemble:
    trees = [
        tree_of(member.tree_, estimator.learning_rate * member.tree_.value[:, 0, 0], target)
        for stage in estimator.estimators_
        for target, member in enumerate(stage)
    ]
    if not isinstance(estimator.init_, str) and not type(estimator.init_).__name__.startswith("Dummy"):
        raise NoGraphError(f"its init is a {type(estimator.init_).__name__}")
    base = estimator._raw_predict_init(np.zeros((1, estimator.n_features_in_), np.float32))[0]
    return Ensemble(tuple(trees), estimator.n_features_in_, targets=len(base), base=base).check()


def gradient_boosting(compiler: Compiler, estimator: Any, source: Source, method: str) -> Tensor:
    """Write gradient boosting: the sum of the trees, and the inverse of the link for probabilities."""
    raw = emit_ensemble(compiler, compiler.once(estimator, _gradient), source)
    if not hasattr(estimator, "classes_") or method == "decision_function":
        return raw
    if method == "predict":
        return label_of_scores(compiler, raw)
    if type(estimator._loss).__name__ == "ExponentialLoss":
        graph = compiler.graph
        raw = graph.like(graph.op("Mul", raw.name, graph.number(2, raw)), raw)
    return _probabilities(compiler, raw)


def _histograms(estimator: Any) -> Ensemble:
    known = _known_codes(estimator)
    trees = [
        _histogram_tree(predictor, target, known)
        for stage in estimator._predictors
        for target, predictor in enumerate(stage)
    ]
    base = np.asarray(estimator._baseline_prediction, np.float64).reshape(-1)
    return Ensemble(
        tuple(trees), estimator.n_features_in_, datatype="FP64", targets=estimator.n_trees_per_iteration_, base=base
    ).check()


def _known_codes(estimator: Any) -> dict[int, NDArray[np.bool_]]:
    """Return for each categorical feature which codes were seen in training."""
    bitsets, places = estimator._bin_mapper.make_known_categories_bitsets()
    remapped = getattr(estimator, "_is_categorical_remapped", None)
    if remapped is None:
        return {}
    return {int(f): _bits(bitsets[places[f]]) for f in np.flatnonzero(remapped)}


def _bits(words: NDArray[np.uint32]) -> NDArray[np.bool_]:
    return np.unpackbits(np.ascontiguousarray(words).view(np.uint8), bitorder="little").astype(bool)[:_MAX_BINS]


def _histogram_tree(predictor: Any, target: int, known: dict[int, NDArray[np.bool_]]) -> Tree:
    nodes = predictor.nodes
    leaf = nodes["is_leaf"].astype(bool)
    categories = {}
    for node in np.flatnonzero(nodes["is_categorical"].astype(bool) & ~leaf):
        left = _bits(predictor.raw_left_cat_bitsets[nodes["bitset_idx"][node]])
        if nodes["missing_go_to_left"][node]:
            left = left | ~known[int(nodes["feature_idx"][node])]
        categories[int(node)] = np.flatnonzero(left)
    return Tree(
        feature=np.where(leaf, 0, nodes["feature_idx"]).astype(np.int64),
        threshold=np.where(leaf, 0.0, nodes["num_threshold"]),
        left=np.where(leaf, -1, nodes["left"].astype(np.int64)),
        right=np.where(leaf, -1, nodes["right"].astype(np.int64)),
        default_left=nodes["missing_go_to_left"].astype(bool),
        value=nodes["value"].astype(np.float64),
        target=target,
        categories=categories,
    )


def histogram_boosting(compiler: Compiler, estimator: Any, source: Source, method: str) -> Tensor:
    """Write boosting by histograms: its own encoder of categories, the trees, and the inverse of the link."""
    if getattr(estimator, "_preprocessor", None) is not None:
        source = compiler.emit(estimator._preprocessor, source, "transform")
    raw = emit_ensemble(compiler, compiler.once(estimator, _histograms), source)
    graph = compiler.graph
    if not hasattr(estimator, "classes_"):
        link = type(estimator._loss.link).__name__
        if link == "LogLink":
            return graph.like(graph.op("Exp", raw.name), raw)
        if link != "IdentityLink":
            raise NoGraphError(f"its link {link} has no graph")
        return raw
    if method == "decision_function":
        return raw
    return label_of_scores(compiler, raw) if method == "predict" else _probabilities(compiler, raw)


def _probabilities(compiler: Compiler, raw: Tensor) -> Tensor:
    if raw.width == 1:
        return sigmoid_pair(compiler, raw)
    return compiler.graph.like(compiler.graph.op("Softmax", raw.name, axis=1), raw)


def _boosted(estimator: Any) -> Ensemble:
    """Return AdaBoost over trees: each leaf votes for its label, against all others."""
    classes, trees = len(estimator.classes_), []
    for member, weight in zip(estimator.estimators_, estimator.estimator_weights_, strict=False):
        if type(member).__name__ not in ("DecisionTreeClassifier", "ExtraTreeClassifier"):
            raise NoGraphError(f"it boosts a {type(member).__name__}")
        label = np.searchsorted(estimator.classes_, member.classes_)[member.tree_.value[:, 0, :].argmax(axis=1)]
        votes = np.full((len(label), classes), -weight / (classes - 1))
        votes[np.arange(len(label)), label] = weight
        trees.append(tree_of(member.tree_, votes[:, 1] - votes[:, 0] if classes == 2 else votes))
    wide = 1 if classes == 2 else classes
    return Ensemble(tuple(trees), estimator.n_features_in_, targets=wide).check()


def ada_boost(compiler: Compiler, estimator: Any, source: Source, method: str) -> Tensor:
    """Write AdaBoost of trees: weighted votes, and their softmax."""
    graph = compiler.graph
    votes = emit_ensemble(compiler, compiler.once(estimator, _boosted), source)
    total = float(estimator.estimator_weights_.sum())
    raw = graph.like(graph.op("Div", votes.name, graph.number(total, votes)), votes)
    if method == "decision_function":
        return raw
    if method == "predict":
        return label_of_scores(compiler, raw)
    if raw.width == 1:
        return sigmoid_pair(compiler, raw)
    scaled = graph.op("Div", raw.name, graph.number(raw.width - 1, raw))
    return graph.like(graph.op("Softmax", scaled, axis=1), raw)


TREE_NAMES = ("DecisionTreeClassifier", "DecisionTreeRegressor", "ExtraTreeClassifier", "ExtraTreeRegressor")
_FORESTS = (
    *TREE_NAMES,
    "RandomForestClassifier", "RandomForestRegressor", "ExtraTreesClassifier", "ExtraTreesRegressor",
)  # fmt: skip
TREES: dict[str, Rule] = {
    **dict.fromkeys(_FORESTS, forest),
    **dict.fromkeys(("GradientBoostingClassifier", "GradientBoostingRegressor"), gradient_boosting),
    **dict.fromkeys(("HistGradientBoostingClassifier", "HistGradientBoostingRegressor"), histogram_boosting),
    "AdaBoostClassifier": ada_boost,
}
