from __future__ import annotations

import datetime as dt
import math
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pandas as pd
import pytest

from foretell.model.data.cells import MISSING_TEXTS, Unfit, as_number, is_missing, parse_number, shown, spellings
from foretell.model.data.dates import MISSING_DATE, nanoseconds, nanoseconds_of


def test_missing_texts_include_those_of_pandas() -> None:
    from pandas._libs.parsers import STR_NA_VALUES

    assert STR_NA_VALUES <= MISSING_TEXTS


@pytest.mark.parametrize(
    "value",
    [
        None,
        math.nan,
        np.float32("nan"),
        pd.NA,
        pd.NaT,
        np.datetime64("NaT"),
        Decimal("NaN"),
        Decimal("sNaN"),
        np.ma.masked,
    ],
)
def test_missing(value: object) -> None:
    assert is_missing(value)


@pytest.mark.parametrize("value", [0, "", 0.0, False, math.inf, Decimal("Infinity"), [], np.datetime64("2020")])
def test_not_missing(value: object) -> None:
    assert not is_missing(value)


@pytest.mark.parametrize(
    ("value", "number"),
    [
        (True, 1),
        (np.True_, 1),
        (np.uint64(2**64 - 1), 2**64 - 1),
        (np.float32(0.1), float(np.float32(0.1))),
        (Decimal("1.5"), 1.5),
        (Decimal("1e30"), 10**30),
        (Decimal("1e999999"), math.inf),
        (Fraction(1, 2), None),
        (1j, None),
        ("1", None),
        (np.timedelta64(1), None),
        (np.datetime64(1, "s"), None),
        (dt.date(2020, 1, 1), None),
    ],
)
def test_number(value: object, number: float | None) -> None:
    found = as_number(value)
    assert found == number
    assert type(found) is type(number)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        *[("20", 20), (" 20\t", 20), ("-0", 0), ("+1.5", 1.5), (".5", 0.5), ("5.", 5.0), ("1e3", 1000.0)],
        *[("9007199254740993", 9007199254740993), ("1e999", math.inf), ("9" * 400, math.inf)],
        *[(t, None) for t in ("", "1_000", "inf", "nan", "0x10", "1,5", "٣", "1e", "--1", "1\n", ".")],
    ],
)
def test_parse_number(text: str, number: float | None) -> None:
    assert parse_number(text) == number


def test_spellings_go_by_value() -> None:
    assert spellings(20) == spellings(20.0) == ("20", "20.0")
    assert spellings(0.5) == ("0.5",)
    assert spellings(True)[0] == "True"
    with pytest.raises(Unfit):
        spellings(10**400)


def test_shown_is_one_short_line() -> None:
    class Rude:
        def __repr__(self) -> str:
            raise RuntimeError

    assert shown("abc") == '"abc"'
    assert shown(np.float64(1.5)) == "1.5"
    for value in ("a\nb" * 50, b"\n" * 99, [[1] * 99] * 99, 10**999, Rude(), {"k": "v" * 999}, np.zeros(999)):
        assert "\n" not in shown(value)
        assert len(shown(value)) < 60 + 4 * 40 * isinstance(value, (str, bytes))


@pytest.mark.parametrize(
    ("value", "ns"),
    [
        ("1970-01-01", 0),
        ("1970-01-01T00:00:00.000000001Z", 1),
        ("1970-01-01T00:00:00,5", 500_000_000),
        ("1970-01-01T02:00:00.5+02:00", 500_000_000),
        ("1969-12-31T23:59:59.999999999", -1),
        (dt.date(1970, 1, 2), 86_400_000_000_000),
        (dt.datetime(1970, 1, 1, 1, tzinfo=dt.timezone(dt.timedelta(hours=1))), 0),
        (pd.Timestamp(7), 7),
        (pd.Timestamp(7, tz="Asia/Tokyo"), 7),
        (np.datetime64("1970-01"), 0),
        (np.datetime64(3, "W"), 3 * 7 * 86_400_000_000_000),
        (np.datetime64(5, "2s"), 10_000_000_000),
    ],
)
def test_dates(value: object, ns: int) -> None:
    assert nanoseconds(value) == ns


@pytest.mark.parametrize(
    "value",
    [
        *["yesterday", "2020-13-01", "2020-01-01T00:00:00.1234567890", "0001-01-01T00:00:00+05:00", "2300-01-01", ""],
        *[
            5,
            1.5,
            True,
            dt.time(1),
            dt.date(1, 1, 1),
            dt.datetime.max,
            np.datetime64("2300-01-01"),
            np.datetime64(10**6, "Y"),
        ],
    ],
)
def test_no_dates(value: object) -> None:
    with pytest.raises(Unfit):
        nanoseconds(value)


@pytest.mark.parametrize("unit", ["Y", "M", "W", "D", "h", "m", "s", "ms", "us", "ns"])
def test_date_arrays_go_as_single_dates(unit: str) -> None:
    values = np.array(
        ["1969-07-20", "NaT", "2262-01-01", "0001-01-01", "9999-01-01"], f"M8[{unit}]" if unit != "ns" else "M8[us]"
    )
    ns, good = nanoseconds_of(values)
    assert ns[1] == MISSING_DATE
    assert good.tolist() == [True, True, True, False, False]
    assert ns[0] == nanoseconds(values[0])
