"""Networks of pictures: what of their preparation and task an ONNX file says, and what has to be asked for.

The shape of the input says size and layout; what was done to the pixels in training is nowhere in a graph. Exports of
Ultralytics and YOLOv5 are known by their metadata, and with it their preparation. Everything else is asked for, each
with the line to add to model.toml. Nothing is guessed: a wrong scale gives answers that look right.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from foretell.model.data.image_check import IMAGE_FIELD
from foretell.model.describe import read_signature, read_task, write_signature
from foretell.model.formats.onnx_layouts import Ask, guess_outputs
from foretell.model.tasks.predictions import Task
from foretell.signature import Signature, TensorSpec

__all__ = ["Sight", "sight_of"]

_PIXELS = ("FP32", "FP16", "UINT8")
_ULTRALYTICS: dict[str, Any] = {"colour": "rgb", "scale": 1 / 255, "resize": "bilinear"}
"""Of its `LoadImages` and `LetterBox` for detection: OpenCV's bilinear filter, which does not widen, and grey of 114.
Its classifiers shrink the shorter side with torchvision's, which widens, and cut out the centre."""
_LINES = {
    "width": ("the input takes any", "width = 640"),
    "height": ("the input takes any", "height = 640"),
    "fit": ("how a picture was made to fit in training", 'fit = "stretch"  # or "letterbox", "crop"'),
    "resize": (
        "the filter of the resize in training",
        'resize = "bilinear"  # or "bicubic", "nearest", "lanczos", "box"',
    ),
    "colour": ("the order of the channels in training", 'colour = "rgb"  # or "bgr"'),
    "scale": (
        "what pixels from 0 to 255 were multiplied with in training",
        "scale = 0.00392156862745098  # 1/255; add mean and std where they were subtracted and divided by",
    ),
}
_QUESTIONS = ("width", "height", "fit", "resize", "colour", "scale")


@dataclass(frozen=True)
class Sight:
    """What is known of a network of pictures."""

    signature: Signature | None
    """With its image; None while something has to be asked for."""
    task: Task | None
    found: tuple[str, ...]
    """What was read from the file, one line each."""
    asked: tuple[Ask, ...]

    @property
    def notes(self) -> tuple[str, ...]:
        """What was found and what is asked for, in lines for people."""
        questions = [f"model.toml, [{a.table}], {a.key}: {a.why}; add: {a.line}" for a in self.asked]
        head = ["it takes tensors until model.toml says how a picture becomes one"] if self.asked else []
        return (*(f"read from the file: {f}" for f in self.found), *head, *questions)


def sight_of(
    inputs: tuple[TensorSpec, ...],
    outputs: tuple[TensorSpec, ...],
    makers: Mapping[str, str],
    metadata: Mapping[str, str],
    given: Mapping[str, Any] | None = None,
) -> Sight | None:
    """Say what is known of a network of pictures; None for another network.

    Args:
        inputs: Of the graph. A picture is one input of four axes, of which one is 1 or 3 channels.
        outputs: Of the graph.
        makers: Operator that makes each output, by its name.
        metadata: The file's own.
        given: What somebody has written down: tables `task` and `signature` with `image`, as in model.toml. It goes
            before what is read from the file.

    Raises:
        ArtifactInvalid: What was given cannot be, or does not fit the graph.
    """
    tables = given or {}
    image = _shape_of(inputs)
    if image is None:
        return None
    found = [_words(image)]
    guess = guess_outputs(outputs, makers, metadata, tables.get("task", {}))
    asked = list(guess.asked)
    if "names" in metadata and "stride" in metadata:
        image |= _of_ultralytics(image, metadata, guess.table)
        found.append("preparation as Ultralytics exports have it, known by its metadata")
    image |= tables.get("signature", {}).get("image", {})
    asked += [Ask("signature.image", key, *_LINES[key]) for key in _QUESTIONS if key not in image]
    found += guess.found
    if asked:
        return Sight(None, None, tuple(found), tuple(asked))
    written = write_signature(Signature(inputs, outputs, (IMAGE_FIELD,)))
    signature = read_signature(written | {"image": image})
    return Sight(signature, read_task(guess.table), tuple(found), ())


def _shape_of(inputs: tuple[TensorSpec, ...]) -> dict[str, Any] | None:
    """Return what the shape of the only input says, as a table; None if it is no picture's."""
    if len(inputs) != 1 or len(inputs[0].shape) != 4 or inputs[0].datatype not in _PIXELS:
        return None
    spec = inputs[0]
    _, *sides = spec.shape
    if sides[0] in (1, 3):
        layout, channels, (height, width) = "nchw", sides[0], sides[1:]
    elif sides[2] in (1, 3):
        layout, channels, (height, width) = "nhwc", sides[2], sides[:2]
    else:
        return None
    table: dict[str, Any] = {"input": spec.name, "layout": layout}
    table |= {key: side for key, side in (("width", width), ("height", height)) if side > 0}
    if channels == 1:
        table["colour"] = "grey"
    if spec.datatype == "UINT8":
        table["scale"] = 1.0
    return table


def _of_ultralytics(image: Mapping[str, Any], metadata: Mapping[str, str], task: Mapping[str, Any]) -> dict[str, Any]:
    """Return the preparation of an export of Ultralytics or YOLOv5."""
    known = {k: v for k, v in _ULTRALYTICS.items() if k not in image}
    if "width" not in image or "height" not in image:
        sides = _pair(metadata.get("imgsz", ""))
        known |= dict(zip(("height", "width"), sides, strict=True)) if sides else {}
    if metadata.get("task") == "classify" or task.get("name") == "classification":
        return known | {"fit": "crop", "antialias": True}
    return known | {"fit": "letterbox", "antialias": False, "pad": 114}


def _pair(text: str) -> tuple[int, int] | None:
    """Read `[640, 640]`."""
    try:
        found = ast.literal_eval(text[:100])
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return None
    right = isinstance(found, (list, tuple)) and len(found) == 2 and all(type(v) is int for v in found)
    return (found[0], found[1]) if right else None


def _words(image: Mapping[str, Any]) -> str:
    size = f"{image.get('width', 'any')} x {image.get('height', 'any')}"
    return f'pictures of {size} in input "{image["input"]}", layout {image["layout"]}'
