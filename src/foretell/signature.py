"""What a model takes and gives.

A model is described twice. To people it takes *fields*: named columns with a kind, or a picture. To its
runtime it takes *tensors*. `Signature.columns` and `Signature.image` say how the second is made of the
first; `model/data` does it.
Knows no file, no framework and no wire.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal

__all__ = [
    "Colour",
    "Column",
    "Encoding",
    "Field",
    "Filter",
    "Fit",
    "Image",
    "Kind",
    "Label",
    "Layout",
    "Place",
    "Signature",
    "TensorSpec",
]

Label = str | int | float | bool
"""A class of a classifier, or a value of a category."""

Kind = Literal["number", "integer", "boolean", "category", "text", "date", "image"]
"""What a column holds, in the user's terms. A model of pictures has one field, of kind image, and no columns."""

Encoding = Literal["number", "code", "text", "date"]
"""How a field becomes one column of a tensor.

number: the value as a float; true is 1.0, missing is NaN.
code:   the index of the value in `Field.categories`; missing is NaN (or the least integer of an integer
        tensor), a value that is not among them is -1.
text:   the value as a string, for BYTES tensors; missing is the empty string unless the runtime says otherwise.
date:   nanoseconds since 1970-01-01 UTC in INT64 tensors; missing is the least INT64.
"""

Fit = Literal["stretch", "letterbox", "crop"]
"""How a picture of any shape comes to fill the tensor.

stretch:   both sides are resized to the tensor's, whatever the proportions.
letterbox: resized by the one factor r = min(width / w, height / h) to round(w r) x round(h r) pixels (halves to even,
           at least 1), and the rest is filled with `Image.pad`. What is left over is halved, rounded down, to the
           left and above, or all of it to the right and below (see `Place`).
crop:      resized by one factor until it just covers the tensor, or a frame of the tensor's proportions whose
           shorter side is `Image.crop_from`; the longer side is rounded down. Of that the centre is cut out; an
           odd pixel goes as Python's round() has it.
"""

Filter = Literal["nearest", "bilinear", "bicubic", "lanczos", "box"]
"""How pixels are weighed in a resize. Pixel centres lie at halves; the names are Pillow's."""

Place = Literal["centre", "corner"]
"""Where a letterboxed picture lies: in the middle of the tensor, or in its upper left corner."""

Colour = Literal["rgb", "bgr", "grey"]
"""Order of the channels. grey is one channel: L = 0.299 R + 0.587 G + 0.114 B."""

Layout = Literal["nchw", "nhwc"]
"""Order of the axes of the tensor: rows, channels, height, width, or channels last."""


@dataclass(frozen=True, slots=True)
class Field:
    """One column a user gives."""

    name: str
    kind: Kind = "number"
    nullable: bool = True
    """Whether a value may be missing. A missing value in a field that is not nullable is refused."""
    categories: tuple[Label, ...] = ()
    """Known values of a category, in the order of their codes. Any other value is *unknown*."""
    closed: bool = False
    """Refuse unknown values, because the model cannot take them. Otherwise they are passed on as unknown."""
    low: float | None = None
    high: float | None = None
    """Range seen in training or in the sample: for drawing rows and for documentation, never enforced."""


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """One tensor of a runtime: protocol datatype, and shape with -1 for a free dimension."""

    name: str
    datatype: str
    shape: tuple[int, ...]

    @property
    def width(self) -> int:
        """Elements a row takes, where only axis 0 is free; 0 if another axis is free too."""
        rest = self.shape[1:]
        return 0 if any(d < 0 for d in rest) else math.prod(rest)


@dataclass(frozen=True, slots=True)
class Column:
    """One column of an input tensor: which field it comes from, and how."""

    field: str
    encoding: Encoding = "number"


@dataclass(frozen=True, slots=True)
class Image:
    """How a picture becomes one row of an input tensor.

    1. decode   to RGB of 8 bits, as Pillow's convert("RGB") does: grey and CMYK become RGB, transparency is dropped;
                of 16 bits the high 8; turned upright as the EXIF orientation says
    2. fit      resized and placed (`fit`, `resize`, `antialias`), in 8 bits
    3. colour   channels put in order, or made grey
    4. scale    x = (pixel * scale - mean) / std for pixel = 0 ... 255, also of the padding; then the layout

    With UINT8 tensors step 4 is the layout alone.
    """

    input: str
    """Name of the tensor in `Signature.inputs`; its datatype is FP32, FP16 or UINT8."""
    width: int
    height: int
    """Of the tensor, in pixels."""
    fit: Fit = "stretch"
    crop_from: int = 0
    """Only with crop: the shorter side of the frame the picture covers before the cut; 0: the tensor's own."""
    resize: Filter = "bilinear"
    antialias: bool = True
    """Whether a filter grows with the factor when a picture shrinks (Pillow, torchvision), or always reads the same
    few pixels (OpenCV, torch's interpolate as it comes). nearest never grows."""
    colour: Colour = "rgb"
    layout: Layout = "nchw"
    scale: float = 1.0
    mean: tuple[float, ...] = ()
    """In units of pixel * scale: one number a channel in the order of `colour`, one for all, or none: 0."""
    std: tuple[float, ...] = ()
    """As `mean`; none: 1. Never 0."""
    pad: int = 0
    """Value, 0 to 255, of the pixels a letterbox fills in, in every channel. YOLO: 114, darknet: 128."""
    place: Place = "centre"
    """Only with letterbox."""
    exact: bool = False
    """Whether every pixel is decoded and resized the reference way, slower, for the same bits on every machine.
    Otherwise a large JPEG may be decoded at a half, a quarter or an eighth of its sides, never below twice those
    of the resized picture, and resized with shorter coefficients: docs/images.md has the differences."""

    @property
    def channels(self) -> int:
        """Channels of the tensor: 1 or 3."""
        return 1 if self.colour == "grey" else 3


@dataclass(frozen=True, slots=True)
class Signature:
    """What a model takes and gives: fields for people, tensors for the runtime."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    fields: tuple[Field, ...] = ()
    """Columns in the order in which an unnamed row gives them. Empty: the model takes bare tensors."""
    columns: Mapping[str, tuple[Column, ...]] = field(default_factory=lambda: MappingProxyType({}))
    """For each input tensor the columns along axis 1, in order. A tensor of shape (-1,) has exactly one."""
    named: bool = True
    """Whether the names of the fields come from the model; False: they were made up (x0, x1 ...)."""
    image: Image | None = None
    """How a picture becomes a row, for a model of pictures. `inputs` and `outputs` stay those of the network."""

    def field_named(self, name: str) -> Field:
        """Return the field with this name; KeyError if there is none."""
        for candidate in self.fields:
            if candidate.name == name:
                return candidate
        raise KeyError(name)
