"""Encoded pictures in the batcher, in virtual time: lanes and paces of their own, and errors told by row."""

import numpy as np
import pytest

from foretell.engine.batch import MOST_PICTURES, PICTURES, Layout
from foretell.engine.batcher import Batcher
from foretell.engine.fakes import FakeInstance, FakeLoop
from foretell.engine.ledger import Ledger
from foretell.engine.limits import Limits
from foretell.engine.pace import Pace
from foretell.engine.statistics import Statistics
from foretell.engine.suspects import fingerprint
from foretell.errors import InferenceFailed, InvalidInput, OutOfMemory
from foretell.metrics import Metrics
from foretell.request import Base64, InferRequest, InferResponse, Parts
from foretell.signature import Signature, TensorSpec

NETWORK = Signature((TensorSpec("image", "FP32", (-1, 2)),), (TensorSpec("y", "FP32", (-1, 2)),))
SEEN = Signature((TensorSpec("image", "BYTES", (-1,)),), (TensorSpec("sizes", "INT64", (-1,)),))
TENSOR_S, PICTURE_S = 0.001, 0.020


def pictures_of(*contents):
    pictures = np.empty(len(contents), object)
    pictures[:] = contents
    return {"image": pictures}


class Rig:
    """A model that doubles tensors, and counts the bytes of pictures; an empty picture is broken."""

    def __init__(self, **limits):
        self.loop, self.metrics = FakeLoop(), Metrics()
        ledger = Ledger("m", "1", self.metrics, Statistics(), 0.0)
        paces = Pace(((1, TENSOR_S), (2, 2 * TENSOR_S))), Pace(((1, PICTURE_S), (2, 2 * PICTURE_S)))
        self.batcher = Batcher(
            "m", "1", Layout(NETWORK, SEEN), paces[0], Limits(**limits), self.loop.clock, self.loop, ledger, paces[1]
        )
        self.batches, self.results = [], {}
        self.row_s = PICTURE_S
        self.hung = []
        self.batcher.on_loss = lambda instance, reason: self.hung.append(reason)
        self.instance = FakeInstance(
            self.loop, self.answer, lambda rows: self.row_s * rows, lambda _: False, self.failure
        )
        self.batcher.add(self.instance)

    def failure(self, inputs):
        return InferenceFailed("no") if "image" in inputs and b"raise" in inputs["image"].tolist() else None

    def answer(self, inputs):
        found = inputs["image"]
        self.batches.append((found.dtype.kind, len(found)))
        if found.dtype.kind != "O":
            return [found * 2]
        errors = np.full(len(found), None, object)
        for row, picture in enumerate(found):
            if len(picture) == 0:
                errors[row] = InvalidInput("image: got 0 bytes, expected a picture")
            if picture == b"huge":
                errors[row] = OutOfMemory("image: no memory")
        return [np.array([len(picture) for picture in found]), errors]

    def ask(self, name, inputs, rows, **more):
        def done(result):
            assert name not in self.results, "settled twice"
            self.results[name] = result

        request = InferRequest("m", "", name, inputs, rows, **more)
        if inputs["image"].dtype.kind == "O":
            request.nbytes = sum(map(len, inputs["image"]))
        return self.batcher.infer(request, done)

    def run(self, seconds=5.0):
        self.loop.run(seconds)


def test_pictures_and_tensors_never_share_a_batch():
    rig = Rig()
    for i in range(3):
        rig.ask(f"p{i}", pictures_of(b"a" * (i + 1)), 1)
        rig.ask(f"t{i}", {"image": np.full((1, 2), i, np.float32)}, 1)
    rig.run()
    assert {kind for kind, _ in rig.batches} == {"O", "f"}
    assert [rig.results[f"p{i}"].outputs[0].tolist() for i in range(3)] == [[1], [2], [3]]
    assert all(len(rig.results[f"p{i}"].outputs) == 1 for i in range(3))
    assert [rig.results[f"t{i}"].outputs[0].tolist() for i in range(3)] == [[[0, 0]], [[2, 2]], [[4, 4]]]


def test_a_broken_picture_costs_its_own_request_alone_and_is_told_by_row():
    rig = Rig()
    rig.row_s = 0.0005  # so that they share batches
    for _ in range(40):
        rig.batcher.admission.observe(4, 0.002, 0.002, PICTURES)
    rig.ask("first", pictures_of(b"a"), 1)
    for i in range(6):
        rig.ask(f"good{i}", pictures_of(b"ab"), 1)
    rig.ask("bad", pictures_of(b"abc", b""), 2)
    rig.ask("large", pictures_of(b"huge"), 1)
    rig.run()
    assert max(rows for _, rows in rig.batches) > 2
    assert all(rig.results[f"good{i}"].outputs[0].tolist() == [2] for i in range(6))
    error = rig.results["bad"]
    assert isinstance(error, InvalidInput)
    assert str(error) == "image, row 1: got 0 bytes, expected a picture"
    assert (error.row, error.column) == (1, "image")
    assert isinstance(rig.results["large"], OutOfMemory)
    assert str(rig.results["large"]) == "image, row 0: no memory"
    assert rig.batcher.pending == 0


def test_many_pictures_are_cut_and_the_broken_one_is_named_by_its_row_in_the_request():
    rig = Rig()
    count = 3 * MOST_PICTURES + 1
    rig.ask("good", pictures_of(*[b"x" * (i + 1) for i in range(count)]), count)
    contents = [b"x"] * count
    contents[2 * MOST_PICTURES + 3] = b""
    rig.ask("bad", pictures_of(*contents), count)
    rig.run()
    assert max(rows for _, rows in rig.batches) <= MOST_PICTURES
    assert isinstance(rig.results["good"], InferResponse)
    assert rig.results["good"].outputs[0].tolist() == list(range(1, count + 1))
    assert str(rig.results["bad"]).startswith(f"image, row {2 * MOST_PICTURES + 3}: got 0 bytes")
    assert rig.batcher.pending == 0


def test_a_batch_that_raises_tells_only_the_guilty():
    rig = Rig()
    rig.ask("first", pictures_of(b"a"), 1)
    for name, content in (("good", b"ab"), ("guilty", b"raise"), ("better", b"abc")):
        rig.ask(name, pictures_of(content), 1)
    rig.run()
    assert rig.results["guilty"].code == "inference_failed"
    assert [rig.results[name].outputs[0].tolist() for name in ("good", "better")] == [[2], [3]]


def test_admission_knows_what_a_picture_costs():
    rig = Rig(batches_in_flight=1)
    rig.ask("running", pictures_of(b"a"), 1)
    # Fifty pictures take a second, fifty tensors a twentieth of that.
    for i in range(50):
        rig.ask(f"p{i}", pictures_of(b"a"), 1, deadline=rig.loop.clock.now() + 0.5)
    refused = [rig.results[f"p{i}"].code for i in range(50) if f"p{i}" in rig.results]
    assert refused == ["overloaded"] * len(refused)
    assert 15 < len(refused) < 40
    rig.run()
    late = [i for i in range(50) if getattr(rig.results[f"p{i}"], "code", "ok") == "deadline_exceeded"]
    assert not late


def test_paces_are_learned_apart():
    rig = Rig()
    admission = rig.batcher.admission
    for i in range(60):
        rig.ask(f"p{i}", pictures_of(b"a"), 1)
        rig.run(0.5)
    assert admission.picture_pace.seconds(1) == pytest.approx(PICTURE_S, rel=0.05)
    assert admission.pace.seconds(1) == pytest.approx(TENSOR_S, rel=0.05)


def test_a_picture_that_takes_seconds_is_no_hang():
    rig = Rig()
    rig.row_s = 6.0
    rig.ask("slow", pictures_of(b"a"), 1)
    rig.run(8.0)
    assert rig.results["slow"].outputs[0].tolist() == [1]
    assert rig.hung == []
    rig.row_s = 1000.0
    rig.ask("never", pictures_of(b"a"), 1, deadline=rig.loop.clock.now() + 100)
    rig.run(60.0)
    assert len(rig.hung) == 1


@pytest.mark.parametrize(
    "inputs",
    [
        {"image": np.empty((1, 1), object)},
        {"image": np.empty(2, object)},
        {"image": np.empty(1, object), "more": np.zeros((1, 2), np.float32)},
        {"image": np.array(["text"])},
    ],
)
def test_what_is_not_one_picture_a_row_is_refused(inputs):
    with pytest.raises(InvalidInput):
        Layout(NETWORK, SEEN).check(inputs, 1)


def test_keys_tell_pictures_from_tensors():
    layout = Layout(NETWORK, SEEN)
    assert layout.check(pictures_of(b"a", Base64(b"QQ=="), Parts([b"a", b"b"])), 3) is PICTURES
    assert layout.check({"image": np.zeros((3, 2), np.float32)}, 3) == ()
    with pytest.raises(InvalidInput, match="datatype BYTES"):
        Layout(NETWORK).check(pictures_of(b"a"), 1)


def test_a_large_picture_is_known_again_by_its_ends():
    content = np.random.default_rng(3).bytes(3_000_000)
    parts = [content[:1_000_000], content[1_000_000:2_000_000], content[2_000_000:]]
    for picture in (content, Parts(parts), Base64(memoryview(content)), content[:1000], Parts([content[:9]])):
        assert fingerprint(pictures_of(picture)) == fingerprint(pictures_of(picture))
        assert fingerprint(pictures_of(b"x", picture), 1) == fingerprint(pictures_of(picture))
    others = [content[:-1] + b"?", b"?" + content[1:], content + b"?", content[:1000], Parts([*parts[:2], b"?"])]
    prints = {fingerprint(pictures_of(picture)) for picture in (content, *others)}
    assert len(prints) == 1 + len(others)
