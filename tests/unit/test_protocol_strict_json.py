"""JSON that is refused, and JSON that only looks suspicious."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foretell.protocol.status import Refused
from foretell.protocol.strict_json import DEPTH, read_json

REFUSED = {
    b"": "malformed_request",
    b"{": "malformed_request",
    b"nul": "malformed_request",
    b'{"a": NaN}': "malformed_request",
    b'{"a": -Infinity}': "malformed_request",
    b'{"a": 1e999}': "malformed_request",
    b'{"a": 1} x': "malformed_request",
    b'{"a": 1} {"a": 1}': "malformed_request",
    b"\xef\xbb\xbf{}": "malformed_request",
    b'{"a": "\xff"}': "malformed_request",
    b'{"a": "\xc0\xaf"}': "malformed_request",
    b'{"a": "\\ud800"}': "malformed_request",
    b"{'a': 1}": "malformed_request",
    b'{"a": 1, /* b */ "c": 2}': "malformed_request",
    b'{"a": 01}': "malformed_request",
    b'{"a": 1, "a": 2}': "duplicate_key",
    b'{"a": {"b": 1, "b": 1}}': "duplicate_key",
    b'[{"a": "x:y", "a": 1}]': "duplicate_key",
    b'{"a": 1, "\\u0061": 2}': "duplicate_key",
    b"[" * (DEPTH + 1) + b"]" * (DEPTH + 1): "json_too_deep",
    b'{"a":' * (DEPTH + 1) + b"1" + b"}" * (DEPTH + 1): "json_too_deep",
    b'[{"a":' * (DEPTH // 2 + 1) + b"1" + b"}]" * (DEPTH // 2 + 1): "json_too_deep",
    b"[" * 1000 + b"]" * 1000: "json_too_deep",
    b"[" * 250_000 + b"]" * 250_000: "json_too_deep",
    b"[" * 250_000: "json_too_deep",
}


@pytest.mark.parametrize("body", REFUSED, ids=lambda b: repr(b[:24]))
def test_refused(body):
    with pytest.raises(Refused) as caught:
        read_json(body)
    assert caught.value.code == REFUSED[body]
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "body",
    [
        b'{"a": "x:y:z", "b": "\\":\\\\"}',
        b'{"a:b": {"c": [1, {"d": ":"}]}}',
        b'{"a": "[[[[", "b": "}}}"}' + b" " * 100,
        b'["' + b"[" * 200 + b'"]',
        b"[" * DEPTH + b"]" * DEPTH,
        b"[" + b",".join([b"[[1],{}]"] * 200) + b"]",
        b'{"a": 9223372036854775807, "b": 18446744073709551615, "c": -0.0, "d": 5e-324}',
    ],
)
def test_taken(body):
    assert read_json(body) == json.loads(body)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner),
    max_leaves=40,
)  # fmt: skip


@given(JSON)
def test_whatever_json_writes_is_read_the_same(document):
    assert read_json(json.dumps(document).encode()) == document


@given(st.binary(max_size=60) | st.text(alphabet='{}[]":,\\ab1.e-', max_size=60).map(str.encode))
def test_bytes_are_read_or_refused(body):
    try:
        found = read_json(body)
    except Refused:
        return
    assert json.loads(body) == found


@given(JSON.filter(lambda d: isinstance(d, dict) and d))
def test_a_key_that_is_there_twice_is_found(document):
    text = json.dumps(document)
    key = json.dumps(next(iter(document)))
    with pytest.raises(Refused, match="same key twice"):
        read_json(f"{text[:-1]}, {key}: 0}}".encode())
