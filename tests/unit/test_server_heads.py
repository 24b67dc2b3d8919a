"""Heads that are alike are recognised; whatever makes a difference makes another head."""

import pytest

from foretell.server.call import Head
from foretell.server.heads import Heads

HEAD = b"POST /v2/models/m/infer HTTP/1.1\r\nHost: a\r\nContent-Length: 12\r\nX-Request-Id: one\r\nAccept: */*\r\n\r\n"
KNOWN = Head(b"POST", b"/v2/models/m/infer", {b"host": b"a"}, True, 12, None)


def remembering(text=HEAD, wanted=frozenset()):
    heads = Heads(wanted)
    key = heads.key(text)
    assert key is not None
    heads.add(key, KNOWN)
    return heads


def test_nothing_is_alike_before_one_was_added():
    assert Heads(frozenset()).find(HEAD, 12) is None


@pytest.mark.parametrize(
    ("old", "new", "body_bytes", "request_id"),
    [
        (b"", b"", 12, b"one"),
        (b"12\r\n", b"7\r\n", 7, b"one"),
        (b"one", b"another-1", 12, b"another-1"),
        (b": one", b":one", 12, b"one"),
        (b": one", b": \t one \t", 12, b"one"),
    ],
)
def test_length_and_id_are_a_requests_own(old, new, body_bytes, request_id):
    found = remembering().find(HEAD.replace(old, new, 1), body_bytes)
    assert found == (KNOWN, request_id)


@pytest.mark.parametrize(
    ("old", "new", "body_bytes"),
    [
        (b"12\r\n", b"7\r\n", 12),
        (b"12\r\n", b"12x\r\n", 12),
        (b"12\r\n", b"+12\r\n", 12),
        (b"12\r\n", b"-12\r\n", 12),
        (b"12\r\n", b"\r\n", 0),
        (b"12\r\n", b"1 2\r\n", 12),
        (b"12\r\n", b"\xb2\r\n", 2),
        (b"one", b'o"ne', 12),
        (b"one", b"", 12),
        (b"one", b"x" * 129, 12),
        (b"one", b"o\x00ne", 12),
        (b"Host: a", b"Host: b", 12),
        (b"/m/", b"/n/", 12),
        (b"HTTP/1.1", b"HTTP/1.0", 12),
        (b"Accept", b"Origin", 12),
        (b"Accept: */*\r\n", b"Accept: */*\r\nExpect: 100-continue\r\n", 12),
        (b"Accept: */*\r\n", b"Content-Length: 12\r\nAccept: */*\r\n", 12),
        (b"X-Request-Id: one\r\n", b"", 12),
        (b"X-Request-Id: one", b"X-Request-Id : one", 12),
        (b"X-Request-Id: one", b" X-Request-Id: one", 12),
        (b"12\r\n", b"70000\r\n", 70_000),
    ],
)
def test_whatever_else_differs_makes_another_head(old, new, body_bytes):
    changed = HEAD.replace(old, new, 1)
    assert changed != HEAD
    assert remembering().find(changed, body_bytes) is None


def test_a_head_says_its_length_once():
    heads = Heads(frozenset())
    assert heads.key(HEAD.replace(b"Content-Length: 12\r\n", b"")) is None
    assert heads.key(HEAD.replace(b"Accept", b"content-length: 12\r\nAccept")) is None


def test_one_without_an_id_is_known_by_its_bytes_from_then_on():
    text = HEAD.replace(b"X-Request-Id: one\r\n", b"")
    heads = remembering(text)
    longer = text.replace(b"12\r\n", b"345\r\n")
    assert heads.find(longer, 345) == (KNOWN, b"")
    assert heads.same == {longer: KNOWN._replace(body_bytes=345)}
    assert remembering().find(HEAD, 12) is not None
    assert not remembering().same


def test_traces_are_a_requests_own_while_nobody_traces():
    text = HEAD.replace(b"Accept", b"traceparent: 00-a-b-01\r\nAccept")
    changed = text.replace(b"00-a-b-01", b"00-c-d-00")
    assert remembering(text).find(changed, 12) == (KNOWN, b"one")
    assert remembering(text, frozenset((b"traceparent", b"tracestate"))).find(changed, 12) is None


def test_memory_is_bounded():
    heads = remembering()
    for i in range(3000):
        text = HEAD.replace(b"X-Request-Id: one\r\n", b"").replace(b"/m/", b"/%d/" % i)
        heads.add(heads.key(text), KNOWN)
        heads.find(text, 12)
    assert len(heads.same) <= 1024
    assert len(heads._alike) <= 1024
