"""Which storage a path names: a URL such as `s3://lake/2026/` is remote, anything else is of this machine."""

from __future__ import annotations

import re

from foretell.bulk.local import LocalStorage
from foretell.bulk.storage import Storage
from foretell.errors import ConfigError

__all__ = ["is_url", "storage_of"]

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")


def is_url(path: str) -> bool:
    """Whether a path names a remote place. A drive, `C:`, does not."""
    return _URL.match(path) is not None


def storage_of(path: str) -> Storage:
    """Return the place that a path is in.

    Raises:
        ConfigError: No such kind of place is known.
    """
    if is_url(path):
        raise ConfigError(f'"{path}": only files of this machine are read and written; copy them here')
    return LocalStorage()
