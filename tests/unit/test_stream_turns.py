"""Which stream starts a frame when several share a model."""

from hypothesis import given
from hypothesis import strategies as st

from foretell.server.streams.gate import Gate
from foretell.server.streams.turns import Turns


def test_who_has_waited_longest_is_next():
    turns = Turns()
    for name in "abc":
        turns.ask(name)
    turns.ask("a")
    ((first, joined),) = turns.next(1, 1)
    assert first == "a"
    assert turns.next(1, 1) == []
    turns.ask("a")
    turns.done(joined)
    assert [name for name, _ in turns.next(1, 1)] == ["b"]


def test_instances_work_side_by_side():
    turns = Turns()
    for name in "abc":
        turns.ask(name)
    assert [name for name, _ in turns.next(2, 1)] == ["a", "b"]


def test_frames_that_cost_no_more_together_make_one_round():
    turns = Turns()
    for name in "abcd":
        turns.ask(name)
    round_of = dict(turns.next(1, 3))
    assert list(round_of) == ["a", "b", "c"]
    assert len(set(map(id, round_of.values()))) == 1
    turns.done(round_of["a"])
    turns.done(round_of["b"])
    assert turns.next(1, 3) == [], "the instance is free when the whole round is settled"
    turns.done(round_of["c"])
    assert [name for name, _ in turns.next(1, 3)] == ["d"]


def test_without_an_instance_one_frame_still_goes_and_is_told():
    turns = Turns()
    turns.ask("a")
    assert len(turns.next(0, 1)) == 1


def test_who_leaves_waits_no_more():
    turns = Turns()
    turns.ask("a")
    turns.ask("b")
    turns.leave("a")
    turns.leave("a")
    assert [name for name, _ in turns.next(1, 1)] == ["b"]


@given(st.integers(1, 3), st.integers(1, 4), st.lists(st.sampled_from("abcdef"), max_size=60))
def test_nobody_waits_for_long(instances, company, names):
    turns, running = Turns(), []
    asked = {}
    for at, name in enumerate(names):
        turns.ask(name)
        asked.setdefault(name, at)
        started = turns.next(instances, company)
        for stream, joined in started:
            del asked[stream]
            running.append(joined)
        assert turns.rounds <= instances
        if asked and running and at % 2:
            turns.done(running.pop(0))
        assert len(asked) <= 6
    while running or asked:
        for joined in running:
            turns.done(joined)
        running = []
        for stream, joined in turns.next(instances, company):
            del asked[stream]
            running.append(joined)
    assert turns.rounds == 0
    assert repr(turns) == "<Turns: 0 waiting, 0 rounds running>"


class Refused:
    """A stream whose frames are refused at once."""

    def __init__(self, gate, times):
        self.gate, self.left = gate, times

    def begin(self, joined):
        self.left -= 1
        if self.left > 0:
            self.gate.ask(self, 1, 1)
        self.gate.done(joined)


def test_frames_refused_at_once_nest_nothing():
    gate = Gate()
    streams = [Refused(gate, 5000) for _ in range(3)]
    for stream in streams:
        gate.ask(stream, 1, 1)
    assert [stream.left for stream in streams] == [0, 0, 0]
