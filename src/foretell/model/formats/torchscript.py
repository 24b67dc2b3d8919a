"""TorchScript files (.pt): opened in a boxed-in child process, and only where the user trusts them.

The shapes come from the user: the file has none. Knows nothing of PyTorch but what the child answers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from types import MappingProxyType
from typing import Any

from foretell.errors import ArtifactInvalid, ArtifactUntrusted, ConfigError, LoadError
from foretell.model.formats import onnx
from foretell.model.formats.base import Opened
from foretell.model.formats.onnx_fields import fields_of
from foretell.model.formats.torch_onnx import TorchReference
from foretell.model.runtimes import Runner
from foretell.model.runtimes.boxed import Boxed
from foretell.model.tasks.predictions import Task
from foretell.model.tasks.regression import Regression
from foretell.model.tasks.tensors import Tensors
from foretell.signature import Signature, TensorSpec

__all__ = ["open_model"]

_MOST_OUTPUTS = 1000


def open_model(name: str, content: bytes, *, trust: bool = False, inputs: Sequence[TensorSpec] = ()) -> Opened:
    """Open a TorchScript network.

    Args:
        name: Of its file, for messages.
        content: The file.
        trust: Whether it may be opened, boxed in.
        inputs: What it takes, in the order of its forward.

    Raises:
        ArtifactUntrusted: It is not trusted.
        ConfigError: `inputs` is missing.
        LoadError: It cannot be opened, or does not take these inputs.
    """
    if not trust:
        raise ArtifactUntrusted(
            f'"{name}": a TorchScript file, which PyTorch reads without checking it, so it is refused. Export the '
            "network with torch.export (a .pt2 file needs no trust), or, if you made this one yourself: "
            f"foretell convert {name} --trust --input NAME:FP32:-1,30 -o BUNDLE"
        )
    if not inputs:
        raise ConfigError(
            f'"{name}": a TorchScript file does not say which shapes it takes; convert it: '
            f"foretell convert {name} --trust --input NAME:FP32:-1,30 -o BUNDLE (-1: any number)"
        )
    if any(s.shape[:1] != (-1,) for s in inputs):
        raise ConfigError(f'--input "{inputs[0].name}": shape {list(inputs[0].shape)}, expected -1 rows first')
    boxed = Boxed(name)
    try:
        command = {"command": "open", "kind": "torchscript", "trust": trust, "inputs": [asdict(s) for s in inputs]}
        answer, graphs = boxed.ask(command, [content], doing="opening it")
    finally:
        boxed.close()
    outputs = _outputs(name, answer.get("outputs"))
    made = fields_of(tuple(inputs), {})
    signature = Signature(tuple(inputs), outputs, made.fields, MappingProxyType(dict(made.columns or {})), made.named)
    script = Runner("estimator", "model.pt", content, options={"kind": "torchscript"}, trusted=trust)
    graph, note = _graph(graphs, str(answer.get("why", ""))[:200], signature)
    opened = Opened(
        format="torch",
        signature=signature,
        task=_task(outputs),
        runners=(script,) if graph is None else (graph, script),
        about={"file": "TorchScript"},
        notes=(*made.notes, *note),
    )
    if graph is None or not made.fields:
        return opened
    return Opened(**{**vars(opened), "reference": TorchReference(opened)})


def _outputs(name: str, said: Any) -> tuple[TensorSpec, ...]:
    """Return the outputs that the child found: it runs the file, so what it says is checked."""
    try:
        found = tuple(TensorSpec(str(s["name"]), str(s["datatype"]), tuple(map(int, s["shape"]))) for s in said)
    except (TypeError, KeyError, ValueError) as error:
        raise LoadError(f'"{name}": its process said nothing of its outputs: {error}') from error
    if not 0 < len(found) <= _MOST_OUTPUTS:
        raise ArtifactInvalid(f'"{name}": it gives {len(found)} tensors, 1 to {_MOST_OUTPUTS} expected')
    return found


def _graph(graphs: list[bytes], why: str, signature: Signature) -> tuple[Runner | None, list[str]]:
    if graphs:
        try:
            opened = onnx.open_model("model.onnx", graphs[0])
        except LoadError as error:
            why = str(error)
        else:
            names = [s.name for s in (*signature.inputs, *signature.outputs)]
            if names == [s.name for s in (*opened.signature.inputs, *opened.signature.outputs)]:
                return Runner("onnxruntime", "model.onnx", opened.runners[0].content), []
            why = "its inputs or outputs changed their names"
    return None, [f"no ONNX graph of it, so it runs in PyTorch and needs --trust each time: {why}"]


def _task(outputs: tuple[TensorSpec, ...]) -> Task:
    if len(outputs) == 1 and outputs[0].shape[1:] in ((), (1,)) and outputs[0].datatype.startswith("FP"):
        return Regression()
    return Tensors(tuple(s.name for s in outputs))
