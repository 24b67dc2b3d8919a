"""Pictures to the tensor of a model: decode, fit, colour, scale, in one go into the batch's own array.

1. recognise  paths, encoded bytes, Pillow images, arrays: one or many
2. probe      format, size and limits from the header
3. decode     upright RGB, at a fraction of the sides where the tensor is much smaller
4. fit        stretch, letterbox or crop, with the stated filter
5. write      order of colours, scale, mean and std, layout: straight into the row of the batch

Knows no model and no wire.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from foretell.dtypes import dtype_of
from foretell.errors import InvalidInput
from foretell.model.data.image_check import check_image
from foretell.model.data.image_decode import decode, decode_image, libraries
from foretell.model.data.image_frame import GEOMETRY, Frame, frame_of
from foretell.model.data.image_probe import Limits, check_pixels, probe
from foretell.model.data.image_resize import resize
from foretell.model.data.image_sources import Picture, pictures_of
from foretell.model.data.image_write import Writer
from foretell.signature import Signature

__all__ = ["ImagePreparation", "Limits", "PreparedEach", "PreparedImages", "probe"]

_SHRINKS = (8, 4, 2)
_KEPT_BYTES = 31 << 20
"""Twice of this the process may keep for the next pictures; from 32 MiB on glibc does not learn."""
_LEFT_TO_RESIZE = 2
"""A picture that was decoded smaller has still so many pixels for one of the tensor, for the filter to weigh."""


class PreparedImages(NamedTuple):
    """Pictures as a runtime takes them."""

    inputs: dict[str, NDArray[Any]]
    """The one input of the signature: shape (rows, channels, height, width), or channels last."""
    rows: int
    notes: tuple[str, ...]
    geometry: NDArray[np.float64]
    """Shape (rows, 6), columns as `image_frame.GEOMETRY`: from pixels of the picture to pixels of the tensor."""


class PreparedEach(NamedTuple):
    """Those of many pictures that could be prepared, in order, and what is wrong with the others."""

    inputs: dict[str, NDArray[Any]]
    rows: int
    notes: tuple[str, ...]
    geometry: NDArray[np.float64]
    kept: tuple[int, ...]
    """For each row, which picture it is."""
    errors: dict[int, InvalidInput]
    """By picture."""


class ImagePreparation:
    """Turns pictures into the tensor of a signature. Safe to use from several threads, and gains by it."""

    def __init__(self, signature: Signature, limits: Limits | None = None, *, files: bool = True) -> None:
        """Judge the signature and compile what does not depend on the picture.

        Args:
            signature: With an image.
            limits: What a picture may cost; the defaults of `Limits` where None.
            files: Whether texts and paths are read as files. False for data of strangers.

        Raises:
            ArtifactInvalid: What the signature says cannot be done.
            RuntimeMissing: The decoders are not installed.
        """
        self.image = check_image(signature)
        self.limits = limits or Limits()
        self._files = files
        self._spec = next(s for s in signature.inputs if s.name == self.image.input)
        self._dtype = dtype_of(self._spec.datatype)
        self._write = Writer(self.image, self._dtype)
        libraries()
        # glibc gives memory back to the system where more than twice the largest piece that was freed lies free: after
        # each picture, whose pages would then fault in anew for the next, for longer than it takes to decode it.
        np.empty(_KEPT_BYTES, np.uint8)

    def prepare(self, data: Any, *, threads: int = 1) -> PreparedImages:
        """Return the tensor of one picture or many.

        Args:
            data: A path, encoded bytes, a Pillow image, an array of uint8 (height, width, 3) in RGB or
                (height, width) in grey; or a list of them, or an array (rows, height, width, 3).
            threads: That decode and resize, of those that this call may take.

        Raises:
            InvalidInput: The first picture that cannot be prepared; the message names it.
        """
        found = self._prepare(data, threads)
        for row in sorted(found.errors):
            raise found.errors[row]
        return PreparedImages(found.inputs, found.rows, found.notes, found.geometry)

    def prepare_each(self, data: Any, *, threads: int = 1) -> PreparedEach:
        """Return the tensor of those pictures that can be prepared: a broken one costs the others nothing.

        Args:
            data: As `prepare`.
            threads: The same.

        Raises:
            InvalidInput: The data as a whole is no picture and no list of pictures.
        """
        return self._prepare(data, threads)

    def prepare_into(self, picture: Picture, tensor: NDArray[Any], geometry: NDArray[np.float64]) -> None:
        """Prepare one picture into the row of a batch.

        Args:
            picture: As `pictures_of` gives it.
            tensor: The row: of the tensor's shape without its first axis, and its dtype; written in full.
            geometry: Six numbers, written.

        Raises:
            InvalidInput: It cannot be prepared; what is in the row then is not defined.
        """
        pixels, frame, shrunk = self._pixels(picture)
        image = self.image
        fitted = resize(pixels, frame, image.resize, antialias=image.antialias, exact=image.exact, shrunk=shrunk)
        self._write(fitted, frame.place, tensor)
        geometry[:] = frame.geometry

    def _prepare(self, data: Any, threads: int) -> PreparedEach:
        pictures = pictures_of(data, files=self._files)
        rows = len(pictures)
        tensor = np.empty((rows, *self._write.shape), self._dtype)
        geometry = np.empty((rows, len(GEOMETRY)))
        errors: dict[int, InvalidInput] = {}

        def one(row: int) -> None:
            try:
                self.prepare_into(pictures[row], tensor[row], geometry[row])
            except InvalidInput as error:
                error.row = row
                errors[row] = error

        _each(one, rows, threads)
        kept = [row for row in range(rows) if row not in errors]
        if errors:
            tensor, geometry = tensor[kept], geometry[kept]
        return PreparedEach({self.image.input: tensor}, len(kept), (), geometry, tuple(kept), errors)

    def _pixels(self, picture: Picture) -> tuple[NDArray[np.uint8], Frame, int]:
        """Return upright pixels, where they go, and how many along a side have become one."""
        content = picture.content(self.limits)
        if not isinstance(content, bytes):
            return self._decoded(content, picture.name)
        found = probe(content, self.limits, picture.name)
        width, height = (found.height, found.width) if found.orientation > 4 else (found.width, found.height)
        frame = self._frame(width, height, picture.name)
        pixels, shrunk = decode(content, found, self.limits, picture.name, self._shrink(frame))
        return pixels, frame, shrunk

    def _decoded(self, found: Any, name: str) -> tuple[NDArray[np.uint8], Frame, int]:
        if not isinstance(found, np.ndarray):
            found = decode_image(found, self.limits, name)
        height, width = found.shape[:2]
        check_pixels(width, height, self.limits, name)
        return found, self._frame(width, height, name), 1

    def _frame(self, width: int, height: int, name: str) -> Frame:
        frame = frame_of(self.image, width, height)
        if frame.whole[0] * frame.whole[1] > max(self.limits.pixels, self.image.width * self.image.height):
            raise InvalidInput(
                f"{name}: {width:,} x {height:,} pixels would become {frame.whole[0]:,} x {frame.whole[1]:,} before "
                "the crop; send a picture that is less narrow"
            )
        return frame

    def _shrink(self, frame: Frame) -> int:
        """Return how much smaller a picture may be decoded: never so far that the filter has nothing to weigh."""
        if self.image.exact or not self.image.antialias or self.image.resize == "nearest":
            return 1
        room = min(p / w for p, w in zip(frame.picture, frame.whole, strict=True)) / _LEFT_TO_RESIZE
        return next((shrink for shrink in _SHRINKS if shrink <= room), 1)


def _each(one: Callable[[int], None], rows: int, threads: int) -> None:
    if threads > 1 and rows > 1:
        with ThreadPoolExecutor(min(threads, rows)) as pool:
            list(pool.map(one, range(rows)))
    else:
        for row in range(rows):
            one(row)
