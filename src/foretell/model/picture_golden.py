"""Golden examples of a model of pictures: a few pictures, what they became in the tensor, and what the network said.

Elements evenly spread over the tensor and over each output are kept, so that another resize filter, order of colours
or scale is found as surely as another network. Knows no file.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from foretell.errors import ProofFailed
from foretell.model.bundle import Golden
from foretell.model.model import Model
from foretell.signature import TensorSpec

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["TOLERANCE", "golden_pictures", "replay_pictures"]

TOLERANCE = 0.02
"""Of |a - b| / (|a| + spread): a level of 255, which another version of a decoder may differ by, and its echo in the
outputs. A wrong scale, filter or order of colours is tens of times that."""
_MOST = 4
_SIDE = 384
_KEPT = 48
_SEED = 7


def golden_pictures(model: Model, pictures: Sequence[Any] = ()) -> Golden:
    """Return pictures with what the model makes of them.

    Args:
        model: Of pictures.
        pictures: The user's; a few of them are kept, made smaller. Drawn ones where there are none.

    Raises:
        InvalidInput: A picture is broken.
    """
    picked = list(pictures)[:: max(1, len(pictures) // _MOST)][:_MOST]
    images = model.predict(picked).pictures() if picked else [_drawn(320, 200), _drawn(150, 240)]
    rows, answers = [], []
    for image in images:
        image.thumbnail((_SIDE, _SIDE))
        held = io.BytesIO()
        image.save(held, "PNG")
        rows.append({"image": base64.b64encode(held.getvalue()).decode()})
        answers.append(_answer(model, held.getvalue()))
    return Golden(rows, answers)


def replay_pictures(model: Model, golden: Golden, tolerance: float) -> None:
    """Check that a model prepares and answers its golden pictures as it did.

    Raises:
        ProofFailed: It does not; the message says whether the tensor differs or an output.
    """
    for row, (picture, expected) in enumerate(zip(golden.rows, golden.answers, strict=True)):
        found = _answer(model, base64.b64decode(picture["image"]))
        for part in ("tensor", *expected["outputs"]):
            then, now = ((a if part == "tensor" else a["outputs"]).get(part, []) for a in (expected, found))
            difference = _difference(np.array(then, np.float64), np.array(now, np.float64))
            if not difference <= tolerance:
                what = "the prepared tensor" if part == "tensor" else f'output "{part}"'
                raise ProofFailed(
                    f'bundle "{model.name}": golden picture {row}: {what} is another one here, {difference:.2g} from '
                    f"that of the conversion, at most {tolerance:g} expected; convert the model again on this machine"
                )


def _answer(model: Model, content: bytes) -> dict[str, Any]:
    inputs, rows, _ = model.prepare(content)
    (tensor,) = inputs.values()
    outputs = model.infer(inputs, rows)
    specs = model.signature.outputs
    kept = {s.name: _spread(o) for s, o in zip(specs, outputs, strict=True) if _is_comparable(s)}
    return {"tensor": _spread(tensor), "outputs": kept, "found": model.predict(content)[0]}


def _is_comparable(spec: TensorSpec) -> bool:
    """Whether an output has the same numbers of the same things each time."""
    return spec.datatype.startswith("FP") and spec.width > 0 and spec.shape[0] in (-1, 1)


def _spread(array: NDArray[Any]) -> list[float]:
    flat = array.reshape(-1)
    places = np.linspace(0, flat.size - 1, min(_KEPT, flat.size)).astype(int)
    return [float(f"{v:.6g}") for v in flat[places].tolist()]


def _difference(then: NDArray[np.float64], now: NDArray[np.float64]) -> float:
    if then.shape != now.shape:
        return float("inf")
    scale = np.abs(then) + then.std()
    with np.errstate(invalid="ignore", divide="ignore"):
        found = np.where(then == now, 0.0, np.abs(then - now) / scale)
    return float(found.max(initial=0.0))


def _drawn(width: int, height: int) -> Image:
    """Return a picture with slopes, edges, discs of every colour and fine grain; the same each time."""
    from PIL import Image as images

    random = np.random.default_rng(_SEED)
    y, x = np.mgrid[0:height, 0:width]
    pixels = np.stack([x * 255 / width, y * 255 / height, (x + y) * 255 / (width + height)], axis=2)
    for _ in range(12):
        radius, middle = random.uniform(8, 40), random.uniform(0, 1, 2) * (height, width)
        inside = (y - middle[0]) ** 2 + (x - middle[1]) ** 2 < radius**2
        pixels[inside] = random.integers(0, 256, 3)
    pixels += random.integers(-12, 13, pixels.shape)
    return images.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
