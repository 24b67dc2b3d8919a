"""What an ONNX model's outputs mean: labels and probabilities, numbers, or only tensors. Never a guess.

A classifier is recognised by its operators, or by outputs that are called what converters call them; its classes
come from the graph. ZipMap, which turns probabilities into a list of dictionaries, is taken out again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from foretell.model.formats.onnx_fields import listed
from foretell.model.formats.onnx_proto import set_float_tensor
from foretell.model.formats.onnx_trace import CLASSIFIERS, Trace, are_scores, class_labels, values_of
from foretell.model.tasks.classification import Classification
from foretell.model.tasks.predictions import Task
from foretell.model.tasks.regression import Regression
from foretell.model.tasks.tensors import Tensors
from foretell.signature import Label, TensorSpec

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto

__all__ = ["Meaning", "makers_of", "meaning_of", "unzip"]

_REGRESSORS = {"TreeEnsembleRegressor", "LinearRegressor", "SVMRegressor", "TreeEnsemble"}
_LABEL_NAMES = {"label", "output_label", "labels", "predicted_label", "class_label"}
_PROBABILITY_NAMES = {
    *("probabilities", "probability", "output_probability", "output_probabilities", "probability_tensor", "probs"),
    *("class_probabilities", "predicted_probabilities"),
}
_CLASS_KEYS = ("class_names", "classes", "class_labels", "labels")
_FLOATS = ("FP16", "FP32", "FP64")
_INTEGERS = ("INT8", "INT16", "INT32", "INT64", "UINT8", "UINT16", "UINT32", "UINT64")


@dataclass(frozen=True)
class Meaning:
    """The task, the outputs that it reads, and what a user should know."""

    task: Task
    outputs: tuple[TensorSpec, ...]
    notes: tuple[str, ...] = ()


def unzip(model: ModelProto) -> dict[str, tuple[Label, ...]]:
    """Turn every ZipMap at the end of the graph back into the tensor that it took apart.

    Returns:
        The classes of each output that was a list of dictionaries, by the output's name. The model is changed.
    """
    outputs = {value.name: value for value in model.graph.output}
    found: dict[str, tuple[Label, ...]] = {}
    for node in model.graph.node:
        if node.op_type != "ZipMap" or node.domain != "ai.onnx.ml" or node.output[0] not in outputs:
            continue
        classes = class_labels(node)
        if not classes:
            continue
        value = outputs[node.output[0]]
        set_float_tensor(value.type, [None, len(classes)])
        node.op_type, node.domain = "Identity", ""
        node.ClearField("attribute")
        found[value.name] = classes
    if found and not any(o.domain in ("", "ai.onnx") for o in model.opset_import):
        model.opset_import.add(domain="", version=13)
    return found


def meaning_of(
    graph: GraphProto,
    outputs: tuple[TensorSpec, ...],
    zipped: Mapping[str, tuple[Label, ...]],
    metadata: Mapping[str, str],
) -> Meaning:
    """Say what the outputs mean.

    Args:
        graph: Of the model, after `unzip`.
        outputs: All outputs of the graph.
        zipped: What `unzip` returned.
        metadata: The file's own, for names of classes.
    """
    look = Trace(graph)
    found = _columns_of_classes(look, outputs) or _classification(look, outputs, zipped, metadata)
    if found is not None:
        return found
    if len(outputs) == 1 and outputs[0].datatype in _FLOATS and _is_numbers(look, outputs[0]):
        return Meaning(Regression(), outputs)
    return Meaning(Tensors(tuple(o.name for o in outputs)), outputs)


def makers_of(graph: GraphProto, outputs: tuple[TensorSpec, ...]) -> dict[str, str]:
    """Return the operator that makes each output, by its name; a sum is told only where it adds to a product."""
    look = Trace(graph)
    makers = {}
    for spec in outputs:
        node = look.source(spec.name)[1]
        makers[spec.name] = node.op_type if node is not None else ""
        if node is not None and node.op_type == "Add":
            before = {made.op_type for name in node.input if (made := look.source(name)[1]) is not None}
            makers[spec.name] = "Add" if before & {"MatMul", "Gemm", "Conv"} else ""
    return makers


def _classification(
    look: Trace, outputs: tuple[TensorSpec, ...], zipped: Mapping[str, tuple[Label, ...]], metadata: Mapping[str, str]
) -> Meaning | None:
    label = next((o for o in outputs if _is_label(look, o)), None)
    probability = next((o for o in outputs if o.name in zipped), None)
    if probability is None:
        probability = next((o for o in outputs if _is_probability(look, o)), None)
    if label is None and probability is None:
        return None
    classes = _classes(look, label, probability, zipped, metadata)
    if not classes:
        return None
    notes: list[str] = []
    if probability is not None and are_scores(look, probability.name):
        notes.append(f'output "{probability.name}" holds scores, not probabilities, so only labels are given')
        probability = None
    if label is None and probability is None:
        return None
    read = tuple(o for o in (label, probability) if o is not None)
    if probability is not None and probability.shape[1:] not in ((len(classes),), (1,), ()):
        read = tuple(replace(o, shape=(o.shape[0], len(classes))) if o is probability else o for o in read)
    unread = [o.name for o in outputs if o not in (label, probability)]
    if unread and not notes:
        notes.append(f"outputs that are not read: {', '.join(unread[:8])}")
    task = Classification(
        classes, None if label is None else 0, None if probability is None else int(label is not None)
    )
    return Meaning(task, read, tuple(notes))


def _columns_of_classes(look: Trace, outputs: tuple[TensorSpec, ...]) -> Meaning | None:
    """Recognise skl2onnx's option zipmap="columns": a label, then an output per class cut from one tensor."""
    label, *rest = outputs or (None,)
    if label is None or len(rest) < 2 or not _is_label(look, label):
        return None
    classes = _classes(look, label, None, {}, {})
    names = [o.name for o in rest] if all(o.datatype in _FLOATS for o in rest) else []
    if not classes or names != [("s" if isinstance(c, str) else "i") + str(c) for c in classes]:
        return None
    whole = {_cut_from(look, name) for name in names}
    if len(whole) != 1 or None in whole:
        return None
    source = str(whole.pop())
    spec = TensorSpec(source, "FP32", (-1, len(classes)))
    if are_scores(look, source):
        return None
    return Meaning(Classification(classes, 0, 1), (label, spec))


def _cut_from(look: Trace, name: str) -> str | None:
    node = look.source(name)[1]
    return node.input[0] if node is not None and node.op_type == "Slice" and node.input else None


def _is_label(look: Trace, output: TensorSpec) -> bool:
    if (
        output.datatype not in (*_INTEGERS, "BYTES", "BOOL")
        or len(output.shape) > 2
        or output.shape[1:] not in ((), (1,))
    ):
        return False
    name, node = look.source(output.name)
    if node is not None and node.op_type in CLASSIFIERS:
        return bool(node.output[0] == name)
    return output.name.lower() in _LABEL_NAMES


def _is_probability(look: Trace, output: TensorSpec) -> bool:
    if output.datatype not in _FLOATS or len(output.shape) > 2:
        return False
    name, node = look.source(output.name)
    if node is not None and node.op_type in CLASSIFIERS and len(node.output) > 1 and node.output[1] == name:
        return True
    return output.name.lower() in _PROBABILITY_NAMES


def _classes(
    look: Trace,
    label: TensorSpec | None,
    probability: TensorSpec | None,
    zipped: Mapping[str, tuple[Label, ...]],
    metadata: Mapping[str, str],
) -> tuple[Label, ...]:
    """Return the classes in the order of the probabilities, as the label output gives them; empty if unknown."""
    found: tuple[Label, ...] = ()
    if probability is not None:
        found = zipped.get(probability.name, ())
    for output in (label, probability):
        if not found and output is not None:
            found = _traced_classes(look, output.name)
    width = _width(look, probability)
    if not found and label is None and width:
        # Nothing but probabilities: their columns are the classes, by name where the file has as many names.
        names = next((listed(metadata[k]) for k in _CLASS_KEYS if k in metadata), [])
        found = tuple(names) if len(names) == width else tuple(range(width))
    if not found and label is not None and label.datatype in _INTEGERS and width:
        node = look.source(label.name)[1]
        found = tuple(range(width)) if node is not None and node.op_type == "ArgMax" else ()
    return _as_given(found, label)


def _width(look: Trace, probability: TensorSpec | None) -> int:
    """Return how many classes a tensor of probabilities has; one column is that of two classes."""
    if probability is None or len(probability.shape) != 2:
        return 0
    return 2 if probability.shape[1] == 1 else max(probability.shape[1], 0)


def _traced_classes(look: Trace, name: str) -> tuple[Label, ...]:
    node = look.source(name)[1]
    if node is None:
        return ()
    if node.op_type in CLASSIFIERS:
        return class_labels(node)
    if node.op_type in ("ArrayFeatureExtractor", "Gather") and len(node.input) == 2 and node.input[0] in look.constants:
        index = look.source(node.input[1])[1]
        if index is not None and index.op_type == "ArgMax":
            return tuple(values_of(look.constants[node.input[0]]))
    return ()


def _as_given(classes: tuple[Label, ...], label: TensorSpec | None) -> tuple[Label, ...]:
    """Return classes in the type of the label output: a cast may lie between."""
    if label is None or not classes:
        return classes
    if label.datatype == "BYTES":
        return tuple(str(c) for c in classes)
    try:
        as_label: type[int] | type[bool] = bool if label.datatype == "BOOL" else int
        return tuple(as_label(c) for c in classes)
    except ValueError:
        return ()


def _is_numbers(look: Trace, output: TensorSpec) -> bool:
    if output.shape[1:] in ((), (1,)) and len(output.shape) in (1, 2):
        return True
    node = look.source(output.name)[1]
    return len(output.shape) == 2 and node is not None and node.op_type in _REGRESSORS
