"""One picture or many, in any form a user has them, as things that can be prepared one by one.

Recognises and reads; judges only what is no picture at all. Knows no format.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from foretell.errors import InvalidInput
from foretell.model.data.image_probe import Limits, check_content

__all__ = ["Picture", "pictures_of"]

_LONGEST_NAME = 100
_PIECE_BYTES = 1 << 16
_FORMS = "a path, bytes, a Pillow image, or an array of uint8 (height, width, 3) or (height, width)"


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture that has not been looked at."""

    source: Any
    name: str
    """For messages: the path, or which of the pictures it is."""
    files: bool = True
    """Whether a text or a path may be read as a file."""

    def content(self, limits: Limits) -> Any:
        """Return encoded bytes, a Pillow image, or an array of uint8 of shape (height, width, 3).

        Raises:
            InvalidInput: It is nothing of that, or the file cannot be read.
        """
        source = self.source
        if isinstance(source, bytes):
            return source
        if isinstance(source, (bytearray, memoryview)):
            check_content(memoryview(source).nbytes, limits, self.name)
            return bytes(source)
        if isinstance(source, np.ndarray):
            return _pixels(source, self.name)
        if isinstance(source, (str, os.PathLike)):
            if not self.files:
                raise InvalidInput(f"{self.name}: got a text, expected the bytes of a picture; send it as base64")
            return _read(Path(source), self.name, limits)
        if hasattr(source, "getexif") and hasattr(source, "mode"):
            return source
        raise InvalidInput(f"{self.name}: got {type(source).__name__}, expected {_FORMS}")


def pictures_of(data: Any, *, files: bool = True) -> list[Picture]:
    """Return the pictures in data.

    Args:
        data: One picture, or a list, tuple, 1-D array of objects, or an array (rows, height, width, 3) of them.
        files: Whether texts and paths are read as files.

    Raises:
        InvalidInput: The array has another shape.
    """
    if isinstance(data, np.ndarray):
        if data.dtype.kind in "OS" and data.ndim == 1:
            return _many(data.tolist(), files)
        if data.ndim == 4:
            return _many(list(data), files)
        return [Picture(data, "image", files)]
    if isinstance(data, (list, tuple)):
        return _many(data, files)
    return [Picture(data, _name(data, "image"), files)]


def _many(data: Sequence[Any], files: bool) -> list[Picture]:
    return [Picture(source, _name(source, f"image, row {row}"), files) for row, source in enumerate(data)]


def _name(source: Any, otherwise: str) -> str:
    """Return the path of a file in quotes, the end of it where it is long, or what it is called otherwise."""
    if not isinstance(source, (str, os.PathLike)):
        return otherwise
    path = os.fspath(source)
    return f'"{"..." if len(path) > _LONGEST_NAME else ""}{repr(path[-_LONGEST_NAME:])[1:-1]}"'


def _pixels(found: Any, name: str) -> Any:
    if found.dtype != np.uint8:
        raise InvalidInput(f"{name}: got an array of {found.dtype}, expected uint8, 0 to 255; convert it")
    if found.ndim == 2 or (found.ndim == 3 and found.shape[2] == 1):
        return np.repeat(found.reshape(*found.shape[:2], 1), 3, axis=2)
    if found.ndim != 3 or found.shape[2] != 3:
        raise InvalidInput(
            f"{name}: got an array of shape {found.shape}, expected (height, width, 3) or (height, width)"
        )
    return found


def _read(path: Path, name: str, limits: Limits) -> bytes:
    try:
        with path.open("rb", buffering=0) as file:
            length = os.fstat(file.fileno()).st_size
            check_content(length, limits, name)
            # Asked for no more than there is, or memory would be taken for the whole limit, and given back, each time.
            content = file.read(length) or b""
            while len(content) <= limits.bytes and (more := file.read(_PIECE_BYTES)):  # it grows while it is read
                content += more
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InvalidInput(f"{name}: {reason}; expected a file with a picture") from None
    check_content(len(content), limits, name)
    return content
