"""docs/metrics.md has every metric, and asks for none that is not there."""

from __future__ import annotations

import re

from tests.docs.tables import names, rows, text

from foretell.metrics import Metrics

PAGE = "metrics.md"
FAMILIES = {family.name: family for family in Metrics().families()}


def kind_of(name: str) -> str:
    return next(line.split()[-1] for line in FAMILIES[name].render() if line.startswith("# TYPE"))


def test_every_metric_is_told() -> None:
    told = {names(name)[0]: (kind, tuple(names(labels))) for name, kind, labels, _ in rows(PAGE, "name")}
    assert told == {name: (kind_of(name), family.labels) for name, family in FAMILIES.items()}


def test_every_stage_is_told() -> None:
    about = FAMILIES["foretell_stage_seconds"].about
    assert [names(row[0])[0] for row in rows(PAGE, "stage")] == about.partition(": ")[2].split(", ")


def test_every_question_asks_for_what_is_there() -> None:
    questions = [line for line in text(PAGE).splitlines() if line.startswith("    ")]
    assert len(questions) >= 5
    for line in questions:
        for found, labels in re.findall(r"(foretell_\w+)(?:\{([^}]*)\})?", line):
            name = found if found in FAMILIES else re.sub(r"_(bucket|sum|count)$", "", found)
            assert name in FAMILIES, found
            assert (name != found) == (kind_of(name) == "histogram"), found
            assert set(re.findall(r"(\w+)(?:=|!)", labels)) <= set(FAMILIES[name].labels), line
