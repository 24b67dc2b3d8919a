"""Videos small enough to be made in a test."""

from collections.abc import Sequence
from pathlib import Path

import av
import numpy as np

RED, GREEN, BLUE, BLACK = (255, 0, 0), (0, 255, 0), (0, 0, 255), (0, 0, 0)


def quarters(wide: int = 64, high: int = 48) -> np.ndarray:
    """Return a frame: red, green / black, blue."""
    frame = np.zeros((high, wide, 3), np.uint8)
    frame[: high // 2, : wide // 2], frame[: high // 2, wide // 2 :] = RED, GREEN
    frame[high // 2 :, wide // 2 :] = BLUE
    return frame


def plain(colour: tuple[int, int, int], wide: int = 64, high: int = 48) -> np.ndarray:
    """Return a frame of one colour."""
    return np.full((high, wide, 3), colour, np.uint8)


def write(
    path: Path,
    frames: Sequence[np.ndarray],
    *,
    rate: int = 25,
    turn: tuple[float, bool] | None = None,
    times: Sequence[int] | None = None,
    sound: bool = False,
    **options: str,
) -> Path:
    """Write frames as H.264; `turn` is degrees counterclockwise and whether to mirror, `times` are in 1 / rate s."""
    with av.open(str(path), "w", options={"movflags": "faststart"} if path.suffix == ".mp4" else {}) as container:
        stream = container.add_stream("libx264", rate=rate, options={"crf": "1", "g": "5", **options})
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = "yuv444p" if any(side % 2 for side in frames[0].shape[:2]) else "yuv420p"
        if turn is not None:
            stream.set_display_rotation(turn[0], hflip=turn[1])
        audio = container.add_stream("aac", rate=8000) if sound else None
        for number, pixels in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts = times[number] if times else number
            for packet in stream.encode(frame):
                container.mux(packet)
        for packet in stream.encode(None):
            container.mux(packet)
        if audio is not None:
            silence = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
            silence.sample_rate = 8000
            for packet in [*audio.encode(silence), *audio.encode(None)]:
                container.mux(packet)
    return path


def colour_of(pixel: np.ndarray) -> str:
    """Return R, G, B, or K for black, as far as a codec has kept it."""
    return "RGBK"[int(np.argmax([*pixel.astype(int), 70]))]


def corners(pixels: np.ndarray) -> str:
    """Return the colours of the corners: upper left, upper right, lower left, lower right."""
    return "".join(colour_of(pixels[y, x]) for y in (4, -5) for x in (4, -5))
