"""The ONNX runtime: right answers in any number of rows, errors in one line, safe from several threads."""

import threading
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

from foretell.errors import ArtifactInvalid, InferenceFailed
from foretell.model.formats.onnx import open_model
from foretell.model.runtimes import Runner, open_runtime
from foretell.model.runtimes.onnx import FixedBatch, OnnxRuntime
from foretell.signature import TensorSpec


def doubling(rows: Any, kind: int = TensorProto.FLOAT) -> bytes:
    x, y = (helper.make_tensor_value_info(n, kind, [rows, 3]) for n in "xy")
    graph = helper.make_graph([helper.make_node("Add", ["x", "x"], ["y"])], "g", [x], [y])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()


def runtime_of(content: bytes, threads: int = 1) -> Any:
    opened = open_model("m.onnx", content)
    return open_runtime(opened.runners[0], opened.signature, threads)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("rows", [1, 2, 5, 1000])
@pytest.mark.parametrize("batch", [None, "n", 1, 2, 4])
def test_any_number_of_rows(batch: Any, rows: int, threads: int) -> None:
    runtime = runtime_of(doubling(batch), threads)
    assert isinstance(runtime, FixedBatch if isinstance(batch, int) else OnnxRuntime)
    x = np.random.default_rng(rows).random((rows, 3), np.float32)
    before = x.copy()
    (found,) = runtime.infer({"x": x})
    assert np.array_equal(found, 2 * before)
    assert np.array_equal(x, before)


@pytest.mark.parametrize("order", ["C", "F", "strided", "reversed"])
def test_any_layout(order: str) -> None:
    x = np.arange(24, dtype=np.float32).reshape(8, 3)
    laid = {"C": x, "F": np.asfortranarray(x), "strided": np.repeat(x, 2, 0)[::2], "reversed": x[::-1][::-1]}[order]
    assert np.array_equal(runtime_of(doubling(None)).infer({"x": laid})[0], 2 * x)


@pytest.mark.parametrize(
    "inputs",
    [{}, {"bad": np.ones((1, 3), np.float32)}, {"x": np.ones((1, 4), np.float32)}, {"x": np.ones((1, 3))}, {"x": None}],
    ids=["missing", "unknown", "wide", "dtype", "none"],
)
def test_errors_are_one_line(inputs: Any) -> None:
    with pytest.raises(InferenceFailed) as caught:
        runtime_of(doubling(None)).infer(inputs)
    assert str(caught.value).startswith('"model.onnx": ')
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


def test_what_onnx_runtime_refuses_is_one_line() -> None:
    signature = open_model("m.onnx", doubling(None)).signature
    with pytest.raises(ArtifactInvalid, match="ONNX Runtime refuses it"):
        open_runtime(Runner("onnxruntime", "model.onnx", b"\x08\x08no"), signature)


def test_a_signature_of_another_model_is_refused() -> None:
    opened = open_model("m.onnx", doubling(None))
    other = replace(opened.signature, outputs=(TensorSpec("z", "FP32", (-1, 3)),))
    with pytest.raises(ArtifactInvalid, match="its outputs are"):
        open_runtime(opened.runners[0], other)


def test_closed_twice_then_refused() -> None:
    runtime = runtime_of(doubling(None))
    runtime.close()
    runtime.close()
    with pytest.raises(InferenceFailed, match="closed"):
        runtime.infer({"x": np.ones((1, 3), np.float32)})


def test_several_threads_at_once() -> None:
    runtime = runtime_of(doubling(2))
    wrong: list[int] = []

    def work(seed: int) -> None:
        x = np.full((3, 3), seed, np.float32)
        wrong.extend(seed for _ in range(200) if not np.array_equal(runtime.infer({"x": x})[0], 2 * x))

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
