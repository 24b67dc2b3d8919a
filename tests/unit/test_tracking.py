"""Objects keep their numbers: made-up tracks that cross, hide, flicker and leave."""

import numpy as np
import pytest
from numpy.typing import NDArray

from foretell.model.tracking import Tracker

Seen = list[tuple[float, float, float, int]]
"""Left edge, top edge, score, class; every box is 40 x 30."""


def follow(tracker: Tracker, seen: Seen, frames: int = 1) -> list[int]:
    boxes = np.array([[x, y, x + 40, y + 30] for x, y, _, _ in seen], np.float32).reshape(-1, 4)
    scores = np.array([s for *_, s, _ in seen], np.float32)
    return tracker.update(boxes, scores, np.array([c for *_, c in seen], np.int64), frames).tolist()


def test_numbers_stay_while_objects_move() -> None:
    tracker = Tracker()
    for frame in range(50):
        seen = [(10 + 6 * frame, 20, 0.9, 0), (400 - 5 * frame, 120, 0.8, 0), (200, 220 + frame, 0.7, 1)]
        # In any order: who is listed first means nothing.
        turn = frame % 3
        expected = [1, 2, 3]
        if frame:
            seen, expected = seen[turn:] + seen[:turn], expected[turn:] + expected[:turn]
        assert follow(tracker, seen) == expected, f"frame {frame}"


def test_two_that_cross_keep_their_numbers() -> None:
    # They pass through each other's place: only how they move tells them apart.
    tracker = Tracker()
    for frame in range(41):
        a, b = 8 * frame, 320 - 8 * frame
        numbers = follow(tracker, [(a, 100, 0.9, 0), (b, 110, 0.9, 0)])
        assert numbers == [1, 2], f"frame {frame}, {abs(a - b)} pixels apart"


def test_an_object_half_hidden_is_followed_by_its_low_score() -> None:
    tracker = Tracker()
    for frame in range(30):
        score = 0.2 if 10 <= frame < 20 else 0.9
        assert follow(tracker, [(4 * frame, 50, score, 0)]) == [1]


def test_a_low_score_alone_begins_nothing() -> None:
    tracker = Tracker()
    assert [follow(tracker, [(50, 50, 0.4, 0)]) for _ in range(5)] == [[-1]] * 5


def test_an_object_that_was_away_gets_its_number_back_where_it_would_be() -> None:
    tracker = Tracker(keep_frames=10)
    for frame in range(10):
        follow(tracker, [(5 * frame, 50, 0.9, 0)])
    for _ in range(10, 18):
        assert follow(tracker, []) == []
    assert follow(tracker, [(5 * 18, 50, 0.9, 0)]) == [1]


def test_one_that_was_away_too_long_is_a_new_one() -> None:
    tracker = Tracker(keep_frames=3)
    for _ in range(3):
        follow(tracker, [(100, 50, 0.9, 0)])
    for _ in range(4):
        follow(tracker, [])
    assert [follow(tracker, [(100, 50, 0.9, 0)]) for _ in range(2)] == [[-1], [2]]


def test_a_flicker_is_no_object_and_uses_up_no_number() -> None:
    tracker = Tracker()
    follow(tracker, [(0, 0, 0.9, 0)])
    assert follow(tracker, [(0, 0, 0.9, 0), (300, 200, 0.95, 0)]) == [1, -1]
    follow(tracker, [(0, 0, 0.9, 0)])
    for expected in (-1, 2):
        assert follow(tracker, [(0, 0, 0.9, 0), (100, 100, 0.9, 0)]) == [1, expected]


@pytest.mark.parametrize(("per_class", "expected"), [(True, -1), (False, 1)])
def test_an_object_keeps_its_class_or_not(per_class: bool, expected: int) -> None:
    tracker = Tracker(per_class=per_class)
    follow(tracker, [(100, 50, 0.9, 0)])
    assert follow(tracker, [(100, 50, 0.9, 1)]) == [expected]


def test_frames_that_are_skipped_count_as_time() -> None:
    tracker = Tracker()
    for frame in range(10):
        follow(tracker, [(8 * frame, 50, 0.9, 0)])
    # Four frames on it is 32 pixels further, which overlaps the last place by a ninth.
    for frame in range(13, 60, 4):
        assert follow(tracker, [(8 * frame, 50, 0.9, 0)], frames=4) == [1]


def test_noise_and_clutter() -> None:
    """Ten objects with jittered boxes, one in eight of them missed, among false alarms: few numbers, all stable."""
    rng = np.random.default_rng(5)
    starts = np.stack([np.repeat([40, 240, 440, 640, 840], 2), np.tile([60, 260], 5)], axis=1).astype(float)
    speeds = rng.uniform(-1.5, 1.5, (10, 2))
    tracker, numbers = Tracker(), [set[int]() for _ in range(10)]
    used: set[int] = set()
    for frame in range(200):
        seen: Seen = []
        who: list[int] = []
        for i, (start, speed) in enumerate(zip(starts, speeds, strict=True)):
            if frame == 0 or rng.random() > 0.125:
                x, y = start + speed * min(frame, 60) + rng.normal(0, 1, 2)
                seen.append((x, y, rng.uniform(0.55, 0.95) if frame else 0.9, 0))
                who.append(i)
        if frame and rng.random() < 0.3:
            seen.append((*rng.uniform(0, 900, 2), 0.7, 1))
        found = follow(tracker, seen)
        used |= set(found) - {-1}
        for i, number in zip(who, found, strict=False):
            numbers[i] |= {number} - {-1}
    assert [len(n) for n in numbers] == [1] * 10
    assert len(set.union(*numbers)) == 10
    assert used - set.union(*numbers) == set(), "two false alarms in one place at once are unlikely, and none counted"


def test_every_object_has_one_number_and_no_number_two_objects() -> None:
    rng = np.random.default_rng(1)
    tracker = Tracker(per_class=False)
    for _ in range(60):
        count = rng.integers(0, 12)
        corner: NDArray[np.float64] = rng.uniform(0, 100, (count, 2))
        boxes = np.concatenate([corner, corner + rng.uniform(0, 60, (count, 2))], axis=1)
        found = tracker.update(boxes, rng.random(count), rng.integers(0, 3, count))
        real = found[found > 0]
        assert len(set(real.tolist())) == len(real)


def test_speed_is_that_of_a_frame_however_many_go_by() -> None:
    tracker = Tracker()
    assert [follow(tracker, [(4 * at, 50, 0.9, 0)], gone) for at, gone in ((0, 1), (4, 4), (20, 16), (21, 1))] == [
        [1]
    ] * 4
