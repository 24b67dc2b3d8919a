"""Memory for columns that come and go by the thousand: kept for the next ones, not handed back each time.

For commands alone: it holds for the whole process.
"""

from __future__ import annotations

import os

__all__ = ["keep_memory"]

_PURGE_DELAY = "MIMALLOC_PURGE_DELAY"
_KEPT_MS = 2_000


def keep_memory() -> None:
    """Import pyarrow so that it takes its memory from mimalloc, where it has that, and keeps what is free for a while.

    Its own choice hands memory back at once, and takes it anew, cleared by the system, for each block: nearly
    half of the time of reading Parquet. The library reads the variable once, when it is loaded, so this does nothing
    where pyarrow is imported already; nor where `ARROW_DEFAULT_MEMORY_POOL` or the variable itself says otherwise.
    """
    if _PURGE_DELAY in os.environ:
        return
    os.environ[_PURGE_DELAY] = str(_KEPT_MS)
    try:
        import pyarrow as pa
    finally:
        del os.environ[_PURGE_DELAY]  # not for those whom this process starts
    if not os.environ.get("ARROW_DEFAULT_MEMORY_POOL") and "mimalloc" in pa.supported_memory_backends():
        pa.set_memory_pool(pa.mimalloc_memory_pool())
