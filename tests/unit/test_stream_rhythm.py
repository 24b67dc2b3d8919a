"""When the next frame is due, and whether to wait for it."""

import random

import pytest

from foretell.server.streams.rhythm import Rhythm


def even(interval_s, frames=20, start=100.0):
    rhythm = Rhythm()
    for i in range(frames):
        rhythm.beat(start + i * interval_s)
    return rhythm, start + (frames - 1) * interval_s


def test_the_next_frame_is_waited_for_where_it_is_about_to_come():
    rhythm, last = even(0.04)
    assert rhythm.wait_s(last + 0.001) == 0
    assert rhythm.wait_s(last + 0.029) == 0
    assert rhythm.wait_s(last + 0.035) == pytest.approx(0.005 + 0.005)
    assert rhythm.wait_s(last + 0.04) == pytest.approx(0.005)
    assert rhythm.wait_s(last + 0.046) == 0, "it is late already: who knows when it comes"


def test_a_few_frames_tell_nothing():
    for frames in range(8):
        rhythm, last = even(0.04, frames)
        assert rhythm.wait_s(last + 0.035) == 0


def test_uneven_frames_are_not_waited_for():
    rhythm, now, chance = Rhythm(), 0.0, random.Random(1)
    for _ in range(200):
        now += chance.expovariate(25)
        rhythm.beat(now)
        assert all(rhythm.wait_s(now + late) == 0 for late in (0.0, 0.02, 0.04)) or rhythm.is_steady
    assert not rhythm.is_steady


def test_another_rate_is_learned():
    rhythm, last = even(0.04)
    for i in range(1, 40):
        rhythm.beat(last + i * 0.1)
    assert rhythm.interval_s == pytest.approx(0.1, rel=0.01)
    assert rhythm.is_steady


@pytest.mark.parametrize("run_s", [0.045, 0.0613, 0.0937, 0.211])
def test_answers_are_younger_and_hardly_fewer(run_s):
    """In virtual time, one instance, 25 frames a second that tremble: age beyond the inference, and answers."""

    def play(is_patient):
        chance, rhythm = random.Random(2), Rhythm()
        frames = sorted(i * 0.04 + chance.uniform(0, 0.002) for i in range(5000))
        ages, free, at = [], 0.0, 0
        while at < len(frames) - 20:
            now = max(free, frames[at])
            while at + 1 < len(frames) and frames[at + 1] <= now:
                at += 1
                rhythm.beat(frames[at])
            wait_s = rhythm.wait_s(now) if is_patient else 0.0
            if wait_s and frames[at + 1] <= now + wait_s:
                at += 1
                now = frames[at]
                rhythm.beat(now)
            else:
                now += wait_s
            free = now + run_s
            ages.append(free - frames[at] - run_s)
            at += 1
            rhythm.beat(frames[at])
        return sorted(ages)

    hasty, patient = play(False), play(True)
    assert hasty[int(0.99 * len(hasty))] > 0.035
    assert patient[int(0.99 * len(patient))] < 0.033
    assert len(patient) > 0.93 * len(hasty)
