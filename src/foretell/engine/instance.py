"""One running copy of a model version, as the batcher sees it: where batches go and answers come from.

Knows neither processes nor runtimes; `engine.worker` has the real ones.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Protocol

from numpy.typing import NDArray

from foretell.errors import ForetellError
from foretell.signature import Signature

if TYPE_CHECKING:
    from foretell.model.tasks.predictions import Task

__all__ = ["Hello", "Instance", "OnAnswer", "OnDeath", "OnError", "StartInstance"]


class Instance(Protocol):
    """A loaded model that takes batches, one after another, in the order they were sent.

    Every callback comes from the event loop and never from inside `send` or `kill`. After `kill`, or after
    `on_death`, nothing else is reported: whatever was in flight is lost.
    """

    on_answer: OnAnswer
    on_error: OnError
    on_death: OnDeath

    @property
    def ready(self) -> bool:
        """Whether it takes batches: loaded, warmed up, alive."""
        ...

    @property
    def in_flight(self) -> int:
        """Batches sent and not yet reported."""
        ...

    @property
    def pid(self) -> int:
        """Process it runs in."""
        ...

    def send(self, job_id: int, inputs: dict[str, NDArray[Any]], rows: int) -> None:
        """Take a batch and return at once. The arrays are not written to, and not kept after the report.

        Args:
            job_id: Comes back in the report.
            inputs: By name in `Hello.signature`, or that of `Hello.pictures`; each C-contiguous, (rows, *rest).
            rows: Of the batch.
        """
        ...

    def kill(self) -> None:
        """End it at once and give everything back. Idempotent."""
        ...


OnAnswer = Callable[[Instance, int, list[NDArray[Any]], int], None]
"""(instance, job_id, outputs in the order of the signature, run_ns). For a batch of pictures one more follows: for each
row an error or None."""
OnError = Callable[[Instance, int, ForetellError], None]
"""(instance, job_id, error): the runtime raised, the instance lives."""
OnDeath = Callable[[Instance, str], None]
"""(instance, reason): it is gone and its batches with it."""


@dataclass(frozen=True, slots=True)
class Hello:
    """What an instance says of itself once it is ready."""

    name: str
    signature: Signature
    task: Task
    about: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    """Plain facts for people: `Model.info()`."""
    sandbox: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    """What the kernel let it be boxed in with."""
    warmup_s: float = 0.0
    """Seconds from its start until it was ready."""
    paces: tuple[tuple[int, float], ...] = ()
    """(rows, seconds) of batches measured while warming up: what the cost model starts from."""
    pictures: Signature | None = None
    """What it takes and gives where encoded pictures are sent in place of the tensor that is made of them: one BYTES
    tensor, and answers in terms of the picture. None: it takes none."""
    picture_paces: tuple[tuple[int, float], ...] = ()
    """(rows, seconds) of batches of middling pictures, decoding included."""


class StartInstance(Protocol):
    """Starts one instance of a model; the caller then sets the three callbacks."""

    async def __call__(
        self, path: Path, *, trust: bool, threads: int, memory_bytes: int | None
    ) -> tuple[Instance, Hello]:
        """Load, warm up, box in.

        Raises:
            LoadError: The model cannot be opened or warmed up.
            MachineError: No process, no memory.
        """
        ...
