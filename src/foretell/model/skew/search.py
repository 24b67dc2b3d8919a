"""Which preparation makes the tensors of a training code: the likely ones are tried, the best is named.

Where pixels go (fit, filter, order of colours) is told apart from what becomes of their values: for each way to place
them the line x = factor * pixel + offset is fitted; what is left over, in levels of 255, is how far that way is off.
One thing is varied after the other - fit, filter, fit again - which finds several faults at once in few tries.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from foretell.model.data.image_frame import Frame, frame_of
from foretell.model.data.image_resize import resize
from foretell.model.skew.scaling import Line, line_of, scaling_of
from foretell.signature import Colour, Image

__all__ = ["Taken", "best_preparation"]

Pixels = NDArray[np.uint8]

_FILTERS: tuple[dict[str, Any], ...] = (
    *({"resize": r, "antialias": True} for r in ("bilinear", "bicubic", "lanczos", "box", "nearest")),
    *({"resize": r, "antialias": False} for r in ("bilinear", "bicubic")),
)
_CROPS = (0.875, 0.9, 0.95, 0.965)
"""Parts of the covered frame that are cut out: torchvision's 224 of 256, and those of timm."""
_LESS = 0.85
"""Another way is named only where what is left over falls to this part of it."""
_DISTINCT_LEVELS = 0.03
_CLOSE_LEVELS = 0.6
"""What rounding to 8 bits in another order leaves over: no better one is sought."""
_ROUNDS = 2
_ORDERS: dict[Colour, tuple[Colour, ...]] = {"grey": ("grey",), "rgb": ("rgb", "bgr"), "bgr": ("bgr", "rgb")}
"""The order in use comes first: pictures without colour say nothing of it."""
_GREY = (0.299, 0.587, 0.114)


@dataclass(frozen=True)
class Taken:
    """A picture, decoded."""

    upright: Pixels
    stored: Pixels
    """As it lies in the file, without its EXIF orientation applied; the same array where it has none."""


@dataclass(frozen=True)
class Found:
    """A preparation, and how well it fits."""

    image: Image
    upright: bool
    """Whether the EXIF orientation is applied."""
    left_over: float
    """Levels of 255, root of the mean of squares."""


def best_preparation(image: Image, taken: Sequence[Taken], tensors: NDArray[np.float64]) -> Found:
    """Return the preparation that comes closest to the tensors.

    Args:
        image: The one in use: it is kept wherever nothing else is clearly better.
        taken: Pictures.
        tensors: (pictures, height, width, channels) of the training code.
    """

    def tried(other: Image, *, upright: bool) -> Found:
        return _tried(other, image, upright, taken, tensors)

    found = tried(image, upright=True)
    for _ in range(_ROUNDS):
        before = found
        if found.left_over > _CLOSE_LEVELS:
            found = _better(found, (tried(i, upright=found.upright) for i in _fits(found.image)))
        if found.left_over > _CLOSE_LEVELS:
            found = _better(found, (tried(i, upright=found.upright) for i in _filters(found.image)))
        if found.left_over > _CLOSE_LEVELS and any(t.stored is not t.upright for t in taken):
            found = _better(found, [tried(found.image, upright=not found.upright)])
        if found == before:
            break
    return found


def _better(found: Found, others: Iterable[Found]) -> Found:
    best = min(others, key=lambda o: o.left_over, default=found)
    is_better = best.left_over < _LESS * found.left_over and found.left_over - best.left_over > _DISTINCT_LEVELS
    return best if is_better else found


def _fits(image: Image) -> Iterator[Image]:
    plain = replace(image, fit="stretch", crop_from=0, place="centre")
    yield plain
    yield replace(plain, fit="letterbox")
    yield replace(plain, fit="letterbox", place="corner")
    yield replace(plain, fit="crop")
    shorter = min(image.width, image.height)
    for part in _CROPS:
        yield replace(plain, fit="crop", crop_from=int(shorter / part))
    if shorter != 224:
        yield replace(plain, fit="crop", crop_from=shorter + 32)


def _filters(image: Image) -> Iterator[Image]:
    for keys in _FILTERS:
        yield replace(image, **keys)


def _tried(image: Image, own: Image, upright: bool, taken: Sequence[Taken], tensors: NDArray[np.float64]) -> Found:
    """Place pictures one way, and complete it: order of colours, numbers, padding."""
    placed = [_placed(image, t.upright if upright else t.stored) for t in taken]
    regions = [_region(tensor, frame) for tensor, (frame, _) in zip(tensors, placed, strict=True)]
    pixels = [fitted for _, fitted in placed]
    best: Found | None = None
    for colour in _ORDERS[image.colour]:
        line = _line([_ordered(p, colour) for p in pixels], regions)
        if line is None:
            continue
        named = _named(replace(image, colour=colour), own, line)
        square, padding = 0.0, []
        for tensor, (frame, fitted), region in zip(tensors, placed, regions, strict=True):
            inside = (region - line.offset) / line.factor - _ordered(fitted, colour)
            outside = (_outside(tensor, frame) - line.offset) / line.factor
            padding.append(outside)
            square += float((inside**2).sum())
        around = np.concatenate([p.reshape(-1) for p in padding])
        if around.size:
            named = replace(named, pad=int(np.clip(round(float(np.median(around))), 0, 255)))
            square += float(((around - named.pad) ** 2).sum())
        left_over = float(np.sqrt(square / tensors.size))
        if best is None or left_over < _LESS * best.left_over:
            best = Found(named, upright, left_over)
    return best or Found(image, upright, float("inf"))


def _named(image: Image, own: Image, line: Line) -> Image:
    """Return the image with the numbers of a line: those in use where they make it."""
    in_use = replace(image, scale=own.scale, mean=own.mean, std=own.std)
    if line.is_like(line_of(in_use)):
        return in_use
    scale, mean, std = scaling_of(line, image.colour)
    return replace(image, scale=scale, mean=mean, std=std)


def _placed(image: Image, pixels: Pixels) -> tuple[Frame, Pixels]:
    frame = frame_of(image, pixels.shape[1], pixels.shape[0])
    return frame, resize(pixels, frame, image.resize, antialias=image.antialias, exact=True)


def _region(tensor: NDArray[np.float64], frame: Frame) -> NDArray[np.float64]:
    (left, top), (wide, high) = frame.place, frame.size
    return tensor[top : top + high, left : left + wide]


def _outside(tensor: NDArray[np.float64], frame: Frame) -> NDArray[np.float64]:
    """Return the values round the picture, shape (values, channels)."""
    is_outside = np.ones(tensor.shape[:2], bool)
    (left, top), (wide, high) = frame.place, frame.size
    is_outside[top : top + high, left : left + wide] = False
    around: NDArray[np.float64] = tensor[is_outside]
    return around


def _ordered(pixels: Pixels, colour: str) -> NDArray[np.float64]:
    found = pixels.astype(np.float64)
    if colour == "grey":
        grey: NDArray[np.float64] = found @ np.array(_GREY)
        return grey[:, :, None]
    return found if colour == "rgb" else found[:, :, ::-1]


def _line(pixels: Sequence[NDArray[np.float64]], regions: Sequence[NDArray[np.float64]]) -> Line | None:
    """Fit a line for each channel by least squares; None where there is nothing to fit."""
    x = np.concatenate([p.reshape(-1, p.shape[2]) for p in pixels])
    y = np.concatenate([r.reshape(-1, r.shape[2]) for r in regions])
    if x.shape != y.shape:
        return None
    x_mean, y_mean = x.mean(axis=0), y.mean(axis=0)
    spread = ((x - x_mean) ** 2).mean(axis=0)
    factor = ((x - x_mean) * (y - y_mean)).mean(axis=0) / np.where(spread > 0, spread, 1)
    if not (spread > 0).all() or not (np.abs(factor) > 1e-9).all():
        return None
    return Line(factor, y_mean - factor * x_mean)
