"""The parts of a job: what came of each chunk, aside in the job's folder, until the outputs are made of them."""

from __future__ import annotations

import hashlib
import os

from foretell.bulk.journal import ChunkLine
from foretell.bulk.storage import Storage
from foretell.errors import ForetellError, MachineError

__all__ = ["Parts"]

_BLOCK_BYTES = 1 << 20


class Parts:
    """Writes and reads parts. Keeps no state."""

    def __init__(self, storage: Storage, folder: str) -> None:
        self._storage = storage
        self._folder = folder

    def path(self, chunk: int) -> str:
        """Return where the part of a chunk is."""
        return os.path.join(self._folder, f"{chunk:08d}.part")

    def write(self, chunk: int, content: bytes) -> str:
        """Write a part, synced, whole or not at all; return its sha256."""
        with self._storage.creating(self.path(chunk)) as file:
            file.write(content)
        return hashlib.sha256(content).hexdigest()

    def read(self, line: ChunkLine) -> bytes:
        """Return a part.

        Raises:
            MachineError: It is not as it was written.
        """
        with self._storage.open(self.path(line.chunk)) as file:
            content = file.read()
        if hashlib.sha256(content).hexdigest() != line.sha256:
            raise MachineError(f'"{self.path(line.chunk)}": damaged since it was written; run the same command again')
        return content

    def is_whole(self, line: ChunkLine) -> bool:
        """Whether a part is there, as it was written."""
        digest = hashlib.sha256()
        try:
            with self._storage.open(self.path(line.chunk)) as file:
                while block := file.read(_BLOCK_BYTES):
                    digest.update(block)
        except (ForetellError, OSError):
            return False
        return digest.hexdigest() == line.sha256

    def remove(self, chunk: int) -> None:
        """Remove a part."""
        self._storage.remove(self.path(chunk))
