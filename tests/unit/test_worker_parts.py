"""The pure parts of a worker: why it ended, whether a batch is quick, its warm-up, its hello."""

import itertools

import numpy as np
import pytest

from foretell.engine.worker import warmup
from foretell.engine.worker.hello import hello_of
from foretell.engine.worker.local import expected_s
from foretell.engine.worker.process import death_reason
from foretell.errors import InvalidOutput, LoadError
from foretell.model.describe import write_signature, write_task
from foretell.model.tasks.tensors import Tensors
from foretell.signature import Column, Field, Signature, TensorSpec

TABLE = Signature(
    (TensorSpec("a", "FP32", (-1, 3)), TensorSpec("b", "BYTES", (-1, 1)), TensorSpec("c", "INT64", (-1,))),
    (TensorSpec("y", "FP32", (-1, 1)),),
    (
        Field("n", low=5.0, high=6.0),
        Field("k", "category", categories=("x", "y")),
        Field("t", "text"),
        Field("d", "date"),
        Field("m"),
    ),
    {"a": (Column("n"), Column("k", "code"), Column("m")), "b": (Column("t", "text"),), "c": (Column("d", "date"),)},
)


@pytest.mark.parametrize(
    ("code", "oom", "expected"),
    [
        (-9, False, "killed by SIGKILL"),
        (-9, True, "out of memory: killed by the kernel"),
        (-11, True, "killed by SIGSEGV"),
        (-99, False, "killed by signal 99"),
        (3, False, "ended with exit code 3"),
        (0, True, "ended with exit code 0"),
    ],
)
def test_reasons(code, oom, expected):
    assert death_reason(code, oom_killed=oom) == expected


def test_how_long_a_batch_is_expected_to_take():
    paces = ((1, 0.001), (4, 0.002), (16, 0.008))
    assert expected_s(paces, 1) == 0.001
    assert expected_s(paces, 4) == 0.002
    assert expected_s(paces, 10) == pytest.approx(0.005)
    assert expected_s(paces, 160) == pytest.approx(0.08)
    assert expected_s((), 5) == 0.0
    assert expected_s(((1, 0.5),), 4) == 2.0


def test_drawn_rows_fit_the_signature():
    drawn = warmup.draw_inputs(TABLE, 20)
    assert {n: (a.dtype.str[1:], a.shape) for n, a in drawn.items()} == {
        "a": ("f4", (20, 3)), "b": ("O", (20, 1)), "c": ("i8", (20,)),
    }  # fmt: skip
    assert drawn["a"][:, 0].min() >= 5
    assert drawn["a"][:, 0].max() <= 6
    assert set(drawn["a"][:, 1]) == {0.0, 1.0}


def answer(inputs, rows):
    return [np.zeros((rows, 1), np.float32)]


def test_only_quick_batches_are_measured():
    instants = itertools.count()
    slow = warmup.measure(answer, TABLE, now=lambda: next(instants) * 10.0)
    assert [rows for rows, _ in slow] == [1]
    instants = itertools.count()
    quick = warmup.measure(answer, TABLE, now=lambda: next(instants) * 1e-6)
    assert [rows for rows, _ in quick] == list(warmup.ROWS)
    assert all(seconds == pytest.approx(1e-6) for _, seconds in quick)


@pytest.mark.parametrize(
    "outputs",
    [[], [np.zeros((2, 1), np.float32)], [np.zeros((1, 1))], [np.float32(1)], [np.zeros((1, 1), np.float32)] * 2],
)
def test_outputs_that_do_not_fit(outputs):
    with pytest.raises(InvalidOutput):
        warmup.check_outputs([np.asarray(o) for o in outputs], TABLE, 1)
    with pytest.raises(LoadError, match="warm-up"):
        warmup.measure(lambda inputs, rows: [np.asarray(o) for o in outputs], TABLE)


def test_a_model_of_free_dimensions_may_refuse_a_guess():
    free = Signature((TensorSpec("x", "FP32", (-1, -1)),), TABLE.outputs)

    def refuse(inputs, rows):
        raise InvalidOutput("not 8 wide")

    assert warmup.measure(refuse, free) == ()


FACTS = {
    "name": "m", "signature": write_signature(TABLE), "task": write_task(Tensors(("y",))), "about": {},
    "sandbox": {"network": "seccomp"}, "paces": [[1, 0.5]],
}  # fmt: skip


def test_a_hello_is_read():
    hello = hello_of(FACTS, 1.5, 100)
    assert (hello.signature, hello.paces, hello.warmup_s) == (TABLE, ((1, 0.5),), 1.5)
    assert hello.about == {"resident_bytes": 100}


LIES = [None, 5, "text", [[1]], {"name": 5}]
PLAIN = {("about", 4), ("sandbox", 4)}


@pytest.mark.parametrize(
    ("key", "lie"),
    [(key, LIES[at]) for key in FACTS for at in range(len(LIES)) if key != "name" and (key, at) not in PLAIN],
)
def test_a_hello_that_lies_is_refused(key, lie):
    with pytest.raises(LoadError):
        hello_of(FACTS | {key: lie}, 0.0)


@pytest.mark.parametrize("key", FACTS)
def test_a_hello_that_lacks_a_fact_is_refused(key):
    with pytest.raises(LoadError):
        hello_of({k: v for k, v in FACTS.items() if k != key}, 0.0)
