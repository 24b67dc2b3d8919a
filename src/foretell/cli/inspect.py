"""`foretell inspect MODEL [--json]`: what is it, what does it want, what does it give - without running it."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from foretell.cli.picture_words import detection_lines, picture_lines

if TYPE_CHECKING:
    from foretell.model.formats.base import Opened

__all__ = ["add"]

_SHOWN_CATEGORIES = 6


def add(commands: Any, shared: argparse.ArgumentParser) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "inspect",
        parents=[shared],
        help="say what a model is, wants and gives",
        description="Say what a model is, what it wants and what it gives. A pickle is read without running it.",
    )
    parser.add_argument("model", metavar="MODEL", help="a bundle, an artifact, or a folder holding one")
    parser.add_argument("--json", action="store_true", help="write JSON")
    parser.add_argument("--trust", action="store_true", help="open a file that may run code, boxed in, to say more")
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    facts = _facts(Path(args.model), trust=args.trust)
    if args.json:
        sys.stdout.write(json.dumps(facts, indent=2, default=str, ensure_ascii=False) + "\n")
    else:
        sys.stdout.write("".join(f"{line}\n" for line in _lines(facts)))
    return 0


def _facts(path: Path, *, trust: bool) -> dict[str, Any]:
    from foretell.model.artifact import judge
    from foretell.model.bundle import read_bundle
    from foretell.model.load import open_artifact

    artifact = judge(path)
    if artifact.format == "pickle" and not trust:
        from foretell.model.pickles import describe_estimator

        return {"name": artifact.path.name, "format": "pickle", "pickle": describe_estimator(artifact.content)}
    if artifact.format == "bundle":
        bundle = read_bundle(artifact.path, trust=trust)
        return {"name": bundle.name, **_opened_facts(bundle.opened), "proof": dict(bundle.proof)}
    opened = open_artifact(artifact, trust=trust)
    if opened.reference is not None:
        opened.reference.close()
    return {"name": artifact.path.name, **_opened_facts(opened)}


def _opened_facts(opened: Opened) -> dict[str, Any]:
    from foretell.model.describe import write_signature, write_task

    return {
        "format": opened.format,
        "about": dict(opened.about),
        "task": write_task(opened.task),
        "signature": write_signature(opened.signature),
        "runners": [
            {"kind": r.kind, "file": r.file, "bytes": len(r.content), "rows_from": r.rows_from} for r in opened.runners
        ],
        "notes": list(opened.notes),
    }


def _lines(facts: dict[str, Any]) -> list[str]:
    if "pickle" in facts:
        return _pickle_lines(facts)
    task, signature = facts["task"], facts["signature"]
    lines = [f"{facts['name']}: {facts['format']}, {task['name']}"]
    lines += [f"  {key.replace('_', ' ')}: {_words(value)}" for key, value in facts["about"].items()]
    image = signature.get("image")
    wants = "wants pictures:" if image else f"wants {len(signature['field'])} columns:" if signature["field"] else ""
    lines.append(wants or "wants tensors:")
    lines += picture_lines(image) if image else [f"  {_field_line(f)}" for f in signature["field"]]
    if image or not signature["field"]:
        lines += [f"  {_tensor_line(t)}" for t in signature["input"]]
    gives = f"gives {task['name']}"
    if task.get("classes"):
        gives += f" into {len(task['classes'])} classes: {_some(task['classes'])}"
    lines.append(gives)
    lines += detection_lines(task) if task["name"] == "detection" else []
    lines += [f"  {_tensor_line(t)}" for t in signature["output"]]
    lines.append("runs in:")
    lines += [
        f"  {r['kind']} ({r['file']}, {r['bytes']:,} bytes) from {r['rows_from']:,} rows" for r in facts["runners"]
    ]
    return lines + [f"note: {note}" for note in facts["notes"]]


def _field_line(field: dict[str, Any]) -> str:
    text = f"{field['name']}  {field.get('kind', 'number')}"
    if field.get("categories"):
        text += f" of {len(field['categories'])}: {_some(field['categories'])}"
    if "low" in field and "high" in field:
        text += f", {field['low']:g} to {field['high']:g} in training"
    return text + ("" if field.get("nullable", True) else ", never missing")


def _tensor_line(tensor: dict[str, Any]) -> str:
    shape = ", ".join("rows" if i == 0 and d < 0 else "any" if d < 0 else str(d) for i, d in enumerate(tensor["shape"]))
    return f"{tensor['name']}  {tensor['datatype']} ({shape})"


def _some(values: list[Any]) -> str:
    shown = ", ".join(str(v) for v in values[:_SHOWN_CATEGORIES])
    return shown + (" ..." if len(values) > _SHOWN_CATEGORIES else "")


def _pickle_lines(facts: dict[str, Any]) -> list[str]:
    about = dict(facts["pickle"])
    lines = [f"{facts['name']}: {about.pop('class', None) or 'a pickle'}, read without running it"]
    steps = about.pop("steps", [])
    lines += [f"  {key.replace('_', ' ')}: {_words(value)}" for key, value in about.items() if value]
    lines += [f"  step {step['name']}: {step['class']}" for step in steps]
    lines.append("a pickle runs code when it is opened; if you made it, give --trust to see its signature and use it")
    return lines


def _words(value: Any) -> str:
    """Return a fact as text: `a 1, b 2` for a table, the first few of a list."""
    if isinstance(value, dict):
        return ", ".join(f"{k} {v}" for k, v in value.items())
    return _some(list(value)) if isinstance(value, (list, tuple)) else str(value)
