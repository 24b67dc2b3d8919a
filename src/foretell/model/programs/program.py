"""A program as plain values: its weights, its operations in order, what goes in and what comes out.

1 members   models/model.json and the weights, raw; pickles are never looked at
2 inputs    which are weights, which constants, which the user's
3 nodes     each an allowed operation with plain arguments and names that were defined before it
4 outputs   the user's; a program that changes its own weights is refused

Knows no framework: numbers stand for dtypes as in the file.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from foretell.errors import ArtifactInvalid
from foretell.model.containers import Damaged
from foretell.model.programs.archive import Members
from foretell.model.programs.arguments import argument
from foretell.model.programs.operators import Operator, operator_named

__all__ = ["DATATYPES", "Node", "Program", "Tensor", "Weight", "read_program"]

DATATYPES: Mapping[int, str] = {
    1: "UINT8", 2: "INT8", 3: "INT16", 4: "INT32", 5: "INT64", 6: "FP16", 7: "FP32", 8: "FP64", 12: "BOOL",
    13: "BF16", 28: "UINT16", 34: "UINT32", 35: "UINT64",
}  # fmt: skip
"""Numbers of dtypes in the file (torch/_export/serde/schema.py) -> datatype. BF16 is no datatype of the protocol."""
_BYTES = {"UINT8": 1, "INT8": 1, "BOOL": 1, "INT16": 2, "FP16": 2, "BF16": 2, "UINT16": 2, "INT32": 4, "FP32": 4,
          "UINT32": 4, "INT64": 8, "FP64": 8, "UINT64": 8}  # fmt: skip
_MAJOR = 8
_MOST_JSON_BYTES = 512 << 20
_MOST_NODES = 500_000
_MOST_RANK = 64
_SYMBOL = re.compile(r"Symbol\('(\w{1,40})'[\w=, ]{0,200}\)|(\w{1,40})")
_NAME = re.compile(r"[\w.:/-]{1,200}")
_TREE = re.compile(r'"type":\s*"builtins\.dict"')
_AS_MUCH_AS_YOU_LIKE = 1 << 40


@dataclass(frozen=True, slots=True)
class Tensor:
    """An input or an output of the user's."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    """-1 for a size that is free."""
    symbol: str = ""
    """Name of the size of axis 0, where it is one symbol."""


@dataclass(frozen=True, slots=True)
class Weight:
    """A tensor in the file: a window on the bytes of a member, checked to lie within them."""

    member: str
    datatype: str
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    offset: int
    """In elements."""


@dataclass(frozen=True, slots=True)
class Node:
    """One operation."""

    operator: Operator
    arguments: tuple[Any, ...]
    named: Mapping[str, Any]
    results: Any
    """A name for the one result; a list with a name, a list or None for each of several; None where there is none."""


@dataclass(frozen=True)
class Program:
    """What torch.export.save wrote."""

    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    results: tuple[str, ...]
    """For each output, the value of the graph that it is."""
    values: Mapping[str, Weight | Tensor | float | str | bool | None] = field(repr=False)
    """For each input of the graph, in order: a weight, a tensor of the user's, or a constant."""
    nodes: tuple[Node, ...] = field(repr=False)
    members: Mapping[str, memoryview] = field(repr=False)
    """Bytes of the weights, by the name that `Weight.member` has."""
    least_rows: int = 1
    most_rows: int = _AS_MUCH_AS_YOU_LIKE
    """Bounds of a free axis 0, as they were exported; equal where it is fixed."""
    torch_version: str = ""

    @property
    def parameters(self) -> int:
        """Elements of all weights."""
        return sum(math.prod(w.shape) for w in self.values.values() if isinstance(w, Weight))

    @property
    def has_free_rows(self) -> bool:
        """Whether it takes more than one number of rows."""
        return self.least_rows < self.most_rows


def read_program(name: str, content: bytes) -> Program:
    """Read a program.

    Args:
        name: Of its file, for messages.
        content: The file.

    Raises:
        ArtifactInvalid: It is damaged, of another version, or holds what cannot be run safely; with what to do.
    """
    try:
        return _Reader(Members(content)).program()
    except Damaged as error:
        what = f"a PyTorch program, but {error}; copy it again, or export it again"
    except _Refused as error:
        what = f"a PyTorch program that cannot be opened here: {error}"
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, RecursionError, OverflowError) as error:
        what = (
            f"a PyTorch program whose graph cannot be read ({type(error).__name__}: {error}"[:300]
            + "); export it again"
        )
    # Names in the file end up in the message.
    raise ArtifactInvalid(f'"{name}": ' + "".join(c if c.isprintable() else "?" for c in what))


class _Refused(Exception):
    """It holds something that is not opened; says what, and what to do."""


class _Reader:
    """Reads one program. Whatever is missing or of the wrong kind shows as KeyError, TypeError, ValueError ..."""

    def __init__(self, members: Members) -> None:
        self._members = members
        self._seen: set[str] = set()
        self._views: dict[str, memoryview] = {}

    def program(self) -> Program:
        model = self._model()
        written = self._json(f"models/{model}.json")
        version = written["schema_version"]["major"]
        if version != _MAJOR:
            raise _Refused(f"version {version} of the format, expected {_MAJOR}; export it with PyTorch 2.9 or newer")
        module = written["graph_module"]
        self._graph = module["graph"]
        self._sizes = self._graph["tensor_values"]
        weights = self._weights("weights", model) | self._weights("constants", model)
        values = self._inputs(module["signature"]["input_specs"], weights)
        if len(self._graph["nodes"]) > _MOST_NODES:
            raise _Refused(f"{len(self._graph['nodes'])} operations, at most {_MOST_NODES} expected")
        nodes = tuple(self._node(node) for node in self._graph["nodes"])
        inputs = tuple(v for v in values.values() if isinstance(v, Tensor))
        if not inputs:
            raise _Refused("it takes no tensor; export it with its inputs as arguments of forward")
        outputs, results = self._outputs(module)
        least, most = _rows(inputs, written.get("range_constraints", {}))
        used = {w.member: self._views[w.member] for w in values.values() if isinstance(w, Weight)}
        return Program(inputs, outputs, results, values, nodes, used, least, most, str(written["torch_version"])[:40])

    def _model(self) -> str:
        if any(n.startswith("data/aotinductor/") for n in self._members.names):
            raise _Refused("it holds machine code (AOTInductor); save the program itself with torch.export.save")
        models = [
            n[len("models/") : -len(".json")] for n in self._members.names if re.fullmatch(r"models/[^/]+\.json", n)
        ]
        if len(models) != 1:
            raise _Refused(f"it holds {len(models)} programs, one expected; save it with torch.export.save")
        return models[0]

    def _json(self, member: str) -> Any:
        view = self._members.view(member)
        if len(view) > _MOST_JSON_BYTES:
            raise Damaged(f'member "{member}" has {len(view)} bytes, at most {_MOST_JSON_BYTES} expected')
        return json.loads(bytes(view))

    # Weights

    def _weights(self, folder: str, model: str) -> dict[str, Weight]:
        if f"data/{folder}/{model}.pt" in self._members:
            raise _Refused(
                "its weights are a pickle, as PyTorch before 2.9 wrote them, which can run code; "
                "save it again: torch.export.save(torch.export.load(file), file)"
            )
        config = self._json(f"data/{folder}/{model}_{folder}_config.json")["config"]
        return {name: self._weight(folder, name, entry) for name, entry in config.items()}

    def _weight(self, folder: str, name: str, entry: Any) -> Weight:
        member = f"data/{folder}/{entry['path_name']}"
        if entry["use_pickle"] or entry["tensor_meta"] is None:
            raise _Refused(
                f'"{name}" is stored as a pickle, which can run code (a tensor of a class of its own: quantized, '
                "distributed ...); make it a plain tensor before the export, or convert it to ONNX"
            )
        meta = entry["tensor_meta"]
        datatype = _datatype(meta["dtype"], name)
        shape, strides = tuple(map(_number, meta["sizes"])), tuple(map(_number, meta["strides"]))
        offset, view = _number(meta["storage_offset"]), self._view(member)
        reach = offset + sum((n - 1) * s for n, s in zip(shape, strides, strict=True)) + 1
        if math.prod(shape) and reach * _BYTES[datatype] > len(view):
            raise Damaged(f'weight "{name}" of shape {shape} needs {reach * _BYTES[datatype]} bytes, found {len(view)}')
        if meta["layout"] != 7:
            raise _Refused(f'"{name}" is sparse; make it dense before the export')
        return Weight(member, datatype, shape, strides, offset)

    def _view(self, member: str) -> memoryview:
        if member not in self._views:
            self._views[member] = self._members.view(member)
        return self._views[member]

    # The graph

    def _inputs(self, specs: list[Any], weights: Mapping[str, Weight]) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for position, (entry, graph_input) in enumerate(zip(specs, self._graph["inputs"], strict=True)):
            (kind, spec), (form, given) = _only(entry), _only(graph_input)
            name = given["name"] if form == "as_tensor" else spec.get("name") or f"arg{position}"
            if kind in ("parameter", "buffer", "tensor_constant"):
                values[name] = weights[spec[f"{kind}_name"]]
            elif kind == "user_input" and form == "as_tensor":
                values[name] = self._tensor(name, name)
            elif kind in ("user_input", "constant_input") and form in _CONSTANTS:
                values[name] = None if form == "as_none" else _CONSTANTS[form](given)
            else:
                raise _Refused(f'input "{name}" is a {kind.replace("_", " ")}; expected tensors and constants')
            self._define(name)
        return values

    def _tensor(self, value: str, name: str) -> Tensor:
        meta = self._sizes[value]
        shape = tuple(-1 if "as_expr" in size else _number(size) for size in meta["sizes"])
        if len(shape) > _MOST_RANK:
            raise _Refused(f'"{name}" has {len(shape)} dimensions, at most {_MOST_RANK} expected')
        symbol = ""
        if shape[:1] == (-1,):
            found = _SYMBOL.fullmatch(meta["sizes"][0]["as_expr"]["expr_str"])
            symbol = (found[1] or found[2]) if found else ""
        return Tensor(name, _datatype(meta["dtype"], name), shape, symbol)

    def _define(self, name: Any) -> None:
        if not isinstance(name, str) or name in self._seen or not _NAME.fullmatch(name):
            raise ValueError(f"value {str(name)[:60]!r} is defined twice, or has no proper name")
        self._seen.add(name)

    def _node(self, node: Any) -> Node:
        operator = operator_named(node["target"])
        if isinstance(operator, str):
            raise _Refused(f'operation "{node["target"][:80]}": {operator}')
        given: list[Any] = []
        named: dict[str, Any] = {}
        for entry in node["inputs"]:
            value = argument(entry["arg"], self._seen)
            # Before 2.8 the kind was not written; a name then says the same, but for the first.
            if entry.get("kind") == 1 or (not named and entry["name"] in ("", "self")):
                given.append(value)
            elif entry["name"].isidentifier():
                named[entry["name"]] = value
            else:
                raise ValueError(f"argument {entry['name'][:60]!r} is no name")
        _refuse_training(operator, node)
        outputs = [self._result(entry) for entry in node["outputs"]]
        several = len(outputs) > 1 or (len(outputs) == 1 and "as_tensors" in node["outputs"][0])
        results = (outputs[0] if len(outputs) == 1 else outputs) if several else (outputs[0] if outputs else None)
        return Node(operator, tuple(given), named, results)

    def _result(self, entry: Any) -> Any:
        form, found = _only(entry)
        if form == "as_tensor":
            name = found["name"]
        elif form in ("as_sym_int", "as_sym_float", "as_sym_bool"):
            name = found.get("as_name")
        elif form == "as_tensors":
            return [self._result({"as_tensor": one}) for one in found]
        else:
            name = None
        if name is not None:
            self._define(name)
        return name

    def _outputs(self, module: Any) -> tuple[tuple[Tensor, ...], tuple[str, ...]]:
        found = []
        for entry, graph_output in zip(module["signature"]["output_specs"], self._graph["outputs"], strict=True):
            (kind, spec), (form, given) = _only(entry), _only(graph_output)
            if kind != "user_output":
                subject = next((v for k, v in spec.items() if k != "arg"), "")
                raise _Refused(
                    f'it changes "{subject}" while it predicts ({kind.replace("_", " ")}), so answers would depend on '
                    "earlier callers; call .eval() on the network before the export"
                )
            if form == "as_tensor" and given["name"] in self._seen:
                found.append(given["name"])
            elif form != "as_none":
                raise _Refused(f"an output that is no tensor ({form[3:].replace('_', ' ')}); return tensors alone")
        if not found:
            raise _Refused("it gives no tensor; return one from forward")
        names = _output_names(module, len(found))
        return tuple(self._tensor(v, n) for v, n in zip(found, names, strict=True)), tuple(found)


def _rows(inputs: tuple[Tensor, ...], ranges: Mapping[str, Any]) -> tuple[int, int]:
    """Return the least and the most rows; of several symbols the narrowest."""
    least, most = 1, _AS_MUCH_AS_YOU_LIKE
    for tensor in inputs:
        bounds = ranges.get(tensor.symbol, {}) if tensor.symbol else {}
        if tensor.shape[:1] == (-1,):
            low, high = bounds.get("min_val"), bounds.get("max_val")
        else:
            low = high = tensor.shape[0] if tensor.shape else None
        least = max(least, low if isinstance(low, int) else 1)
        most = min(most, high if isinstance(high, int) else most)
    # 2 is what exporters write where they took 0 and 1 for special and left them out: each row is answered alike.
    least = 1 if least == 2 < most else least
    if not 0 < least <= most:
        raise _Refused(f"it takes between {least} and {most} rows, which are none")
    return least, most


def _refuse_training(operator: Operator, node: Any) -> None:
    """Refuse dropout and statistics of a batch: the same row would be answered otherwise each time."""
    if operator.name in ("dropout", "dropout_", "batch_norm", "instance_norm", "native_dropout", "feature_dropout"):
        flags = {e["name"]: e["arg"].get("as_bool") for e in node["inputs"]}
        if flags.get("train") or flags.get("training") or (operator.name == "native_dropout"):
            raise _Refused(f"{operator.name} in training mode; call .eval() on the network before the export")


def _output_names(module: Any, count: int) -> list[str]:
    """Return names of the outputs: the keys of the dict that forward returns, or `output`, or `output_0` ..."""
    calls = [c for c in module.get("module_call_graph", []) if c.get("fqn") == ""]
    spec = (calls[0].get("signature") or {}).get("out_spec", "") if calls else ""
    keys = _keys(spec) if isinstance(spec, str) and _TREE.search(spec[:200]) else []
    if len(keys) == count and len(set(keys)) == count and all(_NAME.fullmatch(k) for k in keys):
        return keys
    return ["output"] if count == 1 else [f"output_{i}" for i in range(count)]


def _keys(spec: str) -> list[str]:
    tree = json.loads(spec)[1]
    if tree.get("type") != "builtins.dict" or any(child.get("children_spec") for child in tree["children_spec"]):
        return []
    return [key for key in json.loads(tree["context"]) if isinstance(key, str)]


def _only(entry: Any) -> tuple[str, Any]:
    """Return the one key of a union and its value."""
    ((kind, value),) = entry.items()
    return kind, value


def _number(size: Any) -> int:
    found = size["as_int"]
    if not isinstance(found, int) or isinstance(found, bool) or not 0 <= found < 1 << 62:
        raise ValueError(f"size {str(found)[:40]}, expected a number")
    return found


def _datatype(number: Any, name: str) -> str:
    if number not in DATATYPES:
        raise _Refused(f'"{name}" has a dtype that is not run here (number {number}): complex, float8 or quantized')
    return DATATYPES[number]


_CONSTANTS: Mapping[str, Any] = {
    "as_none": lambda _: None, "as_int": int, "as_float": float, "as_bool": bool, "as_string": str,
}  # fmt: skip
