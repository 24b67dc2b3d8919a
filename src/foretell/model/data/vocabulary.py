"""Which known category a value is: texts match exactly, numbers by value, either as the other's spelling.

Knows no table and no tensor.
"""

from __future__ import annotations

from typing import Any

from foretell.model.data.cells import (
    BOOLEAN_TEXTS,
    MISSING_TEXTS,
    Unfit,
    as_number,
    as_text,
    is_missing,
    parse_number,
    shown,
    spellings,
)
from foretell.signature import Field

__all__ = ["MISSING", "UNKNOWN", "Notes", "Vocabulary"]

UNKNOWN = -1
MISSING = -2

Notes = dict[str, str]
"""What was coerced or ignored, one line for each key; made anew for each call."""


class Vocabulary:
    """The known categories of a field."""

    def __init__(self, field: Field) -> None:
        self.field = field
        self.texts: dict[str, int] = {}
        self.numbers: dict[int | float, int] = {}
        self._expected: str | None = None
        self.truths = any(isinstance(c, bool) for c in field.categories)
        for index, category in enumerate(field.categories):
            if isinstance(category, str):
                self.texts.setdefault(category, index)
            elif category == category:  # NaN is no category: it is missing
                self.numbers.setdefault(category, index)

    def find(self, value: Any, notes: Notes) -> int:
        """Return the index of a value among the categories, or UNKNOWN, or MISSING.

        Raises:
            Unfit: It is neither text nor a number.
        """
        text = as_text(value)
        if text is not None:
            return self._find_text(text)
        if is_missing(value):
            return MISSING
        number = as_number(value)
        if number is None:
            raise Unfit("expected a category: text or a number")
        found = self.numbers.get(number)
        if found is None:
            found = self._find_spelling(value, number, notes)
        return found

    def text_of(self, index: int) -> str:
        """Return a category as text."""
        category = self.field.categories[index]
        return category if isinstance(category, str) else spellings(category)[0]

    def expected(self) -> str:
        """Return what an unknown value is refused with: up to five known ones."""
        if self._expected is None:
            self._expected = self._told()
        return self._expected

    def _told(self) -> str:
        known = self.field.categories
        listed = ", ".join(shown(c) for c in known[:5])
        more = f" ... ({len(known)} in all)" if len(known) > 5 else ""
        return f"expected one of {listed}{more}; the model takes no other category"

    def _find_text(self, text: str) -> int:
        found = self.texts.get(text)
        if found is not None:
            return found
        if text in MISSING_TEXTS:
            return MISSING
        number: int | float | None = BOOLEAN_TEXTS.get(text) if self.truths else None
        if number is None and self.numbers:
            number = parse_number(text)
        return UNKNOWN if number is None else self.numbers.get(number, UNKNOWN)

    def _find_spelling(self, value: Any, number: int | float, notes: Notes) -> int:
        truth = type(value).__name__ in ("bool", "bool_")
        for text in spellings(bool(number) if truth else number):
            if text in self.texts:
                name = self.field.name
                notes.setdefault(f"spelling {name}", f'column "{name}": {shown(value)} was read as the text "{text}"')
                return self.texts[text]
        return UNKNOWN
