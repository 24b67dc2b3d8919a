"""Where the pixels of a picture go in the tensor: stretch, letterbox, crop. Pure arithmetic.

A picture of width x height is resized to `whole`, of which the part of `size` at `cut` is kept and put at `place`:

    x in the tensor = x in the picture * whole width / width - cut x + place x        (pixel edges, not centres)
"""

from __future__ import annotations

from dataclasses import dataclass

from foretell.signature import Image

__all__ = ["GEOMETRY", "Frame", "frame_of"]

GEOMETRY = ("width", "height", "x_scale", "y_scale", "x_offset", "y_offset")
"""Columns of geometry: of the upright picture in pixels, then tensor x = x * x_scale + x_offset, and the same for y."""


@dataclass(frozen=True, slots=True)
class Frame:
    """What part of the resized picture fills what part of the tensor. Pairs are (across, down), in pixels."""

    picture: tuple[int, int]
    """Of the upright original."""
    whole: tuple[int, int]
    """Of the whole picture after its resize."""
    size: tuple[int, int]
    """Of the part that is kept."""
    cut: tuple[int, int] = (0, 0)
    """Where that part begins in the whole."""
    place: tuple[int, int] = (0, 0)
    """Where it begins in the tensor."""

    @property
    def geometry(self) -> tuple[float, ...]:
        """Six numbers, as GEOMETRY names them."""
        (width, height), (wide, high) = self.picture, self.whole
        x_offset, y_offset = self.place[0] - self.cut[0], self.place[1] - self.cut[1]
        return width, height, wide / width, high / height, x_offset, y_offset


def frame_of(image: Image, width: int, height: int) -> Frame:
    """Return where a picture of width x height pixels goes.

    Args:
        image: How pictures are prepared.
        width: Of the upright picture, at least 1.
        height: The same.
    """
    tensor = (image.width, image.height)
    if image.fit == "stretch":
        return Frame((width, height), tensor, tensor)
    if image.fit == "letterbox":
        return _letterbox(image, width, height)
    return _crop(image, width, height)


def _letterbox(image: Image, width: int, height: int) -> Frame:
    factor = min(image.width / width, image.height / height)
    # The factor is rounded itself, so that the product may come out a hair over the tensor.
    wide = min(max(round(width * factor), 1), image.width)
    high = min(max(round(height * factor), 1), image.height)
    place = (0, 0) if image.place == "corner" else ((image.width - wide) // 2, (image.height - high) // 2)
    return Frame((width, height), (wide, high), (wide, high), place=place)


def _crop(image: Image, width: int, height: int) -> Frame:
    cover_wide, cover_high = _cover(image)
    if width * cover_high <= height * cover_wide:  # narrower than what it covers: its width is what just fits
        whole = (cover_wide, height * cover_wide // width)
    else:
        whole = (width * cover_high // height, cover_high)
    # Halves go to the even number, as Python's and torchvision's do.
    cut = (round((whole[0] - image.width) / 2), round((whole[1] - image.height) / 2))
    return Frame((width, height), whole, (image.width, image.height), cut)


def _cover(image: Image) -> tuple[int, int]:
    """Return the frame that a picture covers before the cut: the tensor's proportions, rounded up."""
    if not image.crop_from:
        return image.width, image.height
    shorter = min(image.width, image.height)
    return -(-image.width * image.crop_from // shorter), -(-image.height * image.crop_from // shorter)
