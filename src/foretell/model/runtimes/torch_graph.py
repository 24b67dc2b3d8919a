"""A program as a module of PyTorch: every operation looked up in PyTorch's own table, every name made here.

`torch.fx` writes Python for the graph and compiles it; as nothing of the file but numbers and plain texts gets into
it, that is no door. Knows no runtime.
"""

from __future__ import annotations

import math
import operator
import warnings
from typing import Any

from foretell.errors import ArtifactInvalid
from foretell.model.programs.arguments import Device, Dtype, Layout, MemoryFormat, Ref
from foretell.model.programs.operators import Operator
from foretell.model.programs.program import DATATYPES, Program, Tensor, Weight

__all__ = ["TORCH_NAMES", "bounded_power", "graph_module"]

TORCH_NAMES = {
    "UINT8": "uint8", "INT8": "int8", "INT16": "int16", "INT32": "int32", "INT64": "int64", "FP16": "float16",
    "FP32": "float32", "FP64": "float64", "BOOL": "bool", "BF16": "bfloat16", "UINT16": "uint16",
    "UINT32": "uint32", "UINT64": "uint64",
}  # fmt: skip
"""Datatype -> name of PyTorch's dtype."""
_FORMATS = {1: "contiguous_format", 2: "channels_last", 3: "channels_last_3d", 4: "preserve_format"}
_MOST_BITS = 4096
_FORBIDDEN = ("Storage", "Stream", "Generator", "Dimname")
"""Types of arguments that are not tensors, nor numbers for them."""


def graph_module(program: Program, device: str) -> Any:
    """Return a `torch.fx.GraphModule` that takes the user's tensors in order and returns a list of tensors.

    Args:
        program: As read from the file.
        device: Where its weights go, and all it makes itself.

    Raises:
        ArtifactInvalid: It uses an operation that this PyTorch does not have.
    """
    import torch

    built = _Builder(torch, program, device)
    return built.module()


def bounded_power(base: Any, exponent: Any) -> Any:
    """Return a power of sizes; of whole numbers only if it has no more than a few thousand bits."""
    if type(base) is int and type(exponent) is int and base.bit_length() * abs(exponent) > _MOST_BITS:
        raise ValueError(f"a size to the power of {exponent}: too large")
    return base**exponent


class _Builder:
    def __init__(self, torch: Any, program: Program, device: str) -> None:
        from torch import fx

        self._torch, self._program = torch, program
        self._device = torch.device(device)
        self._graph = fx.Graph()
        self._root = torch.nn.Module()
        self._known: dict[str, Any] = {}
        self._operators: dict[Operator, Any] = {}
        self._storages: dict[str, Any] = {}

    def module(self) -> Any:
        from torch import fx

        for at, (name, value) in enumerate(self._program.values.items()):
            self._known[name] = self._value(at, value)
        for node in self._program.nodes:
            result = self._graph.call_function(
                self._function(node.operator),
                tuple(self._argument(a) for a in node.arguments),
                {name: self._argument(a) for name, a in node.named.items()},
            )
            self._name(result, node.results)
        self._graph.output([self._known[name] for name in self._program.results])
        module = fx.GraphModule(self._root, self._graph)
        module.eval()
        return module.requires_grad_(False)

    def _value(self, at: int, value: Any) -> Any:
        if isinstance(value, Tensor):
            return self._graph.placeholder(f"input_{at}")
        if isinstance(value, Weight):
            self._root.register_buffer(f"weight_{at}", self._weight(value))
            return self._graph.get_attr(f"weight_{at}")
        return value

    def _weight(self, weight: Weight) -> Any:
        torch = self._torch
        dtype = getattr(torch, TORCH_NAMES[weight.datatype])
        if not math.prod(weight.shape):
            return torch.zeros(weight.shape, dtype=dtype, device=self._device)
        if weight.member not in self._storages:
            view = self._program.members[weight.member]
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # that the bytes cannot be written to: they are copied
                self._storages[weight.member] = torch.frombuffer(view, dtype=torch.uint8).clone()
        raw = self._storages[weight.member]
        whole = raw[: len(raw) // dtype.itemsize * dtype.itemsize].view(dtype)
        return whole.as_strided(weight.shape, weight.strides, weight.offset).to(self._device)

    def _function(self, wanted: Operator) -> Any:
        if wanted not in self._operators:
            self._operators[wanted] = self._looked_up(wanted)
        return self._operators[wanted]

    def _looked_up(self, wanted: Operator) -> Any:
        if wanted.kind == "sizes":
            module, _, name = wanted.name.partition(".")
            if wanted.name == "_operator.pow":
                return bounded_power
            return getattr({"_operator": operator, "math": math, "torch": self._torch}[module], name)
        packet = getattr(self._torch.ops.aten, wanted.name, None)
        found = getattr(packet, wanted.overload, None)
        if not isinstance(found, self._torch._ops.OpOverload):
            raise ArtifactInvalid(
                f'operation "aten.{wanted.name}.{wanted.overload}": PyTorch {self._torch.__version__} has none; '
                "install the version that the program was exported with, or convert it to ONNX there"
            )
        types = [str(argument.type) for argument in found._schema.arguments]
        if any(word in one for one in types for word in _FORBIDDEN):
            raise ArtifactInvalid(f'operation "aten.{wanted.name}.{wanted.overload}": not allowed here')
        return found

    def _argument(self, value: Any) -> Any:
        if isinstance(value, Ref):
            return self._known[value.name]
        if isinstance(value, list):
            return [self._argument(item) for item in value]
        if isinstance(value, Dtype):
            if value.number not in DATATYPES:
                raise ArtifactInvalid(
                    f"dtype number {value.number}: complex, float8 and quantized ones are not run here"
                )
            return getattr(self._torch, TORCH_NAMES[DATATYPES[value.number]])
        if isinstance(value, MemoryFormat):
            return getattr(self._torch, _FORMATS.get(value.number, "contiguous_format"))
        if isinstance(value, Layout):
            return self._torch.strided
        return self._device if isinstance(value, Device) else value

    def _name(self, result: Any, results: Any) -> None:
        if isinstance(results, str):
            self._known[results] = result
        elif isinstance(results, list):
            for at, inner in enumerate(results):
                if inner is not None:
                    self._name(self._graph.call_function(operator.getitem, (result, at)), inner)
