"""The contract of a runtime, and the table from its kind to the file that has it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any, Protocol

from numpy.typing import NDArray

from foretell.errors import ArtifactInvalid
from foretell.signature import Signature

__all__ = ["LONG_CHUNK_ROWS", "Runner", "Runtime", "open_runtime"]

LONG_CHUNK_ROWS = 16_384
"""For runners that keep little between the rows and the answers, and have a fixed cost to hide."""

_KINDS = {
    "onnxruntime": "foretell.model.runtimes.onnx",
    "xgboost": "foretell.model.runtimes.xgboost",
    "lightgbm": "foretell.model.runtimes.lightgbm",
    "catboost": "foretell.model.runtimes.catboost",
    "estimator": "foretell.model.runtimes.estimator",
    "torch": "foretell.model.runtimes.torch",
}


class Runtime(Protocol):
    """Runs one kind of model. Safe to call from several threads at once."""

    def infer(self, inputs: dict[str, NDArray[Any]]) -> list[NDArray[Any]]:
        """Run one batch.

        Args:
            inputs: An array for each input of the signature, with its datatype, the same rows in each.
                They are read, never written to.

        Returns:
            An array for each output of the signature, in its order, as many rows as came in.

        Raises:
            InferenceFailed: The framework raised.
        """
        ...

    def close(self) -> None:
        """Give back what it holds: memory, threads, processes. Idempotent."""
        ...


@dataclass(frozen=True)
class Runner:
    """One way to run a model: the kind of runtime, its file, and from how many rows on it is used."""

    kind: str
    """Key of the runtime: `onnxruntime`, `xgboost` ..."""
    file: str
    """Name of its file in a bundle, such as `model.onnx`."""
    content: bytes = field(repr=False)
    """The file itself: what was checked is what runs."""
    rows_from: int = 1
    """Used for calls of at least this many rows, unless a later runner claims them."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """What the runtime needs besides the file; plain values that fit in TOML."""
    chunk_rows: int = 2048
    """Longer calls are cut into pieces of so many rows: enough to hide the fixed cost of a call, few enough for
    what the graph computes in between to stay in the processor's cache. `convert` measures it."""
    trusted: bool = False
    """Its file may run code when opened, and the user said that it may (`trust=True`).

    Set only by code that was given `trust`; never read from a file. `estimator` refuses to open without it.
    """


def open_runtime(runner: Runner, signature: Signature, threads: int = 1) -> Runtime:
    """Open the runtime of a runner.

    Each runtime file has `open(runner, signature, threads) -> Runtime`, and imports its framework there.

    Raises:
        ArtifactInvalid: The kind is unknown, or the framework refuses the file.
        RuntimeMissing: The framework is not installed; the message has the pip line.
    """
    try:
        module = import_module(_KINDS[runner.kind])
    except KeyError:
        raise ArtifactInvalid(f'runtime "{runner.kind}": expected one of {", ".join(_KINDS)}') from None
    runtime: Runtime = module.open(runner, signature, threads)
    return runtime
