"""Graphs inside the graph that only say `no gradients here`, laid out in it: at inference there are none anyway.

torch.export writes `torch.no_grad()` inside forward as an operation with a graph of its own, whose names are its own
too. Works on the entries of the file. Knows no operation but this.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["inlined"]

_WRAPPER = "torch.ops.higher_order.wrap_with_set_grad_enabled"


def inlined(nodes: list[Any], prefix: str = "") -> list[Any]:
    """Return nodes with the nodes of such graphs in the place of the operation that held them."""
    found: list[Any] = []
    for at, node in enumerate(nodes):
        found += _opened(node, f"{prefix}{at}.") if node["target"] == _WRAPPER else [node]
    return found


def _opened(node: Any, prefix: str) -> list[Any]:
    _, held, *given = (entry["arg"] for entry in node["inputs"])
    graph = held["as_graph"]["graph"]
    names = {_name(inner): _name(outer) for inner, outer in zip(graph["inputs"], given, strict=True)}
    inputs = set(names.values())
    aliases = []
    for inner, outer in zip(graph["outputs"], _results(node), strict=True):
        own = _name(inner)
        if own in names:  # an input handed on, or one value given twice
            aliases.append(_alias(names[own], _name(outer)))
        else:
            names[own] = _name(outer)
    nodes = inlined(graph["nodes"], prefix)
    for inner in nodes:
        for name in _made(inner):
            names.setdefault(name, prefix + name)
    if len(set(names.values()) - inputs) + len(inputs) != len(names):
        raise ValueError("a graph inside the graph gives a name twice")
    return [_renamed(inner, names) for inner in nodes] + aliases


def _results(node: Any) -> list[Any]:
    """Return what a node gives as a list; one list of tensors is as many results."""
    outputs = node["outputs"]
    if len(outputs) == 1 and "as_tensors" in outputs[0]:
        return [{"as_tensor": one} for one in outputs[0]["as_tensors"]]
    return list(outputs)


def _made(node: Any) -> list[str]:
    return [_name(entry) for entry in _results(node)]


def _renamed(node: Any, names: Mapping[str, str]) -> Any:
    inputs = [{**entry, "arg": _with(entry["arg"], names)} for entry in node["inputs"]]
    return {**node, "inputs": inputs, "outputs": [_with(entry, names) for entry in node["outputs"]]}


def _with(value: Any, names: Mapping[str, str]) -> Any:
    """Return an entry with every name in it put through `names`."""
    if isinstance(value, list):
        return [_with(item, names) for item in value]
    if not isinstance(value, dict):
        return value
    return {
        k: names[v] if k in ("name", "as_name") and isinstance(v, str) else _with(v, names) for k, v in value.items()
    }


def _name(entry: Any) -> str:
    """Return the name of a tensor or of a size; anything else is no value that can be handed on."""
    ((_, value),) = entry.items()
    found = value.get("name", value.get("as_name"))
    if not isinstance(found, str):
        raise ValueError("a graph inside the graph takes or gives what has no name")
    return found


def _alias(source: str, result: str) -> Any:
    argument = {"name": "self", "arg": {"as_tensor": {"name": source}}, "kind": 1}
    return {
        "target": "torch.ops.aten.alias.default",
        "inputs": [argument],
        "outputs": [{"as_tensor": {"name": result}}],
    }
