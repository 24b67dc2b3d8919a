"""The settings of the engine. Knows no command line."""

from __future__ import annotations

from dataclasses import dataclass

from foretell.errors import ConfigError

__all__ = ["Limits"]


@dataclass(frozen=True, slots=True)
class Limits:
    """How much the engine takes on, for each model version. Every bound is finite."""

    default_timeout_s: float = 30.0
    """Time of a request that brings no deadline, end to end."""
    patience_s: float | None = None
    """Longest predicted wait at which a request that brings no deadline is still taken. None: 0.15 s, or what 64
    requests like it take where that is longer; `max_queue_s` where it is bulk."""
    max_batch_size: int = 256
    """Most rows of one batch. A larger request is split and joined. 1: no batching."""
    max_batch_bytes: int = 16 << 20
    """Most bytes of one batch's inputs; a single row may be larger."""
    max_queue_rows: int = 65_536
    """Most rows that wait. A request of more can never be taken."""
    max_queue_bytes: int = 64 << 20
    """Most bytes of tensors that wait or run."""
    max_queue_s: float = 10.0
    """Longest predicted wait for which a request is still taken, whatever its deadline."""
    batches_in_flight: int = 2
    """Batches an instance holds at once: one runs, the next is there already. 1 is slower and no fairer."""
    instances: int | None = None
    """Instances of each version. None: by the processors and the model's measured cost."""
    threads: int | None = None
    """Threads a runtime may use inside one call. None: the processors, shared among the instances."""
    worker_memory_bytes: int | None = None
    """Address space an instance may take, or None for no limit."""
    hang_s: float = 1.0
    """Least time without an answer after which an instance counts as hung."""
    first_batch_s: float = 30.0
    """The same while nothing is known yet of the model's speed."""
    load_s: float = 120.0
    """Longest start of an instance."""
    drain_s: float = 30.0
    """Longest wait for requests in flight when a version is unloaded or the server stops."""
    quarantine_s: float = 60.0
    """How long inputs that brought a worker down are refused."""

    def __post_init__(self) -> None:
        for name in self.__slots__:
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise ConfigError(f"setting {name}: {value}, expected more than 0")
