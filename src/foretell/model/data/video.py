"""Frames out of a video file: their numbers, their times, and upright RGB pixels. PyAV decodes.

1. open     only files, and only containers that hold their own frames: a playlist could name other files
2. judge    the picture's size, against the limits of pictures, before frames are decoded
3. decode   in order of presentation; what is damaged is passed over and counted
4. choose   every nth frame, or so many a second
5. convert  to RGB as the file says of its colours, turned and mirrored as its display matrix says

A frame is not converted before its pixels are asked for, in the thread that asks. Knows no model.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any

from foretell.errors import InvalidInput, RuntimeMissing
from foretell.model.data.image_probe import Limits, check_pixels
from foretell.model.data.video_frame import VideoFrame

__all__ = ["Video", "library"]

_CONTAINERS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,mpegvideo,flv,asf,ogg,mxf,m4v,h264,hevc,ivf"
"""What FFmpeg may take a file for. Not among them: lists of other files (HLS, concat), devices, single pictures."""
_SAME_INSTANT = 1e-6
"""Seconds; times are fractions that were rounded on the way."""

_LONG_END_S, _LONG_END = 1.0, 0.1
"""A file without a count of frames is taken to be cut off where more than this is missing, in seconds and as a part."""


class Video:
    """A video file that is open for reading, once. Use it as a context manager."""

    def __init__(self, path: str | os.PathLike[str], limits: Limits | None = None, *, threads: int = 1) -> None:
        """Open a file.

        Args:
            path: Of the file.
            limits: Of each frame's width and height; those of pictures where None. The file may be of any length.
            threads: The decoder may use.

        Raises:
            InvalidInput: It is no video, or none that can be decoded; it is over a limit, or cannot be read.
            RuntimeMissing: PyAV is not installed.
        """
        self._av = library()
        self._limits = limits or Limits()
        self.name = f'"{os.fspath(path)}"'
        self._container = self._open(Path(path))
        try:
            self._stream = self._chosen()
        except BaseException:
            self._container.close()
            raise
        if threads > 1:
            self._stream.thread_type = "AUTO"
            self._stream.codec_context.thread_count = threads
        self._decoded = self._damaged = self._lost = 0
        self._first_damage = ""
        self._last_time_s = 0.0
        self._start: int | None = None

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels as the file says, before it is turned upright."""
        return int(self._stream.width), int(self._stream.height)

    @property
    def rate(self) -> Fraction | None:
        """Frames a second on average; None where the file does not say."""
        rate = self._stream.average_rate
        return Fraction(rate) if rate else None

    @property
    def count(self) -> int:
        """How many frames the file says that it has, or about how many by its length; 0 where it does not say."""
        if self._stream.frames:
            return int(self._stream.frames)
        length = self._stream.duration * self._stream.time_base if self._stream.duration else None
        if length is None and self._container.duration:
            length = Fraction(self._container.duration, 1_000_000)
        return round(length * self.rate) if length and self.rate else 0

    @property
    def codec(self) -> Any:
        """What decodes it, an `av.VideoCodecContext`, for those who write a video like it."""
        return self._stream.codec_context

    @property
    def time_base(self) -> Fraction:
        """Seconds of one tick of its clock."""
        return Fraction(self._stream.time_base)

    @property
    def has_sound(self) -> bool:
        """Whether it has an audio track."""
        return bool(self._container.streams.audio)

    @property
    def fault(self) -> str | None:
        """What is wrong with the file, as far as it has been read, in one line; None if nothing is."""
        told = []
        if self._damaged or self._lost:
            told.append(f"damaged from {self._first_damage} on: frames mended {self._damaged}, lost {self._lost}")
        said, length = int(self._stream.frames), self._length_of_more()
        if said > self._decoded + self._lost and (self._lost or length):  # an edit may leave frames out
            told.append(f"ends after {self._decoded:,} of {said:,} frames, at {self._last_time_s:.2f} s")
        elif length:
            told.append(f"ends at {self._last_time_s:.2f} s of {length:.2f} s")
        return f"{self.name}: {'; '.join(told)}" if told else None

    def frames(self, *, every: int = 1, fps: float | None = None) -> Iterator[VideoFrame]:
        """Yield frames in the order in which they are shown; once.

        Args:
            every: Take the first of each so many.
            fps: Take at most so many a second, evenly: the first one in each 1 / fps seconds.

        Raises:
            InvalidInput: Not one frame can be decoded, or a frame is over a limit. See `fault` for less.
        """
        last_slot = -1
        for decoded in self._decode():
            frame = VideoFrame(self._decoded, self._time_s(decoded), decoded)
            if decoded.is_corrupt:
                self._damage()
                self._damaged += 1
            self._decoded += 1
            self._last_time_s = frame.time_s
            slot = math.floor((frame.time_s + _SAME_INSTANT) * fps) if fps else frame.number // every
            if slot > last_slot:
                last_slot = slot
                check_pixels(decoded.width, decoded.height, self._limits, f"{self.name}, frame {frame.number}")
                yield frame
        if not self._decoded:
            raise InvalidInput(f"{self.name}: not one frame of this {self._stream.codec_context.name} can be decoded")

    def close(self) -> None:
        """Close the file. Idempotent."""
        self._container.close()

    def __enter__(self) -> Video:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _open(self, path: Path) -> Any:
        options = {"format_whitelist": _CONTAINERS, "protocol_whitelist": "file"}
        try:
            # Without the name of the protocol a path such as "http:x" would be taken for a place on the network.
            return self._av.open(f"file:{path}", options=options, metadata_errors="replace")
        except self._av.FFmpegError as error:
            if isinstance(error, OSError) and not isinstance(error, ValueError) and error.strerror:
                raise InvalidInput(f"{self.name}: {error.strerror}; expected a video file") from None
            raise InvalidInput(
                f"{self.name}: not a video that can be read, or cut off before what its index says; "
                "expected MP4, MOV, MKV, WebM, AVI, MPEG"
            ) from None

    def _chosen(self) -> Any:
        covers = [s for s in self._container.streams.video if "attached_pic" in str(s.disposition)]
        streams = [s for s in self._container.streams.video if s not in covers]
        if not streams:
            raise InvalidInput(f"{self.name}: has no pictures that move; expected a video")
        stream = streams[0]
        if stream.codec_context is None:
            raise InvalidInput(f"{self.name}: is coded in a way that PyAV cannot decode; convert it, to H.264 or VP9")
        check_pixels(stream.width, stream.height, self._limits, self.name)
        stream.codec_context.options = {"max_pixels": str(self._limits.pixels)}  # also where it grows on the way
        return stream

    def _decode(self) -> Iterator[Any]:
        """Yield what the decoder gives, passing over what it refuses."""
        packets = self._container.demux(self._stream)
        while True:
            try:
                packet = next(packets, None)
            except self._av.FFmpegError:
                self._miss()
                return
            if packet is None:
                return
            try:
                yield from packet.decode()
            except self._av.EOFError:
                return
            except self._av.FFmpegError:
                self._miss()

    def _length_of_more(self) -> float | None:
        """Return how long the file says that it is, in seconds, where much of that is missing."""
        if not self._container.duration:
            return None
        length = float(self._container.duration / 1e6)
        # The sound may go on for longer than the pictures do.
        return length if length - self._last_time_s > max(_LONG_END_S, _LONG_END * length) else None

    def _miss(self) -> None:
        self._damage()
        self._lost += 1

    def _damage(self) -> None:
        if not self._first_damage:
            self._first_damage = f"frame {self._decoded} ({self._last_time_s:.2f} s)"

    def _time_s(self, decoded: Any) -> float:
        if decoded.pts is None:
            return float(self._decoded / self.rate) if self.rate else float(self._decoded)
        if self._start is None:
            self._start = decoded.pts
        return float((decoded.pts - self._start) * decoded.time_base)


def library() -> ModuleType:
    """Return PyAV.

    Raises:
        RuntimeMissing: It is not installed.
    """
    try:
        import av
    except ImportError:
        raise RuntimeMissing("video: av is not installed; run: pip install 'foretell[video]'") from None
    found: ModuleType = av
    return found
