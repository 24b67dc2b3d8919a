"""Runs programs of torch.export in PyTorch, on the processor or on one GPU.

The options of a runner, as they stand in `model.toml`: `compile = true` lets torch.compile make machine code at the
first call, which needs a C++ compiler. The device is the environment's: FORETELL_DEVICE, as `--device` sets it.
Knows the reading of programs, and no archive.
"""

from __future__ import annotations

import os
import re
import warnings
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from foretell.dtypes import dtype_of
from foretell.errors import ArtifactInvalid, ConfigError, InferenceFailed, OutOfMemory, RuntimeMissing
from foretell.model.programs import Program, read_program
from foretell.model.runtimes.base import Runner
from foretell.model.runtimes.torch_graph import TORCH_NAMES, graph_module
from foretell.signature import Signature

__all__ = ["DEVICE", "TorchRuntime", "device_named", "open"]

DEVICE = "FORETELL_DEVICE"
"""Environment variable with the device: `auto`, `cpu`, `cuda` or `cuda:N`."""
_DEVICES = re.compile(r"auto|cpu|cuda(:\d{1,3})?")
_OPTIONS = {"compile"}
_NO_MEMORY = re.compile("not enough memory|out of memory|bad_alloc|can't allocate memory", re.IGNORECASE)

_FAILURES = (
    RuntimeError,
    ValueError,
    TypeError,
    AttributeError,
    LookupError,
    ArithmeticError,
    AssertionError,
    MemoryError,
)
"""What operations raise, and arithmetic on sizes."""

Tensors = list[NDArray[Any]]


class Forward(Protocol):
    """Answers one batch of a size that the program takes."""

    def __call__(self, arrays: Tensors) -> Tensors:
        """Return an array for each output."""
        ...


class TorchRuntime:
    """A program in PyTorch. Several threads may run it at once."""

    def __init__(self, forward: Forward, program: Program, signature: Signature, file: str) -> None:
        self._forward: Forward | None = forward
        self._names = [spec.name for spec in signature.inputs]
        self._dtypes = [dtype_of(spec.datatype) for spec in signature.outputs]
        self._least, self._most = program.least_rows, program.most_rows
        self._file = file

    def infer(self, inputs: dict[str, NDArray[Any]]) -> Tensors:
        """Run one batch; see `Runtime.infer`. Rows beyond what was exported run in turns, too few are filled up."""
        arrays = [inputs[name] for name in self._names]
        rows = len(arrays[0]) if arrays[0].ndim else 1
        if self._least <= rows <= self._most:
            return self._run(arrays)
        parts = []
        for at in range(0, rows, self._most):
            chunk = [array[at : at + self._most] for array in arrays]
            real = len(chunk[0])
            outputs = self._run([_filled(array, self._least) for array in chunk])
            if any(output.ndim == 0 or len(output) < real for output in outputs):
                raise InferenceFailed(f'"{self._file}": it does not answer row by row; got {rows} rows')
            parts.append([output[:real] for output in outputs])
        return [np.concatenate(column) for column in zip(*parts, strict=True)]

    def close(self) -> None:
        """Let the module go. Idempotent."""
        self._forward = None

    def _run(self, arrays: Tensors) -> Tensors:
        forward = self._forward
        if forward is None:
            raise InferenceFailed("the model is closed; load it again")
        try:
            outputs = forward(arrays)
        except _FAILURES as error:
            kind = OutOfMemory if isinstance(error, MemoryError) or _NO_MEMORY.search(str(error)) else InferenceFailed
            raise kind(f'"{self._file}": {_one_line(error)}') from error
        return [np.asarray(o, d) for o, d in zip(outputs, self._dtypes, strict=True)]


class OnProcessor:
    """Runs a module on the processor. Arrays go in without a copy; what comes out is nobody else's."""

    def __init__(self, torch: Any, module: Any, program: Program) -> None:
        self._torch, self._module = torch, module
        # A program may be exported in bfloat16, which numpy and the protocol lack: those tensors travel as FP32.
        self._casts = [getattr(torch, TORCH_NAMES[t.datatype]) for t in program.inputs]
        self._narrow = [t.datatype == "BF16" for t in program.inputs]
        self._own = {buffer.untyped_storage().data_ptr() for buffer in module.buffers()}
        self._writes = any(node.operator.name.endswith("_") for node in program.nodes)

    def __call__(self, arrays: Tensors) -> Tensors:
        """Return an array for each output; see `Forward`."""
        with self._torch.inference_mode():
            tensors = [self._tensor(array, at) for at, array in enumerate(arrays)]
            found = self._module(*tensors)
            if not all(isinstance(output, self._torch.Tensor) for output in found):
                raise TypeError("an output is no tensor")
            return [self._array(output, tensors) for output in found]

    def _tensor(self, array: NDArray[Any], at: int) -> Any:
        # An operation in place might reach an input, which is the caller's and may be read-only memory.
        tensor = self._torch.from_numpy(array.copy() if self._writes or not array.flags.c_contiguous else array)
        return tensor.to(self._casts[at]) if self._narrow[at] else tensor

    def _array(self, output: Any, inputs: list[Any]) -> NDArray[Any]:
        if output.dtype == self._torch.bfloat16:
            output = output.float()
        place = output.untyped_storage().data_ptr()
        shared = place in self._own or any(place == t.untyped_storage().data_ptr() for t in inputs)
        found: NDArray[Any] = (output.clone() if shared else output.contiguous()).numpy()
        return found


def open(runner: Runner, signature: Signature, threads: int = 1) -> TorchRuntime:
    """Read the program again and build it on `threads` processors; see `open_runtime`.

    Raises:
        ConfigError: The device is none, or not here.
    """
    try:
        import torch
    except ImportError as error:
        raise RuntimeMissing("PyTorch is not installed; run: pip install 'foretell[torch]'") from error
    unknown = sorted(set(runner.options) - _OPTIONS)
    if unknown:
        raise ArtifactInvalid(f'"{runner.file}": option "{unknown[0]}", expected one of {", ".join(sorted(_OPTIONS))}')
    program = read_program(runner.file, runner.content)
    _check_names(program, signature, runner.file)
    device = device_named(os.environ.get(DEVICE, "auto"))
    torch.set_num_threads(threads)
    _quiet(torch)
    try:
        module = graph_module(program, device)
    except (RuntimeError, ValueError, TypeError) as error:
        raise ArtifactInvalid(f'"{runner.file}": PyTorch refuses it: {_one_line(error)}') from error
    compiled = torch.compile(module, dynamic=True) if runner.options.get("compile") else module
    if device != "cpu":
        from foretell.model.runtimes.torch_cuda import OnGpu

        return TorchRuntime(OnGpu(torch, compiled, program, device), program, signature, runner.file)
    return TorchRuntime(OnProcessor(torch, compiled, program), program, signature, runner.file)


def device_named(wanted: str) -> str:
    """Return the device that `auto`, `cpu`, `cuda` or `cuda:N` means here.

    Raises:
        ConfigError: It is none of these, or there is no such GPU.
    """
    import torch

    if not _DEVICES.fullmatch(wanted):
        raise ConfigError(f'device "{wanted}": expected auto, cpu, cuda or cuda:N')
    if wanted == "cpu" or (wanted == "auto" and not torch.cuda.is_available()):
        return "cpu"
    index = int(wanted.partition(":")[2] or 0)
    if not torch.cuda.is_available() or index >= torch.cuda.device_count():
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        raise ConfigError(
            f'device "{wanted}": PyTorch {torch.__version__} sees {count} GPUs here (a boxed-in worker none: '
            "--isolation none); use --device cpu"
        )
    return f"cuda:{index}"


def _check_names(program: Program, signature: Signature, file: str) -> None:
    for what, own, said in (
        ("input", program.inputs, signature.inputs),
        ("output", program.outputs, signature.outputs),
    ):
        names = [t.name for t in own]
        if names != [spec.name for spec in said]:
            raise ArtifactInvalid(
                f'"{file}": its {what}s are {names}, the signature says {[s.name for s in said]}; convert it again'
            )


def _quiet(torch: Any) -> None:
    """Have PyTorch warn now, once and unheard, that it was given an array that cannot be written to."""
    array = np.zeros(1, np.float32)
    array.flags.writeable = False
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.from_numpy(array)


def _filled(rows: NDArray[Any], count: int) -> NDArray[Any]:
    if len(rows) >= count:
        return rows
    return np.concatenate([rows, np.repeat(rows[-1:], count - len(rows), axis=0)])


def _one_line(error: BaseException) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 300 else text[:297] + "..."
