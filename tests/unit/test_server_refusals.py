"""Refusals made unread: what is said, and that time and priority come from the headers."""

import asyncio
import json
from types import SimpleNamespace

import pytest

from foretell.errors import Overloaded
from foretell.protocol.status import Refused
from foretell.request import BULK, INTERACTIVE
from foretell.server import refusals as module
from foretell.server.call import Call
from foretell.server.refusals import Refusals
from foretell.server.urgency import may_be_longer, urgency_of


@pytest.mark.parametrize(
    ("headers", "timeout_s", "priority"),
    [
        ({}, None, INTERACTIVE),
        ({b"x-request-timeout-ms": b"200"}, 0.2, INTERACTIVE),
        ({b"x-request-priority": b"bulk"}, None, BULK),
        ({b"x-request-priority": b"interactive", b"x-request-timeout-ms": b"0.5"}, 0.0005, INTERACTIVE),
    ],
)
def test_urgency(headers, timeout_s, priority):
    assert urgency_of(headers) == (timeout_s, priority)


@pytest.mark.parametrize(
    ("name", "value"),
    [("timeout-ms", b"0"), ("timeout-ms", b"nan"), ("timeout-ms", b"x"), ("timeout-ms", b"1e9"), ("priority", b"high")],
)
def test_urgency_that_is_none(name, value):
    with pytest.raises(Refused, match=name):
        urgency_of({f"x-request-{name}".encode(): value})


def test_a_body_may_ask_for_longer_only_where_the_headers_say_nothing():
    body = b'{"parameters": {"timeout": 5000000}}'
    assert may_be_longer(urgency_of({}), body)
    assert not may_be_longer(urgency_of({b"x-request-timeout-ms": b"200"}), body)
    assert not may_be_longer(urgency_of({}), b'{"inputs": []}')


class Line:
    """A connection that keeps what it is told."""

    is_old = draining = False

    def __init__(self):
        self.answers = []

    def answered(self, call, status):
        self.answers.append((status, call.response))

    def is_last(self, call):
        return True


@pytest.mark.parametrize("given", [b"abc-1", b'quo"te', b"back\\slash"])
def test_a_refusal_is_told_once_to_those_who_wait_and_then_the_loop_rests(given, monkeypatch):
    slept, counted, line = [], [], Line()
    monkeypatch.setattr(module.time, "sleep", slept.append)
    served = SimpleNamespace(spare_s=0.001, count_refused=lambda error, requests: counted.append(requests))
    error = Overloaded('model "m": busy', retry_after_s=2.0)

    async def main():
        call, gone = (Call(line, b"POST", b"/", {}) for _ in range(2))
        call.id, gone.is_gone = given, True
        refusals = Refusals()
        refusals.refuse([call, gone], error, served)
        refusals.refuse([gone], error, served)
        assert not slept
        await asyncio.sleep(0)

    asyncio.run(main())
    assert (slept, counted) == ([0.001], [1])
    ((status, response),) = line.answers
    head, body = response.split(b"\r\n\r\n")
    assert status == 503
    assert b"retry-after: 2" in head
    assert b"content-length: %d" % len(body) in head
    assert json.loads(body) == {"error": 'model "m": busy', "code": "overloaded", "id": given.decode()}


def test_nothing_rests_while_an_instance_has_nothing_to_do(monkeypatch):
    slept = []
    monkeypatch.setattr(module.time, "sleep", slept.append)

    async def main():
        Refusals().refuse(
            [Call(Line(), b"POST", b"/", {})],
            Overloaded("busy"),
            SimpleNamespace(spare_s=0.0, count_refused=lambda error, requests: None),
        )
        await asyncio.sleep(0)

    asyncio.run(main())
    assert slept == []
