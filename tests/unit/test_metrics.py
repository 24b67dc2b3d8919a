"""Metrics: what is counted, and the text format."""

import re

import pytest

from foretell.metrics import Count, Family, Histogram, Level, Metrics

LINE = re.compile(r'^[a-z_]+(\{([a-z_]+="(\\.|[^"\\\n])*",?)+\})? (\+Inf|-?[0-9.e+-]+)$')


def test_a_histogram_is_cumulative_and_a_bound_belongs_to_its_bucket():
    histogram = Histogram((1.0, 2.0))
    for value in (0.5, 1.0, 1.5, 99.0):
        histogram.observe(value)
    histogram.observe(2.0, times=3)
    assert list(histogram.samples()) == [
        ("_bucket", 'le="1"', 2),
        ("_bucket", 'le="2"', 6),
        ("_bucket", 'le="+Inf"', 7),
        ("_sum", "", 108.0),
        ("_count", "", 7),
    ]


def test_labels_are_escaped():
    family = Family("x_total", "about", ("model",), Count)
    family.child('a"b\\c\nd').add(2)
    assert list(family.render())[-1] == 'x_total{model="a\\"b\\\\c\\nd"} 2'


def test_the_same_labels_are_the_same_child_and_the_wrong_number_is_refused():
    family = Family("x_total", "about", ("model", "version"), Count)
    family.child("m", "1").add()
    family.child("m", "1").add()
    assert [child.value for _, child in family.children()] == [2]
    with pytest.raises(ValueError, match="1 label values, expected 2"):
        family.child("m")
    family.forget("m")
    assert list(family.children()) == []


def test_a_level_is_read_when_it_is_rendered():
    level = Level()
    level.value = 3
    assert list(level.samples()) == [("", "", 3)]
    level.read = lambda: 7.0
    assert list(level.samples()) == [("", "", 7.0)]


def test_every_line_is_in_the_text_format_and_every_name_has_one_help_and_type():
    metrics = Metrics()
    for family in metrics.families():
        family.child(*(f"v{i}" for i in range(len(family.labels))))
    metrics.stage_seconds.child("m", "1", "queue").observe(0.003)
    lines = metrics.render().splitlines()
    assert all(LINE.match(line) for line in lines if not line.startswith("#"))
    names = [family.name for family in metrics.families()]
    assert len(set(names)) == len(names)
    for name in names:
        assert sum(line.startswith(f"# HELP {name} ") for line in lines) == 1
        assert sum(line.startswith(f"# TYPE {name} ") for line in lines) == 1
    assert 'foretell_stage_seconds_bucket{model="m",version="1",stage="queue",le="0.005"} 1' in lines
