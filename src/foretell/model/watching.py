"""A video through a network of pictures: frame after frame in order, several of them at once, in bounded memory.

The caller's thread decodes; threads of a pool convert, prepare and run a frame each; what comes out is in the order of
the frames. At most `threads + 2` frames are on the way, so a caller that is slow to take them holds up the decoder.
Knows no file of a model: the network is a function.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from foretell.errors import ConfigError, InvalidInput
from foretell.model.data.video import Video
from foretell.model.data.video_frame import VideoFrame, check_pace
from foretell.model.tasks.detection import Detection
from foretell.model.tasks.predictions import Predictions, Task
from foretell.model.tracking import Tracker

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["Seen", "columns_of", "tracker_of", "watch", "watching"]

Predict = Callable[[list[NDArray[np.uint8]]], Predictions]
"""Predicts pictures in the thread that calls it."""


class Watches(Protocol):
    """A model of pictures. Safe to call from several threads."""

    @property
    def task_reader(self) -> Task:
        """What the outputs mean."""
        ...

    def predict_pictures(self, pictures: Sequence[Any]) -> Predictions:
        """Predict pictures in the thread that calls it."""
        ...


_AHEAD = 2
"""Frames on the way beyond those that run: the threads find work while the oldest is taken."""
_DOUBTFUL = 0.15
"""Scores so little above the lowest that is given join tracks, and begin none."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What was seen in one frame."""

    frame: int
    """Number of the frame, from 0."""
    time_s: float
    """Since the first frame."""
    predictions: Predictions
    """Of one row: the frame."""
    tracks: NDArray[np.int64] | None = None
    """For each object its number, the same one in every frame; -1 while it has none. None without tracking."""

    def objects(self) -> list[dict[str, Any]]:
        """Return the objects of a detection as dicts: label, score, box and, with tracking, track (or None)."""
        found: list[dict[str, Any]] = self.predictions[0]
        if self.tracks is None:
            return found
        numbers: list[int] = self.tracks.tolist()
        return [o | {"track": n if n > 0 else None} for o, n in zip(found, numbers, strict=True)]

    def without_picture(self) -> Seen:
        """Return the same without the frame's pixels, for those who keep many."""
        return replace(self, predictions=Predictions.joined([self.predictions]))

    def draw(self) -> Image:
        """Return the frame with what was found in it; objects with their numbers where they have one."""
        if self.tracks is None:
            return self.predictions.draw(0)
        from foretell.model.picture import draw

        found = self.objects()
        names = [f"{o['label']} {o['track']}" if o["track"] else str(o["label"]) for o in found]
        boxes = np.array([o["box"] for o in found]).reshape(-1, 4)
        labels, scores = [str(o["label"]) for o in found], [o["score"] for o in found]
        return draw(self.predictions.pictures()[0], boxes, labels, scores, names)


def watch(
    video: Video,
    predict: Predict,
    *,
    every: int = 1,
    fps: float | None = None,
    tracker: Tracker | None = None,
    threads: int = 1,
) -> Iterator[Seen]:
    """Yield what is seen in the frames of a video, in their order.

    Args:
        video: Open; read to its end, closed by the caller.
        predict: The network.
        every: Take the first of each so many frames.
        fps: Take at most so many frames a second.
        tracker: A new one, to number the objects of a detection.
        threads: That run frames; the caller's own decodes.

    Raises:
        InvalidInput: Nothing of it can be decoded. A video that is damaged or cut off is seen as far as it goes: then
            `Video.fault` says so.
    """
    waiting: deque[tuple[VideoFrame, Future[Predictions]]] = deque()
    pool = ThreadPoolExecutor(threads, thread_name_prefix="foretell-video")
    last = -1

    def settle() -> Seen:
        nonlocal last
        frame, future = waiting.popleft()
        predictions = future.result()
        tracks = None
        if tracker is not None:
            tracks = _track(tracker, predictions, frame.number - last)
            last = frame.number
        return Seen(frame.number, frame.time_s, predictions, tracks)

    try:
        for frame in video.frames(every=every, fps=fps):
            waiting.append((frame, pool.submit(_see, predict, frame)))
            if len(waiting) >= threads + _AHEAD:
                yield settle()
        while waiting:
            yield settle()
    finally:
        pool.shutdown(cancel_futures=True)


def watching(
    model: Watches, path: str | Path, *, every: int, fps: float | None, track: bool, threads: int
) -> Iterator[Seen]:
    """Open a video and yield what a model sees in it; see `Model.watch`."""
    check_pace(every, fps)
    tracker = tracker_of(model.task_reader) if track else None
    return _watching(Video(path, threads=threads), model, every, fps, tracker, threads)


def _watching(
    video: Video, model: Watches, every: int, fps: float | None, tracker: Tracker | None, threads: int
) -> Iterator[Seen]:
    with video:
        yield from watch(video, model.predict_pictures, every=every, fps=fps, tracker=tracker, threads=threads)
        if video.fault:
            raise InvalidInput(video.fault)


def tracker_of(task: Task) -> Tracker:
    """Return a tracker for a detector, by the scores that it gives.

    Raises:
        ConfigError: It is no detector.
    """
    if not isinstance(task, Detection):
        raise ConfigError(f"track: this is a {task.name}; only the objects of a detection have tracks")
    confident = min(task.score_threshold + _DOUBTFUL, 0.9)
    return Tracker(high=confident, begin=confident)


def columns_of(seen: Sequence[Seen], source: str) -> dict[str, NDArray[Any]]:
    """Return output columns by name: a row for each object of a detection, else a row for each frame.

    Args:
        seen: Of one video, in order; at least one.
        source: Name of the video.

    Returns:
        `source`, `frame`, `time_s`, then those of `Predictions.to_columns`, then `track` where tracks were asked for:
        masked where an object has none.
    """
    columns = Predictions.joined([s.predictions for s in seen]).to_columns()
    place = columns.pop("source", np.arange(len(seen)))
    where = {
        "source": np.full(len(place), source, object if len(place) else str),
        "frame": np.array([s.frame for s in seen])[place],
        "time_s": np.array([s.time_s for s in seen])[place],
    }
    tracks = [s.tracks for s in seen if s.tracks is not None]
    if not tracks:
        return where | columns
    numbers = np.concatenate(tracks)
    return where | columns | {"track": np.ma.masked_less(numbers, 1)}


def _see(predict: Predict, frame: VideoFrame) -> Predictions:
    return predict([frame.pixels()])


def _track(tracker: Tracker, predictions: Predictions, frames: int) -> NDArray[np.int64]:
    found = predictions.objects
    count = int(found.counts[0])
    return tracker.update(found.boxes[0, :count], found.scores[0, :count], found.labels[0, :count], frames)
