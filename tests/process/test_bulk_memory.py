"""The predict command keeps memory for columns, unless it is told otherwise."""

import os
import subprocess
import sys

import pyarrow as pa
import pytest

CODE = """
from foretell.bulk.memory import keep_memory
keep_memory()
import os, resource
import numpy as np, pyarrow as pa

def filled():
    for buffer in [pa.allocate_buffer(1 << 20) for _ in range(64)]:
        np.frombuffer(buffer, np.uint8)[:] = 1

filled()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
filled()
pages = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
print(pa.default_memory_pool().backend_name, pages, os.environ.get("MIMALLOC_PURGE_DELAY"))
"""
PAGES = (64 << 20) // os.sysconf("SC_PAGE_SIZE")

pytestmark = pytest.mark.skipif("mimalloc" not in pa.supported_memory_backends(), reason="this pyarrow has no mimalloc")


def pool_and_pages(**said):
    own = {name: value for name, value in os.environ.items() if not name.startswith(("ARROW_", "MIMALLOC_"))}
    done = subprocess.run([sys.executable, "-c", CODE], env=own | said, check=True, capture_output=True, text=True)
    pool, pages, left = done.stdout.split()
    return pool, int(pages), left


def test_memory_is_not_taken_anew_for_each_block():
    pool, pages, left = pool_and_pages()
    assert (pool, left) == ("mimalloc", "None")
    assert pages < PAGES / 8


def test_who_says_otherwise_gets_it():
    pool, pages, left = pool_and_pages(MIMALLOC_PURGE_DELAY="0")
    assert (pool, left) == ("mimalloc", "0")
    assert pages > PAGES / 2
    assert pool_and_pages(ARROW_DEFAULT_MEMORY_POOL="system")[0] == "system"
