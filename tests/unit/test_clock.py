"""The clocks."""

from foretell.clock import FakeClock, MonotonicClock


def test_a_fake_clock_stands_still_until_told():
    clock = FakeClock(10.0)
    assert clock.now() == clock.now() == 10.0
    clock.advance(2.5)
    clock.advance(-1.0)
    assert clock.now() == 12.5


def test_the_monotonic_clock_does_not_go_back():
    clock = MonotonicClock()
    instants = [clock.now() for _ in range(100)]
    assert instants == sorted(instants)
