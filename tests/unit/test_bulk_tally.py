import json
import math

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foretell.bulk import tally as tallies
from foretell.bulk.tally import LabelTally, NumberTally, Tally

NUMBERS = st.lists(st.floats(width=64, allow_subnormal=True), max_size=60)


def numbers(*values):
    return NumberTally.of(np.array(values, np.float64))


def merged(parts):
    whole = NumberTally()
    for part in parts:
        whole.add(part)
    return whole


@settings(max_examples=60)
@given(st.lists(NUMBERS, max_size=6), st.randoms(), st.integers(2, 1000))
def test_parts_add_up_in_any_order_through_a_journal(parts, random, most):
    """Hypothesis: with any bound on the buckets, so that neighbours are joined or not."""
    before = tallies._MOST_BUCKETS
    tallies._MOST_BUCKETS = most
    try:
        found = [numbers(*part) for part in parts]
        shuffled = [NumberTally.from_json(json.loads(json.dumps(part.to_json()))) for part in found]
        random.shuffle(shuffled)
        one, other = merged(found), merged(shuffled)
        whole = numbers(*(x for part in parts for x in part))
    finally:
        tallies._MOST_BUCKETS = before
    assert one.to_json() == other.to_json()
    assert {**one.to_json(), "total": 0} == {**whole.to_json(), "total": 0}
    assert len(one.codes) <= most


@pytest.mark.parametrize("scale", [1e-300, 1e-3, 1.0, 1e6, 1e300])
@pytest.mark.parametrize("centre", [0.0, 10.0])
def test_quantiles_are_near_those_of_numpy(scale, centre):
    values = (np.random.default_rng(0).normal(size=50_000) + centre) * scale
    found = NumberTally.of(values)
    assert found.summary()["mean"] == pytest.approx(values.mean(), rel=1e-5)
    for share in tallies.QUANTILES:
        exact = np.quantile(values, share, method="inverted_cdf")
        assert found.quantile(share) == pytest.approx(exact, rel=2**-7 * 2**found.level)
    assert (found.low, found.high) == (values.min(), values.max())
    assert found.level == (0 if centre else 1)


def test_numbers_that_are_none():
    found = numbers(1, math.nan, math.inf, -math.inf, 3)
    assert (found.count, found.missing, found.infinite, found.low, found.high) == (2, 1, 2, 1, 3)
    assert found.summary()["mean"] == 2
    nothing = NumberTally().summary()
    assert (nothing["count"], nothing["min"], nothing["mean"], nothing["quantiles"]["0.5"]) == (0, None, None, None)


def test_the_sum_of_large_numbers_does_not_overflow():
    assert numbers(1.7e308, 1.7e308).summary()["mean"] == 1.7e308
    assert numbers(-1.7e308, 1.7e308, 1.7e308, -1.7e308, 1.7e308).summary()["mean"] == pytest.approx(3.4e307)


def test_equal_numbers_are_their_own_quantiles():
    assert set(numbers(*[5.5] * 10).summary()["quantiles"].values()) == {5.5}
    assert numbers(-2.0, -2.0).quantile(0.5) == -2


def test_labels_add_up_and_too_many_are_not_counted(monkeypatch):
    monkeypatch.setattr(tallies, "_MOST_LABELS", 3)
    one = LabelTally.of(pa.array(["b", "a", "b", None]))
    one.add(LabelTally.of(pa.array(["b", "a"])))
    assert one.summary() == {"labels": {"b": 3, "a": 2, "": 1}}
    assert list(one.summary()["labels"]) == ["b", "a", ""]
    one.add(LabelTally.of(pa.array([7])))
    one.add(LabelTally.of(pa.array(["b"])))
    assert one.summary() == {"labels": None}


@pytest.mark.parametrize(
    ("columns", "kinds"),
    [
        ({"prediction": [1.5]}, {"prediction": "numbers"}),
        ({"prediction_0": [1.5], "prediction_1": [2.5]}, {"prediction_0": "numbers", "prediction_1": "numbers"}),
        ({"prediction": [3]}, {"prediction": "labels"}),
        ({"prediction": [1.0], "probability": [0.5], "probability_1.0": [0.5]}, {"prediction": "labels"}),
        ({"prediction": ["a"], "probability": [0.5], "prediction_2": ["b"]}, {"prediction": "labels"}),
        ({"source": ["f"], "label": ["cat"], "score": [0.5], "x_min": [1.0]}, {"label": "labels"}),
    ],
)
def test_what_is_counted(columns, kinds):
    found = Tally()
    found.take({name: pa.array(column) for name, column in columns.items()})
    again = Tally.from_json(json.loads(json.dumps(found.to_json())))
    assert {**dict.fromkeys(found.numbers, "numbers"), **dict.fromkeys(found.labels, "labels")} == kinds
    again.add(found)
    total = {name: s.get("count") or sum(s["labels"].values()) for name, s in again.summary().items()}
    assert total == dict.fromkeys(kinds, 2)
