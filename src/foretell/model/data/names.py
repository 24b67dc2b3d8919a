"""Which columns of a table the fields are: by name in any order, or by position where there are no names.

Knows no values.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

from foretell.errors import InvalidInput
from foretell.model.data.cells import quote
from foretell.model.data.vocabulary import Notes
from foretell.signature import Field

__all__ = ["Names"]


class Names:
    """The names of the fields of a signature, and the rule that finds them."""

    def __init__(self, fields: Sequence[Field], used: Iterable[str], named: bool) -> None:
        self.all = [f.name for f in fields]
        self.known = frozenset(self.all)
        needed = set(used)
        self.needed = [name for name in self.all if name in needed]
        """A field that no tensor takes may be absent."""
        self.named = named

    def locate(self, given: Sequence[str], notes: Notes, *, frame: bool) -> dict[str, int]:
        """Return the position of each field among the given names.

        Args:
            given: Names of the columns of the data.
            notes: Gets a line for columns that are ignored, or that go by position.
            frame: The columns have an order that a person chose. Where the names of the model were made up,
                such data may go by position.

        Raises:
            InvalidInput: A column is missing, or two have the same name.
        """
        positions = {name: at for at, name in enumerate(given)}
        if len(positions) < len(given):
            self._refuse_duplicate(given)
        missing = [name for name in self.needed if name not in positions]
        if missing and frame and not self.named and not any(name in positions for name in self.needed):
            self.check_width(len(given), "columns")
            notes["position"] = "columns went by position: the model does not name its columns"
            return {name: at for at, name in enumerate(self.all)}
        if missing:
            self.refuse_missing(missing, given)
        if len(given) != len(self.all) or self.known.symmetric_difference(positions):
            self.note_extra(given, notes)
        return positions

    def check_width(self, got: int, what: str) -> None:
        """Refuse a row of another width than the model's."""
        if got != len(self.all):
            raise InvalidInput(
                f"data: a row has {got} {what}, expected {len(self.all)} as the model was trained with; "
                "send that many, or name the columns"
            )

    def note_extra(self, given: Iterable[str], notes: Notes) -> None:
        """Note the columns that the model does not know."""
        extra = [quote(str(name)) for name in given if name not in self.known]
        if extra:
            more = f" ... ({len(extra)} in all)" if len(extra) > 8 else ""
            notes["extra"] = f"ignored columns that the model does not take: {', '.join(extra[:8])}{more}"

    def refuse_missing(self, missing: Sequence[str], given: Iterable[str], row: int | None = None) -> None:
        """Refuse data without these columns."""
        name = missing[0]
        near = difflib.get_close_matches(name, [str(g) for g in given], 3, 0.6)
        more = f" (and {len(missing) - 1} more)" if len(missing) > 1 else ""
        where = "" if row is None else f", row {row}"
        hint = f"did you mean {' or '.join(map(quote, near))}?" if near else "send it, with null where it is not known"
        raise InvalidInput(f"column {quote(name)}{where}: it is missing{more}; {hint}", column=name, row=row)

    def _refuse_duplicate(self, given: Sequence[str]) -> None:
        seen: set[str] = set()
        for name in given:
            if name in seen:
                raise InvalidInput(f"column {quote(name)}: two columns have this name; rename one", column=name)
            seen.add(name)
