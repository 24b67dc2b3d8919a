"""Numbers from texts, a column at a time: what the fast parser of `text` would read, and a little more.

Spaces round a number are nothing; `True` and `False` are 1 and 0, as they are in every other door.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import numpy as np

from foretell.bulk.columns import TextType
from foretell.model.data.cells import MISSING_TEXTS, quote

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["BadCell", "all_bad_cells", "arrow_type", "is_plain", "read_numbers"]

_COMMA = re.compile(r"[+-]?\d+,\d+", re.ASCII)
_STRANGE = r"[^0-9eE+.\-infatyINFATY]"
"""A character that no number has; those of "inf" and "nan" are none."""
_GROUPED = re.compile(r"[+-]?\d{1,3}([ ,.'\u00a0]\d{3})+([.,]\d+)?|.*[%$€£].*", re.ASCII)


class BadCell(Exception):
    """A cell that is no number. Never leaves this package."""

    def __init__(self, row: int, text: str, hint: str) -> None:
        super().__init__(text)
        self.row = row
        """From the first row of the column."""
        self.problem = f"got {quote(text)}, expected a number{hint}"


def arrow_type(kind: TextType) -> Any:
    """Return the Arrow type of a column of texts that is read as `kind`."""
    import pyarrow as pa

    return {"float64": pa.float64(), "int64": pa.int64(), "uint64": pa.uint64(), "text": pa.string()}[kind]


def is_plain(texts: pa.Array, kind: TextType) -> bool:
    """Whether the fast parser reads these texts as numbers of this kind."""
    import pyarrow as pa
    import pyarrow.compute as pc

    missing = pc.is_in(texts, value_set=pa.array(list(MISSING_TEXTS), texts.type))
    try:
        pc.if_else(missing, pa.scalar(None, texts.type), pc.utf8_trim(texts, " \t")).cast(arrow_type(kind))
    except pa.ArrowInvalid:
        return False
    return True


def read_numbers(texts: pa.Array, kind: TextType) -> tuple[pa.Array, bool]:
    """Return texts as numbers, missing ones as nulls, and whether truths were among them.

    Args:
        texts: Strings.
        kind: `float64`; or `int64`, `uint64`, which become float64 where a number has a fraction.

    Raises:
        BadCell: The first text that is no number.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    plain = _without_missing(texts)
    wanted = arrow_type(kind)
    if kind != "float64":
        # A whole number may be written 3.0; cutting the zeros off keeps all of its digits, a float would not.
        plain = pc.replace_substring_regex(plain, r"^([+-]?[0-9]+)\.0*$", r"\1")
    for found in (plain, _with_truths(plain)):
        for target in dict.fromkeys((wanted, pa.float64())):
            try:
                return _cast(found, target), found is not plain
            except pa.ArrowInvalid:
                continue
    raise _first_bad(_with_truths(plain), texts)


def all_bad_cells(texts: pa.Array) -> list[BadCell]:
    """Return every text that `read_numbers` would refuse, in the order of the rows.

    Each distinct text is looked at once: what has a strange character is bad, the others are tried by halves.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    coded = texts.dictionary_encode()
    shown = coded.dictionary
    plain = _with_truths(_without_missing(shown))
    bad = pc.match_substring_regex(plain, _STRANGE).fill_null(False).to_numpy(zero_copy_only=False).copy()
    others = np.flatnonzero(~bad)
    plain, waiting = plain.take(others), [(0, len(others))]
    while waiting:
        low, high = waiting.pop()
        try:
            plain.slice(low, high - low).cast(pa.float64())
        except pa.ArrowInvalid:
            middle = (low + high) // 2
            bad[others[low]] = high - low == 1
            waiting += [(low, middle), (middle, high)] if high - low > 1 else []
    codes = coded.indices.fill_null(-1).to_numpy()
    rows = np.flatnonzero(np.append(bad, False)[codes])
    return [_bad_cell(int(row), shown[int(codes[row])].as_py()) for row in rows]


def _without_missing(texts: pa.Array) -> pa.Array:
    import pyarrow as pa
    import pyarrow.compute as pc

    plain = pc.utf8_trim(texts, " \t")
    missing = pa.array([t for t in MISSING_TEXTS if t.strip() == t], plain.type)
    return pc.if_else(pc.is_in(plain, value_set=missing), pa.scalar(None, plain.type), plain)


def _cast(texts: pa.Array, target: Any) -> pa.Array:
    import pyarrow as pa
    import pyarrow.compute as pc

    if target != pa.float64():
        texts = pc.replace_substring_regex(texts, r"^\+", "")
    return texts.cast(target)


def _with_truths(texts: pa.Array) -> pa.Array:
    import pyarrow as pa
    import pyarrow.compute as pc

    words = pa.array(["true", "True", "TRUE", "false", "False", "FALSE"], texts.type)
    digits = pa.array(["1"] * 3 + ["0"] * 3, texts.type)
    at = pc.index_in(texts, value_set=words)
    return pc.if_else(pc.is_valid(at), digits.take(at), texts)


def _first_bad(texts: pa.Array, shown: pa.Array) -> BadCell:
    """Find the first text that does not cast to float64, by halves."""
    import pyarrow as pa

    low, high = 0, len(texts)
    while high - low > 1:
        middle = (low + high) // 2
        try:
            texts.slice(low, middle - low).cast(pa.float64())
        except pa.ArrowInvalid:
            high = middle
        else:
            low = middle
    return _bad_cell(low, shown[low].as_py())


def _bad_cell(row: int, text: str) -> BadCell:
    hint = ""
    if _COMMA.fullmatch(text.strip()):
        hint = "; write decimals with a point, as in 1.5"
    elif _GROUPED.fullmatch(text.strip()):
        hint = "; write a plain number, as in 1234.5"
    return BadCell(row, text, hint)
