"""Checkpoints of torch.save, of both forms, written here as torch writes them, whole and broken."""

import io
import pickle
import sys
import types
import zipfile
from collections import OrderedDict
from typing import Any

import numpy as np
import pytest

from foretell.model.pickles import UnreadablePickle
from foretell.model.pickles.checkpoint import read_checkpoint

WEIGHT = np.arange(24, dtype=np.float32).reshape(4, 6)
STEPS = np.array([3, 5, 7], np.int64)


@pytest.fixture(autouse=True)
def torch_like(monkeypatch: pytest.MonkeyPatch) -> None:
    """Put modules in place that have the names a checkpoint imports."""
    torch, utils = types.ModuleType("torch"), types.ModuleType("torch._utils")
    for kind in ("FloatStorage", "LongStorage", "BFloat16Storage"):
        setattr(torch, kind, type(kind, (), {"__module__": "torch"}))
    for name in ("_rebuild_tensor_v2", "_rebuild_parameter"):
        exec(f"def {name}(*a): raise AssertionError('it was called')", utils.__dict__)
    monkeypatch.setitem(sys.modules, "torch", torch)
    monkeypatch.setitem(sys.modules, "torch._utils", utils)


class Held:
    """A storage."""

    def __init__(self, key: str, kind: str, count: int) -> None:
        self.id = ("storage", getattr(sys.modules["torch"], kind), key, "cpu", count)


class Made:
    """Something that a function would make."""

    def __init__(self, function: str, *arguments: Any) -> None:
        self.function, self.arguments = function, arguments

    def __reduce__(self) -> tuple[Any, ...]:
        return getattr(sys.modules["torch._utils"], self.function), self.arguments


class Pickler(pickle.Pickler):
    def persistent_id(self, held: Any) -> Any:
        return held.id if isinstance(held, Held) else None


def dumped(value: Any) -> bytes:
    file = io.BytesIO()
    Pickler(file, 2).dump(value)
    return file.getvalue()


def tensor(held: Held, offset: int, shape: tuple[int, ...], strides: tuple[int, ...]) -> Made:
    return Made("_rebuild_tensor_v2", held, offset, shape, strides, False, OrderedDict())


def state(**changed: Any) -> dict[str, Any]:
    floats, longs = Held("10", "FloatStorage", 24), Held("11", "LongStorage", 3)
    found: dict[str, Any] = {
        "weight": Made("_rebuild_parameter", tensor(floats, 0, (4, 6), (6, 1)), True, OrderedDict()),
        "turned": tensor(floats, 6, (6, 2), (1, 6)),
        "steps": tensor(longs, 0, (3,), (1,)),
        "epoch": 7,
    }
    return {"model": OrderedDict(found | changed), "note": "trained at night"}


def old(root: Any, raw: tuple[bytes, ...] = (WEIGHT.tobytes(), STEPS.tobytes())) -> bytes:
    heads = [0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}, root, ["10", "11"]]
    counts = [24, 3]
    return b"".join(map(dumped, heads)) + b"".join(
        n.to_bytes(8, "little") + r for n, r in zip(counts, raw, strict=True)
    )


def new(root: Any, method: int = zipfile.ZIP_STORED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        archive.writestr("net/data.pkl", dumped(root))
        archive.writestr("net/byteorder", b"little")
        archive.writestr("net/data/10", WEIGHT.tobytes())
        archive.writestr("net/data/11", STEPS.tobytes())
    return file.getvalue()


@pytest.mark.parametrize("write", [old, new])
def test_tensors_come_out_as_they_went_in(write: Any) -> None:
    found = read_checkpoint(write(state()))
    assert list(found) == ["model.weight", "model.turned", "model.steps"]
    np.testing.assert_array_equal(found["model.weight"], WEIGHT)
    np.testing.assert_array_equal(found["model.turned"], WEIGHT[1:3].T)
    np.testing.assert_array_equal(found["model.steps"], STEPS)
    assert not found["model.turned"].flags.writeable


@pytest.mark.parametrize("write", [old, new])
@pytest.mark.parametrize(
    ("shape", "strides", "offset", "expected"),
    [
        ((4, 6), (6, 1), 1, "outside"),
        ((5, 6), (6, 1), 0, "outside"),
        ((1 << 30, 1 << 30), (0, 0), 0, "outside"),
        ((4, 6), (6,), 0, "garbled"),
        ((4, -6), (6, 1), 0, "garbled"),
        ((4, 6), (6, -1), 0, "garbled"),
    ],
)
def test_a_tensor_that_reaches_outside_is_refused(
    write: Any, shape: Any, strides: Any, offset: int, expected: str
) -> None:
    broken = state(weight=tensor(Held("10", "FloatStorage", 24), offset, shape, strides))
    with pytest.raises(UnreadablePickle, match=expected):
        read_checkpoint(write(broken))


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (lambda: dumped({"a": 1}), "not a file of torch.save"),
        (lambda: old(state(), (WEIGHT.tobytes()[:-4], STEPS.tobytes())), "not where it should be"),
        (lambda: new(state(), zipfile.ZIP_DEFLATED), "compressed"),
        (lambda: new(state(weight=tensor(Held("12", "FloatStorage", 24), 0, (4,), (1,)))), "missing"),
        (lambda: new(state(weight=tensor(Held("10", "LongStorage", 24), 0, (4,), (1,)))), "two kinds"),
        (lambda: new(state(weight=tensor(Held("10", "BFloat16Storage", 24), 0, (4,), (1,)))), "not read"),
        (lambda: new(state())[:-40], "not a whole zip"),
        (lambda: b"", "cut off"),
    ],
)
def test_broken_files_are_refused(content: Any, expected: str) -> None:
    with pytest.raises(UnreadablePickle, match=expected):
        read_checkpoint(content())


@pytest.mark.parametrize("write", [old, new])
def test_cut_anywhere_it_is_refused_or_whole(write: Any) -> None:
    content = write(state())
    for end in range(0, len(content), 7):
        with pytest.raises(UnreadablePickle):
            read_checkpoint(content[:end])
