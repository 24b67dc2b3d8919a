"""Logs for machines: one JSON object a line, whatever is in it. Request lines are sampled; errors never are."""

from __future__ import annotations

import json
import logging
import random
import sys
import time
import traceback
from typing import Any

__all__ = ["JsonLines", "RequestLog", "log_to_stderr"]

_REQUESTS = logging.getLogger("foretell.requests")
_LONGEST = 256


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
        self.is_on = share > 0

    def write(self, door: str, request_id: str, what: str, status: Any, took_ns: int) -> None:
        """Write a line, if it is the turn of this request.

        Args:
            door: `http` or `grpc`.
            request_id: As the client was told.
            what: Method and path; cut off after 256 characters.
            status: Of HTTP, or the name of gRPC's code.
            took_ns: From its head until its answer.
        """
        if self._share < 1 and random.random() >= self._share:
            return
        told = {"door": door, "id": request_id, "request": what[:_LONGEST], "status": status}
        _REQUESTS.info(told | {"ms": round(took_ns / 1e6, 3)})


def log_to_stderr() -> None:
    """Send warnings, errors and request lines of this package to stderr."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    _REQUESTS.setLevel(logging.INFO)


def _instant(seconds: float) -> str:
    whole = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
    return f"{whole}.{int(seconds % 1 * 1000):03d}Z"
