"""JSON whose long texts are left where they are: the same document, and next to nothing for the parser."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foretell.errors import InvalidInput
from foretell.protocol import long_texts
from foretell.protocol.long_texts import LongTexts
from foretell.protocol.picture_rows import decode_pictures
from foretell.protocol.status import Refused

LONG = "A" * 40_000


def restored(found, texts):
    """Return a document with its long texts in their places, as Python reads them."""
    if isinstance(found, dict):
        return {key: restored(value, texts) for key, value in found.items()}
    if isinstance(found, list):
        return [restored(value, texts) for value in found]
    if isinstance(found, str):
        taken = texts.take(found)
        return json.loads(b'"%b"' % bytes(taken)) if found.startswith(long_texts._MARK) else found
    return found


TEXTS = st.one_of(
    st.text(max_size=20),
    # Within what is taken: 16,384 quotes in a text, 64 backslashes in a row.
    st.text(alphabet='ab"\\/\n\u00e9', max_size=6).map(lambda t: (t + "c") * 2000),
    st.just(LONG),
)
DOCUMENTS = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-5, 5), TEXTS),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=3), inner, max_size=4)),
    max_leaves=8,
)


@given(DOCUMENTS, st.booleans())
def test_any_document_is_read_as_a_parser_reads_it(document, is_ascii):
    body = json.dumps(document, ensure_ascii=is_ascii).encode()
    for given_as in (body, bytearray(body), memoryview(body)):
        texts = LongTexts(given_as)
        assert restored(texts.document, texts) == document
        assert texts.left == 0


def test_the_parser_is_given_what_is_around_the_pictures_alone(monkeypatch):
    read = []
    monkeypatch.setattr(long_texts, "read_json", lambda body: read.append(len(body)) or json.loads(body))
    body = json.dumps({"instances": [{"b64": "A" * 5_000_000}, {"b64": "B" * 1_000_000}]}).encode()
    first, second = decode_pictures(body, "image")
    assert read[0] < 200
    assert (len(first), len(second)) == (5_000_000, 1_000_000)
    # Views of the body: nothing of it was copied.
    assert first.content.obj is body
    assert second.content.obj is body


def test_a_text_with_many_quotes_or_backslashes_is_not_walked_through():
    with pytest.raises(Refused, match="quotes"):
        LongTexts(b'["' + b'\\"' * 20_000 + b'"]')
    with pytest.raises(Refused, match="backslashes"):
        LongTexts(b'["' + b"\\\\" * 20_000 + b'"]')
    with pytest.raises(Refused, match="texts"):
        LongTexts(json.dumps(["ab"] * 20_000).encode())


@pytest.mark.parametrize("cut", [b'{"instances": ["', b'{"instances": ["' + b"A" * 40_000, b'"' * 40_001])
def test_what_is_not_json_is_refused(cut):
    with pytest.raises(Refused):
        LongTexts(cut.ljust(40_000, b" ") if len(cut) < 40_000 else cut)


def test_a_long_text_in_the_wrong_place_is_refused():
    with pytest.raises(Refused, match="unknown field"):
        decode_pictures(json.dumps({"instances": ["QUJD"], "more": LONG}).encode(), "image")
    with pytest.raises(InvalidInput, match='row 1: got an object with "b64", "note"'):
        decode_pictures(json.dumps({"instances": ["QUJD", {"b64": "QUJD", "note": LONG}]}).encode(), "image")
    twice = json.dumps({"instances": [{"b64": LONG}]}).replace('"b64"', f'"b64": "{LONG}", "b64"')
    with pytest.raises(Refused):
        decode_pictures(twice.encode(), "image")


def test_nobody_can_refer_to_a_text_that_was_cut_out():
    given_mark = f"{'0' * 24}-0"
    first, second = decode_pictures(json.dumps({"instances": [given_mark, LONG]}).encode(), "image")
    assert bytes(first) == given_mark.encode()
    assert bytes(second) == LONG.encode()


@pytest.mark.parametrize(
    ("row", "told"),
    [(3, "a number"), (None, "null"), (True, "a boolean"), ([], "a list"), ({}, "an object with nothing"),
     ({"b64": 1}, "a number"), ({"image": {"url": "x"}}, 'an object with "url"')],
)  # fmt: skip
def test_what_is_no_picture_is_told_by_row(row, told):
    with pytest.raises(InvalidInput, match=f"^image, row 1: got {told}, expected") as raised:
        decode_pictures(json.dumps({"instances": [{"b64": "QUJD"}, row]}).encode(), "image")
    assert (raised.value.row, raised.value.column) == (1, "image")
