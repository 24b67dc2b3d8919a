"""A signature and a task as plain values, and back: what `model.toml` and `inspect --json` say. Pure.

Reading refuses unknown keys: a typo in a hand-written file is an error, not a silence.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from dataclasses import fields as dataclass_fields
from typing import Any, TypeVar, get_args

from foretell.errors import ArtifactInvalid
from foretell.model.data.image_check import check_image
from foretell.model.runtimes import Runner
from foretell.model.tasks.classification import Classification
from foretell.model.tasks.detection import Detection
from foretell.model.tasks.predictions import Task
from foretell.model.tasks.regression import Regression
from foretell.model.tasks.tensors import Tensors
from foretell.signature import Column, Encoding, Field, Image, Kind, Signature, TensorSpec

__all__ = ["digest_of", "read_signature", "read_task", "write_signature", "write_task"]

_TASKS: dict[str, type[Regression] | type[Classification] | type[Detection] | type[Tensors]] = {
    "regression": Regression,
    "ranking": Regression,
    "classification": Classification,
    "detection": Detection,
    "tensors": Tensors,
}
T = TypeVar("T")


def digest_of(signature: Signature, task: Task, runner: Runner) -> str:
    """Return a sha256 of what an answer depends on: the same wherever the same model is loaded.

    Args:
        signature: Of the model.
        task: Of the model.
        runner: The one for a single row. Others give the same answers, and are there or not by what is installed.
    """
    way = [runner.kind, runner.file, dict(runner.options), hashlib.sha256(runner.content).hexdigest()]
    facts = {"signature": write_signature(signature), "task": write_task(task), "runner": way}
    return hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()


def write_signature(signature: Signature) -> dict[str, Any]:
    """Return the signature as tables: `field`, `input`, `output`, and `image` for a model of pictures."""
    inputs = []
    for spec in signature.inputs:
        table = {"name": spec.name, "datatype": spec.datatype, "shape": list(spec.shape)}
        if spec.name in signature.columns:
            table["columns"] = [[c.field, c.encoding] for c in signature.columns[spec.name]]
        inputs.append(table)
    written = {
        "named": signature.named,
        "field": [_field_table(f) for f in signature.fields],
        "input": inputs,
        "output": [{"name": s.name, "datatype": s.datatype, "shape": list(s.shape)} for s in signature.outputs],
    }
    if signature.image is not None:
        written["image"] = _image_table(signature.image)
    return written


def read_signature(table: Mapping[str, Any]) -> Signature:
    """Return the signature that `write_signature` wrote.

    Raises:
        ArtifactInvalid: A key is missing, unknown, or of the wrong type.
    """
    _only(table, {"named", "field", "input", "output", "image"}, "signature")
    inputs, columns = [], {}
    for entry in table.get("input", []):
        spec = dict(entry)
        if "columns" in spec:
            columns[str(spec.get("name"))] = tuple(_column(c) for c in spec.pop("columns"))
        inputs.append(_tensor(spec))
    fields = tuple(_field(f) for f in table.get("field", []))
    known = {f.name for f in fields}
    for name, made_of in columns.items():
        for column in made_of:
            if column.field not in known:
                raise ArtifactInvalid(f'input "{name}": made of column "{column.field}", which no field names')
    outputs = tuple(_tensor(s) for s in table.get("output", []))
    image = _image(table["image"]) if "image" in table else None
    signature = Signature(tuple(inputs), outputs, fields, columns, bool(table.get("named", True)), image)
    if image is not None:
        check_image(signature)
    return signature


def write_task(task: Task) -> dict[str, Any]:
    """Return the task as a table: its `name` and what it needs to read the outputs."""
    if isinstance(task, Classification):
        table: dict[str, Any] = {
            "name": task.name,
            "classes": list(task.classes),
            "label_is_index": task.label_is_index,
        }
        places = {"label_output": task.label_output, "probability_output": task.probability_output}
        table |= {k: v for k, v in (("logits", task.logits), ("top", task.top)) if v}
        return table | {k: v for k, v in places.items() if v is not None}
    if isinstance(task, Detection):
        return {"name": task.name, **{k: list(v) if isinstance(v, tuple) else v for k, v in asdict(task).items()}}
    if isinstance(task, Regression):
        return {"name": task.name, "output": task.output}
    if isinstance(task, Tensors):
        return {"name": task.name, "outputs": list(task.outputs)}
    raise ArtifactInvalid(f'task "{task.name}": a bundle cannot hold it; expected one of {", ".join(_TASKS)}')


def read_task(table: Mapping[str, Any]) -> Task:
    """Return the task that `write_task` wrote.

    Raises:
        ArtifactInvalid: The name is unknown, or a key is.
    """
    values = {k: tuple(v) if isinstance(v, list) else v for k, v in table.items()}
    name = values.get("name")
    kind = _TASKS.get(str(name))
    if kind is None:
        raise ArtifactInvalid(f'task "{name}": expected one of {", ".join(_TASKS)}')
    if kind is not Regression:
        values.pop("name")
    return _make(kind, values, "task")


def _field_table(field: Field) -> dict[str, Any]:
    """Return a field without what is at its default."""
    default = Field(field.name)
    table: dict[str, Any] = {"name": field.name, "kind": field.kind}
    for slot in dataclass_fields(Field):
        value = getattr(field, slot.name)
        if slot.name not in table and value != getattr(default, slot.name):
            table[slot.name] = list(value) if isinstance(value, tuple) else value
    return table


def _field(table: Mapping[str, Any]) -> Field:
    values = {k: tuple(v) if isinstance(v, list) else v for k, v in table.items()}
    if values.get("kind", "number") not in get_args(Kind):
        raise ArtifactInvalid(f'field "{values.get("name")}": kind "{values["kind"]}", expected {_or(get_args(Kind))}')
    return _make(Field, values, "field")


def _image_table(image: Image) -> dict[str, Any]:
    """Return the preparation without what is at its default."""
    default = Image(image.input, image.width, image.height)
    table: dict[str, Any] = {"input": image.input, "width": image.width, "height": image.height}
    for slot in dataclass_fields(Image):
        value = getattr(image, slot.name)
        if slot.name not in table and value != getattr(default, slot.name):
            table[slot.name] = list(value) if isinstance(value, tuple) else value
    return table


def _image(table: Any) -> Image:
    if not isinstance(table, Mapping):
        raise ArtifactInvalid(f"signature.image: got {table!r}, expected a table")
    _only(table, {slot.name for slot in dataclass_fields(Image)}, "signature.image")
    numbers = {"mean", "std"} & set(table)
    values = dict(table) | {k: tuple(v) if isinstance(v := table[k], list) else (v,) for k in numbers}
    return _make(Image, values, "signature.image")


def _tensor(table: Mapping[str, Any]) -> TensorSpec:
    values = {k: tuple(v) if isinstance(v, list) else v for k, v in table.items()}
    return _make(TensorSpec, values, "tensor")


def _column(entry: Any) -> Column:
    if not (isinstance(entry, list) and len(entry) == 2 and entry[1] in get_args(Encoding)):
        raise ArtifactInvalid(f"column {entry!r}: expected [field, {_or(get_args(Encoding))}]")
    return Column(*entry)


def _make(kind: type[T], values: dict[str, Any], what: str) -> T:
    try:
        return kind(**values)
    except TypeError as error:
        raise ArtifactInvalid(f"{what} {values.get('name', '')!r}: {error}".replace("__init__() ", "")) from None


def _only(table: Mapping[str, Any], known: set[str], what: str) -> None:
    strange = sorted(set(table) - known)
    if strange:
        raise ArtifactInvalid(f"{what}: unknown key {strange[0]!r}, expected {_or(sorted(known))}")


def _or(names: Any) -> str:
    return ", ".join(names)
