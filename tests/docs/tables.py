"""Reads the tables of a page."""

from __future__ import annotations

import re
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"
UNITS = {"KiB": 1 << 10, "MiB": 1 << 20}


def text(page: str) -> str:
    return (DOCS / page).read_text()


def rows(page: str, first: str) -> list[list[str]]:
    """Return the cells of every row of the tables whose first column is headed `first`."""
    found: list[list[str]] = []
    inside = False
    for line in text(page).splitlines():
        if not line.startswith("|"):
            inside = False
            continue
        cells = [cell.strip().replace(r"\|", "|") for cell in re.split(r"(?<!\\)\|", line.strip("|"))]
        if cells[0] == first:
            inside = True
        elif inside and set(cells[0]) != {"-"}:
            found.append(cells)
    return found


def names(cell: str) -> list[str]:
    """Return what stands in backticks in a cell."""
    return re.findall(r"`([^`]+)`", cell)


def number(cell: str) -> float | None:
    """Return the number in a cell such as `16 MiB` or `65,536`; None: there is none."""
    found = re.fullmatch(r"([\d,.]+)(?: (KiB|MiB))?", cell)
    return None if found is None else float(found[1].replace(",", "")) * UNITS.get(found[2] or "", 1)
