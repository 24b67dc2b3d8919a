"""Log lines: one JSON object each, whatever a client sends."""

import json
import logging

import pytest

from foretell.server.logs import JsonLines, RequestLog
from foretell.server.observer import Account


@pytest.fixture
def lines():
    found = []

    class Keep(logging.Handler):
        def emit(self, record):
            found.append(self.format(record))

    handler = Keep()
    handler.setFormatter(JsonLines())
    logger = logging.getLogger("foretell.requests")
    logger.addHandler(handler)
    before = logger.level
    logger.setLevel(logging.INFO)
    yield found
    logger.setLevel(before)
    logger.removeHandler(handler)


def account(**given):
    told = {"door": "http", "route": "infer", "request": "POST /", "id": "id", "status": 200}
    return Account(**told | {"started": 10.0, "ended": 10.0015} | given)


def test_one_line_whatever_is_in_it(lines):
    forged = 'GET /\r\n{"level": "forged"}\u2028\x1b[31m\x85' + "x" * 1000
    RequestLog(1.0).write(account(request=forged, model=forged))
    (line,) = lines
    assert len(line.splitlines()) == 1
    assert line.isascii()
    told = json.loads(line)
    assert told["ms"] == 1.5
    assert len(told["request"]) == 256


def test_a_share(lines):
    for _ in range(2000):
        RequestLog(0.1).write(account())
    assert 100 < len(lines) < 320
    lines.clear()
    RequestLog(0.0).write(account())
    assert not lines


def test_a_trace_is_in_the_line():
    try:
        raise ValueError("a\nb")
    except ValueError as error:
        record = logging.LogRecord("x", logging.ERROR, "f", 1, "request %s", ("7",), (ValueError, error, None))
    told = json.loads(JsonLines().format(record))
    assert told["message"] == "request 7"
    assert told["trace"] == "ValueError: a\nb\n"
