"""Pictures through a network: a thread takes a few, prepares them, runs them, reads what was found, and takes the next.

So decoding on one core overlaps with the network on another, and no more than a group for each thread is in memory.
Knows no file of a model: the network is a function.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from foretell.dtypes import dtype_of
from foretell.errors import ForetellError, InvalidInput
from foretell.model.data.image import ImagePreparation
from foretell.model.data.image_check import check_image
from foretell.model.data.image_decode import decode, decode_image
from foretell.model.data.image_frame import GEOMETRY
from foretell.model.data.image_probe import Limits, probe
from foretell.model.data.image_sources import Picture, pictures_of
from foretell.model.data.tensors import Prepared, TensorPreparation
from foretell.model.tasks.answered import Answered
from foretell.model.tasks.detection import Detection, plain_geometry
from foretell.model.tasks.objects import Objects
from foretell.model.tasks.predictions import Predictions, Task
from foretell.signature import Signature, TensorSpec

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["Seeing"]

Outputs = list[NDArray[Any]]
Infer = Callable[[dict[str, NDArray[Any]], int], Outputs]
"""Runs prepared tensors of so many rows."""
Map = Callable[[Callable[[Any], Any], Iterable[Any]], Iterable[Any]]

_GROUP = 4
"""Pictures that go through the network together: enough for its fixed cost, few enough for the cores to end at once."""


class Seeing:
    """Predicts pictures. Safe to use from several threads."""

    def __init__(self, signature: Signature, task: Task, limits: Limits | None = None) -> None:
        """Compile the preparation.

        Raises:
            ArtifactInvalid: What the signature says of pictures cannot be done.
            RuntimeMissing: The decoders are not installed.
        """
        self.image = check_image(signature)
        self._limits = limits or Limits()
        self._pictures = ImagePreparation(signature, self._limits)
        self._tensors = TensorPreparation(signature)
        self._task = task
        image, depth = self.image, self.image.channels
        sides = (image.height, image.width)
        self._shape = (depth, *sides) if image.layout == "nchw" else (*sides, depth)
        self._dtype = dtype_of(signature.inputs[0].datatype)
        self._group = 1 if isinstance(task, Detection) and not task.batched else _GROUP
        self.answered = Answered.of(task, signature.outputs, (image.width, image.height))

    def prepare(self, data: Any) -> Prepared:
        """Return the tensor of one picture or many: what the network sees."""
        if self._is_tensor(data):
            return self._tensors.prepare(data)
        return Prepared(*self._pictures.prepare(data)[:3])

    def predict(self, data: Any, infer: Infer, each: Map = map, threads: int = 1) -> Predictions:
        """Predict pictures, or tensors that were prepared elsewhere.

        Args:
            data: A picture or a list of them, see `ImagePreparation.prepare`; or the tensor: floats of four axes, or
                a dict of it by the name of the input. Boxes are then in pixels of the tensor.
            infer: The network.
            each: `map`, or that of a pool of threads.
            threads: Of the pool.

        Raises:
            InvalidInput: A picture cannot be prepared; the message names the first one.
        """
        if self._is_tensor(data):
            inputs, rows, notes = self._tensors.prepare(data)
            geometry = plain_geometry(rows, (self.image.width, self.image.height))
            return Predictions(self._task, self._read(infer(inputs, rows), geometry), notes)
        pictures = pictures_of(data)
        step = max(1, min(self._group, -(-len(pictures) // threads)))
        starts = range(0, len(pictures), step)
        done = list(each(lambda at: self._see(pictures[at : at + step], at, infer), starts))
        outputs = [np.concatenate(parts) for parts in zip(*done, strict=True)] if done else self._none(infer)
        picture = partial(self._picture, pictures)
        return Predictions(self._task, outputs, sources=_sources(pictures), picture=picture)

    def see(self, contents: Sequence[bytes], infer: Infer) -> tuple[Outputs, dict[int, ForetellError]]:
        """Answer encoded pictures of strangers, in the calling thread alone.

        Args:
            contents: One or more.
            infer: The network.

        Returns:
            The answers, as `answered` describes them, and by picture what is wrong with it. What stands in the answers
            for a picture that is broken means nothing; it costs the others nothing.
        """
        parts: list[Outputs] = []
        errors: dict[int, ForetellError] = {}
        for at in range(0, len(contents), self._group):
            group = contents[at : at + self._group]
            outputs, broken = self._see_each(group, infer)
            parts.append(outputs)
            errors |= {at + row: error for row, error in broken.items()}
        return parts[0] if len(parts) == 1 else [np.concatenate(p) for p in zip(*parts, strict=True)], errors

    def _see_each(self, contents: Sequence[bytes], infer: Infer) -> tuple[Outputs, dict[int, ForetellError]]:
        rows = len(contents)
        tensor = np.empty((rows, *self._shape), self._dtype)
        geometry = np.empty((rows, len(GEOMETRY)))
        errors: dict[int, ForetellError] = {}
        kept: list[int] = []
        for row, content in enumerate(contents):
            at = len(kept)
            try:
                self._pictures.prepare_into(Picture(content, "image", files=False), tensor[at], geometry[at])
            except ForetellError as error:
                errors[row] = error
            else:
                kept.append(row)
        count = len(kept)
        if not count:
            return [_blank(spec, rows) for spec in self.answered.specs], errors
        found = self.answered.answers(infer({self.image.input: tensor[:count]}, count), geometry[:count])
        return (_spread(found, kept, rows) if errors else found), errors

    def _see(self, pictures: Sequence[Picture], first: int, infer: Infer) -> Outputs:
        rows = len(pictures)
        tensor = np.empty((rows, *self._shape), self._dtype)
        geometry = np.empty((rows, len(GEOMETRY)))
        for row, picture in enumerate(pictures):
            try:
                self._pictures.prepare_into(picture, tensor[row], geometry[row])
            except InvalidInput as error:
                error.row = first + row
                raise
        return self._read(infer({self.image.input: tensor}, rows), geometry)

    def _read(self, outputs: Outputs, geometry: NDArray[np.float64]) -> Outputs:
        if not isinstance(self._task, Detection):
            return outputs
        return list(self._task.objects(outputs, geometry, (self.image.width, self.image.height)).arrays())

    def _none(self, infer: Infer) -> Outputs:
        if isinstance(self._task, Detection):
            return list(Objects.none(0, self._task.max_objects).arrays())
        return infer({}, 0)

    def _picture(self, pictures: Sequence[Picture], row: int) -> Image:
        """Return a picture as people see it: whole, upright, RGB."""
        from PIL import Image as images

        picture = pictures[row]
        content = picture.content(self._limits)
        if isinstance(content, bytes):
            found = probe(content, self._limits, picture.name)
            content = decode(content, found, self._limits, picture.name)[0]
        elif not isinstance(content, np.ndarray):
            content = decode_image(content, self._limits, picture.name)
        return images.fromarray(np.ascontiguousarray(content))

    def _is_tensor(self, data: Any) -> bool:
        if isinstance(data, Mapping):
            return True
        return isinstance(data, np.ndarray) and data.dtype.kind == "f"


def _sources(pictures: Sequence[Picture]) -> tuple[str, ...]:
    """Return the files of the pictures; nothing where none of them is a file."""
    files = [isinstance(p.source, (str, os.PathLike)) for p in pictures]
    if not any(files):
        return ()
    return tuple(
        str(p.source) if is_file else str(row) for row, (p, is_file) in enumerate(zip(pictures, files, strict=True))
    )


def _blank(spec: TensorSpec, rows: int) -> NDArray[Any]:
    """Return an answer to rows of which nothing is known."""
    shape = (rows, *(max(d, 0) for d in spec.shape[1:]))
    return np.full(shape, "", object) if spec.datatype == "BYTES" else np.zeros(shape, dtype_of(spec.datatype))


def _spread(found: Outputs, kept: list[int], rows: int) -> Outputs:
    """Return answers with places for the rows that have none."""
    spread = []
    for array in found:
        wide = np.full((rows, *array.shape[1:]), "" if array.dtype.kind == "O" else 0, array.dtype)
        wide[kept] = array
        spread.append(wide)
    return spread
