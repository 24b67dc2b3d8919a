"""Whether what a signature says of its picture can be done: names, numbers, and the shape of the tensor.

Knows no picture and no decoder.
"""

from __future__ import annotations

import math
from typing import Any, get_args

from foretell.errors import ArtifactInvalid
from foretell.signature import Colour, Field, Filter, Fit, Image, Layout, Place, Signature, TensorSpec

__all__ = ["IMAGE_DATATYPES", "IMAGE_FIELD", "check_image"]

IMAGE_FIELD = Field("image", "image", nullable=False)
"""The one field of a model of pictures."""
IMAGE_DATATYPES = ("FP32", "FP16", "UINT8")
"""Datatypes that a picture can be prepared in."""

_MOST_SIDE = 16_384
"""Longest side of a tensor, in pixels: a typing mistake must not ask for gigabytes."""
_WORDS: dict[str, tuple[str, ...]] = {
    "fit": get_args(Fit),
    "resize": get_args(Filter),
    "colour": get_args(Colour),
    "layout": get_args(Layout),
    "place": get_args(Place),
}


def check_image(signature: Signature) -> Image:
    """Return how a picture becomes a row of this signature.

    Raises:
        ArtifactInvalid: The signature has no picture, a value is none of those that are known, the numbers fit no
            channels, or the tensor has another shape or datatype.
    """
    image = signature.image
    if image is None:
        raise ArtifactInvalid("signature: has no image; add a table [signature.image] with input, width and height")
    _check_words(image)
    _check_sizes(image)
    _check_numbers(image)
    if signature.fields != (IMAGE_FIELD,) or signature.columns:
        raise ArtifactInvalid('signature.image: expected one field, "image" of kind image, and no columns')
    specs = [s for s in signature.inputs if s.name == image.input]
    if not specs or len(signature.inputs) != 1:
        names = ", ".join(f'"{s.name}"' for s in signature.inputs) or "none"
        raise ArtifactInvalid(f'signature.image: input "{image.input}", the model has {names}; expected it alone')
    _check_tensor(image, specs[0])
    return image


def _check_words(image: Image) -> None:
    for key, words in _WORDS.items():
        got = getattr(image, key)
        if got not in words:
            raise ArtifactInvalid(f"signature.image: {key} {got!r}, expected {', '.join(words)}")
    for key in ("antialias", "exact"):
        if not isinstance(getattr(image, key), bool):
            raise ArtifactInvalid(f"signature.image: {key} {getattr(image, key)!r}, expected true or false")
    if not image.antialias and image.resize in ("lanczos", "box"):
        raise ArtifactInvalid(f'signature.image: resize "{image.resize}" without antialias; expected it with antialias')


def _check_sizes(image: Image) -> None:
    for key in ("width", "height"):
        _whole(key, getattr(image, key), 1, _MOST_SIDE)
    _whole("pad", image.pad, 0, 255)
    _whole("crop_from", image.crop_from, 0, _MOST_SIDE)
    if image.crop_from and image.fit != "crop":
        raise ArtifactInvalid(f'signature.image: crop_from {image.crop_from} with fit "{image.fit}", expected "crop"')
    if 0 < image.crop_from < min(image.width, image.height):
        least = min(image.width, image.height)
        raise ArtifactInvalid(f"signature.image: crop_from {image.crop_from}, expected at least {least}, or 0")


def _check_numbers(image: Image) -> None:
    if not _is_number(image.scale) or image.scale == 0:
        raise ArtifactInvalid(f"signature.image: scale {image.scale!r}, expected a number other than 0")
    for key in ("mean", "std"):
        got = getattr(image, key)
        right = isinstance(got, tuple) and len(got) in (0, 1, image.channels) and all(map(_is_number, got))
        if not right or (key == "std" and 0 in got):
            other = ", and no 0" if key == "std" else ""
            raise ArtifactInvalid(
                f"signature.image: {key} {got!r}, expected {image.channels} numbers, 1 or none{other}"
            )


def _check_tensor(image: Image, spec: TensorSpec) -> None:
    if spec.datatype not in IMAGE_DATATYPES:
        takes = ", ".join(IMAGE_DATATYPES)
        raise ArtifactInvalid(f'input "{spec.name}": datatype {spec.datatype}, a picture is prepared as {takes}')
    if spec.datatype == "UINT8" and (image.scale != 1 or any(image.mean) or any(s != 1 for s in image.std)):
        raise ArtifactInvalid(f'input "{spec.name}": UINT8 holds pixels as they are; take away scale, mean and std')
    wanted = (image.channels, image.height, image.width)
    if image.layout == "nhwc":
        wanted = (*wanted[1:], wanted[0])
    got = spec.shape[1:]
    if len(got) != len(wanted) or any(g not in (-1, w) for g, w in zip(got, wanted, strict=True)):
        raise ArtifactInvalid(
            f'input "{spec.name}": shape {spec.shape}, signature.image makes (-1, {", ".join(map(str, wanted))}); '
            "correct width, height, colour or layout"
        )


def _whole(key: str, got: Any, low: int, high: int) -> None:
    if not isinstance(got, int) or isinstance(got, bool) or not low <= got <= high:
        raise ArtifactInvalid(f"signature.image: {key} {got!r}, expected a whole number from {low} to {high}")


def _is_number(got: Any) -> bool:
    return isinstance(got, (int, float)) and not isinstance(got, bool) and math.isfinite(got)
