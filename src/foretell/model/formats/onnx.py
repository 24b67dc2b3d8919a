"""ONNX files of any producer: checked before ONNX Runtime sees them, and read for what they take and give.

1 parse    a whole ModelProto, or refused
2 check    nesting, operators, functions, sizes of tensors
3 embed    data in other files is taken in, if it lies plainly beside the model
4 read     inputs -> fields or a picture, outputs -> task; ZipMap is taken out

Nothing here runs the model. An ONNX file is its own original, so there is no reference to prove it against.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from foretell.errors import ArtifactInvalid
from foretell.model.formats.base import Opened
from foretell.model.formats.onnx_external import MAX_MODEL_BYTES, embed
from foretell.model.formats.onnx_fields import fields_of
from foretell.model.formats.onnx_graph import attribute, check, parse, tensors
from foretell.model.formats.onnx_proto import set_float_tensor
from foretell.model.formats.onnx_task import makers_of, meaning_of, unzip
from foretell.model.formats.onnx_vision import sight_of
from foretell.model.runtimes import Runner
from foretell.signature import Signature, TensorSpec

if TYPE_CHECKING:
    from onnx import ModelProto, ValueInfoProto

__all__ = ["open_model"]

_DATATYPES = {
    **dict(enumerate(("FP32", "UINT8", "INT8", "UINT16", "INT16", "INT32", "INT64", "BYTES", "BOOL", "FP16"), 1)),
    **dict(enumerate(("FP64", "UINT32", "UINT64"), 11)),
}
"""TensorProto.DataType (onnx.proto) -> protocol datatype."""
_MAX_RANK = 16


def open_model(name: str, content: bytes, folder: Path | None = None, given: Mapping[str, Any] | None = None) -> Opened:
    """Read an ONNX model.

    Args:
        name: Of its file, for messages.
        content: The file.
        folder: Where it lies; data that it keeps in other files is looked for there and nowhere else.
        given: For a network of pictures: tables `task` and `signature.image` as somebody wrote them, maybe empty.
            It takes pictures if with them everything is known; what is not is asked for in the notes. None: it
            takes tensors.

    Raises:
        ArtifactInvalid: It is damaged, or cannot be run here: custom operators, sequences, over 2 GiB.
        ArtifactUntrusted: It reaches outside its folder, or has an operator that does.
    """
    model = parse(name, content)
    check(name, model)
    embedded = embed(name, tensors(model), folder, MAX_MODEL_BYTES - len(content))
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    zipped = unzip(model)
    initialized = {tensor.name for tensor in model.graph.initializer}
    inputs = tuple(_tensor(name, "input", v) for v in model.graph.input if v.name not in initialized)
    outputs = _outputs(name, model, inputs)
    made = fields_of(inputs, metadata)
    meaning = meaning_of(model.graph, outputs, zipped, metadata)
    declared = {value.name for value in model.graph.output}
    added = [spec for spec in meaning.outputs if spec.name not in declared]
    _give_out(model, added)
    runs = model.SerializeToString() if embedded or zipped or added else content
    signature = Signature(inputs, meaning.outputs, made.fields, MappingProxyType(dict(made.columns or {})), made.named)
    task = meaning.task
    sight = sight_of(inputs, outputs, makers_of(model.graph, outputs), metadata, given)
    if sight is not None and given is not None and sight.signature is not None and sight.task is not None:
        signature, task = sight.signature, sight.task
    return Opened(
        format="onnx",
        signature=signature,
        task=task,
        runners=(Runner("onnxruntime", "model.onnx", runs),),
        about=_about(model),
        notes=(*made.notes, *meaning.notes, *_notes(inputs, embedded), *(sight.notes if sight else ())),
    )


def _tensor(name: str, what: str, value: ValueInfoProto) -> TensorSpec:
    """Return an input or output as a TensorSpec; what declares no shape is (-1, -1)."""
    kind = value.type.WhichOneof("value")
    if kind != "tensor_type":
        words = (kind or "value without a type").removesuffix("_type").replace("_", " ")
        raise ArtifactInvalid(
            f'"{name}": {what} "{value.name}" is a {words}; expected a tensor, export the model without it'
        )
    tensor = value.type.tensor_type
    datatype = _DATATYPES.get(tensor.elem_type)
    if datatype is None or not value.name:
        raise ArtifactInvalid(
            f'"{name}": {what} "{value.name}" has element type {tensor.elem_type}; '
            f"expected one of {', '.join(_DATATYPES.values())}"
        )
    if len(tensor.shape.dim) > _MAX_RANK:
        raise ArtifactInvalid(f'"{name}": {what} "{value.name}" has {len(tensor.shape.dim)} dimensions')
    dims = tuple(d.dim_value if d.HasField("dim_value") and d.dim_value >= 0 else -1 for d in tensor.shape.dim)
    return TensorSpec(value.name, datatype, dims if tensor.HasField("shape") else (-1, -1))


def _outputs(name: str, model: ModelProto, inputs: tuple[TensorSpec, ...]) -> tuple[TensorSpec, ...]:
    """Return the outputs. Some converters declare one row: where the rows of the inputs are free, so are theirs."""
    found = tuple(_tensor(name, "output", value) for value in model.graph.output)
    for specs, what in ((inputs, "input"), (found, "output")):
        names = [spec.name for spec in specs]
        if not names or len(set(names)) != len(names):
            raise ArtifactInvalid(f'"{name}": {"no" if not names else "two of the same"} {what}s; export it again')
    if all(spec.shape[:1] != (-1,) for spec in inputs):
        return found
    return tuple(TensorSpec(o.name, o.datatype, (-1, *o.shape[1:]) if o.shape else ()) for o in found)


def _give_out(model: ModelProto, added: list[TensorSpec]) -> None:
    """Make values inside the graph outputs of it."""
    for spec in added:
        output = model.graph.output.add(name=spec.name)
        set_float_tensor(output.type, [None if d < 0 else d for d in spec.shape])


def _notes(inputs: tuple[TensorSpec, ...], embedded: int) -> list[str]:
    notes = []
    rows = {spec.shape[0] if spec.shape else 0 for spec in inputs}
    if len(rows) == 1 and (fixed := rows.pop()) > 0:
        notes.append(
            f"it takes exactly {fixed} row{'s' * (fixed > 1)} at a time; more are run in turns, the last one filled up"
        )
    if embedded:
        notes.append(f"{embedded} tensors were taken in from files beside it")
    return notes


def _about(model: ModelProto) -> dict[str, Any]:
    """Return plain facts of the file for people."""
    about: dict[str, Any] = {
        # CatBoost's version is a page of its build's history.
        "producer": f"{model.producer_name} {model.producer_version}".strip().split("\n")[0][:80] or "unknown",
        "ir_version": model.ir_version,
        "opsets": {o.domain or "ai.onnx": o.version for o in model.opset_import},
        "nodes": len(model.graph.node),
    }
    trees = 0
    for node in model.graph.node:
        ids = attribute(node, "nodes_treeids") if node.op_type.startswith("TreeEnsemble") else None
        roots = attribute(node, "tree_roots") if node.op_type == "TreeEnsemble" else None
        trees += len(set(ids.ints)) if ids is not None else len(roots.ints) if roots is not None else 0
    if trees:
        about["trees"] = trees
    if model.doc_string.strip():
        about["description"] = " ".join(model.doc_string.split())[:200]
    return about
