"""Which columns of a file are read: those of the model, and those to keep.

Decided once a file, from its names alone. Knows no format and no bytes.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from foretell.errors import ConfigError, InvalidInput
from foretell.model.data.cells import quote
from foretell.model.data.names import Names
from foretell.model.data.vocabulary import Notes
from foretell.signature import Signature

__all__ = ["Chosen", "Keep", "TextType", "choose", "text_types"]

Keep = Sequence[str] | Literal["all"]
"""Names of columns to keep, or all of them."""

TextType = Literal["float64", "int64", "uint64", "text"]
"""What a cell of a text file is read as. Categories, truths and dates stay texts: `model.data` reads them."""


@dataclass(frozen=True)
class Chosen:
    """Columns of one file, by their position in it."""

    fields: tuple[tuple[int, str], ...]
    """Position in the file and name of the field, in the order of the fields."""
    kept: tuple[tuple[int, str], ...]
    """Position in the file and name, in the order of the output."""
    notes: tuple[str, ...] = ()

    @property
    def positions(self) -> tuple[int, ...]:
        """All positions that are read, each once."""
        return tuple(dict.fromkeys(at for at, _ in (*self.fields, *self.kept)))


def text_types(signature: Signature) -> dict[str, TextType]:
    """Return for each field what its cells are read as. INT64 and UINT64 tensors get their integers exactly."""
    of_tensor = {spec.name: spec.datatype for spec in signature.inputs}
    whole: dict[str, TextType] = {}
    for tensor, columns in signature.columns.items():
        if of_tensor.get(tensor) in ("INT64", "UINT64"):
            whole |= {c.field: "uint64" if of_tensor[tensor] == "UINT64" else "int64" for c in columns}
    return {
        f.name: whole.get(f.name, "float64") if f.kind in ("number", "integer") else "text" for f in signature.fields
    }


def choose(names: Sequence[str], signature: Signature, keep: Keep, source: str) -> Chosen:
    """Choose columns by the names that a file has, by the rule of `model.data`.

    Where a model without names takes columns by position, those that are kept by name are not counted.

    Raises:
        InvalidInput: A name is there twice, or a column of the model is missing.
        ConfigError: A column to keep is missing.
    """
    names = [name or f"column {at}" for at, name in enumerate(names)]  # a delimiter too many has no name
    wanted = names if keep == "all" else list(dict.fromkeys(keep))
    at = {name: position for position, name in enumerate(names)}
    for name in wanted:
        if name not in at:
            near = difflib.get_close_matches(name, names[:1000], 1)
            hint = f"did you mean {quote(near[0])}?" if near else "name one of these"
            raise ConfigError(f"{source}: there is no column {quote(name)} to keep, it has {_shown(names)}; {hint}")
    used = [c.field for columns in signature.columns.values() for c in columns]
    rule = Names(signature.fields, used, signature.named)
    given, notes = _given(names, wanted, rule, keep), Notes()
    try:
        found = rule.locate(given, notes, frame=True)
    except InvalidInput as e:
        hint = "; it has one column, is the delimiter one of , ; | or a tab?" if len(names) == 1 else ""
        raise InvalidInput(f"{source}: {e}{hint}", column=e.column) from e
    fields = tuple((at[given[found[name]]], name) for name in rule.all if name in found)
    return Chosen(fields, tuple((at[name], name) for name in wanted), tuple(notes.values()))


def _given(names: list[str], wanted: list[str], rule: Names, keep: Keep) -> list[str]:
    """Return the names among which the fields are looked for: kept columns are not there for the model."""
    if len(set(names)) < len(names):
        return names  # two are alike, which the rule refuses
    if keep == "all" and not rule.known.intersection(names):
        return names
    kept = set(wanted)
    return [name for name in names if name in rule.known or name not in kept]


def _shown(names: Sequence[str]) -> str:
    return ", ".join(quote(n) for n in names[:5]) + (f" ... ({len(names)} columns)" if len(names) > 5 else "")
