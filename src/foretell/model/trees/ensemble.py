"""A tree ensemble as arrays, and the proof that evaluating it stays inside them.

Every library's trees are read into this form first. `check` proves what a reader cannot know of a
file: that each node is reached exactly once, so that nothing loops and no index is out of range.
Knows no file format, no framework and no graph.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from foretell.errors import ArtifactInvalid

__all__ = ["LEAF", "MAX_CATEGORY", "MAX_DEPTH", "MAX_NODES", "Comparison", "Ensemble", "Link", "Tree"]

LEAF = -1
"""Child index of a node that has no children."""
MAX_DEPTH = 256
MAX_NODES = 50_000_000
"""Most nodes in an ensemble; a forest of this size is several gigabytes."""
MAX_CATEGORY = 1 << 20
"""Codes of categories are below this; every one of them is an exact float32."""

Comparison = Literal["<=", "<"]
Link = Literal["identity", "logistic", "logistic_each", "softmax", "exp", "log1p_exp", "sign", "sqrt_abs"]
"""What turns the sums of leaves into the answer.

identity:      the sum.
logistic:      1 / (1 + exp(-scale * x)); one target stands for two classes.
logistic_each: the same, each target on its own.
softmax:       over the targets of a row.
exp:           exp(x).
log1p_exp:     log(1 + exp(scale * x)).
sign:          1 where x > 0, else 0.
sqrt_abs:      sign(x) * x * x, undoing a square root.
"""


def _empty() -> Mapping[int, NDArray[np.int64]]:
    return MappingProxyType({})


@dataclass(frozen=True, eq=False)
class Tree:
    """One tree, node 0 its root. All arrays have one entry per node, in any order.

    A numeric node sends a row left where `x <= threshold` (or `<`, as the ensemble says); a categorical
    node where the code `x` is among `categories[node]`. NaN goes left where `default_left`, else right.
    """

    feature: NDArray[np.integer[Any]]
    """Index of the feature a node tests; of no meaning at a leaf."""
    threshold: NDArray[np.floating[Any]]
    """As the library has it, float64 or float32; the writer rounds. Of no meaning at leaves and categorical nodes."""
    left: NDArray[np.integer[Any]]
    """Index of the left child, LEAF (-1) at a leaf."""
    right: NDArray[np.integer[Any]]
    default_left: NDArray[np.bool_]
    value: NDArray[np.floating[Any]]
    """Of leaves: (nodes,) added to `target`, or (nodes, targets) added to all of them."""
    target: int = 0
    """Which output column a (nodes,) `value` adds to."""
    categories: Mapping[int, NDArray[np.integer[Any]]] = field(default_factory=_empty)
    """For each categorical node the codes (from 0) that go left; any other number goes right."""

    @property
    def nodes(self) -> int:
        """Number of nodes, leaves included."""
        return len(self.left)


@dataclass(frozen=True, eq=False)
class Ensemble:
    """Trees whose leaves are summed into `targets` columns: `link(base + sum / (count if average))`."""

    trees: tuple[Tree, ...]
    n_features: int
    comparison: Comparison = "<="
    datatype: Literal["FP32", "FP64"] = "FP32"
    """Datatype of the input matrix. With FP32 thresholds are rounded so that every float32 routes as before."""
    targets: int = 1
    base: NDArray[np.floating[Any]] | None = None
    """Added to the sums before the link, shape (targets,); None: nothing."""
    average: bool = False
    """Divide the sum of each target by the number of trees that add to it."""
    link: Link = "identity"
    scale: float = 1.0
    """Steepness of `logistic`, `logistic_each` and `log1p_exp`."""

    @property
    def nodes(self) -> int:
        """Number of nodes of all trees."""
        return sum(t.nodes for t in self.trees)

    def check(self) -> Ensemble:
        """Prove that every tree is a tree and every index is in range; return self.

        Raises:
            ArtifactInvalid: It is not so; the message names the tree and the node.
        """
        if self.nodes > MAX_NODES:
            raise ArtifactInvalid(f"trees: {self.nodes} nodes, expected at most {MAX_NODES}")
        if self.n_features < 1 or self.targets < 1:
            raise ArtifactInvalid(f"trees: {self.n_features} features and {self.targets} targets, expected 1 or more")
        if self.base is not None and (np.shape(self.base) != (self.targets,) or not np.isfinite(self.base).all()):
            raise ArtifactInvalid(f"trees: base {self.base}, expected {self.targets} finite numbers")
        for index, tree in enumerate(self.trees):
            _check_tree(tree, self, f"tree {index}")
        return self


def _check_tree(tree: Tree, ensemble: Ensemble, name: str) -> None:
    n = tree.nodes
    lengths = {len(a) for a in (tree.feature, tree.threshold, tree.right, tree.default_left, tree.value)}
    if n < 1 or lengths != {n}:
        raise ArtifactInvalid(f"{name}: arrays of {sorted(lengths | {n})} nodes, expected one length of 1 or more")
    leaf = np.asarray(tree.left) == LEAF
    if not np.array_equal(leaf, np.asarray(tree.right) == LEAF):
        raise ArtifactInvalid(f"{name}: a node with one child, expected two or none")
    _check_shape(tree, leaf, name)
    inner = np.flatnonzero(~leaf)
    feature = np.asarray(tree.feature)[inner]
    _refuse(
        inner[(feature < 0) | (feature >= ensemble.n_features)], name, f"a feature outside 0..{ensemble.n_features - 1}"
    )
    numeric = inner if not tree.categories else inner[~np.isin(inner, list(tree.categories))]
    _refuse(numeric[np.isnan(np.asarray(tree.threshold)[numeric])], name, "a threshold that is not a number")
    _check_values(tree, ensemble, leaf, name)
    _check_categories(tree, leaf, name)


def _check_shape(tree: Tree, leaf: NDArray[np.bool_], name: str) -> None:
    """Walk down level by level: each node is a child once, and all are reached within MAX_DEPTH levels."""
    n = tree.nodes
    inner = np.flatnonzero(~leaf)
    children = np.concatenate([np.asarray(tree.left)[inner], np.asarray(tree.right)[inner]]).astype(np.int64)
    _refuse(np.tile(inner, 2)[(children < 1) | (children >= n)], name, f"a child outside 1..{n - 1}")
    if len(children) != n - 1 or (n > 1 and np.bincount(children, minlength=n).max() > 1):
        raise ArtifactInvalid(f"{name}: {len(children)} children of {n} nodes, expected each node but the root once")
    level, reached, depth = np.zeros(1, np.int64), 1, 0
    while len(level := level[~leaf[level]]):
        level = np.concatenate([np.asarray(tree.left)[level], np.asarray(tree.right)[level]]).astype(np.int64)
        reached, depth = reached + len(level), depth + 1
        if depth > MAX_DEPTH:
            raise ArtifactInvalid(f"{name}: more than {MAX_DEPTH} levels")
    if reached != n:
        raise ArtifactInvalid(f"{name}: {reached} of {n} nodes can be reached, expected all of them")


def _check_values(tree: Tree, ensemble: Ensemble, leaf: NDArray[np.bool_], name: str) -> None:
    value = np.asarray(tree.value)
    if value.shape[1:] not in {(), (ensemble.targets,)} or not 0 <= tree.target < ensemble.targets:
        raise ArtifactInvalid(
            f"{name}: leaves {value.shape} for target {tree.target}, expected {ensemble.targets} targets"
        )
    finite = np.isfinite(value[leaf])
    _refuse(
        np.flatnonzero(leaf)[~(finite if value.ndim == 1 else finite.all(axis=1))], name, "a leaf that is not finite"
    )


def _check_categories(tree: Tree, leaf: NDArray[np.bool_], name: str) -> None:
    for node, codes in tree.categories.items():
        if not 0 <= node < tree.nodes or leaf[node]:
            raise ArtifactInvalid(f"{name}: categories at node {node}, which is not an inner node")
        found = np.asarray(codes)
        if len(found) and (found.min() < 0 or found.max() >= MAX_CATEGORY):
            raise ArtifactInvalid(f"{name}: node {node} has a category outside 0..{MAX_CATEGORY - 1}")


def _refuse(nodes: NDArray[np.integer[Any]], name: str, what: str) -> None:
    if len(nodes):
        raise ArtifactInvalid(f"{name}: node {nodes[0]} has {what}")
