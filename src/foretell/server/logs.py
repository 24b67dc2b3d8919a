"""Logs for machines: one JSON object a line, whatever is in it. Request lines are sampled; errors never are."""

from __future__ import annotations

import json
import logging
import random
import sys
import time
import traceback
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from foretell.errors import ForetellError, MachineError, ModelError

if TYPE_CHECKING:
    from foretell.server.observer import Account

__all__ = ["FailureLog", "JsonLines", "RequestLog", "log_failure", "log_to_stderr"]

_REQUESTS = logging.getLogger("foretell.requests")
_FAILURES = logging.getLogger("foretell.failures")
_LONGEST = 256
_LONGEST_REASON = 1000
_MOST_A_SECOND = 100


class JsonLines(logging.Formatter):
    """Writes a record as one line of ASCII, so that nothing a client sends can end it or forge another."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        told: dict[str, Any] = {"time": _instant(record.created), "level": record.levelname.lower()}
        if isinstance(record.msg, dict):
            told |= record.msg
        else:
            told["message"] = record.getMessage()
        if record.exc_info:
            told["trace"] = "".join(traceback.format_exception(*record.exc_info))
        return json.dumps(told, ensure_ascii=True)


class RequestLog:
    """Writes a line for a share of the requests."""

    def __init__(self, share: float) -> None:
        """Take the share of requests that are logged, 0 to 1."""
        self._share = share

    def write(self, account: Account) -> None:
        """Write a line, if it is the turn of this request."""
        if self._share <= 0 or (self._share < 1 and random.random() >= self._share):
            return
        told: dict[str, Any] = {
            "door": account.door,
            "id": account.id,
            "request": account.request[:_LONGEST],
            "model": account.model[:_LONGEST],
            "version": account.version[:_LONGEST],
            "rows": account.rows,
            "priority": account.priority_name,
            "status": account.status,
            "code": account.code,
            "ms": round((account.ended - account.started) * 1e3, 3),
        }
        stages = {f"{stage}_ms": round(took_s * 1e3, 3) for stage, took_s in account.stages_s().items()}
        _REQUESTS.info(told | stages)


class FailureLog:
    """Writes a line about each request that ended in a fault of the model or the machine; its caller is not told which.

    A model that fails on everything must not make a server write more than it answers: there is a most for each second.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._second = 0
        self._written = self._left_out = 0

    def write(self, error: ForetellError, request_id: str) -> None:
        """Write a line, if such an error belongs here and there is room for it."""
        if not isinstance(error, (ModelError, MachineError)):
            return
        second = int(self._now())
        if second != self._second:
            self._second, self._written = second, 0
        if self._written >= _MOST_A_SECOND:
            self._left_out += 1
            return
        self._written += 1
        reason = " ".join(str(error).split())[:_LONGEST_REASON]
        told: dict[str, Any] = {"id": request_id, "code": error.code, "message": reason}
        if self._left_out:
            told["left_out"], self._left_out = self._left_out, 0
        _FAILURES.error(told)


log_failure = FailureLog().write


def log_to_stderr() -> None:
    """Send warnings, errors and request lines of this package to stderr."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    _REQUESTS.setLevel(logging.INFO)


def _instant(seconds: float) -> str:
    whole = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
    return f"{whole}.{int(seconds % 1 * 1000):03d}Z"
