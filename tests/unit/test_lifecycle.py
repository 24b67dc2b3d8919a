"""Every pair of state and event: legal as in this table, or refused."""

import itertools

import pytest

from foretell.engine.lifecycle import TRANSITIONS, Event, State, after
from foretell.errors import InternalError

LEGAL = {
    "NEW load": "LOADING",
    "UNLOADED load": "LOADING",
    "FAILED load": "LOADING",
    "LOADING loaded": "READY",
    "LOADING fail": "FAILED",
    "LOADING drain": "DRAINING",
    "READY drain": "DRAINING",
    "READY fail": "FAILED",
    "FAILED drain": "DRAINING",
    "DRAINING drained": "UNLOADED",
    "DRAINING fail": "FAILED",
}


@pytest.mark.parametrize(("state", "event"), list(itertools.product(State, Event)))
def test_every_pair(state, event):
    expected = LEGAL.get(f"{state.value} {event.value}")
    if expected is None:
        with pytest.raises(InternalError, match="not in the table"):
            after(state, event)
    else:
        assert after(state, event) is State(expected)


def test_no_state_is_a_trap():
    for state in State:
        assert any(source is state for source, _ in TRANSITIONS)
