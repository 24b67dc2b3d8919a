"""Files of pictures: found by what is in them, predicted a few at a time, drawn on copies if asked.

A block is a few files. What reads, decodes and predicts them is the thread that parses the block.
"""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from foretell.bulk.blocks import START, Fault, Mark, Origin, Rows
from foretell.errors import ConfigError
from foretell.model.data.image_headers import HEADERS

if TYPE_CHECKING:
    from foretell.bulk.blocks import Block

__all__ = ["PictureBlock", "PictureSource", "find_pictures", "hold_pictures"]

_ENDINGS = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".tif", ".tiff", ".bmp")
"""A file of a folder with such a name is a picture whatever is in it: a broken one is told of, not passed over."""
_MOST_IN_BLOCK = 8
_START = 16


def hold_pictures(inputs: Sequence[str]) -> bool:
    """Whether the first of the inputs is a picture, or a folder with one in it."""
    path = Path(inputs[0])
    if path.is_dir():
        return any(True for _ in _in_folder(path))
    return path.is_file() and _is_picture(path)


def find_pictures(inputs: Sequence[str]) -> list[str]:
    """Return the files that the inputs name; of folders and below them the pictures, in the order of their names.

    Raises:
        ConfigError: Nothing is there.
    """
    found: list[str] = []
    for given in inputs:
        path = Path(given)
        if path.is_dir():
            inside = [str(p) for p in _in_folder(path)]
            if not inside:
                raise ConfigError(
                    f'input "{given}": a folder without pictures; expected JPEG, PNG, WebP, GIF, TIFF, BMP'
                )
            found += inside
        elif path.exists():
            found.append(given)
        elif glob.has_magic(given) and (matches := sorted(filter(os.path.isfile, glob.glob(given, recursive=True)))):
            found += matches
        else:
            raise ConfigError(f'input "{given}": there is no such picture or folder; check the path')
    return found


def _in_folder(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.rglob("*")):
        hidden = any(part.startswith((".", "_")) for part in path.relative_to(folder).parts)
        if not hidden and path.is_file() and (path.name.lower().endswith(_ENDINGS) or _is_picture(path)):
            yield path


def _is_picture(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            start = file.read(_START)
    except OSError:
        return False
    # BMP begins with two letters alone, which other files do too.
    return any(begins(start) for name, begins, _ in HEADERS if name != "BMP" or path.suffix.lower() == ".bmp")


class PictureSource:
    """All pictures of a job."""

    def __init__(self, files: Sequence[str], threads: int = 1, contents: Sequence[bytes] | None = None) -> None:
        """Divide files among threads.

        Args:
            files: Of all pictures, in order; at least one.
            threads: That take blocks. A few pictures are divided so that none of them is idle.
            contents: Of those that are no files, such as standard input.
        """
        self._in_block = max(1, min(_MOST_IN_BLOCK, len(files) // threads))
        self.name = files[0]
        self._files = files
        self._pictures: Sequence[Any] = files if contents is None else contents
        self._sizes = [os.path.getsize(f) for f in files] if contents is None else [len(c) for c in contents]
        self.size_bytes = sum(self._sizes)

    def blocks(self, start: Mark = START) -> Iterator[Block]:
        """Yield a few files at a time."""
        step = self._in_block
        for at in range(start.at, len(self._files), step):
            some = slice(at, at + step)
            yield PictureBlock(self._files[some], self._pictures[some], sum(self._sizes[some]), at)


@dataclass(frozen=True)
class PictureBlock:
    """Some pictures."""

    files: Sequence[str]
    """Their names."""
    pictures: Sequence[Any]
    """The same, or their encoded bytes."""
    size_bytes: int
    first: int = 0

    @property
    def ends(self) -> Mark:
        """Return the index of the file behind it."""
        return Mark(self.first + len(self.files))

    @property
    def about_rows(self) -> int:
        """Return how many files it has."""
        return len(self.files)

    def parse(self) -> Rows:
        """Return the files; the model reads them."""
        return Rows(self.pictures, {}, len(self.files))

    def place(self, row: int | None) -> str:
        """Return the file."""
        return os.path.basename(self.files[row or 0])

    def faults(self) -> list[Fault]:
        """Return none: a picture is read where it is predicted."""
        return []

    def without(self, rows: Sequence[int]) -> Block:
        """Return the block without some of its files."""
        kept = [row for row in range(len(self.files)) if row not in set(rows)]
        return replace(self, files=[self.files[r] for r in kept], pictures=[self.pictures[r] for r in kept])

    def origins(self, rows: Sequence[int]) -> list[Origin]:
        """Return nothing but their number: a picture is its file."""
        return [Origin(None, None, "") for _ in rows]
