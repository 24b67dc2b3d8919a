"""Compares the tensors of a bundle's preparation with those of the training code, and says what differs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from dataclasses import fields as dataclass_fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from foretell.errors import InvalidInput
from foretell.model.data.image import ImagePreparation, Limits
from foretell.model.data.image_decode import decode, decode_image
from foretell.model.data.image_probe import probe
from foretell.model.data.image_sources import Picture, pictures_of
from foretell.model.skew.reference import Reference
from foretell.model.skew.scaling import line_of
from foretell.model.skew.search import Taken, best_preparation
from foretell.signature import Image, Signature

__all__ = ["Difference", "Skew", "compare_preparation"]

_MOST_SEARCHED = 8
"""Pictures that alternatives are tried on; more of them say the same."""
_CLOSER = 0.5
"""What is left over on average has to fall to this part of what it was, for a preparation to be named."""


@dataclass(frozen=True)
class Difference:
    """Between two preparations, in levels: what a pixel of 0 to 255 would have to differ by."""

    channels: tuple[str, ...]
    largest: tuple[float, ...]
    """Of each channel."""
    mean: tuple[float, ...]


@dataclass(frozen=True)
class Skew:
    """What came out."""

    pictures: int
    exact: Difference
    """Of the stated preparation, done the exact way."""
    fast: Difference
    """As it is done: the same where it is exact."""
    layout: str | None
    """The layout of the reference, where it is another one."""
    changes: dict[str, Any]
    """Keys of `signature.image` that would have to be others, and what; empty where nothing comes closer."""
    upright: bool
    """Whether the training code applies the EXIF orientation, as far as pictures tell."""
    after: Difference | None
    """What would be left over with the changes, done the exact way; None where there are none."""


def compare_preparation(signature: Signature, reference: Reference, tolerance: float) -> Skew:
    """Prepare the pictures of a reference and compare.

    Args:
        signature: With an image.
        reference: Of the training code.
        tolerance: Levels; where more is between them, other preparations are tried.

    Raises:
        InvalidInput: A picture is broken, or the tensors have another size than those of the signature.
    """
    image = signature.image
    if image is None:
        raise InvalidInput("the model takes no pictures; a reference is for those that do")
    tensors, layout = _channels_last(image, reference)
    exact = _difference(image, _prepared(signature, replace(image, exact=True), reference.pictures), tensors)
    fast = exact if image.exact else _difference(image, _prepared(signature, image, reference.pictures), tensors)
    if max(exact.largest) <= tolerance:
        return Skew(len(tensors), exact, fast, layout, {}, True, None)
    step = max(1, len(tensors) // _MOST_SEARCHED)
    taken = [_taken(picture) for picture in pictures_of(reference.pictures)[::step]]
    found = best_preparation(image, taken, tensors[::step])
    changes = _changes(image, found.image)
    after = None
    if changes or not found.upright:
        pictures = reference.pictures if found.upright else [t.stored for t in taken]
        prepared = _prepared(signature, replace(found.image, exact=True), pictures)
        after = _difference(found.image, prepared, tensors if found.upright else tensors[::step])
        if sum(after.mean) > _CLOSER * sum(exact.mean):
            return Skew(len(tensors), exact, fast, layout, {}, True, None)
    return Skew(len(tensors), exact, fast, layout, changes, found.upright, after)


def _channels_last(image: Image, reference: Reference) -> tuple[NDArray[np.float64], str | None]:
    """Return the reference as (pictures, height, width, channels), and its layout if that is not the signature's."""
    last = (image.height, image.width, image.channels)
    first = (image.channels, image.height, image.width)
    shape = reference.tensors.shape[1:]
    if shape not in (last, first):
        raise InvalidInput(
            f'{reference.name}: "tensors" has shape {reference.tensors.shape}, the model takes '
            f"{image.width} x {image.height} pixels in {image.channels} channels; compare what goes into the network"
        )
    found = reference.tensors.astype(np.float64)
    layout = "nhwc" if shape == last else "nchw"
    return (found if shape == last else found.transpose(0, 2, 3, 1)), (None if layout == image.layout else layout)


def _prepared(signature: Signature, image: Image, pictures: list[Any]) -> NDArray[np.float64]:
    """Prepare pictures; channels last."""
    if signature.inputs[0].datatype == "UINT8":  # which holds pixels as they are
        image = replace(image, scale=1.0, mean=(), std=())
    (tensor,) = ImagePreparation(replace(signature, image=image)).prepare(pictures).inputs.values()
    found = tensor.astype(np.float64)
    return found if image.layout == "nhwc" else found.transpose(0, 2, 3, 1)


def _difference(image: Image, ours: NDArray[np.float64], theirs: NDArray[np.float64]) -> Difference:
    levels = np.abs(ours - theirs) / np.abs(line_of(image).factor)
    names = {"rgb": ("red", "green", "blue"), "bgr": ("blue", "green", "red"), "grey": ("grey",)}[image.colour]
    flat = levels.reshape(-1, levels.shape[-1])
    return Difference(names, tuple(flat.max(axis=0).tolist()), tuple(flat.mean(axis=0).tolist()))


def _changes(image: Image, other: Image) -> dict[str, Any]:
    names = [slot.name for slot in dataclass_fields(Image)]
    return {n: getattr(other, n) for n in names if getattr(other, n) != getattr(image, n)}


def _taken(picture: Picture) -> Taken:
    limits = Limits()
    content = picture.content(limits)
    if isinstance(content, bytes):
        found = probe(content, limits, picture.name)
        upright = decode(content, found, limits, picture.name)[0]
        if found.orientation == 1:
            return Taken(upright, upright)
        return Taken(upright, decode(content, replace(found, orientation=1), limits, picture.name)[0])
    pixels = content if isinstance(content, np.ndarray) else decode_image(content, limits, picture.name)
    return Taken(pixels, pixels)
