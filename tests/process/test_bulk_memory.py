"""The predict command keeps memory for columns, unless it is told which memory to use."""

import os
import subprocess
import sys

import pyarrow as pa
import pytest

CODE = """
from foretell.bulk.memory import keep_memory
import pyarrow as pa
keep_memory()
print(pa.default_memory_pool().backend_name)
"""


@pytest.mark.skipif("jemalloc" not in pa.supported_memory_backends(), reason="this pyarrow has no jemalloc")
@pytest.mark.parametrize(("said", "expected"), [("", "jemalloc"), ("system", "system")])
def test_the_pool_is_one_that_keeps_memory_unless_the_user_chose_one(said, expected):
    given = {name: value for name, value in os.environ.items() if name != "ARROW_DEFAULT_MEMORY_POOL"}
    given |= {"ARROW_DEFAULT_MEMORY_POOL": said} if said else {}
    done = subprocess.run([sys.executable, "-c", CODE], env=given, check=True, capture_output=True, text=True)
    assert done.stdout.strip() == expected
