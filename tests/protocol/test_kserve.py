"""KServe's own clients, REST and gRPC, unchanged. Their package pins others' versions, so it gets an environment."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

VERSION = "0.21.0"
CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "foretell-tests"
ENVIRONMENT = Path(os.environ.get("FORETELL_KSERVE_ENV", CACHE / f"kserve-{VERSION}-{sys.version_info[1]}"))
QUIET = {**os.environ, "PYTHONWARNINGS": "ignore"}


@pytest.fixture(scope="module")
def python():
    """Return the Python of an environment with KServe in it, made at the first run and kept."""
    found = ENVIRONMENT / "bin" / "python"
    if not (ENVIRONMENT / "done").exists() and "FORETELL_KSERVE_ENV" not in os.environ:
        subprocess.run([sys.executable, "-m", "venv", "--clear", ENVIRONMENT], check=True, capture_output=True)
        wanted = [found, "-m", "pip", "install", "-q", f"kserve=={VERSION}"]
        made = subprocess.run(wanted, capture_output=True, text=True, check=False)
        if made.returncode:
            pytest.skip(f"kserve {VERSION} cannot be installed: {made.stderr.strip().splitlines()[-1][:200]}")
        (ENVIRONMENT / "done").touch()
    return found


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_kserve(server, python):
    script = Path(__file__).with_name("kserve_client.py")
    command = [python, script, server.url, server.grpc]
    done = subprocess.run(command, capture_output=True, text=True, env=QUIET, timeout=120, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.endswith("agreed\n")
