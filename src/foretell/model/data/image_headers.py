"""What the first bytes of a picture say of it: size, orientation, how it is coded.

Each reader walks the structure of one format with bounds on every loop, allocates nothing and decodes nothing. A reader
returns a Header or raises Unreadable with the reason; what the header claims is checked by `image_probe`.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

__all__ = ["HEADERS", "Header", "Unreadable", "without_metadata"]

_MOST_PARTS = 5_000
"""Segments, chunks and blocks of metadata that are walked: decoders walk them too, some in quadratic time."""
_USUAL_TILE = 1024
"""Tiles of a TIFF may be so wide and high, in pixels, whatever the picture is; larger ones take memory like one."""
_ORIENTATION = 0x0112
_ELEMENT_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}


class Unreadable(Exception):
    """The header is not one of its format; the message continues a sentence."""


class Header(NamedTuple):
    """What is known before decoding."""

    width: int
    height: int
    orientation: int = 1
    """1 to 8, as EXIF counts."""
    components: int = 0
    """Of a JPEG; 0 for other formats."""
    scans: int = 1
    """Of a progressive JPEG: passes over all of its pixels."""


def jpeg(content: bytes) -> Header:
    """Read the frame header of a JPEG and its EXIF orientation; the image data is not looked at."""
    size: Header | None = None
    orientation = 1
    for marker, start, end in _segments(content):
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            if size is not None:
                raise Unreadable("says its size twice")
            _, height, width, components = _unpack(">BHHB", content, start + 4)
            is_progressive = marker in (0xC2, 0xC6, 0xCA, 0xCE)
            scans = _scans(content, start) if is_progressive else 1
            size = Header(width, height, 1, components, scans)
        elif marker == 0xE1 and orientation == 1 and content[start + 4 : start + 10] == b"Exif\0\0":
            orientation = _orientation(content[start + 10 : end])
    if size is None:
        raise Unreadable("ends before its size is said")
    return size._replace(orientation=orientation)


def _scans(content: bytes, start: int) -> int:
    """Count what begins like a scan; bytes.count takes several times as long."""
    numbers = np.frombuffer(content, np.uint8, offset=start)
    ends = np.flatnonzero(numbers[1:] == 0xDA)  # the rarer of the two
    return int(np.count_nonzero(numbers[ends] == 0xFF))


def without_metadata(content: bytes) -> bytes:
    """Return a JPEG without its comments and application segments other than JFIF's and Adobe's.

    They can say things that are costly to parse, and nothing that changes a pixel.
    """
    parts, at = [content[:2]], 2
    for marker, start, end in _segments(content):
        if not (0xE1 <= marker <= 0xED or marker in (0xEF, 0xFE)):
            parts.append(content[start:end])
        at = end
    return b"".join((*parts, content[at:]))


def _segments(content: bytes) -> Iterator[tuple[int, int, int]]:
    """Yield marker, start and end of the segments of a JPEG before its image data, as a decoder finds them."""
    at = 2
    for _ in range(_MOST_PARTS):
        start = content.find(b"\xff", at)
        at = start + 1
        while start >= 0 and content[at : at + 1] == b"\xff":
            at += 1
        marker = content[at] if start >= 0 and at < len(content) else 0xD9
        if marker in (0xD9, 0xDA):
            return
        at += 1
        if not (marker <= 0x01 or 0xD0 <= marker <= 0xD8):
            (length,) = _unpack(">H", content, at)
            at += max(length, 2)
            yield marker, at - max(length, 2) - 2, at
    raise Unreadable(f"has more than {_MOST_PARTS:,} segments before its image data")


def png(content: bytes) -> Header:
    """Read IHDR, and the orientation of eXIf wherever that is."""
    length, kind, width, height = _unpack(">I4sII", content, 8)
    if kind != b"IHDR" or length != 13:
        raise Unreadable("does not begin with IHDR")
    orientation, at, extra = 1, 33, 0
    while at + 8 <= len(content):
        length, kind = _unpack(">I4s", content, at)
        if kind == b"IEND":
            break
        if kind == b"eXIf":
            orientation = _orientation(content[at + 8 : at + 8 + length])
        if kind != b"IDAT":
            extra += 1
            if extra > _MOST_PARTS:
                raise Unreadable(f"has more than {_MOST_PARTS:,} chunks beside its image data")
        at += 12 + length
    return Header(width, height, orientation)


def gif(content: bytes) -> Header:
    """Read the screen and the place of the first frame, which may reach over the screen."""
    width, height, flags = _unpack("<HHB", content, 6)
    at = 13 + (3 << (flags & 7) + 1 if flags & 0x80 else 0)
    parts = 0
    while content[at : at + 1] == b"\x21":
        at += 2
        while at < len(content) and content[at]:
            at += content[at] + 1
            parts += 1
            if parts > _MOST_PARTS:
                raise Unreadable(f"has more than {_MOST_PARTS:,} blocks before its first frame")
        at += 1
    if content[at : at + 1] != b"\x2c":
        raise Unreadable("has no frame")
    left, top, frame_width, frame_height = _unpack("<HHHH", content, at + 1)
    return Header(max(width, left + frame_width), max(height, top + frame_height))


def webp(content: bytes) -> Header:
    """Read the canvas, or the size of the only frame, and the orientation of an EXIF chunk."""
    kind = content[12:16]
    if kind == b"VP8 ":
        start, width, height = _unpack("<3sHH", content, 23)
        if start != b"\x9d\x01\x2a":
            raise Unreadable("has no key frame")
        return Header(width & 0x3FFF, height & 0x3FFF)
    if kind == b"VP8L":
        signature, bits = _unpack("<BI", content, 20)
        if signature != 0x2F:
            raise Unreadable("has no lossless frame")
        return Header((bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1)
    if kind != b"VP8X":
        raise Unreadable("has no frame")
    _, low_width, high_width, low_height, high_height = _unpack("<4sHBHB", content, 20)
    orientation, at = 1, 30
    for _ in range(_MOST_PARTS):
        if at + 8 > len(content):
            break
        (length,) = _unpack("<I", content, at + 4)
        if content[at : at + 4] == b"EXIF":
            exif = content[at + 8 : at + 8 + length]
            orientation = _orientation(exif.removeprefix(b"Exif\0\0"))
        at += 8 + length + (length & 1)
    return Header((high_width << 16 | low_width) + 1, (high_height << 16 | low_height) + 1, orientation)


def bmp(content: bytes) -> Header:
    """Read either kind of header; a negative height means that rows go down."""
    (header_bytes,) = _unpack("<I", content, 14)
    width, height = _unpack("<HH" if header_bytes == 12 else "<ii", content, 18)
    return Header(width, abs(height))


def tiff(content: bytes) -> Header:
    """Read the first directory. The values it points to may overlap, but not add up to more than the file."""
    order = "<" if content[:2] == b"II" else ">"
    is_big = content[2:4] in (b"+\0", b"\0+")
    wide = "Q" if is_big else "I"
    (at,) = _unpack(order + wide, content, 8 if is_big else 4)
    (count,) = _unpack(order + ("Q" if is_big else "H"), content, at)
    if count > _MOST_PARTS:
        raise Unreadable(f"has more than {_MOST_PARTS:,} tags")
    at += 8 if is_big else 2
    found, pointed, entry_bytes, inline_bytes = {}, 0, 20 if is_big else 12, 8 if is_big else 4
    for entry in range(at, at + count * entry_bytes, entry_bytes):
        tag, kind, elements = _unpack(order + "HH" + wide, content, entry)
        value_bytes = elements * _ELEMENT_BYTES.get(kind, 1)
        if value_bytes > inline_bytes:
            pointed += value_bytes
        elif elements and kind in (3, 4, 16):
            (found[tag],) = _unpack(
                order + {3: "H", 4: "I", 16: "Q"}[kind], content, entry + entry_bytes - inline_bytes
            )
    if pointed > len(content):
        raise Unreadable("has tags that point to more than the file holds")
    width, height, orientation = found.get(256, 0), found.get(257, 0), found.get(_ORIENTATION, 1)
    if found.get(322, 0) > max(width, _USUAL_TILE) or found.get(323, 0) > max(height, _USUAL_TILE):
        raise Unreadable("has tiles larger than the picture")
    return Header(width, height, orientation if 1 <= orientation <= 8 else 1)


def _orientation(exif: bytes) -> int:
    """Return the orientation that EXIF states, or 1: a picture is not refused for what is beside it."""
    order = {b"II": "<", b"MM": ">"}.get(exif[:2])
    if order is None:
        return 1
    try:
        (at,) = _unpack(order + "I", exif, 4)
        (count,) = _unpack(order + "H", exif, at)
        for entry in range(at + 2, at + 2 + count * 12, 12):
            tag, kind, _, value = _unpack(order + "HHIH", exif, entry)
            if tag == _ORIENTATION:
                return int(value) if kind == 3 and 1 <= value <= 8 else 1
    except Unreadable:
        pass
    return 1


def _unpack(layout: str, content: bytes, at: int) -> tuple[Any, ...]:
    try:
        return struct.unpack_from(layout, content, at)
    except (struct.error, OverflowError):  # an offset may be of 64 bits
        raise Unreadable("ends inside its header") from None


HEADERS: tuple[tuple[str, Callable[[bytes], bool], Callable[[bytes], Header]], ...] = (
    ("JPEG", lambda c: c[:3] == b"\xff\xd8\xff", jpeg),
    ("PNG", lambda c: c[:8] == b"\x89PNG\r\n\x1a\n", png),
    ("WEBP", lambda c: c[:4] == b"RIFF" and c[8:12] == b"WEBP", webp),
    ("GIF", lambda c: c[:6] in (b"GIF87a", b"GIF89a"), gif),
    ("TIFF", lambda c: c[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"), tiff),
    ("BMP", lambda c: c[:2] == b"BM", bmp),
)
"""Name, whether content begins like it, and the reader."""
