"""Copies of videos with what was found drawn on them: H.264, the frames that were seen at the times they are shown.

The copy has the size, the clock and the shape of pixels of the original, is upright, and has no sound. Where only some
frames are seen, only those are in it, each for as long as until the next. Knows no model: what is seen can draw itself.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol

import numpy as np

from foretell.bulk.local import LocalStorage
from foretell.errors import ConfigError, MachineError
from foretell.model.data.video import Video, library

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["VideoCopies", "VideoCopy"]

_FORMATS = {".mp4": "mp4", ".m4v": "mp4", ".mov": "mov", ".mkv": "matroska"}
_ENCODERS: tuple[tuple[str, dict[str, str]], ...] = (
    ("libx264", {"crf": "20", "preset": "veryfast"}),
    ("libopenh264", {}),
    ("h264_videotoolbox", {}),
)
_UNKNOWN_RATE = 25
_BT709, _BT601 = 1, 5
"""Matrices of colours, as ITU-T H.273 numbers them; a file that names none is taken to be BT.601 by most decoders."""


class Draws(Protocol):
    """What was seen in a frame."""

    def draw(self) -> Image:
        """Return the frame with it."""
        ...


class VideoCopies:
    """Where the copies of a job go."""

    def __init__(self, target: str, files: Sequence[str]) -> None:
        """Judge where to draw.

        Args:
            target: A file that ends with .mp4, .mov or .mkv, for one video; else a folder.
            files: All videos of the job.

        Raises:
            ConfigError: The target cannot be, or would be written over a video of the job.
            RuntimeMissing: PyAV is not installed.
        """
        path = Path(target)
        is_file = path.suffix.lower() in _FORMATS and not path.is_dir()
        if not is_file and path.suffix and not target.endswith("/") and not path.is_dir():
            raise ConfigError(
                f'--draw "{target}": expected a video .mp4 .mov or .mkv, or a folder; end its name with "/"'
            )
        if is_file and len(files) > 1:
            raise ConfigError(
                f'--draw "{target}": {len(files)} videos do not go into one; name a folder, such as drawn/'
            )
        self._encoder, self._options = _encoder()
        folders = [os.path.dirname(os.path.abspath(f)) for f in files]
        inside = [Path(os.path.relpath(os.path.abspath(f), os.path.commonpath(folders))) for f in files]
        named = [p if p.suffix.lower() in _FORMATS else p.with_name(p.name + ".mp4") for p in inside]
        self._targets = [path] if is_file else [path / p for p in named]
        for copy in self._targets:
            if copy.exists() and any(os.path.samefile(copy, file) for file in files):
                raise ConfigError(f'--draw "{target}": would be written over "{copy}"; name another place')

    @contextmanager
    def copying(self, number: int, video: Video) -> Iterator[VideoCopy]:
        """Write the copy of one video; it takes its name when the block ends well.

        Args:
            number: Of the video among those of the job.
            video: Open.

        Raises:
            MachineError: It cannot be written.
        """
        path = self._targets[number]
        with LocalStorage().creating(str(path)) as file:
            copy = VideoCopy(file, _FORMATS[path.suffix.lower()], video, self._encoder, self._options)
            try:
                yield copy
                copy.finish()
            except BaseException:
                copy.abandon()
                raise


class VideoCopy:
    """One copy that grows."""

    def __init__(self, file: BinaryIO, container: str, video: Video, encoder: str, options: dict[str, str]) -> None:
        self._av = library()
        self._video = video
        self._encoder, self._options = encoder, options
        self._container = self._av.open(file, "w", format=container)
        self._stream: Any = None
        self._ticks = -1

    def take(self, time_s: float, seen: Draws) -> None:
        """Add a frame.

        Args:
            time_s: When it is shown, since the first one; later than the last one taken.
            seen: What was found in it.
        """
        pixels = np.asarray(seen.draw())
        high, wide = pixels.shape[:2]
        if high % 2 or wide % 2:  # colours are kept for 2 x 2 pixels, so half a pair is not coded
            pixels = np.pad(pixels, ((0, high % 2), (0, wide % 2), (0, 0)), mode="edge")
        if self._stream is None:
            self._begin(pixels.shape[1], pixels.shape[0])
        frame = self._av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
        frame = frame.reformat(
            width=self._stream.width,
            height=self._stream.height,
            format="yuv420p",
            dst_colorspace=self._matrix,
            threads=1,
        )
        self._ticks = max(round(time_s / self._video.time_base), self._ticks + 1)
        frame.pts, frame.time_base = self._ticks, self._video.time_base
        self._write(frame)

    def finish(self) -> None:
        """Write what the encoder still holds, and end the container.

        Raises:
            MachineError: It cannot be written.
        """
        if self._stream is not None:
            self._write(None)
        try:
            self._container.close()
        except (self._av.FFmpegError, OSError) as error:
            raise MachineError(f"--draw: the copy cannot be written: {error.strerror or error}") from error

    def abandon(self) -> None:
        """Let go of a copy that will not be finished; what its container thinks of that is nothing."""
        with suppress(self._av.FFmpegError, OSError, ValueError):
            self._container.close()

    def _begin(self, wide: int, high: int) -> None:
        source = self._video.codec
        self._stream = self._container.add_stream(
            self._encoder, rate=self._video.rate or Fraction(_UNKNOWN_RATE), options=dict(self._options)
        )
        self._stream.width, self._stream.height, self._stream.pix_fmt = wide, high, "yuv420p"
        self._matrix = "ITU709" if source.colorspace == _BT709 else "ITU601"
        context = self._stream.codec_context
        context.time_base = self._video.time_base
        if source.colorspace == _BT709:
            context.colorspace, context.color_primaries, context.color_trc = _BT709, _BT709, _BT709
        shape = source.sample_aspect_ratio
        if shape and self._video.size == (wide, high):
            context.sample_aspect_ratio = shape

    def _write(self, frame: Any) -> None:
        try:
            for packet in self._stream.encode(frame):
                self._container.mux(packet)
        except (self._av.FFmpegError, OSError) as error:
            raise MachineError(f"--draw: the copy cannot be written: {error.strerror or error}") from error


def _encoder() -> tuple[str, dict[str, str]]:
    """Return the first encoder of H.264 that this build of PyAV has, with its options."""
    av = library()
    for name, options in _ENCODERS:
        if name in av.codecs_available:
            return name, options
    raise ConfigError("--draw: this build of PyAV writes no H.264; install the one of its own: pip install --force av")
