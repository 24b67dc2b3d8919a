"""Videos in, what was seen in their frames out: a row for each object, with the frame and the time.

1. judge    every video is opened once before the first one runs, so that a wrong one costs no hours
2. watch    frames decoded, run several at once, and given back in their order (`model.watching`)
3. write    rows by some hundreds of frames; copies with what was found, if asked

Nothing appears before it is whole. A video that is damaged or cut off is answered as far as it can be decoded: the
output is whole then, and InvalidInput says where the fault is.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass
from typing import Any, BinaryIO

from foretell import machine
from foretell.bulk.answering import encode_rows
from foretell.bulk.encode import to_arrow
from foretell.bulk.formats import Format
from foretell.bulk.straight import opened, stream_format
from foretell.bulk.summary import Summary
from foretell.bulk.tally import Tally
from foretell.bulk.video_copy import VideoCopies, VideoCopy
from foretell.bulk.video_files import find_videos
from foretell.bulk.writer import Writer
from foretell.errors import ConfigError, InvalidInput
from foretell.model.data.video import Video
from foretell.model.data.video_frame import check_pace
from foretell.model.watching import Seen, Watches, columns_of, tracker_of, watch

__all__ = ["Pace", "VideoSummary", "predict_videos"]

_FRAMES_IN_BLOCK = 128
"""Frames whose rows are encoded at once."""


@dataclass(frozen=True, slots=True)
class Pace:
    """Which frames are taken."""

    every: int = 1
    fps: float | None = None


@dataclass(frozen=True, slots=True)
class VideoSummary:
    """What a job did."""

    done: Summary
    frames: int
    """That were run."""
    faults: tuple[str, ...] = ()
    """Of videos that are broken, a line each, where they are passed over."""

    def line(self) -> str:
        """Return it as a person reads it."""
        done = self.done
        files = f"{done.files:,} video{'s' * (done.files != 1)}"
        rate = self.frames / max(done.seconds, 1e-9)
        told = f"{done.rows:,} rows of {self.frames:,} frames of {files}, in {done.seconds:.2f} s, {rate:,.1f} frames/s"
        return f"{done.out or 'stdout'}: {told}"

    def to_json(self) -> dict[str, Any]:
        """Return it as `--json` prints it."""
        rate = self.frames / max(self.done.seconds, 1e-9)
        more = {"frames": self.frames, "frames_per_s": round(rate, 1), "faults": list(self.faults)}
        return self.done.to_json() | more


def predict_videos(
    model: Watches,
    inputs: Sequence[str],
    out: str | None,
    *,
    draw: str | None = None,
    pace: Pace | None = None,
    track: bool = False,
    format_name: str | None = None,
    skips: bool = False,
    progress: bool = False,
    threads: int | None = None,
) -> VideoSummary:
    """Predict the frames of videos, in their order, in bounded memory.

    Args:
        model: What predicts; called from several threads.
        inputs: Videos, folders, globs.
        out: File to write, its ending says the format; None writes CSV to standard output.
        draw: File or folder for copies with what was found.
        pace: Which frames are taken; all where None.
        track: Whether objects get numbers that last from frame to frame; they begin at 1 in every video.
        format_name: Of the output; None: that of its name.
        skips: Whether broken videos are passed over, those that are damaged answered as far as they go, and the job
            ends well.
        progress: Whether to show a bar on standard error.
        threads: Frames run at once; None: one for each core.

    Raises:
        InvalidInput: A video cannot be read, and nothing is written; or some are damaged, and what could be decoded
            is written.
        ConfigError: Nothing is there, or what is asked for cannot be.
        MachineError: A file may not be read or written, the disk is full.
    """
    began = time.perf_counter()
    pace = pace or Pace()
    check_pace(pace.every, pace.fps)
    if track:
        tracker_of(model.task_reader)
    files = find_videos(inputs)
    kind = stream_format(out, format_name)
    _check_out(out, files)
    copies = VideoCopies(draw, files) if draw is not None else None
    total, has_sound, faults = _judge(files, skips=skips)
    job = _Job(model, pace, track, threads or machine.cores(), faults)
    with _bar(total if progress else None) as bar, opened(out) as file:
        rows = _Rows(file, kind)
        try:
            for number, path in enumerate(files):
                if path not in faults:
                    job.run(number, path, rows, copies, bar)
            rows.finish()
        finally:
            rows.abandon()
    if faults and not skips:
        written = f'; what could be decoded is in "{out}"' if out else ""
        raise InvalidInput("; ".join(faults.values()) + written)
    notes = ("the copies have no sound",) if copies is not None and has_sound else ()
    done = Summary(
        rows.count,
        len(files),
        time.perf_counter() - began,
        (*notes, *rows.notes),
        read_rows=job.frames,
        out=out,
        predictions=rows.tally.summary(),
    )
    return VideoSummary(done, job.frames, tuple(faults.values()))


def _judge(files: Sequence[str], *, skips: bool) -> tuple[int, bool, dict[str, str]]:
    """Open every video once.

    Returns:
        How many frames they say they have, 0 if one does not say it; whether one has sound; and by path what is wrong
        with those that cannot be opened.
    """
    counts, has_sound, faults = [], False, {}
    for path in files:
        try:
            with Video(path) as video:
                counts.append(video.count)
                has_sound |= video.has_sound
        except InvalidInput as e:
            if not skips:
                raise
            faults[path] = str(e)
    return (sum(counts) if all(counts) else 0), has_sound, faults


class _Job:
    """Runs videos one after the other."""

    def __init__(self, model: Watches, pace: Pace, track: bool, threads: int, faults: dict[str, str]) -> None:
        self._model = model
        self._pace = pace
        self._track = track
        self._threads = threads
        self.frames = 0
        self._faults = faults

    def run(self, number: int, path: str, rows: _Rows, copies: VideoCopies | None, bar: Any) -> None:
        """Watch one video to its end."""
        with ExitStack() as stack:
            video = stack.enter_context(Video(path, threads=self._threads))
            copy = stack.enter_context(copies.copying(number, video)) if copies is not None else None
            last = 0
            waiting: list[Seen] = []
            for seen in self._seen(video):
                self.frames += 1
                bar.update(seen.frame + 1 - last)
                last = seen.frame + 1
                waiting.append(self._drawn(seen, copy))
                if len(waiting) == _FRAMES_IN_BLOCK:
                    rows.take(waiting, path)
                    waiting = []
            if waiting:
                rows.take(waiting, path)
            if video.fault:
                self._faults[path] = video.fault

    def _seen(self, video: Video) -> Iterator[Seen]:
        return watch(
            video,
            self._model.predict_pictures,
            every=self._pace.every,
            fps=self._pace.fps,
            tracker=tracker_of(self._model.task_reader) if self._track else None,
            threads=self._threads,
        )

    def _drawn(self, seen: Seen, copy: VideoCopy | None) -> Seen:
        """Draw a frame, and return it without its pixels: it may wait for long."""
        if copy is not None:
            copy.take(seen.time_s, seen)
        return seen.without_picture()


class _Rows:
    """Encodes rows and hands them to the writer."""

    def __init__(self, file: BinaryIO, kind: Format) -> None:
        self._kind = kind
        self._writer = Writer(file, kind)
        self.count = 0
        self.notes: dict[str, None] = {}
        self.tally = Tally()
        self._has_columns = False

    def take(self, seen: Sequence[Seen], source: str) -> None:
        """Write what was seen in some frames."""
        columns = to_arrow(columns_of(seen, source))
        self._has_columns = True
        self.tally.take(columns)
        self.notes |= dict.fromkeys(note for s in seen for note in s.predictions.notes)
        found = len(columns["source"])
        self._writer.append(tuple(columns), encode_rows(self._kind.part, [columns]), found)
        self.count += found

    def finish(self) -> None:
        """Write what is left; for no rows at all, a file of columns without rows.

        Raises:
            InvalidInput: No video could be opened.
        """
        if not self._has_columns:
            raise InvalidInput("none of the videos can be read; check what they are")
        self._writer.finish()

    def abandon(self) -> None:
        """Let go of a file that will not be finished."""
        self._writer.abandon()


def _check_out(out: str | None, files: Sequence[str]) -> None:
    if out is not None and os.path.exists(out) and any(os.path.samefile(out, file) for file in files):
        raise ConfigError(f'output "{out}": this is an input too; write to another file')


def _bar(total: int | None) -> Any:
    """Return a bar of frames, with frames a second; or nothing that moves."""
    if total is None:
        return nullcontext(_Still())
    from tqdm import tqdm

    return tqdm(total=total or None, unit=" frames", leave=False, desc="predict")


class _Still:
    """A bar that is not shown."""

    def update(self, count: int) -> None:
        """Do nothing."""
