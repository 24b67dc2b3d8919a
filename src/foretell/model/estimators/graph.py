"""Build an ONNX graph over one matrix of features: nodes, constants, whole models put inside.

Knows ONNX, and no estimator. `Raw` stands for columns as the user gives them, before any of them is a number.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import onnx

__all__ = ["ML_OPSET", "OPSET", "Graph", "MlOpset", "Raw", "Scaled", "Tensor"]

MlOpset = Literal[3, 5]
OPSET = 18
ML_OPSET: MlOpset = 5
_ELEMENTS = {"FP32": 1, "FP64": 11, "INT64": 7, "BOOL": 9}
_DTYPES = {"FP32": np.float32, "FP64": np.float64, "INT64": np.int64, "BOOL": np.bool_}


@dataclass(frozen=True, slots=True)
class Raw:
    """Columns of the user's table, by their position when the model was fitted."""

    columns: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Tensor:
    """A tensor of the graph: shape (rows, width)."""

    name: str
    datatype: str
    width: int


@dataclass(frozen=True, slots=True)
class Scaled:
    """What a scaled tensor is: `source * factor + shift`, a factor and a shift for each column."""

    source: Tensor
    factor: NDArray[np.float64]
    shift: NDArray[np.float64]


class Graph:
    """Collects nodes and constants; every name is made here, so none clashes."""

    def __init__(self, source: Tensor, ml_opset: MlOpset = ML_OPSET) -> None:
        self.source = source
        """The matrix of features."""
        self.domains = {"": OPSET, "ai.onnx.ml": int(ml_opset)}
        self.scaled: dict[str, Scaled] = {}
        """Tensors that scalers wrote, by name: a product right behind one can take its factors up."""
        self._nodes: list[onnx.NodeProto] = []
        self._constants: list[onnx.TensorProto] = []
        self._shared: dict[tuple[str, tuple[int, ...], bytes], str] = {}
        self._picked: dict[tuple[str, tuple[int, ...]], Tensor] = {}
        self._count = 0

    def name(self, hint: str) -> str:
        """Return a new name."""
        self._count += 1
        return f"{hint}_{self._count}"

    def constant(self, array: NDArray[Any] | np.generic | Sequence[Any]) -> str:
        """Add a constant and return its name; equal constants share one."""
        import onnx

        values = np.asarray(array)
        key = (values.dtype.str, values.shape, values.tobytes())
        if key not in self._shared:
            self._shared[key] = self.name("c")
            self._constants.append(onnx.numpy_helper.from_array(values, self._shared[key]))
        return self._shared[key]

    def op(self, kind: str, *inputs: str, domain: str = "", **attributes: Any) -> str:
        """Add a node with one output and return the output's name."""
        return self.ops(kind, inputs, 1, domain, **attributes)[0]

    def ops(self, kind: str, inputs: Iterable[str], outputs: int, domain: str = "", **attributes: Any) -> list[str]:
        """Add a node with several outputs and return their names."""
        import onnx

        names = [self.name(kind) for _ in range(outputs)]
        self._nodes.append(onnx.helper.make_node(kind, list(inputs), names, domain=domain, **attributes))
        return names

    def add(self, nodes: Iterable[onnx.NodeProto], constants: Iterable[onnx.TensorProto] = ()) -> None:
        """Add nodes and constants made elsewhere; their names must come from `name`."""
        self._nodes.extend(nodes)
        self._constants.extend(constants)

    def number(self, value: float, like: Tensor) -> str:
        """Return a constant scalar with the datatype of a tensor."""
        return self.constant(np.asarray(value, _DTYPES[like.datatype]))

    def array(self, values: Any, like: Tensor) -> str:
        """Return a constant array with the datatype of a tensor."""
        return self.constant(np.asarray(values, _DTYPES[like.datatype]))

    def total(self, tensor: Tensor) -> str:
        """Add the sum of each row, of shape (rows, 1).

        ONNX Runtime's ReduceSum rounds by where a row begins in memory; a product of matrices does not.
        """
        return self.op("MatMul", tensor.name, self.array(np.ones((tensor.width, 1)), tensor))

    def like(self, name: str, other: Tensor, width: int | None = None) -> Tensor:
        """Return a tensor with the datatype of another."""
        return Tensor(name, other.datatype, other.width if width is None else width)

    def cast(self, tensor: Tensor, datatype: str) -> Tensor:
        """Return the tensor with another datatype."""
        if tensor.datatype == datatype:
            return tensor
        return Tensor(self.op("Cast", tensor.name, to=_ELEMENTS[datatype]), datatype, tensor.width)

    def pick(self, tensor: Tensor, positions: Sequence[int]) -> Tensor:
        """Return columns of a tensor: itself, a slice, or a gather."""
        wanted = tuple(positions)
        if wanted == tuple(range(tensor.width)):
            return tensor
        key = (tensor.name, wanted)
        if key not in self._picked:
            self._picked[key] = self.like(self._taken(tensor, wanted), tensor, len(wanted))
        return self._picked[key]

    def _taken(self, tensor: Tensor, wanted: tuple[int, ...]) -> str:
        if wanted and wanted == tuple(range(wanted[0], wanted[0] + len(wanted))):
            ends = [np.array([v], np.int64) for v in (wanted[0], wanted[0] + len(wanted), 1)]
            return self.op("Slice", tensor.name, *map(self.constant, ends))
        return self.op("Gather", tensor.name, self.constant(np.array(wanted, np.int64)), axis=1)

    def join(self, tensors: Sequence[Tensor]) -> Tensor:
        """Put tensors side by side, in the widest of their datatypes."""
        filled = [t for t in tensors if t.width]
        if len(filled) == 1:
            return filled[0]
        datatype = "FP64" if any(t.datatype == "FP64" for t in filled) else filled[0].datatype
        same = [self.cast(t, datatype) for t in filled]
        return Tensor(self.op("Concat", *(t.name for t in same), axis=1), datatype, sum(t.width for t in same))

    def inside(self, model: onnx.ModelProto, feed: str) -> list[str]:
        """Put a model with one input inside this graph and return the names of its outputs."""
        import onnx

        graph = model.graph
        prefix = self.name("m") + "_"
        names = {graph.input[0].name: feed, "": ""}
        for constant in graph.initializer:
            values = onnx.TensorProto()
            values.CopyFrom(constant)
            names[constant.name] = values.name = prefix + constant.name
            self._constants.append(values)
        for node in graph.node:
            copy = onnx.NodeProto()
            copy.CopyFrom(node)
            copy.name = ""
            copy.input[:] = [names[i] for i in node.input]
            copy.output[:] = [names.setdefault(o, prefix + o) if o else "" for o in node.output]
            self._nodes.append(copy)
        for entry in model.opset_import:
            self.domains.setdefault(entry.domain, entry.version)
        return [names[o.name] for o in graph.output]

    def model(self, outputs: Sequence[tuple[str, Tensor, bool]]) -> bytes:
        """Return the finished model; each output is its name, its tensor, and whether it is flat, (rows,)."""
        import onnx
        from onnx import helper

        infos = []
        for name, tensor, flat in outputs:
            if flat:
                self._nodes.append(
                    helper.make_node("Reshape", [tensor.name, self.constant(np.array([-1], np.int64))], [name])
                )
            else:
                self._nodes.append(helper.make_node("Identity", [tensor.name], [name]))
            shape = ["rows"] if flat else ["rows", tensor.width]
            infos.append(helper.make_tensor_value_info(name, _ELEMENTS[tensor.datatype], shape))
        source = helper.make_tensor_value_info(
            self.source.name, _ELEMENTS[self.source.datatype], ["rows", self.source.width]
        )
        nodes = self._needed({name for name, _, _ in outputs})
        read = {name for node in nodes for name in node.input}
        constants = [c for c in self._constants if c.name in read]
        graph = helper.make_graph(nodes, "foretell", [source], infos, constants)
        opsets = [helper.make_opsetid(domain, version) for domain, version in self.domains.items()]
        model = helper.make_model(graph, opset_imports=opsets, producer_name="foretell")
        model.ir_version = min(onnx.IR_VERSION, 10)
        onnx.checker.check_model(model)
        content: bytes = model.SerializeToString()
        return content

    def _needed(self, wanted: set[str]) -> list[onnx.NodeProto]:
        """Return the nodes that the wanted names are computed from, in order."""
        needed = []
        for node in reversed(self._nodes):
            if not wanted.isdisjoint(node.output):
                wanted.update(node.input)
                needed.append(node)
        return needed[::-1]
