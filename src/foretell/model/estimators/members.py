"""Rules for estimators made of estimators: voting, stacking, bagging, several outputs, one against the rest.

Members are written by their own rules; here they are averaged, voted over, or fed to the next.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from foretell.model.estimators.compile import Compiler, Rule, Source
from foretell.model.estimators.graph import Raw, Tensor
from foretell.model.estimators.linear import label_of_scores
from foretell.model.estimators.refused import NoGraphError, step
from foretell.model.estimators.trees import TREE_NAMES, emit_ensemble, leaves_of, tree_of
from foretell.model.trees import Ensemble

__all__ = ["MEMBERS", "averaged", "one_column"]


def averaged(compiler: Compiler, parts: list[Tensor], weights: Any = None) -> Tensor:
    """Write the mean of tensors of one shape, weighted if weights are given."""
    graph = compiler.graph
    parts = [graph.cast(p, "FP64") for p in parts]
    if weights is not None:
        parts = [
            graph.like(graph.op("Mul", p.name, graph.number(float(w), p)), p)
            for p, w in zip(parts, weights, strict=True)
        ]
    total = parts[0] if len(parts) == 1 else graph.like(graph.op("Sum", *(p.name for p in parts)), parts[0])
    divisor = len(parts) if weights is None else float(np.sum(weights))
    return graph.like(graph.op("Div", total.name, graph.number(divisor, total)), total)


def one_column(compiler: Compiler, tensor: Tensor, column: int) -> Tensor:
    """Return one column of a tensor."""
    return compiler.graph.pick(tensor, [column])


def _members(compiler: Compiler, estimator: Any, source: Source, method: str) -> list[Tensor]:
    parts = []
    for place, member in enumerate(estimator.estimators_):
        with step(f"estimators_[{place}]"):
            parts.append(compiler.emit(member, source, method))
    return parts


def voting_regressor(compiler: Compiler, estimator: Any, source: Source, method: str) -> Tensor:
    """Write the weighted mean of the members' predictions."""
    return averaged(compiler, _members(compiler, estimator, source, "predict"), estimator._weights_not_none)


def voting_classifier(compiler: Compiler, estimator: Any, source: Source, method: str) -> Tensor:
    """Write the weighted mean of probabilities (soft), or the label with most weight (hard)."""
    weights = estimator._weights_not_none
    if estimator.voting == "soft":
        mean = averaged(compiler, _members(compiler, estimator, source, "predict_proba"), weights)
        return mean if method == "predict_proba" else label_of_scores(compiler, mean)
    classes = len(estimator.classes_)
    votes = [
        _one_hot(compiler, part, classes, np.asarray(member.classes_))
        for part, member in zip(_members(compiler, estimator, source, "predict"), estimator.estimators_, strict=True)
    ]
    return label_of_scores(compiler, averaged(compiler, votes, weights))


def _one_hot(compiler: Compiler, place: Tensor, classes: int, encoded: Any) -> Tensor:
    """Return 1 in the column of the label at `place` in the encoded labels of a member."""
    graph = compiler.graph
    label = graph.op("Gather", graph.constant(encoded.astype(np.int64)), place.name)
    equal = graph.op("Equal", label, graph.constant(np.arange(classes)))
    return Tensor(graph.op("Cast", equal, to=11), "FP64", classes)


def stacking(compiler: Compiler, estimator: Any, source: Source, method: str) -> Tensor:
    """Write the members, side by side, then the estimator that is fed with them."""
    graph, parts = compiler.graph, []
    binary = hasattr(estimator, "classes_") and len(estimator.classes_) == 2
    members = [m for m in estimator.estimators_ if not isinstance(m, str)]
    for place, (member, asked) in enumerate(zip(members, estimator.stack_method_, strict=True)):
        with step(f"estimators_[{place}]"):
            part = compiler.emit(member, source, asked)
        if asked == "predict" and hasattr(member, "classes_"):
            values = graph.constant(np.asarray(member.classes_, np.float64))
            part = Tensor(graph.op("Gather", values, part.name), "FP64", 1)
        elif asked == "predict_proba" and binary:
            part = one_column(compiler, part, 1)
        parts.append(graph.cast(part, "FP64"))
    if estimator.passthrough:
        parts.append(compiler.numbers(source))
    with step("final_estimator_"):
        return compiler.emit(estimator.final_estimator_, graph.join(parts), method)


def bagging(compiler: Compiler, estimator: Any, source: Source, method: str) -> Tensor:
    """Write the mean over members that each see some of the columns; trees become one forest."""
    if all(type(m).__name__ in TREE_NAMES for m in estimator.estimators_):
        total = emit_ensemble(compiler, compiler.once(estimator, _bagged), source)
        graph = compiler.graph
        count = graph.number(len(estimator.estimators_), total)
        mean = graph.like(graph.op("Div", total.name, count), total)
    else:
        mean = averaged(compiler, [_member(compiler, estimator, source, place) for place in _places(estimator)])
    return label_of_scores(compiler, mean) if method == "predict" and hasattr(estimator, "classes_") else mean


def _places(estimator: Any) -> range:
    return range(len(estimator.estimators_))


def _member(compiler: Compiler, estimator: Any, source: Source, place: int) -> Tensor:
    member, chosen = estimator.estimators_[place], [int(f) for f in estimator.estimators_features_[place]]
    if isinstance(source, Raw):
        part: Source = Raw(tuple(source.columns[c] for c in chosen))
    else:
        part = compiler.graph.pick(source, chosen)
    with step(f"estimators_[{place}]"):
        if not hasattr(estimator, "classes_"):
            return compiler.emit(member, part, "predict")
        if not hasattr(member, "predict_proba"):
            return _one_hot(
                compiler, compiler.emit(member, part, "predict"), len(estimator.classes_), np.asarray(member.classes_)
            )
        if len(member.classes_) != len(estimator.classes_):
            raise NoGraphError("it saw only some of the classes")
        return compiler.emit(member, part, "predict_proba")


def _bagged(estimator: Any) -> Ensemble:
    trees = []
    wide = len(estimator.classes_) if hasattr(estimator, "classes_") else 1
    for member, chosen in zip(estimator.estimators_, estimator.estimators_features_, strict=True):
        value = leaves_of(member)
        if wide > 1:
            full = np.zeros((len(member.tree_.value), wide))
            full[:, np.asarray(member.classes_, np.int64)] = member.tree_.value[:, 0, : len(member.classes_)]
            value = full
        tree = tree_of(member.tree_, value)
        trees.append(replace(tree, feature=np.asarray(chosen)[tree.feature]))
    return Ensemble(tuple(trees), estimator.n_features_in_, targets=trees[0].value[0].size).check()


def several_outputs(compiler: Compiler, estimator: Any, source: Source, method: str) -> Tensor:
    """Write one regressor per target, side by side."""
    return compiler.graph.join(_members(compiler, estimator, source, "predict"))


def chain(compiler: Compiler, estimator: Any, source: Source, method: str) -> Tensor:
    """Write regressors each of which sees the answers of those before."""
    graph, seen = compiler.graph, [compiler.numbers(source)]
    for member in estimator.estimators_:
        seen.append(graph.cast(compiler.emit(member, graph.join(seen), "predict"), "FP64"))
    answers = graph.join(seen[1:])
    return graph.pick(answers, np.argsort(estimator.order_).tolist())


def one_against_rest(compiler: Compiler, estimator: Any, source: Source, method: str) -> Tensor:
    """Write one classifier per class: the largest score, or probabilities divided by their sum."""
    graph = compiler.graph
    if method == "predict_proba":
        parts = [one_column(compiler, p, 1) for p in _members(compiler, estimator, source, "predict_proba")]
        if len(parts) == 1:
            first = graph.op("Sub", graph.number(1, parts[0]), parts[0].name)
            return graph.join([graph.like(first, parts[0]), parts[0]])
        each = graph.join(parts)
        total = graph.total(each)
        empty = graph.op("Equal", total, graph.number(0, each))
        return graph.like(graph.op("Div", each.name, graph.op("Where", empty, graph.number(1, each), total)), each)
    scored = all(hasattr(m, "decision_function") for m in estimator.estimators_)
    asked = "decision_function" if scored else "predict_proba"
    parts = _members(compiler, estimator, source, asked)
    each = graph.join(parts if scored else [one_column(compiler, p, 1) for p in parts])
    if method == "decision_function":
        return each
    if each.width > 1:
        return label_of_scores(compiler, each)
    above = graph.op("Greater", each.name, graph.number(0 if scored else 0.5, each))
    return Tensor(graph.op("Cast", above, to=7), "INT64", 1)


def isolation_forest(compiler: Compiler, estimator: Any, source: Source, method: str) -> Tensor:
    """Write the depths of the leaves as a forest; the score 2 ** -depth below the offset is an outlier."""
    graph = compiler.graph
    depths = graph.cast(emit_ensemble(compiler, compiler.once(estimator, _depths), source), "FP64")
    scaled = graph.op("Mul", depths.name, graph.number(-np.log(2.0), depths))
    decision = graph.op("Sub", graph.op("Neg", graph.op("Exp", scaled)), graph.number(estimator.offset_, depths))
    if method == "decision_function":
        return graph.like(decision, depths)
    inside = graph.op("GreaterOrEqual", decision, graph.number(0, depths))
    return Tensor(graph.op("Cast", inside, to=7), "INT64", 1)


def _depths(estimator: Any) -> Ensemble:
    from sklearn.ensemble._iforest import _average_path_length

    whole = float(len(estimator.estimators_) * _average_path_length([estimator._max_samples])[0])
    trees = []
    for place, (member, chosen) in enumerate(zip(estimator.estimators_, estimator.estimators_features_, strict=True)):
        depth = estimator._decision_path_lengths[place] + estimator._average_path_length_per_tree[place] - 1.0
        tree = tree_of(member.tree_, np.asarray(depth, np.float64) / (whole or 1.0))
        trees.append(replace(tree, feature=np.asarray(chosen)[tree.feature]))
    return Ensemble(tuple(trees), estimator.n_features_in_).check()


def weighted_median(compiler: Compiler, estimator: Any, source: Source, method: str) -> Tensor:
    """Write AdaBoost's regression: of the trees' answers in order, the one at half of the weight."""
    graph = compiler.graph
    answers = graph.cast(emit_ensemble(compiler, compiler.once(estimator, _each), source), "FP64")
    if answers.width == 1:
        return answers
    many = graph.constant(np.array([answers.width], np.int64))
    ordered, places = graph.ops("TopK", [answers.name, many], 2, axis=1, largest=0, sorted=1)
    weights = np.asarray(estimator.estimator_weights_[: answers.width], np.float64)
    passed = graph.op("CumSum", graph.op("Gather", graph.constant(weights), places), graph.constant(np.int64(1)))
    total = graph.pick(Tensor(passed, "FP64", answers.width), [answers.width - 1])
    half = graph.op("Mul", total.name, graph.number(0.5, answers))
    above = graph.op("Cast", graph.op("GreaterOrEqual", passed, half), to=7)
    return graph.like(
        graph.op("GatherElements", ordered, graph.op("ArgMax", above, axis=1, keepdims=1), axis=1), answers, 1
    )


def _each(estimator: Any) -> Ensemble:
    """Return trees that each answer in a column of their own."""
    members = estimator.estimators_
    for member in members:
        if type(member).__name__ not in TREE_NAMES:
            raise NoGraphError(f"it boosts a {type(member).__name__}")
    trees = [tree_of(m.tree_, leaves_of(m), place) for place, m in enumerate(members)]
    return Ensemble(tuple(trees), estimator.n_features_in_, targets=len(trees)).check()


def inner(attribute: str) -> Rule:
    """Return a rule that passes on to an estimator inside."""

    def write(compiler: Compiler, estimator: Any, source: Source, method: str) -> Tensor:
        return compiler.emit(getattr(estimator, attribute), source, method)

    return write


MEMBERS: dict[str, Rule] = {
    "VotingRegressor": voting_regressor,
    "VotingClassifier": voting_classifier,
    "StackingRegressor": stacking,
    "StackingClassifier": stacking,
    "BaggingRegressor": bagging,
    "BaggingClassifier": bagging,
    "MultiOutputRegressor": several_outputs,
    "RegressorChain": chain,
    "OneVsRestClassifier": one_against_rest,
    "IsolationForest": isolation_forest,
    "AdaBoostRegressor": weighted_median,
    "FrozenEstimator": inner("estimator"),
    "SelfTrainingClassifier": inner("estimator_"),
    "RANSACRegressor": inner("estimator_"),
}
