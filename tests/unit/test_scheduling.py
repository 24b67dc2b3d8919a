"""Decisions as tables: what is known, and what follows."""

import pytest

from foretell.engine.limits import Limits
from foretell.engine.pace import Pace
from foretell.engine.scheduling import (
    admit,
    back_off_s,
    batch_rows,
    count_instances,
    count_threads,
    hang_after_s,
    next_caution,
    patience_s,
)
from foretell.errors import ConfigError

LIMITS = Limits(max_queue_rows=100, max_queue_bytes=1000, max_queue_s=5.0)
CHEAP = Pace([(1, 15e-6), (4, 26e-6), (64, 270e-6)] * 5)
SLOW = Pace([(1, 1.75e-3), (4, 7e-3)] * 5)


@pytest.mark.parametrize(
    ("rows", "nbytes", "queued_rows", "queued_bytes", "wait_s", "left_s", "idle", "expected"),
    [
        (1, 10, 0, 0, 0.0, 1.0, True, None),
        (101, 10, 0, 0, 0.0, 1.0, True, "too_large"),
        (1, 1001, 0, 0, 0.0, 1.0, True, "too_large"),
        (1, 10, 100, 0, 0.0, 1.0, False, "queue_full"),
        (1, 10, 99, 990, 0.0, 1.0, False, None),
        (1, 11, 99, 990, 0.0, 1.0, False, "queue_full"),
        (1, 10, 0, 0, 0.0, 0.0, True, "expired"),
        (1, 10, 5, 0, 0.94, 1.0, False, None),
        (1, 10, 5, 0, 0.96, 1.0, False, "overloaded"),
        (1, 10, 5, 0, 0.07, 0.1, False, None),
        (1, 10, 5, 0, 0.08, 0.1, False, "overloaded"),
        (1, 10, 0, 0, 9.0, 1.0, True, None),
        (1, 10, 5, 0, 5.1, 60.0, False, "overloaded"),
    ],
)
def test_admission(rows, nbytes, queued_rows, queued_bytes, wait_s, left_s, idle, expected):
    assert admit(rows, nbytes, queued_rows, queued_bytes, wait_s, left_s, 5.0, idle, LIMITS) == expected


@pytest.mark.parametrize(
    ("pace", "slack_s", "most", "low", "high"),
    [
        (Pace(), 1.0, 64, 64, 64),  # nothing known: as many as allowed
        (CHEAP, 30.0, 256, 256, 256),  # rows cost nothing beside the batch
        (SLOW, 30.0, 256, 5, 7),  # some 10 ms, for batching gains nothing
        (SLOW, 0.02, 256, 1, 2),  # the first is due soon
        (SLOW, -1.0, 256, 1, 2),
        (Pace([(1, 1.0)]), 30.0, 256, 1, 1),
    ],
)
def test_rows_of_a_batch(pace, slack_s, most, low, high):
    assert low <= batch_rows(pace, slack_s, most) <= high


def test_a_batch_that_others_may_have_to_wait_for_is_brief():
    assert batch_rows(SLOW, 30.0, 256, is_brief=True) <= 3
    assert batch_rows(CHEAP, 30.0, 256, is_brief=True) == 256


def test_a_fixed_cost_that_is_overrated_makes_no_batch_of_half_a_second():
    overrated = Pace([(1, 0.011), (10, 0.020)])  # 10 ms and 1 ms a row
    assert batch_rows(overrated, 30.0, 256) > 150
    assert overrated.row_s * batch_rows(overrated, 0.4, 256) < 0.052


def test_bulk_leaves_room_in_the_queue():
    for is_bulk, expected in ((True, "queue_full"), (False, None)):
        assert admit(1, 10, 75, 0, 0.0, 1.0, 5.0, False, LIMITS, is_bulk=is_bulk) == expected
    assert admit(100, 10, 0, 0, 0.0, 1.0, 5.0, True, LIMITS, is_bulk=True) is None


@pytest.mark.parametrize(
    ("own_s", "is_bulk", "is_calm", "limits", "expected"),
    [
        (0.00001, False, True, LIMITS, 0.15001),
        (0.00175, False, True, LIMITS, 0.15175),
        (0.01, False, True, LIMITS, 0.65),
        (1.0, False, True, LIMITS, 5.0),
        (0.01, True, True, LIMITS, 5.0),
        (0.00001, False, False, LIMITS, 5.0),
        (0.01, False, True, Limits(patience_s=0.2), 0.2),
        (0.01, False, True, Limits(patience_s=60.0, max_queue_s=5.0), 5.0),
    ],
)
def test_patience_of_who_brings_no_deadline(own_s, is_bulk, is_calm, limits, expected):
    assert patience_s(own_s, is_bulk, is_calm, limits) == pytest.approx(expected)


def test_caution_rises_quickly_falls_slowly_and_is_bounded():
    caution = 1.0
    for _ in range(50):
        caution = next_caution(caution, True)
    assert caution == 3.0
    fallen = next_caution(caution, False)
    assert 2.9 < fallen < 3.0
    for _ in range(1000):
        fallen = next_caution(fallen, False)
    assert fallen == 1.0


@pytest.mark.parametrize(
    ("pace", "expected_s", "retries", "after_s"),
    [(Pace(), 0.0, 0, 30.0), (CHEAP, 0.0003, 0, 1.0), (SLOW, 0.5, 0, 5.0), (CHEAP, 0.0003, 2, 4.0)],
)
def test_when_an_instance_hangs(pace, expected_s, retries, after_s):
    assert hang_after_s(pace, expected_s, retries, Limits()) == pytest.approx(after_s)


@pytest.mark.parametrize(("deaths", "seconds"), [(0, 0.0), (1, 0.0), (2, 0.1), (3, 0.2), (5, 0.8), (40, 30.0)])
def test_back_off(deaths, seconds):
    assert back_off_s(deaths) == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("cores", "versions", "pace", "limits", "instances", "threads"),
    [
        (2, 1, CHEAP, Limits(), 1, 1),
        (2, 1, SLOW, Limits(), 2, 1),
        (16, 1, SLOW, Limits(), 16, 1),
        (16, 1, Pace([(1, 140e-6), (2, 280e-6)] * 20), Limits(), 3, 1),
        (16, 8, SLOW, Limits(), 2, 1),
        (1, 5, SLOW, Limits(), 1, 1),
        (16, 1, SLOW, Limits(instances=2), 2, 8),
        (16, 1, SLOW, Limits(instances=2, threads=3), 2, 3),
        (4, 1, Pace(), Limits(), 1, 1),
    ],
)
def test_instances_and_threads(cores, versions, pace, limits, instances, threads):
    assert count_instances(cores, versions, pace, limits) == instances
    assert count_threads(cores, versions, limits) == threads
    if limits.threads is None:
        assert instances * threads <= max(cores, 1)


def test_settings_are_checked():
    with pytest.raises(ConfigError, match="setting max_batch_size: 0, expected more than 0"):
        Limits(max_batch_size=0)


def test_the_cost_is_learned_from_batches_of_mixed_rows():
    pace = Pace()
    for i in range(200):
        rows = 1 + i % 32
        pace.observe(rows, 0.001 + 0.0002 * rows)
    assert pace.seconds(16) == pytest.approx(0.0042, rel=0.01)
    assert pace.row_s == pytest.approx(0.0002, rel=0.05)


def test_a_slower_machine_is_noticed_though_all_batches_have_one_length():
    pace = Pace([(1, 0.001), (32, 0.004)] * 10)
    for _ in range(200):
        pace.observe(8, 0.006)
    assert pace.seconds(8) == pytest.approx(0.006, rel=0.02)
    assert pace.fixed_s >= 0
    assert pace.row_s >= 0


def test_one_pause_of_the_machine_does_not_change_much():
    pace = Pace([(1, 0.001)] * 100)
    pace.observe(1, 10.0)
    assert pace.seconds(1) < 0.0013
