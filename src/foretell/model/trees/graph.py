"""An ensemble as ONNX: nodes to splice into a graph, or a whole model.

Opset 5 of `ai.onnx.ml` (TreeEnsemble) is written unless leaves are vectors, which only the nodes of opset 3
(TreeEnsembleRegressor) can hold. With FP64 opset 5 gives float64 sums; opset 3 adds in float64 and gives float32.
Knows no library's semantics: an `Ensemble` has said it all.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from foretell.errors import InternalError
from foretell.model.trees.ensemble import Ensemble, Tree
from foretell.model.trees.links import Builder, add_link
from foretell.model.trees.nodes import regressor_attributes, tree_ensemble_attributes

if TYPE_CHECKING:
    from onnx import NodeProto

__all__ = [
    "BULK_ROWS",
    "IR_VERSION",
    "OPSET",
    "bulk_split",
    "opset_for",
    "output_datatype",
    "output_width",
    "to_onnx",
    "tree_nodes",
]

OPSET = 21
IR_VERSION = 10
CACHED_NODES = 512
"""Nodes of trees in one graph node, in bulk: they stay in the first cache while a block of rows goes through.

Measured on a CPU with 32 KiB of it, two threads, 16,384 rows a call: 300 trees of 127 nodes 7.0 -> 5.4 us a row,
300 of 511 10.0 -> 7.3, 100 of 8,191 7.6 -> 4.0. One row takes 5 to 20 times longer, 64 rows a little longer.
"""
BULK_ROWS = 1024
"""Rows of a call from which on a graph with `bulk_split` is the faster one."""

MlOpset = Literal[3, 5]


def opset_for(ensemble: Ensemble) -> MlOpset:
    """Return the opset of `ai.onnx.ml` that a whole model of these trees uses."""
    return 3 if any(np.ndim(t.value) == 2 for t in ensemble.trees) else 5


def output_datatype(ensemble: Ensemble, opset: MlOpset | None = None) -> Literal["FP32", "FP64"]:
    """Return the datatype of the sums, and so of the output."""
    return "FP64" if ensemble.datatype == "FP64" and (opset or opset_for(ensemble)) == 5 else "FP32"


def output_width(ensemble: Ensemble) -> int:
    """Return the columns of the output: one for each target, two where one target stands for two classes."""
    return 2 if ensemble.link == "logistic" and ensemble.targets == 1 else ensemble.targets


def bulk_split(ensemble: Ensemble) -> int:
    """Return the trees per graph node that is fastest for many rows; 0 is all trees in one node.

    Then all nodes are few enough to stay in the cache anyway.
    """
    if ensemble.nodes <= 4 * CACHED_NODES or len(ensemble.trees) < 2:
        return 0
    return max(1, CACHED_NODES * len(ensemble.trees) // ensemble.nodes)


def tree_nodes(
    ensemble: Ensemble,
    input: str,
    output: str,
    *,
    prefix: str = "trees_",
    split: int = 0,
    opset: MlOpset | None = None,
) -> list[NodeProto]:
    """Return the nodes that compute `output` (rows, `output_width`) from `input` (rows, features).

    Args:
        ensemble: Already checked.
        input: Name of a tensor of `ensemble.datatype`.
        output: Name of the answer, of `output_datatype(ensemble, opset)`.
        prefix: Of the names of what is in between.
        split: Trees per graph node; 0 is all of them in one.
        opset: Of `ai.onnx.ml` in the graph they go into; the default domain needs 18 or more.
            3 is needed where leaves are vectors, 5 to get float64 out.
    """
    opset = opset or opset_for(ensemble)
    if opset == 5 and opset_for(ensemble) == 3:
        raise InternalError("tree_nodes: opset 5 cannot hold leaves that are vectors. This is a bug.")
    build = Builder(prefix, output_datatype(ensemble, opset))
    parts = [
        build.add(_OPERATORS[opset], [input], domain="ai.onnx.ml", **_attributes(ensemble, trees, opset))
        for trees in _groups(_scaled(ensemble), split)
    ]
    total = build.add("Sum", parts) if len(parts) > 1 else parts[0]
    add_link(build, total, ensemble)
    return build.finish(output)


def to_onnx(
    ensemble: Ensemble,
    *,
    input: str = "features",
    output: str = "prediction",
    split: int = 0,
    before: Sequence[NodeProto] = (),
    before_output: str = "",
    input_datatype: Literal["FP32", "FP64"] | None = None,
) -> bytes:
    """Return a whole model: `input` (rows, features) to `output` (rows, `output_width`).

    Args:
        ensemble: Already checked.
        input: Name of the matrix, of `ensemble.datatype`.
        output: Name of the answer, of `output_datatype(ensemble)`.
        split: Trees per graph node; 0 is all of them in one.
        before: Nodes that make `before_output` from `input`, which the trees then take.
        before_output: Name of what `before` gives.
        input_datatype: Of `input`, where `before` changes it to `ensemble.datatype`.
    """
    from onnx import TensorProto, helper

    element = {"FP32": TensorProto.FLOAT, "FP64": TensorProto.DOUBLE}
    nodes = [*before, *tree_nodes(ensemble, before_output if before else input, output, split=split)]
    graph = helper.make_graph(
        nodes,
        "trees",
        [
            helper.make_tensor_value_info(
                input, element[input_datatype or ensemble.datatype], [None, ensemble.n_features]
            )
        ],
        [helper.make_tensor_value_info(output, element[output_datatype(ensemble)], [None, output_width(ensemble)])],
    )
    opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid("ai.onnx.ml", opset_for(ensemble))]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION, producer_name="foretell")
    content: bytes = model.SerializeToString()
    return content


_OPERATORS = {3: "TreeEnsembleRegressor", 5: "TreeEnsemble"}


def _attributes(ensemble: Ensemble, trees: Sequence[Tree], opset: MlOpset) -> dict[str, Any]:
    write = tree_ensemble_attributes if opset == 5 else regressor_attributes
    return write(trees, ensemble)


def _scaled(ensemble: Ensemble) -> list[Tree]:
    """Return the trees with averages taken in their leaves, led by a tree that is the base alone, if any.

    The base comes first because libraries start their sums with it.
    """
    trees = list(ensemble.trees)
    if ensemble.average:
        shares = _trees_per_target(ensemble)
        trees = [_with_value(t, np.asarray(t.value, np.float64) / shares[_columns(t)]) for t in trees]
    base = np.zeros(ensemble.targets) if ensemble.base is None else np.asarray(ensemble.base, np.float64)
    covered = {target for t in trees for target in ([t.target] if np.ndim(t.value) == 1 else range(ensemble.targets))}
    constants = [i for i in range(ensemble.targets) if base[i] != 0 or i not in covered]
    return [_constant(base[i], i) for i in constants] + trees


def _columns(tree: Tree) -> Any:
    return tree.target if np.ndim(tree.value) == 1 else slice(None)


def _trees_per_target(ensemble: Ensemble) -> NDArray[np.float64]:
    shares = np.zeros(ensemble.targets)
    for tree in ensemble.trees:
        shares[_columns(tree)] += 1
    return np.maximum(shares, 1)


def _with_value(tree: Tree, value: NDArray[np.float64]) -> Tree:
    return Tree(
        tree.feature, tree.threshold, tree.left, tree.right, tree.default_left, value, tree.target, tree.categories
    )


def _constant(value: float, target: int) -> Tree:
    leaf = np.full(1, -1)
    return Tree(np.zeros(1, np.int64), np.zeros(1), leaf, leaf, np.zeros(1, np.bool_), np.full(1, value), target)


def _groups(trees: list[Tree], split: int) -> list[list[Tree]]:
    """Cut the trees into runs; constants (the base) stay with the first tree that follows them."""
    if not split:
        return [trees]
    constants = [t for t in trees if t.nodes == 1]
    others = [t for t in trees if t.nodes > 1]
    runs = [others[i : i + split] for i in range(0, len(others), split)] or [[]]
    return [constants + runs[0], *runs[1:]]
