"""What runs on a machine of a Ray cluster: a model that answers chunks, and what a chunk is on its way there.

A block travels with its rows and without its source: files of the driver may not be there, or be others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib import metadata
from typing import Any, cast

from foretell import __version__
from foretell.bulk.answering import Answer, How, answer
from foretell.bulk.chunks import Chunk
from foretell.bulk.shipped import Shipped
from foretell.errors import ForetellError
from foretell.model.data.arrow import keep_pandas_out
from foretell.model.model import Model

__all__ = ["Actor", "facts_of", "new_actor", "restored", "sources_of", "without_sources"]

_ALWAYS = ("numpy", "pyarrow")
_LIBRARIES = {"estimator": "scikit-learn"}
"""Of a kind of runner, where it is called otherwise."""


class Actor:
    """One worker; it answers one chunk at a time."""

    def open(self, shipped: Shipped) -> dict[str, str]:
        """Load the model; return what its answers depend on."""
        keep_pandas_out()
        self._model = shipped.load()
        return facts_of(self._model)

    def answer(self, how: How, chunk: Chunk) -> Answer | None:
        """Answer a chunk; None where the driver had better do it, and say what is wrong in its own words."""
        try:
            found = answer(self._model, how, chunk)
        except (ForetellError, OSError):
            return None
        return found if found.refusal is None else None


def new_actor() -> Any:
    """Ask Ray for an actor, on a machine that has few of them."""
    import ray

    # Its work is given to another one when it dies, and a new one is asked for: that may have to wait for a machine.
    options = {"num_cpus": 1, "max_restarts": 0, "max_task_retries": 0, "scheduling_strategy": "SPREAD"}
    return ray.remote(Actor).options(**options).remote()


def facts_of(model: Model) -> dict[str, str]:
    """Return the versions that answers depend on, by name; "none" where a library is not there."""
    kinds = {runner["kind"] for runner in model.info()["runners"]}
    names = [*_ALWAYS, *sorted(_LIBRARIES.get(kind, kind) for kind in kinds)]
    return {"foretell": __version__} | {name: _version_of(name) for name in names}


def _version_of(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "none"


@dataclass(frozen=True, slots=True)
class _Elsewhere:
    """Stands for the source of a block that has travelled."""

    name: str

    def line_at(self, offset: int, line: int, newline: bytes) -> int:
        """Return the number of a line as it was counted along."""
        return line


def sources_of(chunk: Chunk) -> list[Any]:
    """Return the source of each block, None where it has none."""
    return [getattr(block, "source", None) for block in chunk.blocks]


def without_sources(chunk: Chunk) -> Chunk:
    """Return a chunk as it travels."""
    return restored(chunk, [None if s is None else _Elsewhere(s.name) for s in sources_of(chunk)])


def restored(chunk: Chunk, sources: Sequence[Any]) -> Chunk:
    """Return a chunk with these sources for its blocks."""
    blocks: list[Any] = [
        block if source is None else replace(cast("Any", block), source=source)
        for block, source in zip(chunk.blocks, sources, strict=True)
    ]
    return replace(chunk, blocks=tuple(blocks))
