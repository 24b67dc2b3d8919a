import json
from pathlib import Path

import numpy as np

from foretell.bulk.amounts import amount_of_bytes, amount_of_time
from foretell.bulk.forecast import Columns, FileForecast, Forecast
from foretell.bulk.summary import Summary, few
from foretell.bulk.tally import LabelTally, NumberTally, Tally

LABELS = {"prediction": {"labels": {"no": 3_000, "yes": 1_000}}}


def test_a_person_reads_what_was_done():
    summary = Summary(
        4000,
        2,
        2.0,
        (),
        rows_before=1000,
        errors=5,
        read_rows=4005,
        out="o.csv",
        quarantine="bad.csv",
        spent_s={"read": 0.5, "predict": 1.25},
        predictions=LABELS,
    )
    assert summary.lines() == [
        "o.csv: 4,000 rows of 2 files, 1,000 of them by runs before this one, in 2.00 s, 1,500 rows/s",
        '5 of 4,005 rows got no answer; they are in "bad.csv"',
        "processor time: read 0.50 s, parse 0.00 s, predict 1.25 s, encode 0.00 s, write 0.00 s",
        "prediction:",
        "  no   3,000   75.0 %  ████████████████████",
        "  yes  1,000   25.0 %  ███████",
    ]


def test_a_job_that_was_complete_says_so():
    summary = Summary(10, 1, 0.1, (), rows_before=10, read_rows=10, out="scored/", spent_s={"write": 0.0})
    assert summary.lines() == ["scored/: 10 rows of 1 file, 10 of them by runs before this one; nothing was left to do"]


def test_numbers_are_told_by_quantiles():
    tally = Tally(numbers={"prediction": NumberTally.of(np.array([1.0, 2.0, 3.0, float("nan")]))})
    (line,) = Summary(4, 1, 1.0, (), predictions=tally.summary()).lines()[1:]
    assert line.startswith("prediction: min 1, 5 % ")
    assert line.endswith("max 3, mean 2, 1 missing")


def test_many_labels_are_cut_off():
    labels = LabelTally({f"l{i:02}": 20 - i for i in range(15)}).summary()
    lines = Summary(1, 1, 1.0, (), predictions={"label": labels}).lines()
    assert lines[-1] == "  and 5 more labels"
    assert len(lines) == 1 + 1 + 10 + 1
    assert Summary(1, 1, 1.0, (), predictions={"label": {"labels": None}}).lines()[1] == (
        "label: too many different labels to count"
    )
    assert Summary(0, 1, 1.0, (), predictions={"label": {"labels": {}}}).lines()[1:] == ["label:"]


def test_a_machine_reads_the_same_keys_always():
    found = Summary(4, 1, 2.0, ("a",), predictions=LABELS).to_json()
    assert json.loads(json.dumps(found)) == found
    assert list(found) == [
        "out",
        "files",
        "rows",
        "rows_read",
        "rows_before",
        "errors",
        "quarantine",
        "seconds",
        "rows_per_s",
        "processor_s",
        "predictions",
        "notes",
    ]
    assert list(found["processor_s"]) == ["read", "parse", "predict", "encode", "write"]


def test_few_notes_are_told():
    assert few(("a", "b")) == ("a", "b")
    assert few(tuple(map(str, range(25))))[-1] == "and 5 more"


def test_amounts():
    assert [amount_of_bytes(n) for n in (0, 999, 1000, 1.25e9, 5e17)] == [
        "0 B",
        "999 B",
        "1.0 kB",
        "1.2 GB",
        "500.0 PB",
    ]
    assert [amount_of_time(s) for s in (0.04, 9.94, 10, 59.4, 60, 3599, 3600, 7500)] == [
        *("0.0 s", "9.9 s", "10 s", "59 s", "1 min", "59 min", "1 h 0 min", "2 h 5 min")
    ]


def test_all_keys_are_written_down():
    page = (Path(__file__).parents[2] / "docs" / "bulk.md").read_text()
    files = [FileForecast("i.csv", 1, 1, True, "o.csv")]
    told = Forecast("o.csv", files, Columns((), (), (), ()), 1, "new", 0, 1, 1, 1.0, 1.0).to_json()
    tally = NumberTally.of(np.array([1.0])).summary()
    for found in (Summary(0, 0, 0.0, ()).to_json(), told, told["files"][0], told["columns"], told["estimated"], tally):
        for key in found:
            assert f"`{key}`" in page, key
