"""Which storage a path names: a URL such as `s3://lake/2026/` is remote, anything else is of this machine."""

from __future__ import annotations

import re
from functools import lru_cache

from foretell.bulk.local import LocalStorage
from foretell.bulk.remote import RemoteStorage, remote_storage
from foretell.bulk.storage import Storage
from foretell.errors import InternalError

__all__ = ["is_url", "remote_of", "storage_of"]

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://[^/]*")


def is_url(path: str) -> bool:
    """Whether a path names a remote place. A drive, `C:`, does not."""
    return _URL.match(path) is not None


def storage_of(path: str) -> Storage:
    """Return the place that a path is in.

    Raises:
        ConfigError: No such kind of place is known, or its library is not installed.
    """
    return remote_of(path) if is_url(path) else LocalStorage()


def remote_of(url: str) -> RemoteStorage:
    """Return the place that a URL is in; raises as `storage_of`."""
    found = _URL.match(url)
    if found is None:
        raise InternalError(f'"{url}": this is no URL. This is a bug.')
    return _remote(found.group())


@lru_cache(64)
def _remote(root: str) -> RemoteStorage:
    return remote_storage(root + "/_")
