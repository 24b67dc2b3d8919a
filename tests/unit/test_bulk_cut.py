import io
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foretell.bulk.cut import NoRowEnd, cut, is_open, row_starts


def ends_by_hand(data, newline=b"\n", delimiter=b","):
    """Ends of rows, by the state machine of RFC 4180, a byte at a time; and whether a quote is open at the end."""
    ends, inside, at_start, at = [], False, True, 0
    while at < len(data):
        byte = data[at : at + 1]
        if inside:
            if byte == b'"':
                if data[at + 1 : at + 2] == b'"':
                    at += 1
                else:
                    inside = False
        elif byte == b'"' and at_start:
            inside = True
        elif byte == newline:
            ends.append(at + 1)
        at_start = not inside and byte in (newline, delimiter, b"\r", b"\n")
        at += 1
    return ends, inside


TEXTS = st.text(alphabet='",\na;\r', max_size=60).map(str.encode)


@given(TEXTS, st.integers(1, 9))
def test_blocks_are_whole_rows_whatever_their_length(data, block_bytes):
    ends, inside = ends_by_hand(data)
    stream = io.BytesIO(data)
    if inside:
        with pytest.raises(NoRowEnd) as e:
            list(cut(stream.read, b"", block_bytes=block_bytes))
        assert not e.value.too_long
        return
    blocks = list(cut(stream.read, b"", block_bytes=block_bytes))
    assert b"".join(blocks) == data
    position = 0
    for block in blocks[:-1]:
        position += len(block)
        assert position in ends


@given(TEXTS)
def test_quotes_are_followed_as_a_state_machine_does(data):
    ends, inside = ends_by_hand(data)
    assert is_open(data, b",") == inside
    edges = [0, *ends, len(data)]
    rows = [a for a, b in itertools.pairwise(edges) if data[a:b].strip(b"\r\n")]
    assert row_starts(data, b"\n", b",") == rows


def test_what_was_read_before_comes_first():
    stream = io.BytesIO(b"3\n4\n")
    assert b"".join(cut(stream.read, b"1\n2", block_bytes=2)) == b"1\n23\n4\n"


def test_quotes_mean_nothing_without_a_delimiter():
    assert list(cut(io.BytesIO(b'{"a\n"b').read, b"", delimiter=None, block_bytes=4)) == [b'{"a\n', b'"b']


@pytest.mark.parametrize("row", [b"x" * 100, b'"' + b"x\n" * 50 + b'"'])
def test_a_row_beyond_the_limit_is_refused_with_its_place(row):
    with pytest.raises(NoRowEnd) as e:
        list(cut(io.BytesIO(b"1,2\n" + row).read, b"", block_bytes=8, max_row_bytes=50))
    assert e.value.too_long
    assert e.value.offset == 4


def test_memory_is_bounded_by_the_limit_and_not_by_the_row():
    asked = []

    def endless(size):
        asked.append(size)
        return b"x" * size

    with pytest.raises(NoRowEnd):
        list(cut(endless, b"", block_bytes=1000, max_row_bytes=5000))
    assert sum(asked) <= 7000
