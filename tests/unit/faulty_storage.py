"""A storage that dies or fills up at a chosen effect, for tests: every effect of a job can be the last one."""

from contextlib import contextmanager

from foretell.bulk.local import LocalStorage
from foretell.errors import MachineError


class Died(BaseException):
    """Stands for a kill: after it nothing reaches the disk any more."""


class FaultyStorage(LocalStorage):
    """Counts effects; at effect `last` it dies, or from then on the disk is full."""

    def __init__(self, last=1 << 60, *, is_full=False):
        super().__init__()
        self.last = last
        self.is_full = is_full
        self.effects = []

    def effect(self, what):
        """Count an effect that is about to happen."""
        self.effects.append(what)
        if len(self.effects) > self.last:
            if self.is_full and what.startswith(("write", "line", "sync")):
                raise OSError(28, "No space left on device")
            if not self.is_full:
                raise Died(what)

    @property
    def is_dead(self):
        return not self.is_full and len(self.effects) > self.last

    @contextmanager
    def creating(self, path):
        """Write aside, sync, rename: each can be the last."""
        self.effect(f"create {path}")
        try:
            with super().creating(path) as file:
                yield _FaultyFile(file, self, path)
                self.effect(f"sync {path}")
        except OSError as e:  # what a full disk raises in the block itself
            raise MachineError(f'"{path}": cannot be written ({e.strerror})') from e
        self.effect(f"renamed {path}")

    def add_line(self, path, line):
        """Add a line; dying in it leaves half of it."""
        try:
            self.effect(f"line {path}")
        except Died:
            with open(path, "ab") as file:
                file.write(line.encode()[: len(line) // 2])
            raise
        except OSError as e:
            raise MachineError(f'"{path}": cannot be written ({e.strerror})') from e
        super().add_line(path, line)
        self.effect(f"after line {path}")

    def remove(self, path):
        """Remove; a dead process removes nothing."""
        if self.is_dead:
            return
        self.effect(f"remove {path}")
        super().remove(path)


class _FaultyFile:
    def __init__(self, file, storage, path):
        self._file = file
        self._storage = storage
        self._path = path

    def write(self, data):
        self._storage.effect(f"write {self._path}")
        return self._file.write(data)

    def __getattr__(self, name):
        return getattr(self._file, name)
