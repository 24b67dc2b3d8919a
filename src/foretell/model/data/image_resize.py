"""Resizing of 8-bit pixels: one stated reference, and a fast way that stays within one of it.

The reference is Pillow's: first across, then down, each rounded to 8 bits. (Pillow 13 itself goes down first in some
shapes; taking its two passes one by one gives the same with every version.) Without antialias it is the mean of
2 x 2 pixels (bilinear) or of 4 x 4 (bicubic, a = -0.75) in floats, with the edge repeated: OpenCV's and torch's.
The fast way is SIMD code with shorter coefficients. Knows no file and no tensor.
"""

from __future__ import annotations

import math
from functools import cache
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from foretell.model.data.image_frame import Frame
from foretell.signature import Filter

__all__ = ["has_fast", "resize"]

Pixels = NDArray[np.uint8]

_FAST = {"bilinear": "bilinear", "bicubic": "catmull_rom", "lanczos": "lanczos3"}
"""Filters the fast way has. box is not among them: where an edge of a pixel falls on a tie, it takes another one."""

_WIDEST = 3.0
"""Pixels of the resized picture that the widest filter reads to each side."""
_VAST_BYTES = 32 << 20
"""The fast way copies the picture, which from here on costs more than to touch a few of its pixels."""


def has_fast(kind: Filter, antialias: bool) -> bool:
    """Return whether the fast way is there for this filter, on this machine."""
    return _fast_library() is not None and kind in _FAST and (antialias or kind == "bilinear")


def resize(
    pixels: Pixels, frame: Frame, kind: Filter, *, antialias: bool = True, exact: bool = False, shrunk: int = 1
) -> Pixels:
    """Return the part of the resized picture that a frame keeps.

    Args:
        pixels: Of shape (height, width, 3): those of `frame.picture`, or fewer, as `shrunk` says.
        frame: What to make of them.
        kind: The filter.
        antialias: Whether it grows where the picture shrinks.
        exact: Take the reference way.
        shrunk: How many pixels of the picture, along each side, one of `pixels` stands for.

    Returns:
        Shape (size down, size across, 3), of `frame.size`.
    """
    is_vast = not antialias and pixels.nbytes > _VAST_BYTES
    if not exact and not is_vast and has_fast(kind, antialias):
        return _fast(pixels, frame, kind, antialias, shrunk)
    if antialias or kind == "nearest":
        return _reference(pixels, frame, kind, shrunk)
    return _fixed(pixels, frame, kind)


def _reference(pixels: Pixels, frame: Frame, kind: Filter, shrunk: int) -> Pixels:
    from PIL import Image

    resampling = Image.Resampling[kind.upper()]
    (wide, high), (left, top), (kept_wide, kept_high) = frame.whole, frame.cut, frame.size
    height, width = pixels.shape[:2]
    covered = (frame.picture[0] / shrunk, frame.picture[1] / shrunk)
    found = Image.fromarray(pixels)
    if (width, height) != (wide, high):
        found = found.resize((wide, height), resampling, (0, 0, covered[0], height))
        found = found.resize((wide, high), resampling, (0, 0, wide, covered[1]))
    return np.asarray(found)[top : top + kept_high, left : left + kept_wide]


def _fixed(pixels: Pixels, frame: Frame, kind: Filter) -> Pixels:
    """Weigh a fixed number of pixels; only those are touched, however large the picture is."""
    (columns, across), (rows, down) = (_taps(frame, axis, kind) for axis in (0, 1))
    touched = pixels.take(rows.ravel(), 0).take(columns.ravel(), 1).reshape(*rows.shape, *columns.shape, 3)
    lines: Any = 0.0
    for tap, weight in enumerate(across):
        lines = lines + touched[:, :, tap] * weight[:, None]
    found: Any = np.float32(0.5)
    for line, weight in zip(lines, down, strict=True):
        found = found + line * weight[:, None, None]
    rounded: Pixels = np.clip(found, 0, 255.5).astype(np.uint8)
    return rounded


def _taps(frame: Frame, axis: int, kind: Filter) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
    """Return which pixels are read along an axis, and with what weights, both of shape (taps, size)."""
    picture = frame.picture[axis]
    centres = (np.arange(frame.size[axis]) + frame.cut[axis] + 0.5) * (picture / frame.whole[axis]) - 0.5
    first = np.floor(centres).astype(np.intp)
    part = centres - first
    if kind == "bilinear":
        weights, start = [1 - part, part], 0
    else:
        weights, start = [_cubic(part + 1), _cubic(part), _cubic(1 - part), _cubic(2 - part)], -1
    read = first + start + np.arange(len(weights))[:, None]
    return np.clip(read, 0, picture - 1), np.array(weights, np.float32)


def _cubic(distance: NDArray[np.float64], a: float = -0.75) -> NDArray[np.float64]:
    near = ((a + 2) * distance - (a + 3)) * distance**2 + 1
    far = ((distance - 5) * distance + 8) * distance * a - 4 * a
    return np.where(distance <= 1, near, far)


def _fast(pixels: Pixels, frame: Frame, kind: Filter, antialias: bool, shrunk: int) -> Pixels:
    library = _fast_library()
    if library is None:  # `has_fast` was asked
        return _reference(pixels, frame, kind, shrunk)
    height, width = pixels.shape[:2]
    (wide, high), (left, top), (kept_wide, kept_high) = frame.whole, frame.cut, frame.size
    across, down = frame.picture[0] / shrunk / wide, frame.picture[1] / shrunk / high
    # Of a picture that is cut, only what is kept is copied, with all that a filter reads around it.
    first_x, last_x = _kept(left * across, (left + kept_wide) * across, width, across)
    first_y, last_y = _kept(top * down, (top + kept_high) * down, height, down)
    goes_across = width != wide or kept_wide != wide or across != 1
    goes_down = height != high or kept_high != high or down != 1
    x, y, pixels = left * across - first_x, top * down - first_y, pixels[first_y:last_y, first_x:last_x]
    height, width = pixels.shape[:2]
    found = library.ImageData(width, height, library.PixelType.U8x3, pixels.tobytes())
    if goes_across:
        box = library.CropBox(x, 0, min(kept_wide * across, width - x), height)
        found = _pass(library, found, (kept_wide, height), box, kind, antialias)
    if goes_down:
        box = library.CropBox(0, y, kept_wide, min(kept_high * down, height - y))
        found = _pass(library, found, (kept_wide, kept_high), box, kind, antialias)
    return np.frombuffer(found.get_buffer(), np.uint8).reshape(kept_high, kept_wide, 3)


def _kept(start: float, end: float, side: int, scale: float) -> tuple[int, int]:
    """Return the first pixel along a side that is needed for those from `start` to `end`, and the end of them."""
    around = _WIDEST * max(scale, 1.0) + 2.0
    return max(0, math.floor(start - around)), min(side, math.ceil(end + around))


def _pass(library: ModuleType, source: Any, size: tuple[int, int], box: Any, kind: Filter, antialias: bool) -> Any:
    filter_type = library.FilterType[_FAST[kind]]
    options = library.ResizeOptions(library.ResizeAlg.convolution(filter_type), use_alpha=False, crop_box=box)
    if not antialias:
        algorithm = library.Algorithm.interpolation.value
        options.rust_options = options.rust_options.set_resize_alg(algorithm, filter_type.value, 2)
    found = library.ImageData(*size, library.PixelType.U8x3)
    library.Resizer().resize(source, found, options)
    return found


@cache
def _fast_library() -> ModuleType | None:
    """Return the SIMD library, or None on a machine that has no build of it."""
    try:
        import cykooz_resizer
    except ImportError:
        return None
    library: ModuleType = cykooz_resizer
    return library
