"""Pixels into the row of a batch: order of colours, scale, mean and std, layout, datatype.

Knows no picture: only 8-bit RGB of the right size.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from foretell.signature import Image

__all__ = ["Writer"]

_GREY = (19_595, 38_470, 7_471)
"""0.299, 0.587 and 0.114 in parts of 65,536, as Pillow has them."""


class Writer:
    """Writes prepared rows. Floats are float32(pixel * float32(scale / std)) + float32(-mean / std)."""

    def __init__(self, image: Image, dtype: np.dtype[Any]) -> None:
        self._image = image
        self._dtype = dtype
        size = (image.height, image.width)
        self._first = image.layout == "nchw"
        self.shape = (image.channels, *size) if self._first else (*size, image.channels)
        """Of a row."""
        std = np.broadcast_to(np.array(image.std or 1.0, np.float64), image.channels)
        mean = np.broadcast_to(np.array(image.mean or 0.0, np.float64), image.channels)
        form = (-1, 1, 1) if self._first else (-1,)
        self._factor = (image.scale / std).astype(np.float32).reshape(form)
        self._offset = (-mean / std).astype(np.float32).reshape(form)
        self._padding = (np.float32(image.pad) * self._factor + self._offset).astype(dtype)
        if dtype == np.uint8:
            self._padding = np.full_like(self._padding, image.pad)

    def __call__(self, pixels: NDArray[np.uint8], place: tuple[int, int], out: NDArray[Any]) -> None:
        """Write pixels at a place of a row, and the padding round them.

        Args:
            pixels: RGB of shape (height, width, 3), not larger than the tensor.
            place: Where they begin, across and down.
            out: The row, of `shape`, in C order.
        """
        high, wide = pixels.shape[:2]
        if (high, wide) != (self._image.height, self._image.width):
            out[:] = self._padding
        rows, columns = slice(place[1], place[1] + high), slice(place[0], place[0] + wide)
        region = out[:, rows, columns] if self._first else out[rows, columns]
        ordered = self._ordered(pixels)
        if self._first:
            ordered = ordered.transpose(2, 0, 1)
        if self._dtype == np.uint8:
            region[:] = ordered
        elif self._dtype == np.float32:
            np.multiply(ordered, self._factor, out=region)
            np.add(region, self._offset, out=region)
        else:
            region[:] = ordered * self._factor + self._offset

    def _ordered(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        if self._image.colour == "rgb":
            return pixels
        if self._image.colour == "bgr":
            return pixels[:, :, ::-1]
        weighed = pixels @ np.array(_GREY, np.int32)
        return ((weighed + 0x8000) >> 16).astype(np.uint8)[:, :, None]
