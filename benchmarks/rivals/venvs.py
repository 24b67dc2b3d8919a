"""A virtual environment for each rival, so that none has to live with another's requirements.

Knows pip and where the environments lie. Knows no rival.
"""

import fcntl
import subprocess
import sys
from pathlib import Path

VENVS = Path(__file__).parents[1] / ".venvs"


class InstallError(Exception):
    """pip could not install a rival; the text is one line."""


def python_of(name: str, *requirements: str) -> Path:
    """Return the Python of the environment `name`, made and installed at its first use.

    An environment is made anew when its requirements have changed. Two processes may ask at once.

    Raises:
        InstallError: pip failed; its last line is in the text, its whole output beside the environment.
    """
    VENVS.mkdir(exist_ok=True)
    folder, wanted = VENVS / name, "\n".join(requirements)
    python, record, log = folder / "bin" / "python", folder / "requirements.txt", VENVS / f"{name}.log"
    with (VENVS / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if python.exists() and record.exists() and record.read_text() == wanted:
            return python
        make = [sys.executable, "-m", "venv", "--clear", str(folder)]
        install = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *requirements]
        with log.open("w") as out:
            for command in (make, install):
                if subprocess.run(command, stdout=out, stderr=subprocess.STDOUT, check=False).returncode:
                    raise InstallError(f"{name}: {_last_line(log)}; all of it is in {log}")
        record.write_text(wanted)
    return python


def _last_line(log: Path) -> str:
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1] if lines else "no output"
