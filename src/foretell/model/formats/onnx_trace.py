"""Walks an ONNX graph backwards: what made a value, which classes an operator names, whether a number is a score."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from foretell.model.formats.onnx_graph import attribute
from foretell.model.formats.onnx_proto import array_of
from foretell.signature import Label

if TYPE_CHECKING:
    from onnx import GraphProto, NodeProto, TensorProto

__all__ = ["CLASSIFIERS", "Trace", "are_scores", "class_labels", "values_of"]

CLASSIFIERS = {"TreeEnsembleClassifier", "LinearClassifier", "SVMClassifier"}
_LABELS = ("classlabels_strings", "classlabels_int64s", "classlabels_ints")
_SAME = {"Identity", "Cast", "Reshape", "Squeeze", "Unsqueeze", "Flatten"}
"""Operators that hand on the same values in another shape or type."""
_SQUASHES = {"Softmax", "Sigmoid", "Normalizer", "Exp", "LpNormalization", "Erf", "Tanh"}


class Trace:
    """Finds what made a value."""

    def __init__(self, graph: GraphProto) -> None:
        self.makers: dict[str, NodeProto] = {name: node for node in graph.node for name in node.output if name}
        self.constants: dict[str, TensorProto] = {tensor.name: tensor for tensor in graph.initializer}
        for node in graph.node:
            value = attribute(node, "value") if node.op_type == "Constant" else None
            if value is not None and value.HasField("t"):
                self.constants[node.output[0]] = value.t

    def source(self, name: str) -> tuple[str, NodeProto | None]:
        """Follow a value back through operators that only hand it on: its first name, and what made it."""
        for _ in range(len(self.makers)):
            node = self.makers.get(name)
            if node is None or not node.input or not (node.op_type in _SAME or self._is_times_one(node)):
                return name, node
            name = node.input[0]
        return name, None

    def _is_times_one(self, node: NodeProto) -> bool:
        constant = self.constants.get(node.input[1]) if node.op_type == "Mul" and len(node.input) == 2 else None
        return constant is not None and set(values_of(constant)) == {1.0}

    def before(self, name: str) -> list[NodeProto]:
        """Return every node that a value depends on."""
        found: dict[int, NodeProto] = {}
        waiting = [name]
        while waiting:
            node = self.makers.get(waiting.pop())
            if node is not None and id(node) not in found:
                found[id(node)] = node
                waiting += node.input
        return list(found.values())


def class_labels(node: NodeProto) -> tuple[Label, ...]:
    """Return the classes that a classifying operator names; none if it names none."""
    for name in _LABELS:
        found = attribute(node, name)
        if found is not None and (found.strings or found.ints):
            return tuple(s.decode("utf-8", "replace") for s in found.strings) or tuple(found.ints)
    return ()


def values_of(tensor: TensorProto) -> list[Label]:
    """Return the elements of a small constant; empty for others."""
    if sum(1 for _ in tensor.dims) > 2 or max(tensor.dims, default=1) > 100_000:
        return []
    try:
        values = array_of(tensor).reshape(-1).tolist()
    except (ValueError, TypeError, KeyError):
        return []
    return [v.decode("utf-8", "replace") if isinstance(v, bytes) else v for v in values]


def are_scores(look: Trace, name: str) -> bool:
    """Tell whether an output is a classifier's raw score, whatever it is called: nothing on its way squashes it."""
    before = look.before(name)
    if any(node.op_type in _SQUASHES for node in before):
        return False
    return any(_gives_scores(node) for node in before)


def _gives_scores(node: NodeProto) -> bool:
    transform = attribute(node, "post_transform")
    if node.op_type not in CLASSIFIERS or (transform is not None and transform.s not in (b"", b"NONE")):
        return False
    if node.op_type == "TreeEnsembleClassifier":
        # A forest's leaves hold shares of classes; a boosted tree's hold steps, which go both ways.
        names = ("class_weights", "base_values", "class_weights_as_tensor", "base_values_as_tensor")
        return any(_least(node, n) < 0 for n in names)
    probabilities = attribute(node, "prob_a")
    return node.op_type == "LinearClassifier" or probabilities is None or not probabilities.floats


def _least(node: NodeProto, name: str) -> float:
    found = attribute(node, name)
    if found is None:
        return 0.0
    values: Iterable[float] = array_of(found.t).reshape(-1) if found.HasField("t") else found.floats
    return float(min(values, default=0.0))
