"""The structure of an ONNX model: all graphs, nodes and tensors in it, wherever they hide, and whether it is sound.

Field names as in onnx.proto. A node's attribute may carry a tensor or a graph whatever its declared type says,
so all of them are walked.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from foretell.errors import ArtifactInvalid, ArtifactUntrusted
from foretell.model.formats.onnx_external import MAX_MODEL_BYTES, element_bits
from foretell.model.formats.onnx_proto import messages

if TYPE_CHECKING:
    from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto

__all__ = ["attribute", "check", "parse", "tensors"]

_DEPTH = 16
_CALL_DEPTH = 64
_MAX_NAME = 2_000
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_MAX_NODES = 1_000_000
_DOMAINS = {"", "ai.onnx", "ai.onnx.ml", "ai.onnx.training", "ai.onnx.preview.training", "com.microsoft"}
_OUTSIDE = {"EPContext", "ATen", "PythonOp", "PythonOpGrad"}
"""Operators of com.microsoft that read other files or call Python."""


def parse(name: str, content: bytes) -> ModelProto:
    """Parse bytes as a ModelProto.

    Raises:
        ArtifactInvalid: They are none, or more than protobuf can hold.
    """
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped, unused-ignore]

    if len(content) > MAX_MODEL_BYTES:
        raise ArtifactInvalid(
            f'"{name}": {len(content)} bytes; ONNX holds at most 2 GiB in one file, export it smaller'
        )
    try:
        model: ModelProto = messages().ModelProto.FromString(content)
        return model
    except (DecodeError, UnicodeDecodeError, RecursionError, ValueError, MemoryError) as error:
        reason = " ".join(str(error).split())[:120] or type(error).__name__
        raise ArtifactInvalid(
            f'"{name}": not a whole ONNX model ({reason}); copy it again, or export it again'
        ) from error


def attribute(node: NodeProto, name: str) -> AttributeProto | None:
    """Return the attribute of a node with this name, or None."""
    return next((a for a in node.attribute if a.name == name), None)


def tensors(model: ModelProto) -> Iterator[TensorProto]:
    """Yield every tensor: initializers, values and indices of sparse ones, attributes; in every graph and function."""
    for part in _parts(model):
        yield from getattr(part, "initializer", ())
        for sparse in getattr(part, "sparse_initializer", ()):
            yield from (sparse.values, sparse.indices)
        defaults = getattr(part, "attribute_proto", ())
        for carrier in (*part.node, *([part] if defaults else [])):
            for found in carrier.attribute if carrier is not part else defaults:
                if found.HasField("t"):
                    yield found.t
                yield from found.tensors
                sparse_tensors = [found.sparse_tensor] if found.HasField("sparse_tensor") else []
                for sparse in (*sparse_tensors, *found.sparse_tensors):
                    yield from (sparse.values, sparse.indices)


def check(name: str, model: ModelProto) -> None:
    """Check what ONNX Runtime takes on trust: nesting, operators, functions that call themselves, tensors' sizes.

    Raises:
        ArtifactInvalid: The model is not sound, or needs operators that ONNX Runtime does not have.
        ArtifactUntrusted: It has an operator that reads other files or runs code.
    """
    _check_texts(name, _model_texts(model), names=False)
    imported = [o.domain for o in model.opset_import]
    if not imported:
        raise ArtifactInvalid(f'"{name}": it names no operator set; it is cut off, copy it again or export it again')
    own = {(f.domain, f.name) for f in model.functions}
    nodes = 0
    for part in _parts(model):
        _check_texts(name, _part_texts(part), names=True)
        known = {_plain(d) for d in imported} | {_plain(o.domain) for o in getattr(part, "opset_import", ())}
        for node in part.node:
            nodes += 1
            _check_node(name, node, known, own)
    if nodes > _MAX_NODES:
        raise ArtifactInvalid(f'"{name}": {nodes} nodes; at most {_MAX_NODES} are looked into')
    _check_calls(name, model)
    for tensor in tensors(model):
        _check_tensor(name, tensor)


def _model_texts(model: ModelProto) -> Iterator[str | bytes]:
    yield from (model.producer_name, model.producer_version, model.domain, model.doc_string)
    for entry in model.metadata_props:
        yield from (entry.key, entry.value)
    yield from (o.domain for o in model.opset_import)
    for function in model.functions:
        yield from (function.name, function.domain)


def _part_texts(part: Any) -> Iterator[str | bytes]:
    for node in part.node:
        yield from (node.name, node.op_type, node.domain, *node.input, *node.output)
        yield from (a.name for a in node.attribute)
    for tensor in getattr(part, "initializer", ()):
        yield tensor.name
    # A graph's inputs and outputs are values with a name and a type, a function's are names.
    for value in (*part.input, *part.output):
        yield getattr(value, "name", value)


def _check_texts(name: str, texts: Iterator[str | bytes], *, names: bool) -> None:
    # The older syntax of protobuf, which ONNX uses, does not check strings: broken ones come as bytes.
    # A name is shown in messages, so it may neither break lines nor fill a screen.
    for text in texts:
        if isinstance(text, bytes) or (names and (len(text) > _MAX_NAME or _CONTROL.search(text))):
            raise ArtifactInvalid(f'"{name}": a name in it is not readable text; the file is damaged, copy it again')


def _plain(domain: str) -> str:
    return "" if domain == "ai.onnx" else domain


def _check_node(name: str, node: NodeProto, known: set[str], own: set[tuple[str, str]]) -> None:
    domain = node.domain
    if not node.output:
        raise ArtifactInvalid(f'"{name}": operator "{node.op_type}" gives nothing; the file is damaged')
    if (domain, node.op_type) in own:
        return
    if domain not in _DOMAINS:
        raise ArtifactInvalid(
            f'"{name}": operator "{node.op_type}" of domain "{domain}" is custom: ONNX Runtime does not have it; '
            "export the model with standard operators"
        )
    if _plain(domain) not in known:
        raise ArtifactInvalid(
            f'"{name}": operator "{node.op_type}" of domain "{domain or "ai.onnx"}", but the model imports no such '
            "operator set; it is cut off or damaged"
        )
    if domain == "com.microsoft" and node.op_type in _OUTSIDE:
        raise ArtifactUntrusted(f'"{name}": operator "{node.op_type}" reads other files or runs code, so it is refused')


def _parts(model: ModelProto) -> Iterator[Any]:
    """Yield every graph, and every function, that the model holds."""
    waiting: list[tuple[Any, int]] = [(model.graph, 0), *((f, 0) for f in model.functions)]
    for training in model.training_info:
        waiting += [(training.initialization, 0), (training.algorithm, 0)]
    while waiting:
        part, depth = waiting.pop()
        if depth > _DEPTH:
            raise ArtifactInvalid(f"graphs nested deeper than {_DEPTH}: at most so many are looked into")
        yield part
        waiting += [(g, depth + 1) for node in part.node for g in _graphs(node)]
        waiting += [(a.g, depth + 1) for a in getattr(part, "attribute_proto", ()) if a.HasField("g")]


def _graphs(node: NodeProto) -> Iterator[GraphProto]:
    for found in node.attribute:
        if found.HasField("g"):
            yield found.g
        yield from found.graphs


def _check_calls(name: str, model: ModelProto) -> None:
    """Refuse functions that call themselves, and graphs that grow beyond the cap when functions are put in place."""
    bodies = {(f.domain, f.name): f for f in model.functions}
    calls = {key: list(_calls(body, bodies)) for key, body in bodies.items()}
    sizes: dict[tuple[str, str], int] = {}
    # Depth first with its own stack: a function is measured when all those that it calls have been.
    for start in bodies:
        path: list[tuple[str, str]] = [] if start in sizes else [start]
        while path:
            missing = next((c for c in calls[path[-1]] if c not in sizes), None)
            if missing is None:
                here = path.pop()
                sizes[here] = sum(sizes[c] for c in calls[here]) + len(bodies[here].node)
            elif missing in path:
                raise ArtifactInvalid(f'"{name}": function "{missing[1]}" calls itself; export the model again')
            elif len(path) >= _CALL_DEPTH:
                raise ArtifactInvalid(f'"{name}": functions that call functions deeper than {_CALL_DEPTH}')
            else:
                path.append(missing)
    total = sum(sizes[c] for c in _calls(model.graph, bodies))
    if total > _MAX_NODES:
        raise ArtifactInvalid(f'"{name}": its functions unfold to {total} nodes; at most {_MAX_NODES} are allowed')


def _calls(part: Any, bodies: dict[tuple[str, str], Any]) -> Iterator[tuple[str, str]]:
    waiting = [part]
    while waiting:
        for node in waiting.pop().node:
            if (node.domain, node.op_type) in bodies:
                yield node.domain, node.op_type
            waiting += _graphs(node)


def _check_tensor(name: str, tensor: TensorProto) -> None:
    _check_texts(name, iter((tensor.name,)), names=True)
    if any(d < 0 for d in tensor.dims) or math.prod(tensor.dims) > 1 << 40:
        raise ArtifactInvalid(f'"{name}": tensor "{tensor.name}" has shape {list(tensor.dims)[:8]}; export it again')
    if tensor.HasField("raw_data"):
        bits = element_bits(tensor.data_type)
        expected = None if bits is None else -(-math.prod(tensor.dims) * bits // 8)
        if expected != len(tensor.raw_data):
            raise ArtifactInvalid(
                f'"{name}": tensor "{tensor.name}" has {len(tensor.raw_data)} bytes, its shape takes {expected}; '
                "the file is damaged"
            )
