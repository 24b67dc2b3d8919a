"""The step from sums of leaves to answers, as nodes of a graph."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from foretell.model.trees.ensemble import Ensemble

if TYPE_CHECKING:
    from onnx import NodeProto

__all__ = ["Builder", "add_link"]


class Builder:
    """Collect nodes; the last one added gives the answer."""

    def __init__(self, prefix: str, datatype: Literal["FP32", "FP64"]) -> None:
        self._prefix = prefix
        self._dtype = np.float32 if datatype == "FP32" else np.float64
        self._nodes: list[NodeProto] = []

    def add(self, operator: str, inputs: list[str], domain: str = "", **attributes: Any) -> str:
        """Add a node with one output; return the output's name."""
        from onnx import helper

        output = f"{self._prefix}{len(self._nodes)}"
        self._nodes.append(
            helper.make_node(operator, inputs, [output], name=f"{output}_{operator}", domain=domain, **attributes)
        )
        return output

    def constant(self, value: Any) -> str:
        """Add a constant of the datatype of the sums; return its name."""
        from onnx import numpy_helper

        return self.add("Constant", [], value=numpy_helper.from_array(np.asarray(value, self._dtype)))

    def finish(self, output: str) -> list[NodeProto]:
        """Return the nodes, the last one's output renamed."""
        self._nodes[-1].output[0] = output
        return self._nodes


def add_link(build: Builder, total: str, ensemble: Ensemble) -> None:
    """Add the link of an ensemble; nothing for `identity`."""
    scale = ensemble.scale
    match ensemble.link:
        case "logistic":
            # (rows, 1) times (1, 2) is the sum for and against: both probabilities keep their small values.
            signs = [[scale, -scale]] if ensemble.targets == 1 else [[-scale]]
            _logistic(build, build.add("Mul", [total, build.constant(signs)]))
        case "logistic_each":
            _logistic(build, build.add("Mul", [total, build.constant([[-scale]])]))
        case "softmax":
            build.add("Softmax", [total], axis=1)
        case "exp":
            build.add("Exp", [total])
        case "log1p_exp":
            exponential = build.add("Exp", [build.add("Mul", [total, build.constant(scale)])])
            build.add("Log", [build.add("Add", [exponential, build.constant(1)])])
        case "sign":
            _positive(build, total)
        case "sqrt_abs":
            build.add("Mul", [total, build.add("Abs", [total])])
        case "identity":
            pass


def _logistic(build: Builder, negated: str) -> str:
    """Add 1 / (1 + exp(negated)). The Sigmoid of ONNX Runtime is an approximation that stops at 18."""
    return build.add("Reciprocal", [build.add("Add", [build.add("Exp", [negated]), build.constant(1)])])


def _positive(build: Builder, total: str) -> str:
    positive = build.add("Greater", [total, build.constant(0)])
    return build.add("Where", [positive, build.constant(1), build.constant(0)])
