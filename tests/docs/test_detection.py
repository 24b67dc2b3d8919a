"""The page on detection: every layout and every key, with the default that the code has."""

import re
from dataclasses import fields
from pathlib import Path

from foretell.model.tasks.detection import Detection
from foretell.model.tasks.layouts import LAYOUTS

PAGE = (Path(__file__).parents[2] / "docs" / "detection.md").read_text()


def rows(first: str) -> dict[str, list[str]]:
    """Return the rows of the table whose head begins with this, by the name in the first cell."""
    body = PAGE[PAGE.index(f"| {first} |") :].split("\n\n")[0].splitlines()[2:]
    cells = [[c.strip() for c in re.split(r"(?<!\\)\|", line)[1:-1]] for line in body]
    return {c[0].strip("`"): c[1:] for c in cells}


def test_layouts_are_those_of_the_code() -> None:
    found = rows("`layout`")
    assert list(found) == list(LAYOUTS)
    for name, (_, boxes, scores, threshold, _) in found.items():
        facts = LAYOUTS[name]
        assert boxes == f"`{facts.box}`, {'parts of the sides' if facts.normalized else 'pixels'}"
        assert threshold == (str(facts.iou_threshold) if facts.iou_threshold < 1 else "-")
        assert ("softmax" in scores) == (facts.activation == "softmax")
        assert ("first" in scores, "last" in scores) == (facts.background == "first", facts.background == "last")


def test_keys_and_defaults_are_those_of_the_code() -> None:
    found = rows("key")
    known = {f.name: f.default for f in fields(Detection) if f.name not in ("classes", "layout")}
    assert list(found) == list(known)
    for name, (default, _) in found.items():
        if known[name] not in (None, ()):
            assert default == str(known[name]).lower()
