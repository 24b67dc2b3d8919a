"""What makes a job the same job: its inputs, its model, the options that change what is written. Pure."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

__all__ = ["facts_of", "identity_of", "what_changed"]

_MOST_NAMED = 60


def facts_of(
    inputs: list[tuple[str, int, str]], model: str, options: Mapping[str, Any], versions: Mapping[str, str]
) -> dict[str, Any]:
    """Return the facts of a job, as JSON has them.

    Args:
        inputs: Path, bytes and stamp of each file, in order.
        model: Digest of the model.
        options: By their flags; only those that change what is written.
        versions: Of the software that writes.
    """
    return {
        "inputs": [list(i) for i in inputs],
        "model": model,
        "options": dict(options),
        "versions": dict(versions),
    }


def identity_of(facts: Mapping[str, Any]) -> str:
    """Return the sha256 of the facts."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def what_changed(before: Mapping[str, Any], now: Mapping[str, Any]) -> str | None:
    """Return in words what differs between the job that was begun and this one; None if nothing does.

    Rows that were answered before a bad row ended the job are the same whatever is done with bad rows, so
    `--on-error fail` may become another.
    """
    if before["model"] != now["model"]:
        return "the model is another one"
    if reason := _inputs_changed(before["inputs"], now["inputs"]):
        return reason
    old, new = dict(before["options"]), dict(now["options"])
    if old.get("--on-error") == "fail":
        old["--on-error"] = new.get("--on-error")
    for flag in dict.fromkeys([*old, *new]):
        if old.get(flag) != new.get(flag):
            return f"{flag} was {_shown(old.get(flag))} and is {_shown(new.get(flag))}"
    for name in dict.fromkeys([*before["versions"], *now["versions"]]):
        was, is_now = before["versions"].get(name), now["versions"].get(name)
        if was != is_now:
            return f"{name} was {was or 'not there'} and is {is_now or 'not there'}"
    return None


def _inputs_changed(before: list[list[Any]], now: list[list[Any]]) -> str | None:
    old = {path: (size, stamp) for path, size, stamp in before}
    new = {path: (size, stamp) for path, size, stamp in now}
    if gone := [path for path in old if path not in new]:
        return f'input "{gone[0]}"{_more(gone)} is not among the inputs any more'
    if added := [path for path in new if path not in old]:
        return f'input "{added[0]}"{_more(added)} was not there'
    for path, (size, _) in new.items():
        if old[path] != new[path]:
            was = old[path][0]
            how = f"it had {was:,} bytes and has {size:,}" if was != size else "it was written since"
            return f'input "{path}" has changed: {how}'
    if [i[0] for i in before] != [i[0] for i in now]:
        return "the inputs are in another order"
    return None


def _more(names: list[str]) -> str:
    return f" (and {len(names) - 1} more)" if len(names) > 1 else ""


def _shown(value: Any) -> str:
    text = "not given" if value is None else value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= _MOST_NAMED else text[: _MOST_NAMED - 3] + "..."
