"""Programs of torch.export (.pt2): read for what they take and give, without PyTorch.

1 read     the graph and where its weights lie; see `model/programs`
2 check    every operation, every argument, every weight
3 say      inputs -> fields, outputs -> task

Nothing here runs the model, and PyTorch need not be installed.
"""

from __future__ import annotations

import math
from types import MappingProxyType

from foretell.model.formats.base import Opened
from foretell.model.formats.onnx_fields import fields_of
from foretell.model.programs import Program, read_program
from foretell.model.programs.program import Tensor
from foretell.model.runtimes import Runner
from foretell.model.tasks.classification import Classification
from foretell.model.tasks.predictions import Task
from foretell.model.tasks.regression import Regression
from foretell.model.tasks.tensors import Tensors
from foretell.signature import Signature, TensorSpec

__all__ = ["open_model"]

_CHUNK_ELEMENTS = 1 << 22
_SAME = {"to", "_to_copy", "clone", "contiguous", "detach", "detach_", "alias", "squeeze", "view", "reshape", "flatten"}
"""Operations that hand on the same values in another shape or type."""
_SQUASHES = {"softmax", "_softmax", "sigmoid", "sigmoid_", "log_softmax", "_log_softmax", "tanh", "tanh_", "exp"}


def open_model(name: str, content: bytes) -> Opened:
    """Read a program.

    Args:
        name: Of its file, for messages.
        content: The file.

    Raises:
        ArtifactInvalid: It is damaged, of another version, or holds what cannot be run safely.
    """
    program = read_program(name, content)
    inputs, outputs = (tuple(_spec(t) for t in tensors) for tensors in (program.inputs, program.outputs))
    made = fields_of(inputs, {})
    signature = Signature(inputs, outputs, made.fields, MappingProxyType(dict(made.columns or {})), made.named)
    return Opened(
        format="torch",
        signature=signature,
        task=_task(program, outputs),
        runners=(Runner("torch", "model.pt2", content, chunk_rows=_chunk_rows(inputs)),),
        about={
            "producer": f"PyTorch {program.torch_version}",
            "operations": len(program.nodes),
            "parameters": program.parameters,
        },
        notes=(*made.notes, *_notes(program)),
    )


def _chunk_rows(inputs: tuple[TensorSpec, ...]) -> int:
    """Return the piece of a longer call: the layers of a network on pictures take many times what goes in."""
    elements = sum(math.prod(max(d, 1) for d in spec.shape[1:]) for spec in inputs)
    return min(max(_CHUNK_ELEMENTS // elements, 1), 2048)


def _spec(tensor: Tensor) -> TensorSpec:
    return TensorSpec(tensor.name, "FP32" if tensor.datatype == "BF16" else tensor.datatype, tensor.shape)


def _task(program: Program, outputs: tuple[TensorSpec, ...]) -> Task:
    """Say what the outputs mean: probabilities of a softmax, one number a row, or only tensors. Never a guess."""
    names = tuple(o.name for o in outputs)
    if len(outputs) != 1 or not outputs[0].datatype.startswith("FP"):
        return Tensors(names)
    maker, rest = _maker(program), outputs[0].shape[1:]
    if maker == "softmax" and len(rest) == 1 and rest[0] > 1:
        return Classification(tuple(range(rest[0])), probability_output=0)
    return Regression() if rest in ((), (1,)) and maker not in _SQUASHES else Tensors(names)


def _maker(program: Program) -> str:
    """Return the operation that made the one output; a softmax only if it is over the last axis."""
    makers = {node.results: node for node in program.nodes if isinstance(node.results, str)}
    node = makers.get(program.results[0])
    while node is not None and node.operator.name in _SAME:
        node = makers.get(getattr(node.arguments[0], "name", "")) if node.arguments else None
    if node is None:
        return ""
    name = node.operator.name
    if name in ("softmax", "_softmax"):
        axis = node.arguments[1] if len(node.arguments) > 1 else node.named.get("dim")
        return "softmax" if axis in (-1, 1) else "_softmax"
    return name


def _notes(program: Program) -> list[str]:
    notes = []
    if not program.has_free_rows:
        rows = program.most_rows
        notes.append(
            f"it takes exactly {rows} row{'s' * (rows > 1)} at a time; more are run in turns, the last one filled up. "
            "Export it with dynamic_shapes to be faster"
        )
    elif program.most_rows < 1 << 20:
        notes.append(f"it was exported for at most {program.most_rows} rows; more are run in turns")
    if any(t.datatype == "BF16" for t in (*program.inputs, *program.outputs)):
        notes.append("it computes in bfloat16; its tensors are given and taken as FP32")
    return notes
