import io

import pytest

from foretell.bulk.dialect import sniff
from foretell.errors import InvalidInput
from foretell.signature import Field, Signature

MODEL = Signature((), (), fields=(Field("a"), Field("b, c"), Field("d")))
BARE = Signature((), (), fields=(Field("x0"), Field("x1"), Field("x2")), named=False)


def sniffed(data, signature=MODEL, step=1 << 20):
    stream = io.BytesIO(data)
    dialect, rest = sniff(lambda n: stream.read(min(n, step)), signature, "i.csv")
    return dialect, rest + stream.read()


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("step", [1, 1 << 20])
def test_dialects(delimiter, newline, mark, step):
    text = f'{mark}a{delimiter}"b, c"{delimiter}d{newline}1{delimiter}2{delimiter}"x;y|z"{newline}'
    dialect, rest = sniffed(text.encode(), step=step)
    assert dialect.delimiter == delimiter.encode()
    assert dialect.names == ("a", "b, c", "d")
    assert rest.decode() == f'1{delimiter}2{delimiter}"x;y|z"{newline}'
    assert text.encode()[dialect.start :] == rest
    assert dialect.first_line == 2


def test_the_names_of_the_model_outweigh_a_more_frequent_delimiter():
    dialect, _ = sniffed(b"a;d;x,y,z,u,v\n1;2;3,4,5,6,7\n")
    assert dialect.delimiter == b";"


def test_even_rows_decide_where_no_name_is_known():
    dialect, _ = sniffed(b"p,q|r\n1|2\n3,1|4\n5|6\n")
    assert dialect.delimiter == b"|"


def test_a_newline_in_a_quoted_name_and_blank_lines_before():
    dialect, rest = sniffed(b'\n\n"a\nx",b\n1,2\n')
    assert dialect.names == ("a\nx", "b")
    assert (dialect.first_line, rest) == (5, b"1,2\n")


def test_a_header_longer_than_the_first_read():
    names = [f"column_{i}" for i in range(20_000)]
    dialect, rest = sniffed((",".join(names) + "\n1\n").encode())
    assert dialect.names == tuple(names)
    assert rest == b"1\n"


@pytest.mark.parametrize(
    ("first", "signature", "has_header"),
    [
        ("1,2.5,NA", BARE, False),
        ("1,2.5,-3e5", BARE, False),
        ("1,2", BARE, True),  # another width: it may be anything
        ("1,2,x", BARE, True),
        ("1,2,3", MODEL, True),  # the model has names
    ],
)
def test_no_header(first, signature, has_header):
    dialect, rest = sniffed(f"{first}\n4,5,6\n".encode(), signature)
    assert rest == b"4,5,6\n" if has_header else rest == f"{first}\n4,5,6\n".encode()
    assert bool(dialect.notes) is not has_header
    assert dialect.first_line == 1 + has_header


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"", "empty"),
        (b"\n\r\n", "empty"),
        (b"\xef\xbb\xbf", "empty"),
        ("a,b\n".encode("utf-16"), "UTF-16"),
        (b"PK\x03\x04...", "zip archive or an Excel"),
        (b"\x28\xb5\x2f\xfd...", "Zstandard"),
        (b"a,\xe9\n1,2\n", "line 1: byte 0xe9 in the header is not UTF-8"),
        (b"a\0,b\n1,2\n", "NUL"),
    ],
)
def test_what_is_no_table_is_refused(data, problem):
    with pytest.raises(InvalidInput, match=problem):
        sniffed(data)
