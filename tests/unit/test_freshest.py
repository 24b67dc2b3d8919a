"""Which frame of a stream is started next: every frame ends in one count, and lag cannot grow."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, precondition, rule

from foretell.server.streams.freshest import Freshest


def numbers(deliveries):
    return [(d.frame.number, d.outcome, d.dropped) for d in deliveries]


def test_the_newest_frame_takes_the_place_of_the_one_that_waits():
    stream = Freshest("latest", 1)
    assert stream.offer("a") is None
    first = stream.next()
    assert (first.number, first.item) == (0, "a")
    assert stream.offer("b") is None
    assert stream.offer("c").item == "b"
    assert stream.offer("d").item == "c"
    assert stream.next() is None
    assert numbers(stream.settle(first)) == [(0, "answered", 0)]
    last = stream.next()
    assert last.item == "d"
    stream.offer("e")
    stream.offer("f")
    assert numbers(stream.settle(last)) == [(3, "answered", 2)], "b and c; e is newer"
    assert numbers(stream.settle(stream.next())) == [(5, "answered", 1)]


def test_an_answer_after_that_of_a_newer_frame_is_stale():
    stream = Freshest("latest", 2)
    stream.offer("a")
    first = stream.next()
    stream.offer("b")
    second = stream.next()
    assert numbers(stream.settle(second)) == [(1, "answered", 0)]
    assert numbers(stream.settle(first)) == [(0, "stale", 0)]


def test_a_failed_frame_makes_no_other_stale():
    stream = Freshest("latest", 2)
    stream.offer("a")
    first = stream.next()
    stream.offer("b")
    second = stream.next()
    assert numbers(stream.settle(second, failed=True)) == [(1, "failed", 0)]
    assert numbers(stream.settle(first)) == [(0, "answered", 0)]


def test_every_frame_is_answered_in_its_order():
    stream = Freshest("every", 2)
    for item in "abc":
        assert stream.offer(item) is None
    first, second = stream.next(), stream.next()
    assert stream.next() is None
    assert stream.settle(second, failed=True) == []
    assert stream.next() is None, "what is held for its turn counts as in flight: it takes memory too"
    assert numbers(stream.settle(first)) == [(0, "answered", 0), (1, "failed", 0)]
    assert stream.next().item == "c"


def test_what_waits_can_be_given_up():
    stream = Freshest("every", 1)
    for item in "abc":
        stream.offer(item)
    first = stream.next()
    assert [frame.item for frame in stream.give_up()] == ["b", "c"]
    assert numbers(stream.settle(first)) == [(0, "answered", 0)]
    stream.offer("d")
    assert numbers(stream.settle(stream.next())) == [(3, "answered", 2)]


def test_how_far_a_frame_is_from_the_last_one_answered():
    stream = Freshest("latest", 1)
    passed = []
    for skipped in (0, 2, 1):
        for _ in range(skipped + 1):
            stream.offer("x")
        passed.append(stream.settle(stream.next())[0].passed)
    assert passed == [1, 3, 2]


class Camera(RuleBasedStateMachine):
    """Frames are offered, started and settled in any order."""

    running = Bundle("running")
    mode = "latest"

    def __init__(self):
        super().__init__()
        self.stream = None
        self.told = []
        self.started = 0
        self.given_up = 0

    @precondition(lambda self: self.stream is None)
    @rule(most=st.integers(1, 4))
    def open(self, most):
        self.most, self.stream = most, Freshest(self.mode, most)

    @precondition(lambda self: self.stream is not None)
    @rule(count=st.integers(1, 5))
    def offer(self, count):
        for _ in range(count):
            self.stream.offer(self.stream.offered)

    @precondition(lambda self: self.stream is not None and self.stream.can_start)
    @rule(target=running)
    def start(self):
        frame = self.stream.next()
        assert frame.number == frame.item
        if self.mode == "latest":
            assert frame.number == self.stream.offered - 1, "the newest that came is the one that is started"
        else:
            assert frame.number == self.started + self.given_up
        self.started += 1
        return frame

    @rule(frame=consumes(running), failed=st.booleans())
    def settle(self, frame, failed):
        self.told += self.stream.settle(frame, failed=failed)

    @precondition(lambda self: self.stream is not None)
    @rule()
    def give_up(self):
        self.given_up += len(self.stream.give_up())

    @invariant()
    def nothing_is_lost(self):
        s = self.stream
        if s is None:
            return
        assert s.offered == s.waiting + s.running + s.held + s.answered + s.stale + s.failed + s.dropped
        assert s.running + s.held <= self.most
        assert self.mode == "every" or (s.waiting <= 1 and s.held == 0)
        newest = max((d.frame.number for d in self.told), default=-1)
        told = len(self.told) + sum(d.dropped for d in self.told)
        assert told + sum(f.number < newest for f in s.in_flight) == newest + 1, "every older frame is told of, once"
        assert len(self.told) == s.answered + s.stale + s.failed

    @invariant()
    def answers_are_in_order(self):
        answered = [d.frame.number for d in self.told if d.outcome == "answered"]
        assert answered == sorted(set(answered))
        newest = -1
        for d in self.told:
            if d.outcome == "stale":
                assert d.frame.number < newest
            elif d.outcome == "answered":
                newest = d.frame.number
        if self.mode == "every":
            assert [d.frame.number for d in self.told] == sorted(d.frame.number for d in self.told)
            assert not any(d.outcome == "stale" for d in self.told)


class Requests(Camera):
    """The same where every frame is answered."""

    mode = "every"


TestLatest = Camera.TestCase
TestEvery = Requests.TestCase


@given(
    interval=st.integers(1, 20), times=st.lists(st.integers(1, 100), min_size=20, max_size=60), most=st.integers(1, 3)
)
def test_lag_never_grows(interval, times, most):
    """In virtual time, `most` instances: no answer is older than one interval of the camera and its own inference."""
    stream, running, now, last_of = Freshest("latest", most), [], 0, interval * 200
    left, ages = list(times), []
    for now in range(last_of):
        for end, frame, took in [r for r in running if r[0] == now]:
            running.remove((end, frame, took))
            (told,) = stream.settle(frame)
            if told.outcome == "answered":
                ages.append((now - frame.item, took))
        if now % interval == 0:
            stream.offer(now)
        while (frame := stream.next()) is not None:
            took = left[frame.number % len(left)]
            running.append((now + took, frame, took))
    assert all(age < interval + took for age, took in ages)
    assert stream.answered + stream.stale + stream.dropped + stream.running + stream.waiting == stream.offered


@pytest.mark.parametrize("mode", ["latest", "every"])
def test_its_state_is_seen(mode):
    stream = Freshest(mode, 1)
    for item in "abc":
        stream.offer(item)
    stream.next()
    waiting, dropped = (0, 2) if mode == "latest" else (2, 0)
    if mode == "latest":
        assert stream.give_up() == []
    assert repr(stream) == (
        f"<Freshest: 3 offered, {waiting} waiting, 1 running, 0 held, 0 answered, 0 stale, 0 failed, {dropped} dropped>"
    )
