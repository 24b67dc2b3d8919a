"""The states of a model version, as a table. Pure.

    NEW -> LOADING -> READY -> DRAINING -> UNLOADED
              |                               |
              +--> FAILED --(load)--> LOADING <+

A reload is a second version object: the old one stays READY until the new one is.
"""

from __future__ import annotations

from enum import Enum

from foretell.errors import InternalError

__all__ = ["TRANSITIONS", "Event", "State", "after"]


class State(Enum):
    """What a version is doing."""

    NEW = "NEW"
    """Known from disk, never loaded."""
    LOADING = "LOADING"
    READY = "READY"
    """Takes requests."""
    DRAINING = "DRAINING"
    """Takes none; those in flight are answered."""
    UNLOADED = "UNLOADED"
    """Everything was given back."""
    FAILED = "FAILED"
    """Could not be loaded; the reason is kept."""


class Event(Enum):
    """What happens to a version."""

    LOAD = "load"
    LOADED = "loaded"
    FAIL = "fail"
    DRAIN = "drain"
    DRAINED = "drained"


TRANSITIONS: dict[tuple[State, Event], State] = {
    (State.NEW, Event.LOAD): State.LOADING,
    (State.LOADING, Event.LOADED): State.READY,
    (State.LOADING, Event.FAIL): State.FAILED,
    (State.LOADING, Event.DRAIN): State.DRAINING,
    (State.READY, Event.DRAIN): State.DRAINING,
    (State.READY, Event.FAIL): State.FAILED,
    (State.DRAINING, Event.DRAINED): State.UNLOADED,
    (State.DRAINING, Event.FAIL): State.FAILED,
    (State.UNLOADED, Event.LOAD): State.LOADING,
    (State.FAILED, Event.LOAD): State.LOADING,
    (State.FAILED, Event.DRAIN): State.DRAINING,
}
"""Every legal step; whatever is not here is refused."""


def after(state: State, event: Event) -> State:
    """Return the state that follows.

    Raises:
        InternalError: The step is not in the table.
    """
    try:
        return TRANSITIONS[state, event]
    except KeyError:
        raise InternalError(
            f'model state {state.value}: event "{event.value}" is not in the table. This is a bug.'
        ) from None
