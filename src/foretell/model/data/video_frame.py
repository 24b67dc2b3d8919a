"""One frame of a video: when it is shown, and its upright RGB pixels; and which frames to take.

A frame is converted when its pixels are asked for, in the thread that asks. Knows no file.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from foretell.errors import ConfigError

__all__ = ["VideoFrame", "check_pace"]


@dataclass(frozen=True, slots=True)
class VideoFrame:
    """One decoded frame."""

    number: int
    """From 0, in the order in which frames are shown; counts those that were decoded."""
    time_s: float
    """Since the first frame of the file."""
    decoded: Any
    """An `av.VideoFrame`, as the decoder gave it."""

    def pixels(self) -> NDArray[np.uint8]:
        """Return upright RGB, shape (height, width, 3). Safe in any thread."""
        # By itself the converter would start a thread for each core, which takes longer than the conversion.
        return _upright(self.decoded.to_ndarray(format="rgb24", threads=1), _matrix(self.decoded))


def check_pace(every: int, fps: float | None) -> None:
    """Refuse a choice of frames that cannot be meant.

    Raises:
        ConfigError: `every` is below 1, `fps` is not above 0, or both are given.
    """
    if every < 1 or (fps is not None and not 0 < fps < math.inf):
        raise ConfigError(f"every {every}, fps {fps}: expected every 1 or more, or fps above 0")
    if every > 1 and fps is not None:
        raise ConfigError(f"every {every} and fps {fps:g}: two ways to choose frames; give one of them")


def _matrix(decoded: Any) -> tuple[int, int, int, int]:
    """Return a, b, c, d of the display matrix: x' = a x + c y, y' = b x + d y."""
    held = decoded.side_data.get("DISPLAYMATRIX") if len(decoded.side_data) else None
    if held is None:
        return 1, 0, 0, 1
    numbers = np.frombuffer(bytes(held), np.int32)
    return int(numbers[0]), int(numbers[1]), int(numbers[3]), int(numbers[4])


def _upright(pixels: NDArray[np.uint8], matrix: tuple[int, int, int, int]) -> NDArray[np.uint8]:
    """Turn and mirror by multiples of 90 degrees; another angle is left as it is, as players do."""
    a, b, c, d = matrix
    if (a and b) or not (a or b):
        return pixels
    if b:
        pixels = pixels.swapaxes(0, 1)
    if (c if b else a) < 0:
        pixels = pixels[:, ::-1]
    if (b or d) < 0:
        pixels = pixels[::-1]
    return pixels
