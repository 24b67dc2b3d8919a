"""Read a program of torch.export from its file.

1 members   models/model.json and the weights, raw; pickles are never looked at
2 inputs    which are weights, which constants, which the user's
3 nodes     each an allowed operation with plain arguments and names that were defined before it
4 outputs   the user's; a program that changes its own weights is refused
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from foretell.errors import ArtifactInvalid
from foretell.model.containers import Damaged
from foretell.model.programs.archive import Members
from foretell.model.programs.arguments import argument
from foretell.model.programs.inline import inlined
from foretell.model.programs.operators import Operator, operator_named
from foretell.model.programs.program import ANY_ROWS, Node, Program, Tensor, Weight
from foretell.model.programs.weights import Refused, Weights, datatype_numbered, read_json, whole_number

__all__ = ["read_program"]

_MAJOR = 8
_MOST_NODES = 500_000
_MOST_RANK = 64
_SYMBOL = re.compile(r"Symbol\('(\w{1,40})'[\w=, ]{0,200}\)|(\w{1,40})")
_NAME = re.compile(r"[\w.:/-]{1,200}")
_TREE = re.compile(r'"type":\s*"builtins\.dict"')


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
    except Refused as error:
        what = f"a PyTorch program that cannot be opened here: {error}"
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, RecursionError, OverflowError) as error:
        what = (
            f"a PyTorch program whose graph cannot be read ({type(error).__name__}: {error}"[:300]
            + "); export it again"
        )
    # Names in the file end up in the message.
    raise ArtifactInvalid(f'"{name}": ' + "".join(c if c.isprintable() else "?" for c in what))


class _Reader:
    """Reads one program. Whatever is missing or of the wrong kind shows as KeyError, TypeError, ValueError ..."""

    def __init__(self, members: Members) -> None:
        self._members = members
        self._seen: set[str] = set()

    def program(self) -> Program:
        model = self._model()
        written = read_json(self._members, f"models/{model}.json")
        version = written["schema_version"]["major"]
        if version != _MAJOR:
            raise Refused(f"version {version} of the format, expected {_MAJOR}; export it with PyTorch 2.9 or newer")
        module = written["graph_module"]
        self._graph = module["graph"]
        self._sizes = self._graph["tensor_values"]
        weights = Weights(self._members, model)
        values = self._inputs(module["signature"]["input_specs"], weights.by_name)
        entries = inlined(self._graph["nodes"])
        if len(entries) > _MOST_NODES:
            raise Refused(f"{len(entries)} operations, at most {_MOST_NODES} expected")
        nodes = tuple(self._node(node) for node in entries)
        inputs = tuple(v for v in values.values() if isinstance(v, Tensor))
        if not inputs:
            raise Refused("it takes no tensor; export it with its inputs as arguments of forward")
        outputs, results = self._outputs(module)
        least, most = _rows(inputs, written.get("range_constraints", {}))
        used = weights.bytes_of([w for w in values.values() if isinstance(w, Weight)])
        return Program(inputs, outputs, results, values, nodes, used, least, most, str(written["torch_version"])[:40])

    def _model(self) -> str:
        if any(n.startswith("data/aotinductor/") for n in self._members.names):
            raise Refused("it holds machine code (AOTInductor); save the program itself with torch.export.save")
        models = [
            n[len("models/") : -len(".json")] for n in self._members.names if re.fullmatch(r"models/[^/]+\.json", n)
        ]
        if len(models) != 1:
            raise Refused(f"it holds {len(models)} programs, one expected; save it with torch.export.save")
        return models[0]

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
                raise Refused(f'input "{name}" is a {kind.replace("_", " ")}; expected tensors and constants')
            self._define(name)
        return values

    def _tensor(self, value: str, name: str) -> Tensor:
        meta = self._sizes[value]
        shape = tuple(-1 if "as_expr" in size else whole_number(size) for size in meta["sizes"])
        if len(shape) > _MOST_RANK:
            raise Refused(f'"{name}" has {len(shape)} dimensions, at most {_MOST_RANK} expected')
        symbol = ""
        if shape[:1] == (-1,):
            found = _SYMBOL.fullmatch(meta["sizes"][0]["as_expr"]["expr_str"])
            symbol = (found[1] or found[2]) if found else ""
        return Tensor(name, datatype_numbered(meta["dtype"], name), shape, symbol)

    def _define(self, name: Any) -> None:
        if not isinstance(name, str) or name in self._seen or not _NAME.fullmatch(name):
            raise ValueError(f"value {str(name)[:60]!r} is defined twice, or has no proper name")
        self._seen.add(name)

    def _node(self, node: Any) -> Node:
        operator = operator_named(node["target"])
        if isinstance(operator, str):
            raise Refused(f'operation "{node["target"][:80]}": {operator}')
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
                raise Refused(
                    f'it changes "{subject}" while it predicts ({kind.replace("_", " ")}), so answers would depend on '
                    "earlier callers; call .eval() on the network before the export"
                )
            if form == "as_tensor" and given["name"] in self._seen:
                found.append(given["name"])
            elif form != "as_none":
                raise Refused(f"an output that is no tensor ({form[3:].replace('_', ' ')}); return tensors alone")
        if not found:
            raise Refused("it gives no tensor; return one from forward")
        names = _output_names(module, len(found))
        return tuple(self._tensor(v, n) for v, n in zip(found, names, strict=True)), tuple(found)


def _rows(inputs: tuple[Tensor, ...], ranges: Mapping[str, Any]) -> tuple[int, int]:
    """Return the least and the most rows; of several symbols the narrowest."""
    least, most = 1, ANY_ROWS
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
        raise Refused(f"it takes between {least} and {most} rows, which are none")
    return least, most


def _refuse_training(operator: Operator, node: Any) -> None:
    """Refuse dropout and statistics of a batch: the same row would be answered otherwise each time."""
    if operator.name in ("dropout", "dropout_", "batch_norm", "instance_norm", "native_dropout", "feature_dropout"):
        flags = {e["name"]: e["arg"].get("as_bool") for e in node["inputs"]}
        if flags.get("train") or flags.get("training") or (operator.name == "native_dropout"):
            raise Refused(f"{operator.name} in training mode; call .eval() on the network before the export")


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


_CONSTANTS: Mapping[str, Any] = {
    "as_none": lambda _: None, "as_int": int, "as_float": float, "as_bool": bool, "as_string": str,
}  # fmt: skip
