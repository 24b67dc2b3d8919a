"""Encoded pictures to the engine, and its answers as people read them: for every door that has pictures.

    request_of(door, contents)   what the engine takes
    answers_of(door, response)   what was seen in each picture, ready for JSON
    see(engine, door, contents)  both, as a coroutine

A picture is bytes as they came, or `Base64`; nobody here looks into it: its worker decodes it, off the event loop.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from foretell.engine.engine import Engine
from foretell.errors import InvalidInput
from foretell.model.tasks.predictions import Predictions
from foretell.request import INTERACTIVE, Base64, InferRequest, InferResponse, Parts, Timing
from foretell.server.doors import Door

__all__ = ["Content", "Seen", "answers_of", "request_of", "see"]

Content = bytes | bytearray | memoryview | Parts | Base64
"""One encoded picture."""


class Seen(NamedTuple):
    """What was seen in some pictures."""

    answers: list[Any]
    """For each picture, as in `{"predictions": [...]}`: of a detection a list of `{"label", "score", "box"}`."""
    timing: Timing
    response: InferResponse


def request_of(
    door: Door,
    contents: Sequence[Content],
    *,
    version: str = "",
    request_id: str = "",
    deadline: float | None = None,
    priority: int = INTERACTIVE,
) -> InferRequest:
    """Return the request that asks a model what is in some pictures.

    Args:
        door: Of its version.
        contents: One or more encoded pictures, which nobody changes until the request is settled.
        version: That the caller asked for; empty for the default.
        request_id: For the log.
        deadline: Instant of the engine's clock; None: the engine's default.
        priority: INTERACTIVE or BULK.

    Raises:
        InvalidInput: The model takes no encoded pictures.
    """
    if door.pictures is None:
        raise InvalidInput(f'model "{door.served.name}": it takes no pictures; GET /docs shows what it takes')
    pictures = np.empty(len(contents), object)
    pictures[:] = contents
    name = door.pictures.inputs[0].name
    request = InferRequest(
        door.served.name, version, request_id, {name: pictures}, len(contents), None, deadline, priority
    )
    request.nbytes = max(1, sum(map(len, contents)))
    return request


def answers_of(door: Door, response: InferResponse) -> list[Any]:
    """Return what was seen in each picture of a request, as plain values for JSON."""
    return Predictions(door.reader, response.outputs).to_list()


async def see(
    engine: Engine,
    door: Door,
    contents: Sequence[Content],
    *,
    request_id: str = "",
    deadline: float | None = None,
    priority: int = INTERACTIVE,
) -> Seen:
    """Ask what is in some pictures. Cancelling it takes the request back.

    Without a future it is `door.served.infer(request_of(...), done)`, whose ticket has `cancel()`.

    Args:
        engine: Of the door.
        door: Of the version that is asked.
        contents: See `request_of`.
        request_id: For the log.
        deadline: Instant of the engine's clock; None: the engine's default.
        priority: INTERACTIVE or BULK.

    Raises:
        InvalidInput: A picture is broken or too large; the message names its row.
        ForetellError: As `Engine.answer`.
    """
    request = request_of(
        door, contents, version=door.served.version, request_id=request_id, deadline=deadline, priority=priority
    )
    response = await engine.answer(request)
    return Seen(answers_of(door, response), response.timing, response)
