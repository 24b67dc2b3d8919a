"""The formats that predictions are written in, and which one a name asks for."""

from __future__ import annotations

import os
from dataclasses import dataclass

from foretell.bulk.answering import PartKind
from foretell.errors import ConfigError

__all__ = ["FORMATS", "Format", "format_named", "format_of"]


@dataclass(frozen=True, slots=True)
class Format:
    """How an output is written."""

    name: str
    part: PartKind
    """What its parts are encoded as."""
    is_packed: bool = False

    @property
    def ending(self) -> str:
        """Of a file's name."""
        return f".{self.name}"


FORMATS = {
    f.name: f
    for f in (
        Format("csv", "csv"),
        Format("csv.gz", "csv", is_packed=True),
        Format("jsonl", "jsonl"),
        Format("jsonl.gz", "jsonl", is_packed=True),
        Format("parquet", "arrow"),
        Format("arrow", "arrow"),
    )
}
_ALIKE = {".ndjson": "jsonl", ".ndjson.gz": "jsonl.gz", ".ipc": "arrow", ".feather": "arrow", ".arrows": "arrow"}
_OF_INPUTS = {".tsv": "csv", ".txt": "csv", ".tsv.gz": "csv.gz", ".txt.gz": "csv.gz", ".pq": "parquet"}


def format_of(path: str, *, is_input: bool = False) -> Format | None:
    """Return the format that the ending of a name says, None if it says none.

    Args:
        path: Of an output.
        is_input: The name is that of an input: the answers of a `.tsv` are a `.csv`.
    """
    ending = ending_of(path)
    name = _ALIKE.get(ending) or (_OF_INPUTS.get(ending) if is_input else None) or ending[1:]
    return FORMATS.get(name)


def format_named(name: str) -> Format:
    """Return the format of a name.

    Raises:
        ConfigError: There is none.
    """
    if name not in FORMATS:
        raise ConfigError(f'--format "{name}": expected one of {", ".join(FORMATS)}')
    return FORMATS[name]


def ending_of(path: str) -> str:
    """Return the ending of a name in small letters, `.csv.gz` as a whole."""
    lower = os.path.basename(path).lower()
    packed = ".gz" if lower.endswith(".gz") else ""
    return os.path.splitext(lower.removesuffix(packed) if packed else lower)[1] + packed
