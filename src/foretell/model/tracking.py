"""Tracking: which object of this frame is which of the frames before, so that it keeps one number.

After ByteTrack (Zhang et al. 2022, ECCV, arXiv:2110.06864): every box is associated, not only the confident ones.

1. predict  every track moves on as it moved before (constant velocity)
2. first    confident boxes join the tracks that they overlap, found ones and lost ones
3. second   doubtful boxes join the found tracks that are left: an object half hidden has a low score, where
            a false alarm has no track to join
4. begin    confident boxes that joined none begin a track; it counts once it is seen again
5. forget   tracks not seen for a while

Two simplifications, both for the fewer parts: pairs are taken greedily, the largest overlap first, where the paper
solves the assignment as a whole; and an alpha-beta filter of fixed gains (Kalata 1984) stands for the Kalman filter,
which comes close to fixed gains after some frames. Pure: knows no picture, no video and no model.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Tracker"]

_FIRST_IOU, _SECOND_IOU = 0.2, 0.5
"""Least overlap of a pair in the two rounds: ByteTrack's, which has them as costs of 0.8 and 0.5."""
_NEW_IOU = 0.3
"""The same for a track that was seen once: ByteTrack's cost of 0.7."""
_ALPHA, _BETA = 0.7, 0.3
"""How much of a surprise goes into where a track is, and into how fast it moves."""

_State = NDArray[np.float64]


@dataclass(slots=True)
class _Track:
    number: int
    label: int
    state: _State
    """Centre x, centre y, width and height."""
    speed: _State
    """The same for each frame."""
    seen: int = 1
    missed: int = 0
    counts: bool = False


class Tracker:
    """Numbers objects across the frames of one video. Give it every frame once, in order.

    Args:
        high: Scores above it are confident: 0.5 suits detectors whose threshold is 0.25 or less.
        begin: Least score at which a track begins; ByteTrack: `high` + 0.1.
        keep_frames: Frames for which a track that is not seen is remembered. 30 is a second of most video.
        per_class: Whether an object keeps its class. False: a truck may turn out to be a bus.
    """

    def __init__(
        self, *, high: float = 0.5, begin: float | None = None, keep_frames: int = 30, per_class: bool = True
    ) -> None:
        self._high = high
        self._begin = high + 0.1 if begin is None else begin
        self._keep = keep_frames
        self._per_class = per_class
        self._tracks: list[_Track] = []
        self._last = 0
        self._frames = 0

    def update(
        self, boxes: NDArray[np.floating], scores: NDArray[np.floating], labels: NDArray[np.integer], frames: int = 1
    ) -> NDArray[np.int64]:
        """Take the objects of the next frame and return the number of each.

        Args:
            boxes: (objects, 4): x_min, y_min, x_max, y_max in pixels. Give doubtful ones too, from scores of 0.1.
            scores: (objects,)
            labels: (objects,): number of the class.
            frames: How many frames have gone by since the last call: more than 1 where some are skipped.

        Returns:
            (objects,): numbers from 1 on, each of them one object's for good; -1 for a box that belongs to none, or
            to one that was not seen twice yet. In the first frame confident boxes get theirs at once.
        """
        states = _centred(np.asarray(boxes, np.float64).reshape(-1, 4))
        found = np.full(len(states), -1, np.int64)
        owners: dict[int, _Track] = {}
        for track in self._tracks:
            track.state = track.state + track.speed * frames
            track.state[2:] = np.maximum(track.state[2:], 1)
            track.missed += frames
        high = [i for i in range(len(states)) if scores[i] > self._high]
        low = [i for i in range(len(states)) if scores[i] <= self._high]
        counting = [t for t in self._tracks if t.counts]
        left, high = self._join(counting, high, states, labels, owners, _FIRST_IOU)
        self._join([t for t in left if t.missed == frames], low, states, labels, owners, _SECOND_IOU)
        tentative = [t for t in self._tracks if not t.counts]
        _, high = self._join(tentative, high, states, labels, owners, _NEW_IOU)
        for i, track in owners.items():
            self._see(track, states[i], frames)
            found[i] = self._number(track)
        for i in high:
            if scores[i] >= self._begin:
                found[i] = self._start(states[i], int(labels[i]))
        self._tracks = [t for t in self._tracks if t.missed == 0 or (t.counts and t.missed <= self._keep)]
        self._frames += 1
        return found

    def _start(self, state: _State, label: int) -> int:
        track = _Track(0, label, state, np.zeros(4), counts=self._frames == 0)
        self._tracks.append(track)
        return self._number(track)

    def _number(self, track: _Track) -> int:
        """Return the number of a track that counts, given when it first does, so that none is used up in vain."""
        if track.counts and not track.number:
            self._last += 1
            track.number = self._last
        return track.number if track.counts else -1

    def _see(self, track: _Track, state: _State, frames: int) -> None:
        """Correct a track by what was seen of it."""
        surprise = state - track.state
        # The second sight of a track is the first that says how it moves: that is taken as it is.
        beta = 1.0 if track.seen == 1 else _BETA
        gone = max(track.missed, frames)
        track.state = track.state + _ALPHA * surprise
        track.speed = track.speed + beta * surprise / gone
        track.seen += 1
        track.missed = 0
        track.counts = True

    def _join(
        self,
        tracks: list[_Track],
        objects: list[int],
        states: _State,
        labels: NDArray[np.integer],
        owners: dict[int, _Track],
        least: float,
    ) -> tuple[list[_Track], list[int]]:
        """Pair tracks with objects, the largest overlap first; return what is left of both."""
        if not tracks or not objects:
            return tracks, objects
        overlap = _iou(np.stack([t.state for t in tracks]), states[objects])
        if self._per_class:
            overlap[np.array([t.label for t in tracks])[:, None] != np.asarray(labels)[objects]] = 0
        order = np.argsort(-overlap, axis=None, kind="stable")
        taken: set[int] = set()
        paired: set[int] = set()
        for place in order.tolist():
            row, column = divmod(place, len(objects))
            if overlap[row, column] < least:
                break
            if row not in taken and column not in paired:
                taken.add(row)
                paired.add(column)
                owners[objects[column]] = tracks[row]
        return (
            [t for i, t in enumerate(tracks) if i not in taken],
            [o for i, o in enumerate(objects) if i not in paired],
        )


def _centred(boxes: _State) -> _State:
    return np.concatenate([(boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]], axis=1)


def _iou(first: _State, second: _State) -> _State:
    """Return the overlap of every box with every other, given by centres and sides; shape (first, second)."""
    shared = np.ones((len(first), len(second)))
    for axis in (0, 1):
        low = np.maximum((first[:, axis] - first[:, axis + 2] / 2)[:, None], second[:, axis] - second[:, axis + 2] / 2)
        high = np.minimum((first[:, axis] + first[:, axis + 2] / 2)[:, None], second[:, axis] + second[:, axis + 2] / 2)
        shared *= np.maximum(high - low, 0)
    union = (first[:, 2] * first[:, 3])[:, None] + second[:, 2] * second[:, 3] - shared
    return np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)
