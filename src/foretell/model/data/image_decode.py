"""Encoded bytes to upright RGB pixels of 8 bits.

JPEG goes to libjpeg-turbo, which can decode to a half, a quarter or an eighth of the sides for less time; every other
format, and a JPEG that is odd, goes to Pillow, with the one plugin of its format. What the decoders raise becomes
InvalidInput. Called only with content that `probe` let through.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from foretell.errors import ForetellError, InvalidInput, OutOfMemory, RuntimeMissing
from foretell.model.data.image_headers import without_metadata
from foretell.model.data.image_probe import Limits, Probe, check_pixels

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["decode", "decode_image", "libraries", "upright"]

Pixels = NDArray[np.uint8]

_PLUGINS = {
    "JPEG": ("JpegImagePlugin", "JpegImageFile"),
    "PNG": ("PngImagePlugin", "PngImageFile"),
    "WEBP": ("WebPImagePlugin", "WebPImageFile"),
    "GIF": ("GifImagePlugin", "GifImageFile"),
    "TIFF": ("TiffImagePlugin", "TiffImageFile"),
    "BMP": ("BmpImagePlugin", "BmpImageFile"),
}
_LEAST_COMPONENTS = 3
_TURNED_ALREADY = ("TIFF",)
"""Formats that Pillow turns upright by itself."""
_ORIENTATION = 0x0112
_LONGEST_REASON = 120


def decode(content: bytes, found: Probe, limits: Limits, name: str, shrink: int = 1) -> tuple[Pixels, int]:
    """Return the pixels of a picture, upright.

    Args:
        content: The whole encoded picture.
        found: What `probe` said of it.
        limits: Judged again by what the decoder says of the size.
        name: Of the picture, for messages.
        shrink: 1, 2, 4 or 8: how many pixels along each side may become one. Only a JPEG does it.

    Returns:
        Shape (height, width, 3), and how many pixels along each side have become one.

    Raises:
        InvalidInput: The picture is broken, cut off, or coded in a way that is not supported.
        OutOfMemory: There is not enough for its pixels.
    """
    with _translated(f"{name}: this {found.format}"):
        pixels = _turbo(content, found, shrink) if found.format == "JPEG" else None
        if pixels is None:
            shrink = 1
            pixels = _general(content, found, limits, name)
    return upright(pixels, 1 if found.format in _TURNED_ALREADY else found.orientation), shrink


def decode_image(image: Image.Image, limits: Limits, name: str) -> Pixels:
    """Return the pixels of a Pillow image, which may not have been loaded yet, upright.

    Raises:
        InvalidInput: As `decode`.
    """
    width, height = image.size
    check_pixels(width, height, limits, name)
    with _translated(f"{name}: this Pillow image"):
        image.load()  # which may turn it already, and then says so
        orientation = int(image.getexif().get(_ORIENTATION, 1))
        return upright(_pixels(image, name), orientation)


def upright(pixels: Pixels, orientation: int) -> Pixels:
    """Return pixels turned and mirrored as an EXIF orientation of 1 to 8 asks; a view."""
    if orientation > 4:
        pixels = pixels.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return pixels


@cache
def libraries() -> ModuleType:
    """Return the JPEG decoder, having found Pillow too.

    Raises:
        RuntimeMissing: One of them is not installed.
    """
    try:
        import PIL.Image  # noqa: F401
        import simplejpeg
    except ImportError as error:
        raise RuntimeMissing(f"pictures: {error.name} is not installed; run: pip install 'foretell[image]'") from None
    library: ModuleType = simplejpeg
    return library


def _turbo(content: bytes, found: Probe, shrink: int) -> Pixels | None:
    """Decode with libjpeg-turbo; None for what it does not do, or does with a warning, so that Pillow judges."""
    if found.components not in (1, _LEAST_COMPONENTS):
        return None
    wide, high = -(-found.width // shrink), -(-found.height // shrink)
    library = libraries()
    try:
        if library.decode_jpeg_header(content)[:2] != (found.height, found.width):
            return None
        pixels: Pixels = library.decode_jpeg(content, "RGB", min_width=wide, min_height=high)
    except ValueError:
        return None
    return pixels if pixels.shape == (high, wide, 3) else None


def _general(content: bytes, found: Probe, limits: Limits, name: str) -> Pixels:
    if found.format == "JPEG":
        content = without_metadata(content)
    libraries()
    module, kind = _PLUGINS[found.format]
    # Not Image.open: it would try other plugins too.
    opened: Any = getattr(import_module(f"PIL.{module}"), kind)(io.BytesIO(content))
    with opened:
        width, height = opened.size
        check_pixels(width, height, limits, name)
        if sorted(opened.size) != sorted((found.width, found.height)):
            raise InvalidInput(
                f"{name}: this {found.format} says two sizes, {opened.size} and {found.width, found.height}"
            )
        opened.load()
        return _pixels(opened, name)


def _pixels(image: Image.Image, name: str) -> Pixels:
    """Return RGB as `convert("RGB")` does, but 16-bit grey by its high byte."""
    if image.mode.startswith("I;16"):
        high = (np.asarray(image) >> 8).astype(np.uint8)
        return np.repeat(high[:, :, None], 3, axis=2)
    if image.mode in ("I", "F"):
        raise InvalidInput(f"{name}: got pixels of 32 bits (mode {image.mode}), expected 8 or 16; convert them first")
    if image.mode != "RGB":
        if "transparency" in image.info:  # what shows through has a colour too, and Pillow would only warn
            image = image.copy()
            del image.info["transparency"]
        image = image.convert("RGB")
    return np.asarray(image)


@contextmanager
def _translated(subject: str) -> Iterator[None]:
    """Turn whatever a decoder raises into one line for the caller."""
    try:
        yield
    except ForetellError:
        raise
    except MemoryError:
        raise OutOfMemory(f"{subject}: no memory for its pixels; send it smaller") from None
    except Exception as error:  # noqa: BLE001 - decoders of hostile bytes raise anything, struct.error to SyntaxError
        reason = " ".join(str(error).split())[:_LONGEST_REASON] or type(error).__name__
        raise InvalidInput(f"{subject} is damaged or cut off ({reason}); send it again") from None
