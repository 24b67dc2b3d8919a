import pytest

from foretell.bulk.progress import LINE_EVERY_S, Progress


class File:
    def __init__(self, size_bytes):
        self.size_bytes = size_bytes


class Time:
    now = 0.0

    def __call__(self):
        return self.now


def test_nothing_is_said_where_nothing_is_asked_for(capsys):
    with Progress([File(10)], shown="nothing") as bar:
        bar.advance(10, 1)
    assert capsys.readouterr() == ("", "")


def test_a_log_gets_a_line_every_ten_seconds(capsys):
    time = Time()
    with Progress([File(300_000_000), File(100_000_000)], shown="lines", clock=time) as bar:
        bar.resume(100_000_000)
        for _ in range(20):
            time.now += LINE_EVERY_S / 10
            bar.advance(5_000_000, 1000, 1)
    assert capsys.readouterr().err.splitlines() == [
        "predict: 38 %, 10,000 rows, 1,000 rows/s, 10 errors, 5.0 MB/s, 50 s left",
        "predict: 50 %, 20,000 rows, 1,000 rows/s, 20 errors, 5.0 MB/s, 40 s left",
    ]


@pytest.mark.parametrize(("left", "said"), [(59, "59 s"), (600, "10 min"), (7500, "2 h 5 min")])
def test_the_time_left_is_said_in_few_words(capsys, left, said):
    time = Time()
    with Progress([File(1000 * (10 + left))], shown="lines", clock=time) as bar:
        time.now = 10
        bar.advance(10_000, 5)
    assert capsys.readouterr().err.endswith(f", 1.0 kB/s, {said} left\n")


def test_of_a_pipe_nobody_knows_how_much_is_left(capsys):
    time = Time()
    with Progress([File(0)], shown="lines", clock=time) as bar:
        time.now = 10
        bar.advance(10_000, 5)
    assert capsys.readouterr().err == "predict: 5 rows, 0 rows/s, 1.0 kB/s\n"


def test_a_bar_shows_bytes_rows_and_errors(capsys):
    time = Time()
    with Progress([File(4_000_000)], shown="bar", clock=time) as bar:
        bar.resume(1_000_000)
        time.now = 2.0
        bar.advance(1_000_000, 5000)
        bar.advance(1_000_000, 5000, 3)
        bar._bar.refresh()
    last = capsys.readouterr().err.rstrip().split("\r")
    (shown,) = [line for line in last if "3 errors" in line][:1]
    assert "75%" in shown
    assert "3.00M/4.00M" in shown
    assert "B/s, 5,000 rows/s, 3 errors" in shown
