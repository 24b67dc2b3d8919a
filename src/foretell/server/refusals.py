"""Refuses calls that have no chance, unread: under overload a refusal must cost next to nothing.

After refusals the loop rests for a moment, so that many requests are read at once, and the models, which may
share their processors with this process, are not interrupted for each of them.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

import orjson

from foretell.engine.served import Served
from foretell.errors import ForetellError
from foretell.protocol.status import error_text, status_of
from foretell.server.call import Call

__all__ = ["Refusals"]

_REST_S = 0.002
"""Longest rest. A refusal comes that much later, and so does whatever else this process does."""


class Refusals:
    """Tells callers that there is no place for them."""

    def __init__(self) -> None:
        self._busy: list[Served] = []

    def refuse(self, calls: Sequence[Call], error: ForetellError, served: Served) -> None:
        """Answer calls, except those whose client has gone, and rest before the loop goes on.

        Args:
            calls: Not read.
            error: Why there is no place.
            served: They asked for.
        """
        waiting = [call for call in calls if not call.is_gone]
        if not waiting:
            return
        served.count_refused(error, len(waiting))
        status = status_of(error).http
        body = orjson.dumps({"error": error_text(error), "code": error.code, "id": ""})[:-2]
        for call in waiting:
            call.fail_as(error, status, body)
        if not self._busy:
            asyncio.get_running_loop().call_soon(self._rest)
        self._busy.append(served)

    def _rest(self) -> None:
        rest_s = min([_REST_S, *(served.spare_s for served in self._busy)])
        self._busy.clear()
        if rest_s > 0.0:
            time.sleep(rest_s)
