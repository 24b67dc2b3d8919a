"""Answers of HTTP/1.1, from the bytes of a connection that asks one thing at a time. Knows no sockets."""

from __future__ import annotations

import json
import re
from typing import NamedTuple

__all__ = ["Answer", "AnswerReader", "code_of", "timing_of"]

_STATUS = re.compile(rb"HTTP/1\.([01]) (\d{3})[ \r]")
_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*(\d{1,18})[ \t]*\r\n", re.IGNORECASE)
_CHUNKED = re.compile(rb"\r\ntransfer-encoding:[ \t]*chunked[ \t]*\r\n", re.IGNORECASE)
_CONNECTION = re.compile(rb"\r\nconnection:[ \t]*([a-z-]+)", re.IGNORECASE)
_TIMING = re.compile(rb"\r\nserver-timing:([^\r]*)", re.IGNORECASE)
_DURATION = re.compile(rb"([\w-]+)[^,]*?;[ \t]*dur=([\d.]+)")


class Answer(NamedTuple):
    """One answer."""

    status: int
    head: bytes
    """With the empty line that ends it."""
    body: bytes
    keeps: bool
    """Whether the connection takes another request."""


class AnswerReader:
    """Collects the bytes of one connection."""

    def __init__(self) -> None:
        self._got = b""

    def feed(self, data: bytes) -> Answer | None:
        """Take bytes, and return an answer if it is whole.

        Raises:
            ValueError: It is not HTTP.
        """
        got = self._got + data if self._got else data
        while True:
            end = got.find(b"\r\n\r\n") + 4
            if end == 3:
                self._got = got
                return None
            if not got.startswith(b"HTTP/1.1 1"):
                break
            got = got[end:]
        answer = self._whole(got, end)
        self._got = got if answer is None else b""
        return answer

    def ended(self) -> Answer | None:
        """Return the answer that the end of the connection makes whole, if there is one."""
        end = self._got.find(b"\r\n\r\n") + 4
        if end == 3 or _LENGTH.search(self._got, 0, end) or _CHUNKED.search(self._got, 0, end):
            return None
        status, _ = _first_line(self._got)
        return Answer(status, self._got[:end], self._got[end:], False)

    @staticmethod
    def _whole(got: bytes, end: int) -> Answer | None:
        status, keeps = _first_line(got)
        head = got[:end]
        said = _CONNECTION.search(head)
        if said:
            keeps = said[1].lower() == b"keep-alive" or (keeps and said[1].lower() != b"close")
        length = _LENGTH.search(head)
        if length:
            size = int(length[1])
            return Answer(status, head, got[end : end + size], keeps) if len(got) >= end + size else None
        if _CHUNKED.search(head):
            body = _joined(got, end)
            return None if body is None else Answer(status, head, body, keeps)
        return Answer(status, head, b"", keeps) if status in (204, 304) else None


def _first_line(got: bytes) -> tuple[int, bool]:
    found = _STATUS.match(got)
    if found is None:
        raise ValueError(f"the answer is not HTTP/1.1: it begins with {got[:40]!r}")
    return int(found[2]), found[1] == b"1"


def _joined(got: bytes, at: int) -> bytes | None:
    """Return the body that came in chunks from `at` on, or None while it is not whole."""
    parts: list[bytes] = []
    while True:
        line = got.find(b"\r\n", at)
        if line < 0:
            return None
        size = int(got[at:line].partition(b";")[0], 16)
        if size == 0:
            return b"".join(parts) if got.find(b"\r\n\r\n", line) >= 0 else None
        parts.append(got[line + 2 : line + 2 + size])
        at = line + 4 + size
        if at > len(got):
            return None


def code_of(answer: Answer) -> str:
    """Return what kind of error an answer is: its own `code`, or its status."""
    try:
        code = json.loads(answer.body)["code"]
    except (ValueError, TypeError, KeyError):
        code = None
    return code if isinstance(code, str) and 0 < len(code) <= 64 else f"http_{answer.status}"


def timing_of(head: bytes) -> dict[str, float]:
    """Return the milliseconds of the header `server-timing`, by name."""
    found = _TIMING.search(head)
    if found is None:
        return {}
    return {name.decode(): float(took) for name, took in _DURATION.findall(found[1])}
