"""Which inputs are videos, and which files they name. Known by their first bytes, or by the endings of their names."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from foretell.bulk.pictures import hold_pictures
from foretell.errors import ConfigError

__all__ = ["find_videos", "hold_videos", "is_video"]

_ENDINGS = (
    *(".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg"),
    *(".wmv", ".asf", ".flv", ".ogv", ".3gp", ".mxf", ".h264", ".hevc"),
)
"""A file with such a name is a video whatever is in it: a broken one is told of, not passed over."""
_STARTS: tuple[tuple[int, bytes], ...] = (
    (4, b"ftyp"),
    (4, b"moov"),
    (0, b"\x1a\x45\xdf\xa3"),  # Matroska, WebM
    (0, b"\x00\x00\x01\xba"),  # MPEG program stream
    (0, b"FLV\x01"),
    (0, b"\x30\x26\xb2\x75\x8e\x66\xcf\x11"),  # ASF, WMV
)
_STILL = (b"avif", b"avis", b"heic", b"heix", b"mif1", b"msf1")
"""Brands of pictures in the container of MP4."""
_PACKET_BYTES = 188
"""Of an MPEG transport stream: each begins with the same byte. Its name, .ts, is that of program text too."""
_START = 256


def hold_videos(inputs: Sequence[str]) -> bool:
    """Whether the inputs are videos, or folders of them.

    Raises:
        ConfigError: Some are, and some are pictures.
    """
    videos = [found for given in inputs if (found := next(_videos_in(given), None)) is not None]
    if not videos:
        return False
    for given in inputs:
        has_pictures = os.path.isdir(given) and hold_pictures([given])
        if has_pictures or (os.path.isfile(given) and not is_video(Path(given))):
            raise ConfigError(
                f'inputs: "{videos[0]}" is a video, "{given}" is none or holds pictures; predict them apart, '
                "with globs where one folder has both"
            )
    return True


def find_videos(inputs: Sequence[str]) -> list[str]:
    """Return the files that the inputs name; of folders and below them the videos, in the order of their names.

    Raises:
        ConfigError: Nothing is there.
    """
    found: list[str] = []
    for given in inputs:
        inside = list(_videos_in(given))
        if not inside:
            raise ConfigError(f'input "{given}": there is no such video or folder of videos; check the path')
        found += inside
    return found


def is_video(path: Path) -> bool:
    """Whether a file is a video by its name or its first bytes."""
    if path.name.lower().endswith(_ENDINGS):
        return True
    try:
        with path.open("rb") as file:
            start = file.read(_START)
    except OSError:
        return False
    if start[8:12] in _STILL:
        return False
    is_avi = start[:4] == b"RIFF" and start[8:12] == b"AVI "
    is_transport = any(start[at::_PACKET_BYTES][:2] == b"GG" for at in (0, 4))
    return is_avi or is_transport or any(start[at : at + len(magic)] == magic for at, magic in _STARTS)


def _videos_in(given: str) -> Iterator[str]:
    path = Path(given)
    if path.is_dir():
        for inside in sorted(path.rglob("*")):
            hidden = any(part.startswith((".", "_")) for part in inside.relative_to(path).parts)
            if not hidden and inside.is_file() and is_video(inside):
                yield str(inside)
    elif path.exists():
        if is_video(path):
            yield given
    elif glob.has_magic(given):
        yield from (f for f in sorted(glob.glob(given, recursive=True)) if os.path.isfile(f) and is_video(Path(f)))
