"""docs/data.md does not promise what the code does not do."""

from __future__ import annotations

import doctest
import re
from pathlib import Path

from foretell.model.data.cells import MISSING_TEXTS

PAGE = Path(__file__).parents[2] / "docs" / "data.md"


def test_its_examples_run() -> None:
    failed, tried = doctest.testfile(str(PAGE), module_relative=False, encoding="utf-8")
    assert tried > 8
    assert not failed


def test_it_lists_the_spellings_of_missing() -> None:
    text = PAGE.read_text(encoding="utf-8")
    listed = text[text.index("**Missing**") : text.index("**A text that is a known category")]
    assert set(re.findall("`([^`]+)`", listed)) == MISSING_TEXTS - {"", " "}
