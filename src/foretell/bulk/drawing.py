"""Copies of pictures with what was found in them: one file, a sheet of many, or a folder with one for each.

Knows no model: predictions can draw themselves.
"""

from __future__ import annotations

import os
import secrets
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from foretell.errors import ConfigError, MachineError

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["Drawing"]

_WRITTEN = (".jpg", ".jpeg", ".png")
_MOST_ON_SHEET = 256
_CELL = 320
_QUALITY = 90


class Drawn(Protocol):
    """Predictions that can draw."""

    def draw(self, row: int | None = None) -> Image:
        """Return a copy of the picture of a row."""
        ...


class Drawing:
    """Draws predictions as they come. Safe to use from several threads."""

    def __init__(self, target: str, files: Sequence[str]) -> None:
        """Judge where to draw.

        Args:
            target: A file that ends with .jpg or .png: the picture, or a sheet if there are more. Else a folder.
            files: All pictures of the job.

        Raises:
            ConfigError: The target cannot be, or would be written over a picture of the job.
        """
        self._target = Path(target)
        self._is_file = self._target.suffix.lower() in _WRITTEN and not self._target.is_dir()
        if not self._is_file and self._target.suffix and not target.endswith("/") and not self._target.is_dir():
            raise ConfigError(f'--draw "{target}": expected a file .jpg or .png, or a folder; end its name with "/"')
        if self._is_file and len(files) > _MOST_ON_SHEET:
            raise ConfigError(
                f'--draw "{target}": {len(files):,} pictures, a sheet has at most {_MOST_ON_SHEET}; '
                "name a folder, such as drawn/"
            )
        self._paths = dict(zip(files, self._targets(files), strict=True))
        for path in {self._target} if self._is_file else self._paths.values():
            if path.exists() and any(os.path.exists(file) and os.path.samefile(path, file) for file in files):
                raise ConfigError(f'--draw "{target}": would be written over "{path}"; name another place')
        self._small: dict[str, Image] = {}
        self._lock = threading.Lock()

    def take(self, files: Sequence[str], predictions: Drawn) -> None:
        """Draw some pictures of the job, given in the order of their predictions.

        Raises:
            MachineError: A file cannot be written.
        """
        for row, file in enumerate(files):
            drawn = predictions.draw(row)
            if not self._is_file:
                _save(drawn, self._paths[file])
            elif len(self._paths) == 1:
                _save(drawn, self._target)
            else:
                drawn.thumbnail((_CELL, _CELL))
                with self._lock:
                    self._small[file] = drawn

    def finish(self) -> None:
        """Write the sheet, if it is to be one."""
        if self._small:
            from foretell.model.picture import contact_sheet

            files = list(self._paths)
            names = [os.path.basename(f) for f in files]
            _save(contact_sheet([self._small[f] for f in files], names, cell=_CELL), self._target)

    def _targets(self, files: Sequence[str]) -> list[Path]:
        """Return where each goes: under its own name and below what all files share, as JPEG where it is no PNG."""
        folders = [os.path.dirname(os.path.abspath(f)) for f in files]
        shared = os.path.commonpath(folders) if folders else "."
        inside = [Path(os.path.relpath(os.path.abspath(f), shared)) for f in files]
        return [self._target / (p if p.suffix.lower() in _WRITTEN else p.with_name(p.name + ".jpg")) for p in inside]


def _save(picture: Image, path: Path) -> None:
    """Write a picture under its name once it is whole."""
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        picture.save(part, "PNG" if path.suffix.lower() == ".png" else "JPEG", quality=_QUALITY)
        part.replace(path)
    except OSError as error:
        raise MachineError(f'--draw "{path}": cannot be written ({error.strerror or error})') from error
    finally:
        part.unlink(missing_ok=True)
