"""How long the command line takes to answer, and the library to import.

python benchmarks/start.py
"""

import subprocess
import sys
from pathlib import Path

from common import heading, in_turn, median, verdict

if __name__ == "__main__":
    heading("Start")
    foretell = str(Path(sys.executable).with_name("foretell"))
    calls = {
        "python -c pass": [sys.executable, "-c", "pass"],
        "foretell --help": [foretell, "--help"],
        "import foretell": [sys.executable, "-c", "import foretell; foretell.load"],
    }
    taken = in_turn(
        {name: lambda c=c: subprocess.run(c, check=True, stdout=subprocess.DEVNULL) for name, c in calls.items()},
        at_least_s=0.3,
    )
    for name, seconds in taken.items():
        print(f"{name:<18}{median(seconds) * 1e3:8.0f} ms")
    reached = [
        verdict("seconds of foretell --help", median(taken["foretell --help"]), 0.3, at_most=True),
        verdict("seconds of import foretell", median(taken["import foretell"]), 0.3, at_most=True),
    ]
    sys.exit(not all(reached))
