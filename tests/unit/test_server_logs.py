"""Log lines: one JSON object each, whatever a client sends."""

import json
import logging

import pytest

from foretell.errors import InferenceFailed, InvalidInput, OutOfMemory
from foretell.server.logs import FailureLog, JsonLines, RequestLog
from foretell.server.observer import Account


@pytest.fixture
def lines():
    found = []

    class Keep(logging.Handler):
        def emit(self, record):
            found.append(self.format(record))

    handler = Keep()
    handler.setFormatter(JsonLines())
    loggers = [logging.getLogger(f"foretell.{name}") for name in ("requests", "failures")]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
    yield found
    for logger, level in zip(loggers, before, strict=True):
        logger.setLevel(level)
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


def test_faults_of_the_model_and_the_machine_are_told_and_the_callers_are_not(lines):
    log = FailureLog(lambda: 0.0)
    for error in (InferenceFailed("/a/path\nfell over"), InvalidInput("no"), OutOfMemory("x" * 5000)):
        log.write(error, "id")
    first, second = map(json.loads, lines)
    assert (first["level"], first["id"], first["code"]) == ("error", "id", "inference_failed")
    assert first["message"] == "/a/path fell over"
    assert (second["code"], len(second["message"])) == ("out_of_memory", 1000)


def test_a_model_that_fails_on_everything_does_not_fill_the_log(lines):
    now = [7.0]
    log = FailureLog(lambda: now[0])
    for at in range(1000):
        log.write(InferenceFailed("no"), str(at))
    assert len(lines) == 100
    now[0] = 8.0
    log.write(InferenceFailed("no"), "later")
    log.write(InferenceFailed("no"), "last")
    assert [json.loads(line).get("left_out") for line in lines[99:]] == [None, 900, None]
