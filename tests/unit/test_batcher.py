"""The batcher in virtual time: who runs with whom and when, and every caller settled exactly once whatever happens."""

import itertools
import random

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from foretell.engine.batch import Layout
from foretell.engine.batcher import Batcher
from foretell.engine.fakes import FakeInstance, FakeLoop
from foretell.engine.ledger import Ledger
from foretell.engine.limits import Limits
from foretell.engine.pace import Pace
from foretell.engine.statistics import Statistics
from foretell.errors import InferenceFailed, ServerDraining
from foretell.metrics import Metrics
from foretell.request import BULK, INTERACTIVE, InferRequest, InferResponse
from foretell.signature import Signature, TensorSpec

POISON = 666.0
RESTART_S = 0.5


class Caller:
    """One of many who ask together."""

    def __init__(self, rig, name, x):
        self.rig, self.name, self.x = rig, name, x

    def settle(self, result):
        assert self.name not in self.rig.results, "settled twice"
        self.rig.results[self.name] = result
        self.rig.at = self.rig.loop.clock.now()

    def fail(self, error):
        self.settle(error.code)


class Sink:
    """Answers them, those of a batch together."""

    def __init__(self, rig):
        self.rig, self.batches = rig, []

    def answer(self, batch, tickets):
        self.batches.append(len(tickets))
        for ticket in tickets:
            response = InferResponse(batch, "", ticket.batch_row, ticket.rows, ticket.admitted)
            np.testing.assert_array_equal(response.outputs[0], ticket.caller.x * 2)
            ticket.caller.settle("ok")


class Rig:
    """A batcher of a model that doubles its input, its instances, and what became of every request."""

    def __init__(
        self, *, instances=1, row_s=0.001, paces=((1, 0.001), (2, 0.002)), width=1, answer=None, fails=None, **limits
    ):
        self.loop = FakeLoop()
        self.row_s = row_s
        self.answer = answer or (lambda inputs: [inputs["x"] * 2])
        self.fails = fails or (lambda inputs: None)
        self.metrics, self.statistics = Metrics(), Statistics()
        signature = Signature((TensorSpec("x", "FP64", (-1, width)),), (TensorSpec("y", "FP64", (-1, width)),))
        ledger = Ledger("m", "1", self.metrics, self.statistics, 0.0)
        self.batcher = Batcher(
            "m", "1", Layout(signature), Pace(paces), Limits(**limits), self.loop.clock, self.loop, ledger
        )
        self.batcher.on_loss = lambda instance, reason: self.loop.call_later(RESTART_S, self.add)
        self.sink = Sink(self)
        self.results = {}
        self.tickets = {}
        self.all = []
        for _ in range(instances):
            self.add()

    def add(self):
        self.all.append(
            FakeInstance(
                self.loop,
                self.answer,
                lambda rows: 0.0001 + self.row_s * rows,
                lambda inputs: bool((inputs["x"] == POISON).any()),
                self.fails,
            )
        )
        self.batcher.add(self.all[-1])

    def ask(self, name, *values, timeout_s=None, priority=INTERACTIVE):
        x = np.array(values, float).reshape(len(values), -1)
        deadline = None if timeout_s is None else self.loop.clock.now() + timeout_s
        request = InferRequest("m", "", str(name), {"x": x}, len(values), deadline=deadline, priority=priority)

        def done(result):
            assert name not in self.results, "settled twice"
            if isinstance(result, InferResponse):
                assert result.id == str(name)
                np.testing.assert_array_equal(result.outputs[0], x * 2)
                self.results[name] = "ok"
            else:
                self.results[name] = result.code
            self.last = result
            self.at = self.loop.clock.now()

        self.tickets[name] = self.batcher.infer(request, done)

    def ask_together(self, asked):
        """Ask many at once, as a door does that reads the requests of one iteration together."""
        callers = [Caller(self, name, np.array(values, float).reshape(len(values), -1)) for name, values in asked]
        tickets = self.batcher.infer_all([({"x": c.x}, len(c.x), c.x.nbytes, c) for c in callers], self.sink)
        for caller, ticket in zip(callers, tickets, strict=True):
            self.tickets[caller.name] = ticket

    @property
    def ran(self):
        """Rows of every batch, in order, as lists."""
        return [inputs["x"][:, 0].tolist() for instance in self.all for inputs in instance.ran]

    def assert_at_rest(self):
        assert repr(self.batcher).startswith('<Batcher "m" version 1: 0 queued, 0 batches in flight')
        assert self.batcher.pending == self.batcher.queued_rows == self.batcher.queued_bytes == 0
        assert not self.loop.faults


def test_requests_of_one_iteration_are_one_batch():
    rig = Rig(row_s=1e-5, paces=())
    for i in range(5):
        rig.ask(i, i)
    rig.loop.run()
    assert rig.ran == [[0, 1, 2, 3, 4]]
    assert rig.results == dict.fromkeys(range(5), "ok")
    assert rig.last.timing.batch_rows == 5
    assert (rig.statistics.success.count, rig.statistics.execution_batches) == (5, 1)
    rig.assert_at_rest()


def test_who_asks_together_is_answered_together():
    rig = Rig(row_s=1e-5, paces=())
    rig.ask("before", 9)
    rig.ask_together([(i, [i] * (1 + i % 2)) for i in range(5)])
    rig.loop.run()
    assert rig.ran == [[9, 0, 1, 1, 2, 3, 3, 4]]
    assert rig.results == dict.fromkeys(["before", *range(5)], "ok")
    assert rig.sink.batches == [5]
    assert (rig.statistics.success.count, rig.statistics.inference_rows) == (6, 8)
    rig.assert_at_rest()


def test_who_asks_together_is_refused_one_by_one():
    rig = Rig(max_queue_rows=3, max_batch_size=2)
    rig.ask("runs", 9)
    rig.loop.step()
    rig.ask_together([(i, [i]) for i in range(5)])
    assert rig.results == {3: "queue_full", 4: "queue_full"}
    assert not rig.tickets[4].cancel()
    assert rig.tickets[0].cancel()
    rig.loop.run()
    assert rig.results == {"runs": "ok", 1: "ok", 2: "ok", 3: "queue_full", 4: "queue_full"}
    rig.assert_at_rest()


def test_a_sink_that_raises_costs_nobody_else_an_answer():
    rig = Rig(row_s=1e-5, paces=())
    rig.sink.answer = lambda batch, tickets: 1 / 0
    rig.ask("other", 1)
    rig.ask_together([("mine", [2])])
    rig.loop.run()
    assert rig.results == {"other": "ok"}
    assert [type(f["exception"]) for f in rig.loop.faults] == [ZeroDivisionError]
    assert rig.batcher.pending == 0


def test_while_the_instance_is_busy_the_queue_is_the_next_batch():
    rig = Rig(row_s=0.001, paces=(), max_batch_size=4)
    rig.ask("first", 0)
    rig.loop.step()
    rig.ask("second", 1)
    rig.loop.step()
    for i in range(2, 8):
        rig.ask(i, i)
        rig.loop.step()
    rig.loop.run()
    assert rig.ran == [[0], [1], [2, 3, 4, 5], [6, 7]]


def test_a_large_request_is_cut_and_joined_and_counted_once():
    rig = Rig(max_batch_size=4)
    rig.ask("big", *range(11))
    rig.loop.run()
    assert rig.results == {"big": "ok"}
    assert sorted(row for batch in rig.ran for row in batch) == list(range(11))
    assert max(map(len, rig.ran)) <= 4
    assert (rig.statistics.success.count, rig.statistics.inference_rows) == (1, 11)
    rig.assert_at_rest()


def test_what_is_due_first_runs_first():
    rig = Rig(max_batch_size=1, batches_in_flight=1)
    rig.ask("running", 0)
    rig.loop.step()
    for name, timeout_s in (("late", 3.0), ("soon", 1.0), ("middle", 2.0), ("none", None)):
        rig.ask(name, timeout_s or 30, timeout_s=timeout_s)
    rig.loop.run()
    assert rig.ran == [[0], [1], [2], [3], [30]]


def test_interactive_runs_before_bulk_and_is_not_kept_waiting_by_it():
    rig = Rig(max_batch_size=2, batches_in_flight=1)
    rig.ask("running", 0)
    rig.loop.step()
    for i in range(100, 110):
        rig.ask(i, i, priority=BULK, timeout_s=1.0)
    rig.ask("now", 1, timeout_s=0.01)
    rig.loop.run()
    assert rig.ran[:2] == [[0], [1]]
    assert set(rig.results.values()) == {"ok"}


def test_shapes_that_differ_never_share_a_batch():
    rig = Rig(width=-1, paces=())
    for i, values in enumerate([[1, 2]] * 3 + [[1, 2, 3]] * 3):
        x = np.array([values], float)
        rig.batcher.infer(
            InferRequest("m", "", str(i), {"x": x}, 1), lambda r, i=i: rig.results.update({i: r.outputs[0].shape})
        )
    rig.loop.run()
    assert rig.results == {0: (1, 2), 1: (1, 2), 2: (1, 2), 3: (1, 3), 4: (1, 3), 5: (1, 3)}
    assert len(rig.ran) == 2


def test_a_caller_that_has_gone_is_not_run_and_frees_its_place():
    rig = Rig(max_queue_rows=3)
    rig.ask("a", 1)
    rig.ask("b", 2)
    rig.ask("c", 3)
    rig.ask("full", 4)
    assert rig.results == {"full": "queue_full"}
    assert rig.tickets["b"].cancel()
    assert not rig.tickets["b"].cancel()
    rig.ask("d", 5)
    rig.loop.run()
    assert [row for batch in rig.ran for row in batch] == [1, 3, 5]
    assert rig.results == {"full": "queue_full", "a": "ok", "c": "ok", "d": "ok"}
    assert rig.statistics.cancel.count == 1
    rig.assert_at_rest()


def test_a_cancelled_part_of_a_running_batch_leaves_its_neighbours_alone():
    rig = Rig(paces=())
    for i in range(3):
        rig.ask(i, i)
    rig.loop.step()
    rig.tickets[1].cancel()
    rig.loop.run()
    assert rig.results == {0: "ok", 2: "ok"}
    rig.assert_at_rest()


def test_a_large_request_is_cancelled_whole():
    rig = Rig(max_batch_size=2, batches_in_flight=1)
    rig.ask("big", *range(10))
    rig.loop.step()
    assert rig.tickets["big"].cancel()
    rig.loop.run()
    assert rig.ran == [[0, 1]]
    assert rig.statistics.cancel.count == 1
    assert rig.statistics.success.count == 0
    rig.assert_at_rest()


def test_many_that_come_and_go_while_nothing_runs_leave_nothing_behind():
    rig = Rig(row_s=1.0, batches_in_flight=1, paces=())
    rig.ask("running", 0)
    rig.loop.step()
    for i in range(5000):
        rig.ask(i, i)
        rig.tickets.pop(i).cancel()
    lanes = [lane for lanes in rig.batcher._queue._lanes for lane in lanes.values()]
    assert sum(len(lane.line) + len(lane.heap) for lane in lanes) < 200


@pytest.mark.parametrize("running", [True, False])
def test_a_deadline_is_told_when_it_passes(running):
    rig = Rig(row_s=1.0, paces=(), batches_in_flight=1)
    if not running:
        rig.ask("before", 0)
        rig.loop.step()
    rig.ask("x", 1, timeout_s=0.3)
    began = rig.loop.clock.now()
    rig.loop.run(0.4)
    assert rig.results == {"x": "deadline_exceeded"}
    assert rig.at - began == pytest.approx(0.3, abs=0.005)
    assert ("while it ran" if running else "in the queue") in str(rig.last)
    rig.loop.run()
    assert [1.0] in rig.ran or not running
    assert len(rig.ran) == 1


def test_what_would_be_late_is_refused_at_once_and_says_when_to_retry():
    rig = Rig(row_s=0.1, paces=((1, 0.1), (2, 0.2)))
    for i in range(8):
        rig.ask(i, i, timeout_s=2.0)
    rig.ask("late", 9, timeout_s=0.5)
    assert rig.results == {}, "nobody as urgent is waiting"
    rig.ask("too late", 9, timeout_s=0.09)
    assert rig.results == {"too late": "overloaded"}
    assert "expected within 90 ms" in str(rig.last)
    assert rig.last.retry_after_s > 0
    rig.loop.run()
    assert rig.results.pop("too late") == "overloaded"
    assert set(rig.results.values()) == {"ok"}


def test_while_requests_are_refused_a_door_knows_before_it_reads_them():
    rig = Rig(row_s=0.01, paces=((1, 0.01), (2, 0.02)), max_batch_size=1)
    room = rig.batcher.room
    rig.ask("first", 1.0, timeout_s=0.2)
    rig.loop.run(0.001)
    assert room(100, 0.2, INTERACTIVE) == (100, None)  # nobody was refused yet: nothing is asked
    for n in range(30):
        rig.ask(n, 1.0, timeout_s=0.2)
    taken = sum(name not in rig.results for name in rig.tickets)
    assert 0 < taken < 20
    places, error = room(100, 0.2, INTERACTIVE)
    assert (places, error.code) == (0, "overloaded")
    places, error = room(100, 0.5, INTERACTIVE)
    assert 0 < places < 100
    assert error.code == "overloaded"
    assert room(3, 5.0, INTERACTIVE) == (3, None)
    rig.loop.run(1.0)
    assert room(3, 0.2, INTERACTIVE) == (3, None)
    assert "overloaded" in rig.results.values()


def test_interactive_comes_soon_though_bulk_takes_all_the_rest():
    rig = Rig(row_s=0.00175, paces=((1, 0.00175), (4, 0.007)))
    for n in range(600):
        rig.ask(("bulk", n), 1.0, timeout_s=5.0, priority=BULK)
    waits = []
    for n in range(20):
        rig.loop.run(0.02)
        asked = rig.loop.clock.now()
        rig.ask(n, 1.0, timeout_s=0.2)
        while n not in rig.results:
            rig.loop.run(0.0005)
        assert rig.results[n] == "ok"
        waits.append(rig.loop.clock.now() - asked)
    assert max(waits) < 0.03
    assert max(waits[2:]) < 0.012  # two brief batches and its own


def test_a_wrong_prediction_is_put_right_by_what_runs():
    rig = Rig(row_s=0.001, paces=((1, 10.0), (2, 20.0)) * 10)
    for i in range(400):
        rig.ask(i, i, timeout_s=0.5)
        rig.loop.run(0.01)
    rig.loop.run()
    assert rig.results[0] == "ok"
    assert all(rig.results[i] == "ok" for i in range(300, 400))


def test_the_bounds_of_the_queue():
    rig = Rig(max_queue_rows=4, max_queue_bytes=40, max_batch_size=2)
    rig.ask("rows", *range(5))
    assert rig.results == {"rows": "request_too_large"}
    rig.ask("fits", 1, 2, 3, 4)
    rig.ask("full", 1)
    assert rig.results["full"] == "queue_full"
    rig.loop.run()
    rig.batcher.infer(
        InferRequest("m", "", "", {"x": np.zeros((1, 1))}, 1, nbytes=41), lambda r: rig.results.update(bytes=r.code)
    )
    assert rig.results == {
        "rows": "request_too_large",
        "fits": "ok",
        "full": "queue_full",
        "bytes": "request_too_large",
    }


def test_batches_are_bounded_in_bytes_too():
    rig = Rig(max_batch_bytes=32, paces=())
    rig.ask("big", *range(10))
    for i in range(6):
        rig.ask(i, i)
    rig.loop.run()
    assert max(map(len, rig.ran)) <= 4
    assert set(rig.results.values()) == {"ok"}


def test_a_dead_instance_s_batches_run_again_and_nobody_notices():
    rig = Rig(paces=(), max_batch_size=4)
    for i in range(8):
        rig.ask(i, i)
    rig.loop.step()
    assert rig.all[0].in_flight == 2
    rig.all[0].die("killed by SIGKILL")
    rig.loop.run()
    assert rig.results == dict.fromkeys(range(8), "ok")
    assert "died" in [labels[2] for labels, count in rig.metrics.restarts.children() if count.value == 1]
    rig.assert_at_rest()


def test_another_instance_takes_over_at_once():
    rig = Rig(instances=2, paces=())
    rig.ask("x", 1)
    rig.loop.step()
    next(i for i in rig.all if i.in_flight).die()
    began = rig.loop.clock.now()
    rig.loop.run(0.1)
    assert rig.results == {"x": "ok"}
    assert rig.at - began < RESTART_S


def test_a_poisonous_request_runs_twice_alone_then_it_is_quarantined():
    rig = Rig()
    rig.ask("poison", POISON)
    rig.loop.run()
    assert rig.results == {"poison": "worker_crashed"}
    assert len(rig.ran) == 2
    rig.ask("again", POISON)
    assert rig.results["again"] == "quarantined"
    rig.ask("other", 1)
    rig.loop.run()
    assert rig.results["other"] == "ok"
    rig.loop.run(61)
    rig.ask("later", POISON)
    rig.loop.run()
    assert rig.results["later"] == "worker_crashed"
    rig.assert_at_rest()


def test_the_neighbours_of_a_poisonous_request_get_their_answers():
    rig = Rig(paces=(), row_s=1e-5)
    for i in range(20):
        rig.ask(i, POISON if i == 13 else i)
    rig.loop.run()
    assert rig.results.pop(13) == "worker_crashed"
    assert rig.results == dict.fromkeys([*range(13), *range(14, 20)], "ok")
    assert sum(POISON in batch for batch in rig.ran) == 3
    rig.assert_at_rest()


def test_the_poisonous_row_of_a_request_is_named_and_refused_in_any_company():
    rig = Rig(max_batch_size=8)
    rig.ask("many", *[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, POISON, 12])
    rig.loop.run()
    assert rig.results == {"many": "worker_crashed"}
    assert "row 10" in str(rig.last)
    rig.ask("elsewhere", 3, POISON)
    assert rig.results["elsewhere"] == "quarantined"
    assert "row 1:" in str(rig.last)
    rig.assert_at_rest()


def test_killing_from_outside_does_not_convict_what_runs():
    rig = Rig()
    rig.ask("innocent", 1)
    for _ in range(5):
        rig.loop.run(RESTART_S / 2)
        while not rig.all[-1].in_flight and "innocent" not in rig.results:
            rig.loop.run(0.0001)
        if rig.all[-1].in_flight:
            rig.all[-1].die("killed by SIGKILL")
    rig.loop.run()
    assert rig.results == {"innocent": "ok"}


def test_a_hanging_instance_is_killed_and_replaced():
    rig = Rig()
    rig.all[0].is_hung = True
    rig.ask("x", 1)
    rig.loop.run(4)
    assert not rig.all[0].ready
    assert rig.results == {"x": "ok"}
    assert [(labels[2], count.value) for labels, count in rig.metrics.restarts.children()] == [("died", 0), ("hung", 1)]


def test_a_pause_of_this_process_kills_nobody():
    rig = Rig()
    rig.ask("x", 1)
    rig.loop.step()
    rig.loop.clock.advance(30.0)
    rig.loop.run()
    assert rig.all[0].ready
    assert len(rig.all) == 1


def test_an_error_of_the_runtime_reaches_only_whoever_caused_it():
    def fails(inputs):
        return InferenceFailed("bad value") if (inputs["x"] == 7).any() else None

    rig = Rig(fails=fails, paces=(), row_s=1e-5)
    for i in range(10):
        rig.ask(i, i)
    rig.loop.run()
    assert rig.results.pop(7) == "inference_failed"
    assert set(rig.results.values()) == {"ok"}
    assert rig.all[0].ready
    rig.assert_at_rest()


def test_outputs_that_do_not_count_rows_are_not_split():
    rig = Rig(answer=lambda inputs: [np.repeat(inputs["x"] * 2, 3, axis=0)], paces=(), row_s=1e-5)
    shapes = {}
    for i in range(4):
        x = np.array([[float(i)]])
        rig.batcher.infer(
            InferRequest("m", "", str(i), {"x": x}, 1), lambda r, i=i: shapes.update({i: r.outputs[0].tolist()})
        )
    rig.loop.run()
    assert shapes == {i: [[2.0 * i]] * 3 for i in range(4)}
    rig.assert_at_rest()


def test_a_fault_in_a_callback_costs_its_neighbours_nothing():
    rig = Rig(paces=())
    rig.batcher.infer(InferRequest("m", "", "", {"x": np.zeros((1, 1))}, 1), lambda result: 1 / 0)
    rig.ask("neighbour", 1)
    rig.loop.run()
    assert rig.results == {"neighbour": "ok"}
    assert isinstance(rig.loop.faults[0]["exception"], ZeroDivisionError)
    assert rig.batcher.pending == 0


def test_an_outage_that_lasts_refuses_what_waits_and_what_comes():
    rig = Rig()
    rig.batcher.on_loss = lambda instance, reason: None
    rig.all[0].die()
    rig.ask("waits", 1)
    assert rig.results == {}
    rig.batcher.tell_outage("its worker keeps failing", rig.loop.clock.now() + 5)
    rig.ask("comes", 2)
    assert rig.results == {"waits": "model_not_ready", "comes": "model_not_ready"}
    assert rig.last.retry_after_s == pytest.approx(5.0)
    rig.add()
    rig.ask("back", 3)
    rig.loop.run()
    assert rig.results["back"] == "ok"


def test_closing_settles_everybody():
    rig = Rig(max_batch_size=1)
    for i in range(6):
        rig.ask(i, i)
    rig.loop.step()
    rig.batcher.close(ServerDraining("over"))
    assert rig.results == dict.fromkeys(range(6), "server_draining")
    rig.loop.run()
    rig.assert_at_rest()


def overload(rate, seconds=4.0, jitter=1.0, timeout_s=0.2, is_told=True):
    """Open loop, Poisson: 1.75 ms a row times up to 1 + jitter. Returns answers in time a second, queue, rows run.

    Without `is_told` the callers bring no deadline, though an answer is of use to them only until then.
    """
    rig, rng = Rig(paces=((1, 0.00175),), max_batch_size=256), random.Random(rate)
    rig.all[0]._seconds = lambda rows: 0.0001 + 0.00175 * rows * (1 + jitter * rng.random())
    arrivals = itertools.accumulate(rng.expovariate(rate) for _ in range(int(rate * seconds)))
    in_time, began, most_rows = [0], rig.loop.clock.now(), 0
    x = {"x": np.zeros((1, 1))}
    for arrival in arrivals:
        due = began + arrival + timeout_s

        def done(result, due=due):
            in_time[0] += isinstance(result, InferResponse) and rig.loop.clock.now() <= due

        rig.loop.run(began + arrival - rig.loop.clock.now())
        rig.batcher.infer(InferRequest("m", "", "", x, 1, deadline=due if is_told else None), done)
        most_rows = max(most_rows, rig.batcher.queued_rows)
    rig.loop.run()
    rig.assert_at_rest()
    ran = sum(map(len, rig.ran))
    return in_time[0] / seconds, most_rows, ran / seconds


def test_overload_keeps_the_peak():
    capacity = 1 / (0.00175 * 1.5)
    peak = max(overload(rate)[0] for rate in (300, 360, 400))
    assert peak > 0.85 * capacity
    for factor in (2, 5, 10):
        good, most_rows, ran = overload(int(factor * capacity))
        assert good >= 0.95 * peak, factor
        assert good >= 0.97 * ran, "hardly anything runs in vain"
        assert most_rows <= 0.2 * capacity * 1.3


def test_overload_by_callers_who_bring_no_deadline():
    capacity = 1 / (0.00175 * 1.5)
    peak = max(overload(rate)[0] for rate in (300, 360, 400))
    for factor in (2, 5, 10):
        good, *_ = overload(int(factor * capacity), is_told=False)
        assert good >= 0.9 * peak, factor


def test_who_brings_no_deadline_waits_for_a_replacement():
    rig = Rig(row_s=0.001, max_batch_size=8)
    for i in range(40):
        rig.ask(i, 1)
    rig.loop.run(0.005)
    rig.all[0].die("killed by SIGKILL")
    for i in range(40, 400):
        rig.ask(i, 1)
    rig.loop.run(RESTART_S + 0.001)
    for i in range(400, 600):
        rig.ask(i, 1)
    rig.loop.run()
    assert rig.results == dict.fromkeys(range(600), "ok")


def test_who_brings_no_deadline_waits_for_one_that_stood_still():
    rig = Rig(row_s=0.001, max_batch_size=8)
    for i in range(100):
        rig.ask(i, 1)
        rig.loop.run(0.002)
    rig.row_s = 0.4 / 8  # stopped for a while
    for i in range(100, 180):
        rig.ask(i, 1)
    rig.loop.run(0.3)
    for i in range(180, 500):
        rig.ask(i, 1)
    rig.row_s = 0.001
    rig.loop.run()
    assert rig.results == dict.fromkeys(range(500), "ok")


def test_overload_of_two_kinds_of_callers():
    """Patient callers do not make the engine refuse urgent ones, nor the other way round for ever."""
    rig = Rig(paces=((1, 0.002),), row_s=0.002, max_queue_s=3.0)
    for i in range(1200):
        rig.ask(("urgent", i), 1, timeout_s=0.2)
        rig.ask(("patient", i), 1, timeout_s=2.0)
        rig.loop.run(0.008)
    rig.loop.run()
    kinds = {kind: [r for (k, _), r in rig.results.items() if k == kind] for kind in ("urgent", "patient")}
    assert kinds["urgent"].count("ok") == 1200
    assert kinds["patient"].count("ok") > 1150


class Chaos(RuleBasedStateMachine):
    """Requests, cancels, deadlines, deaths, hangs, errors and time in any order."""

    @initialize(instances=st.integers(1, 3), most=st.sampled_from([1, 3, 8]), row_s=st.sampled_from([1e-4, 1e-2, 0.3]))
    def begin(self, instances, most, row_s):
        self.rig = Rig(
            instances=instances,
            row_s=row_s,
            paces=(),
            max_batch_size=most,
            max_queue_rows=200,
            fails=lambda inputs: InferenceFailed("told to") if (inputs["x"] == -1).any() else None,
        )
        self.names = itertools.count()
        self.cancelled = set()

    @rule(
        values=st.lists(st.sampled_from([1.0, 2.0, 3.0, -1.0, POISON]), min_size=1, max_size=12),
        timeout_s=st.sampled_from([None, 0.0, 0.01, 0.2, 5.0]),
        priority=st.sampled_from([INTERACTIVE, BULK]),
    )
    def ask(self, values, timeout_s, priority):
        self.rig.ask(next(self.names), *values, timeout_s=timeout_s, priority=priority)

    @rule(count=st.integers(1, 30))
    def ask_many(self, count):
        for i in range(count):
            self.rig.ask(next(self.names), i + 1.0)

    @rule(values=st.lists(st.sampled_from([1.0, 2.0, 3.0, -1.0, POISON]), min_size=1, max_size=30))
    def ask_together(self, values):
        self.rig.ask_together([(next(self.names), [value]) for value in values])

    @rule(data=st.data())
    def cancel(self, data):
        if self.rig.tickets:
            name = data.draw(st.sampled_from(sorted(self.rig.tickets)))
            ticket = self.rig.tickets[name]
            if ticket is not None and ticket.cancel():
                assert name not in self.rig.results
                self.cancelled.add(name)

    @rule(data=st.data(), reason=st.sampled_from(["killed by SIGKILL", "killed by SIGSEGV"]))
    def die(self, data, reason):
        alive = [instance for instance in self.rig.all if instance.ready]
        if alive:
            data.draw(st.sampled_from(alive)).die(reason)

    @rule(data=st.data())
    def hang(self, data):
        alive = [instance for instance in self.rig.all if instance.ready]
        if alive:
            data.draw(st.sampled_from(alive)).is_hung = True

    @rule()
    def step(self):
        self.rig.loop.step()

    @rule(seconds=st.sampled_from([0.0005, 0.02, 0.3, 3.0]))
    def wait(self, seconds):
        self.rig.loop.run(seconds)

    @invariant()
    def the_counts_agree(self):
        if not hasattr(self, "rig"):
            return
        assert not self.cancelled & set(self.rig.results)
        queue = self.rig.batcher._queue
        assert queue.rows >= 0
        assert queue.nbytes == queue.rows * 8
        assert len(queue) <= self.rig.batcher.pending

    def teardown(self):
        if not hasattr(self, "rig"):
            return
        self.rig.loop.run(200.0)
        settled = set(self.rig.results)
        assert settled | self.cancelled == set(self.rig.tickets)
        assert not settled & self.cancelled
        assert set(self.rig.results.values()) <= {
            *("ok", "overloaded", "queue_full", "deadline_exceeded", "inference_failed"),
            *("worker_crashed", "quarantined"),
        }
        self.rig.assert_at_rest()


TestChaos = Chaos.TestCase
TestChaos.settings = settings(max_examples=150, stateful_step_count=30, deadline=None)
