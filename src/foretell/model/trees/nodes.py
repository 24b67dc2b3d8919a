"""The attributes of ONNX's two tree operators.

TreeEnsemble           ai.onnx.ml 5: inner nodes and leaves in two lists; sets of categories as they are
TreeEnsembleRegressor  ai.onnx.ml 3: one list of nodes; a set is a chain of equalities with one true branch
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from foretell.model.trees.ensemble import LEAF, Ensemble, Tree

__all__ = ["regressor_attributes", "round_thresholds", "tree_ensemble_attributes"]

_LEQ, _LT, _MEMBER = 0, 1, 6
_MODES = {"<=": _LEQ, "<": _LT}
_Ints = NDArray[np.int64]


def round_thresholds(threshold: NDArray[np.floating[Any]], comparison: str) -> NDArray[np.float32]:
    """Round to float32 so that every float32 compares as it did with the float64.

    `x <= t` needs the largest float32 that is not above t, `x < t` the least that is not below.
    """
    exact = np.asarray(threshold, np.float64)
    with np.errstate(over="ignore", under="ignore"):
        near = exact.astype(np.float32)
        if comparison == "<=":
            return np.where(near > exact, np.nextafter(near, np.float32(-np.inf)), near)
        return np.where(near < exact, np.nextafter(near, np.float32(np.inf)), near)


def _dtype(ensemble: Ensemble) -> type[np.floating[Any]]:
    return np.float32 if ensemble.datatype == "FP32" else np.float64


def _splits(tree: Tree, inner: _Ints, ensemble: Ensemble) -> NDArray[np.floating[Any]]:
    """Return the thresholds of the inner nodes as they are written; 0 where a node is categorical."""
    threshold = np.asarray(tree.threshold, np.float64)[inner]
    if tree.categories:
        threshold = np.where(np.isin(inner, list(tree.categories)), 0, threshold)
    return round_thresholds(threshold, ensemble.comparison) if ensemble.datatype == "FP32" else threshold


def tree_ensemble_attributes(trees: Sequence[Tree], ensemble: Ensemble) -> dict[str, Any]:
    """Return the attributes of TreeEnsemble for trees whose leaves are single numbers."""
    from onnx import numpy_helper

    lists: dict[str, list[NDArray[Any]]] = {}
    roots, inner_from, leaf_from = [], 0, 0
    for tree in trees:
        part = _inner_and_leaves(tree, ensemble, inner_from, leaf_from)
        roots.append(inner_from)
        inner_from, leaf_from = inner_from + len(part["nodes_modes"]), leaf_from + len(part["leaf_weights"])
        for key, array in part.items():
            lists.setdefault(key, []).append(array)
    joined = {key: np.concatenate(arrays) for key, arrays in lists.items()}
    if not len(joined["membership_values"]):
        del joined["membership_values"]
    wide = _dtype(ensemble)
    tensors: dict[str, type[Any]] = {
        "nodes_modes": np.uint8,
        "nodes_splits": wide,
        "leaf_weights": wide,
        "membership_values": wide,
    }
    attributes: dict[str, Any] = {
        key: numpy_helper.from_array(array.astype(tensors[key])) if key in tensors else array.tolist()
        for key, array in joined.items()
    }
    return attributes | {"tree_roots": roots, "n_targets": ensemble.targets, "aggregate_function": 1}


def _inner_and_leaves(tree: Tree, ensemble: Ensemble, inner_from: int, leaf_from: int) -> dict[str, NDArray[Any]]:
    is_leaf = np.asarray(tree.left) == LEAF
    inner, leaves = np.flatnonzero(~is_leaf), np.flatnonzero(is_leaf)
    # A tree that is one leaf is a node whose branches both lead to it.
    only = len(inner) == 0
    at = inner if not only else np.zeros(1, np.int64)
    position = np.zeros(tree.nodes, np.int64)
    position[inner] = inner_from + np.arange(len(inner))
    position[leaves] = leaf_from + np.arange(len(leaves))
    left, right = (at, at) if only else (np.asarray(tree.left)[inner], np.asarray(tree.right)[inner])
    modes, splits, members = _tests(tree, at, ensemble, only)
    return {
        "nodes_featureids": np.zeros(1, np.int64) if only else np.asarray(tree.feature)[inner].astype(np.int64),
        "nodes_modes": modes,
        "nodes_splits": splits,
        "membership_values": members,
        "nodes_missing_value_tracks_true": np.asarray(tree.default_left)[at].astype(np.int64),
        "nodes_truenodeids": position[left],
        "nodes_trueleafs": is_leaf[left].astype(np.int64),
        "nodes_falsenodeids": position[right],
        "nodes_falseleafs": is_leaf[right].astype(np.int64),
        "leaf_targetids": np.full(len(leaves), tree.target, np.int64),
        "leaf_weights": np.asarray(tree.value)[leaves],
    }


def _tests(tree: Tree, at: _Ints, ensemble: Ensemble, only: bool) -> tuple[_Ints, NDArray[Any], NDArray[Any]]:
    """Return mode and threshold of each inner node, and the sets of the categorical ones, a NaN after each."""
    modes = np.full(len(at), _MODES[ensemble.comparison])
    splits = np.zeros(1) if only else _splits(tree, at, ensemble)
    members: list[NDArray[Any]] = []
    for place in np.flatnonzero(np.isin(at, list(tree.categories))) if tree.categories else ():
        codes = np.unique(np.asarray(tree.categories[int(at[place])]))
        if len(codes):
            modes[place] = _MEMBER
            members += [codes.astype(np.float64), np.full(1, np.nan)]
        else:  # An operator with an empty set is not defined; nothing is below minus infinity.
            modes[place], splits[place] = _LT, -np.inf
    return modes, splits, np.concatenate(members) if members else np.zeros(0)


def regressor_attributes(trees: Sequence[Tree], ensemble: Ensemble) -> dict[str, Any]:
    """Return the attributes of TreeEnsembleRegressor; leaves may be vectors."""
    from onnx import numpy_helper

    parts = [_flat(_chain_sets(tree), ensemble, index) for index, tree in enumerate(trees)]
    joined = {key: np.concatenate([p[key] for p in parts]) for key in parts[0]}
    attributes: dict[str, Any] = {"n_targets": ensemble.targets}
    for key, array in joined.items():
        if key in {"nodes_values", "target_weights"} and ensemble.datatype == "FP64":
            attributes[f"{key}_as_tensor"] = numpy_helper.from_array(array.astype(np.float64))
        else:
            attributes[key] = array.tolist()
    return attributes


def _flat(chained: tuple[Tree, _Ints, _Ints], ensemble: Ensemble, index: int) -> dict[str, NDArray[Any]]:
    tree, equal, never = chained
    is_leaf = np.asarray(tree.left) == LEAF
    leaves = np.flatnonzero(is_leaf)
    modes = np.where(is_leaf, "LEAF", "BRANCH_LEQ" if ensemble.comparison == "<=" else "BRANCH_LT")
    modes = modes.astype(object)
    modes[equal] = "BRANCH_EQ"
    modes[never] = "BRANCH_LT"
    values = np.where(is_leaf, 0, np.asarray(tree.threshold, np.float64))
    if ensemble.datatype == "FP32":
        values = round_thresholds(values, ensemble.comparison)
    value = np.asarray(tree.value)[leaves].reshape(len(leaves), -1)
    targets = np.arange(ensemble.targets) if np.ndim(tree.value) == 2 else np.full(1, tree.target)
    return {
        "nodes_treeids": np.full(tree.nodes, index),
        "nodes_nodeids": np.arange(tree.nodes),
        "nodes_featureids": np.where(is_leaf, 0, tree.feature),
        "nodes_modes": modes,
        "nodes_values": values,
        "nodes_missing_value_tracks_true": np.where(is_leaf, 0, tree.default_left),
        "nodes_truenodeids": np.where(is_leaf, 0, tree.left),
        "nodes_falsenodeids": np.where(is_leaf, 0, tree.right),
        "target_treeids": np.full(value.size, index),
        "target_nodeids": np.repeat(leaves, len(targets)),
        "target_ids": np.tile(targets, len(leaves)),
        "target_weights": value.reshape(-1),
    }


def _chain_sets(tree: Tree) -> tuple[Tree, _Ints, _Ints]:
    """Replace each categorical node by a chain of equalities.

    Returns the tree, the nodes that test equality, and those that are never true.

    The first stays in the place of the node, the others come after all nodes. Each is false towards the next
    and true towards the one left child, which ONNX Runtime expects of a set and joins into one test of bits.
    """
    if not tree.categories:
        return tree, np.zeros(0, np.int64), np.zeros(0, np.int64)
    feature, threshold = list(tree.feature), [float(t) for t in tree.threshold]
    left, right, default = list(tree.left), list(tree.right), list(tree.default_left)
    equal: list[int] = []
    never: list[int] = []
    for node, codes in tree.categories.items():
        chain = [float(c) for c in np.unique(codes)]
        if not chain:  # Nothing is below minus infinity.
            threshold[node] = float("-inf")
            never.append(node)
            continue
        last_false, at = right[node], node
        threshold[node] = chain[0]
        equal.append(node)
        for code in chain[1:]:
            right[at] = len(left)
            at = len(left)
            feature.append(feature[node])
            threshold.append(code)
            left.append(left[node])
            right.append(last_false)
            default.append(default[node])
            equal.append(at)
    value = np.asarray(tree.value)
    value = np.concatenate([value, np.zeros((len(left) - len(value), *value.shape[1:]))])
    arrays = (np.array(feature), np.array(threshold), np.array(left), np.array(right), np.array(default), value)
    return Tree(*arrays, tree.target), np.array(equal, np.int64), np.array(never, np.int64)
