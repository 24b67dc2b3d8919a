"""Memory for columns that come and go by the thousand: kept for the next ones, not handed back each time.

For commands alone: it holds for the whole process.
"""

from __future__ import annotations

import os

__all__ = ["keep_memory"]

_KEPT_MS = 10_000


def keep_memory() -> None:
    """Let pyarrow take its memory from jemalloc, where it has that, and give back what was free for ten seconds.

    Its own choice gives memory back at once, and takes it anew for each block, cleared by the system: a third of the
    time of reading Parquet. Nothing is done where `ARROW_DEFAULT_MEMORY_POOL` says which one to use.
    """
    import pyarrow as pa

    if os.environ.get("ARROW_DEFAULT_MEMORY_POOL") or "jemalloc" not in pa.supported_memory_backends():
        return
    pa.set_memory_pool(pa.jemalloc_memory_pool())
    pa.jemalloc_set_decay_ms(_KEPT_MS)
