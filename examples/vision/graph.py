"""An ONNX graph, written down operator by operator with numpy arrays for its weights."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

OPSET = 17
IR_VERSION = 9


class Graph:
    """Nodes and weights so far. Every value is named after the node that makes it."""

    def __init__(self) -> None:
        self._nodes: list[onnx.NodeProto] = []
        self._weights: list[onnx.TensorProto] = []

    def weight(self, name: str, array: NDArray[Any]) -> str:
        """Add a constant and return its name."""
        self._weights.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def add(self, operator: str, name: str, *inputs: str, **attributes: Any) -> str:
        """Add a node with one output and return the output's name."""
        self._nodes.append(helper.make_node(operator, list(inputs), [name], name=name, **attributes))
        return name

    def save(
        self,
        path: Path,
        name: str,
        takes: tuple[str, tuple[Any, ...]],
        gives: tuple[str, tuple[Any, ...]],
        metadata: dict[str, str],
    ) -> None:
        """Check the graph and write it. Shapes may have a name for an axis that is free."""
        source, result = (helper.make_tensor_value_info(n, TensorProto.FLOAT, shape) for n, shape in (takes, gives))
        graph = helper.make_graph(self._nodes, name, [source], [result], self._weights)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], producer_name="foretell")
        model.ir_version = IR_VERSION
        helper.set_model_props(model, metadata)
        onnx.checker.check_model(model, full_check=True)
        part = path.with_suffix(".part")
        part.write_bytes(model.SerializeToString(deterministic=True))
        part.rename(path)
