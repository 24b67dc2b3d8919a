"""What a training code wrote down of its preparation: pictures, and the tensors it made of them.

    tensors       (pictures, channels, height, width) or (pictures, height, width, channels), floats or uint8
    picture_0     the first picture: encoded bytes as 1-D uint8, or pixels in RGB as uint8 (height, width, 3)
    picture_1 ... or, for all of them, `files`: texts, paths from the folder of the .npz on

Nothing in it is unpickled. Knows no preparation.
"""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from foretell.errors import InvalidInput

__all__ = ["Reference", "read_reference"]

_FORM = 'expected "tensors" and "picture_0", "picture_1" ... or "files"'


@dataclass(frozen=True)
class Reference:
    """Pictures with the tensors of the training code."""

    name: str
    pictures: list[Any]
    """In any form that `pictures_of` knows."""
    tensors: NDArray[Any]
    """(pictures, ...), as it was written."""


def read_reference(path: Path) -> Reference:
    """Read a file that `numpy.savez` wrote.

    Raises:
        InvalidInput: It is none, or does not hold what it must.
    """
    name = f'"{path}"'
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as held:
            arrays = {key: held[key] for key in held.files}
    except FileNotFoundError:
        raise InvalidInput(f"{name}: there is no such file; check the path") from None
    except (OSError, ValueError, EOFError, AttributeError, TypeError, zipfile.BadZipFile) as error:
        reason = "it holds objects" if "pickle" in str(error) else "this is none, or a damaged one"
        raise InvalidInput(f"{name}: expected a file of numpy.savez with plain arrays, {reason}") from None
    if "tensors" not in arrays:
        raise InvalidInput(f"{name}: has {', '.join(map(repr, arrays)) or 'nothing'}, {_FORM}")
    tensors = arrays["tensors"]
    if tensors.ndim != 4 or (tensors.dtype.kind != "f" and tensors.dtype != np.uint8) or not tensors.size:
        raise InvalidInput(
            f'{name}: "tensors" is {tensors.dtype} of shape {tensors.shape}, expected floats or uint8 of '
            "shape (pictures, channels, height, width) or (pictures, height, width, channels)"
        )
    if not np.isfinite(tensors).all():
        raise InvalidInput(f'{name}: "tensors" has values that are not finite')
    pictures = _pictures(arrays, path, name)
    if len(pictures) != len(tensors):
        raise InvalidInput(f"{name}: has {len(pictures)} pictures and {len(tensors)} tensors; expected one for each")
    return Reference(path.name, pictures, tensors)


def _pictures(arrays: dict[str, NDArray[Any]], path: Path, name: str) -> list[Any]:
    if "files" in arrays:
        if arrays["files"].dtype.kind != "U":
            raise InvalidInput(f'{name}: "files" is {arrays["files"].dtype}, expected texts')
        return [path.parent / file for file in arrays["files"].ravel().tolist()]
    found: list[Any] = []
    while f"picture_{len(found)}" in arrays:
        picture = arrays[f"picture_{len(found)}"]
        if picture.dtype != np.uint8:
            raise InvalidInput(f'{name}: "picture_{len(found)}" is {picture.dtype}, expected uint8')
        found.append(picture.tobytes() if picture.ndim == 1 else picture)
    if not found:
        raise InvalidInput(f"{name}: has tensors and no pictures, {_FORM}")
    return found
