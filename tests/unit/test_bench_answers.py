"""Answers of servers, however they come, and what is told of many of them."""

import random

import pytest

from foretell.bench.answers import Answer, AnswerReader, code_of, timing_of
from foretell.bench.asking import Question, _tensor, _with_rows
from foretell.bench.lines import Run, Target
from foretell.bench.report import as_json, as_text, quantile

LENGTH = b'HTTP/1.1 503 Service Unavailable\r\nContent-Length: 16\r\nserver: x\r\n\r\n{"code": "full"}'
CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n"
WHOLE = {
    LENGTH: (503, b'{"code": "full"}', True),
    CHUNKED: (200, b"abcde", True),
    b"HTTP/1.1 100 Continue\r\n\r\n" + LENGTH: (503, b'{"code": "full"}', True),
    b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\nConnection: close\r\n\r\nx": (200, b"x", False),
    b"HTTP/1.0 200 OK\r\ncontent-length: 1\r\n\r\nx": (200, b"x", False),
    b"HTTP/1.0 200 OK\r\ncontent-length: 1\r\nconnection: keep-alive\r\n\r\nx": (200, b"x", True),
    b"HTTP/1.1 204 No Content\r\n\r\n": (204, b"", True),
}


@pytest.mark.parametrize("wire", WHOLE)
def test_an_answer_cut_at_every_byte(wire):
    for at in range(len(wire)):
        reader = AnswerReader()
        assert reader.feed(wire[:at]) is None
        found = reader.feed(wire[at:])
        assert (found.status, found.body, found.keeps) == WHOLE[wire]
        assert reader.feed(LENGTH).status == 503


def test_an_answer_that_ends_with_its_connection():
    reader = AnswerReader()
    assert reader.feed(b"HTTP/1.1 200 OK\r\n\r\nab") is None
    assert reader.feed(b"c") is None
    assert reader.ended()[2:] == (b"abc", False)
    for cut_off in (LENGTH[:-1], CHUNKED[:-5], b"HTTP/1.1 200"):
        reader = AnswerReader()
        assert reader.feed(cut_off) is None
        assert reader.ended() is None


def test_what_is_no_http():
    with pytest.raises(ValueError, match="not HTTP"):
        AnswerReader().feed(b"SSH-2.0-OpenSSH\r\n\r\n")


@pytest.mark.parametrize(
    ("body", "code"),
    [(b'{"code": "full"}', "full"), (b'{"error": "x"}', "http_503"), (b"<html>", "http_503"), (b"[1]", "http_503"),
     (b'{"code": 7}', "http_503")],
)  # fmt: skip
def test_the_code_of_an_error(body, code):
    assert code_of(Answer(503, b"", body, True)) == code


def test_the_time_in_the_server():
    head = b"HTTP/1.1 200 OK\r\nServer-Timing: queue;dur=0.031, run;desc=x;dur=1.5, cache\r\n\r\n"
    assert timing_of(head) == {"queue": 0.031, "run": 1.5}
    assert timing_of(b"HTTP/1.1 200 OK\r\n\r\n") == {}


def test_quantiles_were_measured():
    assert quantile([], 0.5) is None
    assert quantile([7.0], 0.999) == 7.0
    times = [float(n) for n in range(1, 1001)]
    random.Random(0).shuffle(times)
    assert [quantile(times, share) for share in (0.5, 0.99, 0.999, 1.0)] == [500.0, 990.0, 999.0, 1000.0]


def test_tensors_for_metadata():
    drawn = _tensor({"name": "x", "datatype": "FP32", "shape": [-1, 2, -1]}, 3, random.Random(0))
    assert drawn["shape"] == [3, 2, 1]
    assert len(drawn["data"]) == 6
    assert _tensor({"name": "x", "datatype": "INT64", "shape": [2]}, 3, random.Random(0))["shape"] == [2]


def test_an_example_with_more_rows():
    tensor = {"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [1, 2]}
    assert _with_rows({"inputs": [tensor]}, 2) == {"inputs": [tensor | {"shape": [2, 2], "data": [1, 2, 1, 2]}]}
    assert _with_rows({"instances": [{"a": 1}]}, 2) == {"instances": [{"a": 1}] * 2}


def test_the_report():
    run = Run(4, None, seconds=2.0, client_s=1.9)
    for took_s in (0.001, 0.002, 0.003):
        run.add(Answer(200, b"\r\nserver-timing: queue;dur=0.5, run;dur=2\r\n", b"", True), took_s)
    run.add(Answer(429, b"", b'{"code": "queue_full"}', True), 9.0)
    question = Question("http://x/infer", 1, "numbers", 10, Target("x", 80, [b""]))
    told = as_json(question, [run])["runs"][0]
    assert told["requests_per_s"] == 1.5
    assert (told["p50_ms"], told["p99_ms"]) == (2.0, 3.0)
    assert told["errors"] == {"queue_full": 1}
    assert told["server_timing_ms"]["run"] == {"p50": 2.0, "p99": 2.0}
    text = as_text(question, [run, Run(1, None, seconds=1.0)])
    assert "errors at 4 connections: queue_full 1" in text
    assert "whole processor" in text
    assert len({len(line) for line in text.splitlines()[1:4]}) == 1
