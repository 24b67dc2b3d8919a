"""What an encoded picture is, and whether it may be decoded, from its first bytes alone.

The format is known by content, never by a name. Knows no decoder: nothing is allocated for what a header claims.
"""

from __future__ import annotations

from dataclasses import dataclass

from foretell.errors import InvalidInput
from foretell.model.data.image_headers import HEADERS, Header, Unreadable

__all__ = ["FORMATS", "Limits", "Probe", "check_content", "check_pixels", "probe"]

FORMATS = "JPEG, PNG, WebP, GIF, TIFF or BMP"
"""What can be read, for messages."""

_SCANS_OF_MOST_PIXELS = 16
"""A progressive JPEG of the most pixels may pass over them so often; smaller ones in proportion."""
_STRANGERS: tuple[tuple[int, bytes, str], ...] = (
    (4, b"ftypavif", "AVIF"),
    (4, b"ftyphei", "HEIC"),
    (4, b"ftypmif1", "HEIF"),
    (4, b"ftyp", "a video"),
    (0, b"%PDF", "PDF"),
    (0, b"PK\x03\x04", "a zip archive"),
    (0, b"\x1f\x8b", "gzip"),
    (0, b"<svg", "SVG"),
    (0, b"<?xml", "XML"),
    (0, b"<", "HTML"),
    (0, b"{", "JSON"),
    (0, b"/9j/", "base64: decode it first"),
    (0, b"iVBORw0KGgo", "base64: decode it first"),
    (0, b"data:", "a data URL: decode it first"),
    (0, b"\x93NUMPY", "a numpy file"),
)


@dataclass(frozen=True, slots=True)
class Limits:
    """What a picture may cost, judged before it is decoded."""

    pixels: int = 100_000_000
    """Width times height. Decoding takes up to four bytes for each."""
    bytes: int = 64 << 20
    """Of the encoded picture."""
    side: int = 65_500
    """Longest width or height, in pixels; a JPEG has no longer one."""


@dataclass(frozen=True, slots=True)
class Probe:
    """What the header of an encoded picture says. Width and height are those of the first frame as it is stored."""

    format: str
    """JPEG, PNG, WEBP, GIF, TIFF or BMP."""
    width: int
    height: int
    orientation: int = 1
    """1 to 8, as EXIF counts; over 4, width and height change places when the picture is turned upright."""
    components: int = 0
    """Of a JPEG: 1 grey, 3 colours, 4 CMYK; 0 for other formats."""


def probe(content: bytes, limits: Limits | None = None, name: str = "image") -> Probe:
    """Return what the header says, having judged it.

    Args:
        content: The whole encoded picture.
        limits: What is refused; the defaults of `Limits` where None.
        name: Of the picture, for messages.

    Raises:
        InvalidInput: It is empty, of no known format, its header is broken, or it is over a limit.
    """
    limits = limits or Limits()
    check_content(len(content), limits, name)
    for format_name, begins, read in HEADERS:
        if begins(content):
            try:
                header = read(content)
            except Unreadable as error:
                raise InvalidInput(f"{name}: this {format_name} {error}; expected a whole picture") from None
            _check(header, format_name, limits, name)
            return Probe(format_name, header.width, header.height, header.orientation, header.components)
    raise InvalidInput(f"{name}: got {_guess(content)}, expected {FORMATS}; convert it first")


def check_content(length: int, limits: Limits, name: str) -> None:
    """Refuse a picture for its encoded length, in bytes.

    Raises:
        InvalidInput: It is 0, or over the limit.
    """
    if length == 0:
        raise InvalidInput(f"{name}: got 0 bytes, expected {FORMATS}")
    if length > limits.bytes:
        raise InvalidInput(f"{name}: got {length:,} bytes, expected at most {limits.bytes:,}; send a smaller picture")


def check_pixels(width: int, height: int, limits: Limits, name: str) -> None:
    """Refuse a picture for its width and height.

    Raises:
        InvalidInput: It has no pixel, or is over a limit.
    """
    if width <= 0 or height <= 0:
        raise InvalidInput(f"{name}: got {width} x {height} pixels, expected at least 1 x 1")
    if max(width, height) > limits.side or width * height > limits.pixels:
        most = f"{limits.pixels:,} pixels in all and {limits.side:,} on a side"
        raise InvalidInput(f"{name}: got {width:,} x {height:,} pixels, expected at most {most}; send it smaller")


def _check(header: Header, format_name: str, limits: Limits, name: str) -> None:
    check_pixels(header.width, header.height, limits, name)
    if header.scans > 1 and header.scans * header.width * header.height > _SCANS_OF_MOST_PIXELS * limits.pixels:
        raise InvalidInput(
            f"{name}: this {format_name} goes over {header.width:,} x {header.height:,} pixels {header.scans:,} times; "
            "save it again with fewer scans"
        )


def _guess(content: bytes) -> str:
    """Return what content seems to be, in words."""
    start = content[:64].lstrip()
    for at, magic, word in _STRANGERS:
        if start[at : at + len(magic)].lower() == magic.lower():
            return word
    if content[:64].isascii() and not any(b < 9 for b in content[:64]):
        return f"{len(content):,} bytes of text"
    return f"{len(content):,} bytes of no known picture format"
