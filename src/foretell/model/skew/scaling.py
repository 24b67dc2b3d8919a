"""From pixels to numbers: which of the usual scalings makes pixels of 0 to 255 what they are in a tensor.

A scaling is seen as x = factor * pixel + offset for each channel. Pure.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from foretell.signature import Colour, Image

__all__ = ["Line", "line_of", "scaling_of"]

_SAME_LEVELS = 0.3
"""Two scalings are the same where no pixel differs by more levels: two that are in use are half a level apart."""
_IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_CLIP = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
_CAFFE = (123.68, 116.779, 103.939)
_PARTS = 1 / 255

Scaling = tuple[float, tuple[float, ...], tuple[float, ...]]
"""scale, mean, std as `Image` has them, for channels in the order of RGB."""

_USUAL: tuple[Scaling, ...] = (
    (1.0, (), ()),
    (_PARTS, (), ()),
    (1 / 127.5, (1.0,), ()),
    (1.0, (127.0,), (128.0,)),
    (1.0, (128.0,), (128.0,)),
    (_PARTS, *_IMAGENET),
    (_PARTS, *_CLIP),
    (1.0, _CAFFE, ()),
    (1.0, tuple(255 * m for m in _IMAGENET[0]), ()),
    (_PARTS, _IMAGENET[0], ()),
)


@dataclass(frozen=True)
class Line:
    """x = factor * pixel + offset."""

    factor: NDArray[np.float64]
    """Of each channel, in the order of the tensor."""
    offset: NDArray[np.float64]

    def is_like(self, other: Line) -> bool:
        """Whether no pixel comes out more than a level apart."""
        ends = [np.abs(self.factor * p + self.offset - other.factor * p - other.offset) for p in (0.0, 255.0)]
        return bool((np.maximum(*ends) <= _SAME_LEVELS * np.abs(self.factor)).all())


def line_of(image: Image) -> Line:
    """Return the line of a preparation."""
    mean = np.broadcast_to(np.array(image.mean or 0.0, np.float64), image.channels)
    std = np.broadcast_to(np.array(image.std or 1.0, np.float64), image.channels)
    return Line(image.scale / std, -mean / std)


def scaling_of(line: Line, colour: Colour) -> Scaling:
    """Return scale, mean and std that make a line: the usual ones where they do, else what can be read off."""
    channels = len(line.factor)
    for scale, mean, std in _USUAL:
        if max(len(mean), len(std)) > channels:
            continue
        if colour == "bgr":
            mean, std = mean[::-1], std[::-1]
        if line.is_like(line_of(Image("x", 1, 1, colour=colour, scale=scale, mean=mean, std=std))):
            return scale, mean, std
    mean = tuple(float(f"{v:.4g}") for v in (-line.offset / line.factor).tolist())
    std = tuple(float(f"{v:.4g}") for v in (1 / line.factor).tolist())
    return 1.0, mean, std
