"""Where files lie: read, listed, and written so that a name appears only with its whole content.

The contract only: `local.py` knows the disk of this machine, `remote.py` object stores. None knows what files hold.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import BinaryIO, Protocol

__all__ = ["Storage"]


class Storage(Protocol):
    """One place for files. Paths are in its own words: a local path, or `s3://bucket/key`."""

    def open(self, path: str) -> BinaryIO:
        """Open a file for reading; it can seek."""
        ...

    def size_bytes(self, path: str) -> int:
        """Return the length of a file."""
        ...

    def stamp(self, path: str) -> str:
        """Return what changes when the file does: an ETag, or its modification time in ns."""
        ...

    def exists(self, path: str) -> bool:
        """Whether there is a file or a folder of this name."""
        ...

    def files_in(self, folder: str) -> list[str]:
        """Return the paths of all files in a folder and below, sorted."""
        ...

    def creating(self, path: str) -> AbstractContextManager[BinaryIO]:
        """Write a file aside; it is synced and takes its name when the block ends well, else nothing is left.

        Folders on the way are made.
        """
        ...

    def add_line(self, path: str, line: str) -> None:
        """Add one line to a journal; it is on the disk when this returns."""
        ...

    def lines(self, path: str) -> list[str]:
        """Return the whole lines of a journal, none if there is no such file; a last line cut short is left out."""
        ...

    def remove(self, path: str) -> None:
        """Remove a file, or a folder with all that is in it; it need not exist."""
        ...

    def holding(self, path: str) -> AbstractContextManager[None]:
        """Hold a name for this process until the block ends; if the process dies, another may hold it soon after.

        Raises:
            ConfigError: Another process holds it.
        """
        ...
