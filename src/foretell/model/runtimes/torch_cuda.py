"""Runs a program on one GPU: a few sizes of batches, each recorded once and replayed.

1 pick     the least recorded size that the rows fit in
2 in       rows into memory of the host that does not move, and over to the GPU, on this runtime's own stream
3 replay   one launch for the whole graph of kernels, whatever their number
4 out      back into such memory; then the processor waits, and copies the real rows

Rows beyond the largest size run in pieces of it. A program that cannot be recorded (its kernels wait for the
processor, or its shapes depend on values) runs as it is. Knows no archive and no option.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from foretell.model.programs import Program
from foretell.model.programs.program import Tensor
from foretell.model.runtimes.torch_graph import TORCH_NAMES

__all__ = ["SIZES", "OnGpu", "size_for"]

SIZES = (1, 2, 4, 8, 16, 32, 64, 128)
"""Rows of the batches that are recorded; each holds its inputs and outputs on the GPU as long as the model lives."""
_WARM_CALLS = 3
"""Calls before recording: libraries choose and load their kernels in them, which may not happen while one records."""

Tensors = list[NDArray[Any]]


def size_for(rows: int, least: int, most: int) -> int:
    """Return how many rows a batch of `rows` is filled up to: a recorded size that the program takes."""
    fitting = [size for size in SIZES if least <= size <= most]
    return next((size for size in fitting if size >= rows), fitting[-1] if fitting else most)


@dataclass(slots=True)
class _Recorded:
    """One size: memory on both sides, and the kernels between."""

    graph: Any
    host_inputs: list[Any]
    inputs: list[Any]
    outputs: list[Any]
    host_outputs: list[Any]


class OnGpu:
    """Runs a module on one GPU. Calls take turns: another instance has its own stream, and overlaps."""

    def __init__(self, torch: Any, module: Any, program: Program, device: str) -> None:
        self._torch, self._module, self._device = torch, module, torch.device(device)
        self._inputs = program.inputs
        self._least, self._most = program.least_rows, program.most_rows
        self._stream = torch.cuda.Stream(self._device)
        self._recorded: dict[int, _Recorded] = {}
        self._turn = threading.Lock()
        self._records = all(-1 not in t.shape[1:] and t.shape[:1] for t in (*program.inputs, *program.outputs))

    def __call__(self, arrays: Tensors) -> Tensors:
        """Return an array for each output; see `Forward`."""
        torch = self._torch
        with self._turn, torch.inference_mode(), torch.cuda.device(self._device), torch.cuda.stream(self._stream):
            if not self._records:
                return self._plain(arrays)
            rows = len(arrays[0])
            size = size_for(rows, self._least, self._most)
            pieces = [self._piece([a[at : at + size] for a in arrays], size) for at in range(0, rows, size)]
        if len(pieces) == 1:
            return pieces[0]
        return [np.concatenate(column) for column in zip(*pieces, strict=True)]

    def _piece(self, arrays: Tensors, size: int) -> Tensors:
        recorded = self._recorded.get(size)
        if recorded is None:
            recorded = self._record(arrays, size)
            if recorded is None:
                self._records = False
                return self._plain(arrays)
            self._recorded[size] = recorded
        rows = len(arrays[0])
        for array, host, there in zip(arrays, recorded.host_inputs, recorded.inputs, strict=True):
            # Rows left over from the last batch fill the rest up: they are answered, and cut off.
            host[:rows].copy_(self._torch.from_numpy(np.ascontiguousarray(array)))
            there.copy_(host, non_blocking=True)
        recorded.graph.replay()
        for there, host in zip(recorded.outputs, recorded.host_outputs, strict=True):
            host.copy_(there, non_blocking=True)
        self._stream.synchronize()
        return [host[:rows].numpy().copy() for host in recorded.host_outputs]

    def _record(self, arrays: Tensors, size: int) -> _Recorded | None:
        """Record the kernels for one size; None where they cannot be recorded."""
        torch = self._torch
        hosts = [self._pinned((size, *t.shape[1:]), self._dtype(t)) for t in self._inputs]
        for host, array in zip(hosts, arrays, strict=True):
            # Any real row will do where there are too few: zeros may be no valid index, or make infinities.
            host.copy_(torch.from_numpy(array[np.arange(size) % len(array)]))
        inputs = [host.to(self._device) for host in hosts]
        graph = torch.cuda.CUDAGraph()
        try:
            for _ in range(_WARM_CALLS):
                self._module(*inputs)
            self._stream.synchronize()
            with torch.cuda.graph(graph, stream=self._stream):
                outputs = [self._wide(output) for output in self._module(*inputs)]
        except torch.OutOfMemoryError:
            raise
        except RuntimeError:  # what CUDA says of kernels that may not be recorded
            return None
        if any(output.ndim == 0 or len(output) != size or not output.is_cuda for output in outputs):
            return None
        return _Recorded(graph, hosts, inputs, outputs, [self._pinned(o.shape, o.dtype) for o in outputs])

    def _plain(self, arrays: Tensors) -> Tensors:
        torch = self._torch
        tensors = [
            torch.from_numpy(np.ascontiguousarray(a)).to(self._device, self._dtype(t))
            for a, t in zip(arrays, self._inputs, strict=True)
        ]
        return [self._wide(output).cpu().numpy() for output in self._module(*tensors)]

    def _pinned(self, shape: Any, dtype: Any) -> Any:
        return self._torch.empty(shape, dtype=dtype, pin_memory=True)

    def _dtype(self, tensor: Tensor) -> Any:
        return getattr(self._torch, TORCH_NAMES[tensor.datatype])

    def _wide(self, output: Any) -> Any:
        return output.float() if output.dtype == self._torch.bfloat16 else output
