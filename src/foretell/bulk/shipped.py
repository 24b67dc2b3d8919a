"""A model's files in memory, for a process on another machine: what is loaded there is what was read here.

A bundle is taken whole, with its digests, and checked again where it is loaded. Knows no cluster.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from foretell.errors import MachineError
from foretell.model.artifact import judge, read_bytes, refuse_pickle
from foretell.model.load import load
from foretell.model.model import Model

__all__ = ["Shipped", "ship"]


@dataclass(frozen=True)
class Shipped:
    """The files of one model; it can be pickled."""

    name: str
    """Of the folder of a bundle, or of the file."""
    files: dict[str, bytes] = field(repr=False)
    is_bundle: bool
    trust: bool

    @property
    def size_bytes(self) -> int:
        """Of all files together."""
        return sum(len(content) for content in self.files.values())

    def load(self, opener: Callable[..., Model] = load) -> Model:
        """Load the model with one thread to a call; nothing is left on the disk afterwards.

        Raises:
            LoadError: As `load` raises them.
            MachineError: No room for its files.
        """
        with tempfile.TemporaryDirectory(prefix="foretell-") as folder:
            path = Path(folder) / self.name
            try:
                if self.is_bundle:
                    path.mkdir()
                for name, content in self.files.items():
                    (path / name if self.is_bundle else path).write_bytes(content)
            except OSError as e:
                raise MachineError(
                    f'model "{self.name}": its {self.size_bytes:,} bytes cannot be written to "{folder}" '
                    f"({e.strerror or e}); free some space there"
                ) from e
            return opener(path, trust=self.trust, threads=1)


def ship(path: str | Path, *, trust: bool = False) -> Shipped:
    """Read a model's files.

    Args:
        path: A bundle, a folder that holds one artifact, or an artifact, as `load` takes it.
        trust: Whether a file that may run code may be opened where it goes.

    Raises:
        ConfigError: Nothing is there.
        ArtifactInvalid: It is no model.
        ArtifactUntrusted: It may run code, and `trust` is not given.
        MachineError: It cannot be read.
    """
    artifact = judge(Path(path))
    if artifact.format == "bundle":
        inside = sorted(p for p in artifact.path.iterdir() if not p.name.startswith("."))
        name = os.path.basename(os.path.abspath(artifact.path))
        return Shipped(name, {p.name: read_bytes(p) for p in inside}, is_bundle=True, trust=trust)
    if artifact.format == "pickle" and not trust:
        raise refuse_pickle(artifact)
    return Shipped(artifact.path.name, {artifact.path.name: artifact.content}, is_bundle=False, trust=trust)
