"""An ONNX graph of a program, made by PyTorch's exporter from the graph that was read here; and the original to ask.

The exporter is given a module that was built of checked operations, never the file.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from foretell.errors import ArtifactInvalid, ArtifactUntrusted, RuntimeMissing
from foretell.model.data.table import TablePreparation
from foretell.model.formats import onnx
from foretell.model.formats.base import Answers, Opened
from foretell.model.formats.boosters import is_installed, median_s
from foretell.model.programs import Program, read_program
from foretell.model.runtimes import open_runtime
from foretell.model.runtimes.torch_graph import TORCH_NAMES, graph_module
from foretell.signature import TensorSpec

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["TorchReference", "with_onnx"]

_EXAMPLE_ROWS = 3
_FREE_DIMENSION = 8


def with_onnx(name: str, opened: Opened) -> Opened:
    """Return a program with an ONNX graph before it, and itself as the reference.

    Args:
        name: Of its file, for messages.
        opened: As `formats.torch` opened it.

    Returns:
        Two runners, ONNX first; only PyTorch's, and a note that says why, where there can be no graph.

    Raises:
        RuntimeMissing: PyTorch is not installed.
    """
    program = read_program(name, opened.runners[0].content)
    try:
        content = _exported(program)
        graph = onnx.open_model("model.onnx", content)
        _check(graph, opened)
    except (_NoGraph, ArtifactInvalid, ArtifactUntrusted) as error:
        return replace(opened, notes=(*opened.notes, f"no ONNX graph of it, so it runs in PyTorch: {error}"))
    own = opened.runners[0]
    runners = (replace(graph.runners[0], file="model.onnx", chunk_rows=own.chunk_rows), own)
    return replace(opened, runners=runners, reference=TorchReference(opened) if opened.signature.fields else None)


class TorchReference:
    """The network in PyTorch, the last of the runners, asked for rows of a table. See `Reference`."""

    def __init__(self, opened: Opened) -> None:
        self._task = opened.task
        self._prepare = TablePreparation(opened.signature).prepare
        self._runtime = open_runtime(opened.runners[-1], opened.signature)

    def predict(self, rows: pa.Table) -> Answers:
        """Answer rows of the fields."""
        outputs = self._runtime.infer(self._prepare(rows).inputs)
        return Answers(np.asarray(self._task.values(outputs)), self._task.probabilities(outputs))

    def time_s(self, rows: pa.Table) -> float:
        """Return the median seconds of a prediction of these rows."""
        inputs = self._prepare(rows).inputs
        return median_s(lambda: self._runtime.infer(inputs))

    def close(self) -> None:
        """Let the program go."""
        self._runtime.close()


class _NoGraph(Exception):
    """Says why."""


def _exported(program: Program) -> bytes:
    try:
        import torch
    except ImportError as error:
        raise RuntimeMissing("PyTorch is not installed; run: pip install 'foretell[torch]'") from error
    if not is_installed("onnxscript"):
        raise _NoGraph("onnxscript is not installed; pip install 'foretell[torch]'")
    if any(t.datatype == "BF16" for t in (*program.inputs, *program.outputs)):
        raise _NoGraph("bfloat16 tensors go in or come out")
    with _quiet():
        try:
            exported = torch.onnx.export(
                graph_module(program, "cpu"),
                tuple(_example(torch, t, program) for t in program.inputs),
                dynamo=True,
                verbose=False,
                input_names=[t.name for t in program.inputs],
                output_names=[t.name for t in program.outputs],
                dynamic_shapes=tuple(_free(torch, t.shape) for t in program.inputs),
            )
            content: bytes = exported.model_proto.SerializeToString()
        except Exception as error:  # the exporter fails in as many ways as there are networks
            raise _NoGraph(_first_line(error)) from error
    return content


def _example(torch: Any, tensor: Any, program: Program) -> Any:
    rows = min(max(_EXAMPLE_ROWS, program.least_rows), program.most_rows)
    shape = [(rows if at == 0 else _FREE_DIMENSION) if d < 0 else d for at, d in enumerate(tensor.shape)]
    dtype = getattr(torch, TORCH_NAMES[tensor.datatype])
    return torch.rand(shape).to(dtype) if dtype.is_floating_point else torch.zeros(shape, dtype=dtype)


def _free(torch: Any, shape: tuple[int, ...]) -> dict[int, Any]:
    return {at: torch.export.Dim.DYNAMIC for at, d in enumerate(shape) if d < 0}


def _check(graph: Opened, opened: Opened) -> None:
    """Check that the graph takes and gives what the program does; the exporter may have settled a free size."""
    for what in ("inputs", "outputs"):
        own: tuple[TensorSpec, ...] = getattr(opened.signature, what)
        made: tuple[TensorSpec, ...] = getattr(graph.signature, what)
        if [(s.name, s.datatype) for s in own] != [(s.name, s.datatype) for s in made]:
            raise _NoGraph(f"its {what} became {[s.name for s in made]}, {[s.name for s in own]} expected")
        for a, b in zip(own, made, strict=True):
            if what == "inputs" and a.shape != b.shape:
                raise _NoGraph(f'input "{a.name}" of shape {a.shape} became {b.shape}')


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter's warnings of its own affairs to itself."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def _first_line(error: Exception) -> str:
    """Return the cause of the exporter's failure in a line; its own message is a page."""
    cause: BaseException = error
    while cause.__cause__ is not None:
        cause = cause.__cause__
    lines = [line.strip() for line in str(cause).splitlines() if line.strip()]
    return f"{type(cause).__name__}: {lines[0] if lines else ''}"[:200]
