"""`foretell predict` on a CSV of a million rows, beside a script of pandas and the original library; start included.

python benchmarks/csv_million.py [ROWS]
"""

import subprocess
import sys
from pathlib import Path

import models
import numpy as np
import pandas as pd
from common import CORES, heading, in_turn, many, median, ratio, saved, verdict

SCRIPT = """
import sys
import pandas as pd, xgboost as xgb
model, source, out = sys.argv[1:]
classifier = xgb.XGBClassifier(n_jobs={cores})
classifier.load_model(model)
table = pd.read_csv(source)
pd.DataFrame({{"prediction": classifier.predict_proba(table.to_numpy("float32"))[:, 1]}}).to_csv(out, index=False)
"""


def main(rows: int) -> bool:
    heading(f"A CSV of {rows:,} rows x 30 floats, XGBoost with 300 trees, end to end")
    source = saved(
        f"{rows}.csv", lambda p: pd.DataFrame(many(rows), columns=[f"x{i}" for i in range(30)]).to_csv(p, index=False)
    )
    model = models.xgboost().path
    theirs, ours = source.with_suffix(".theirs.csv"), source.with_suffix(".ours.csv")
    script = [sys.executable, "-c", SCRIPT.format(cores=CORES), model, source, theirs]
    command = [str(Path(sys.executable).with_name("foretell")), "predict", model, source, "-o", ours]
    taken = in_turn({"script": lambda: run(script), "foretell": lambda: run(command)}, turns=5, at_least_s=0)
    difference = np.abs(pd.read_csv(theirs)["prediction"] - pd.read_csv(ours)["probability_1"]).max()
    if difference > 1e-5:
        raise SystemExit(f"answers differ by up to {difference}")
    print(
        f"pandas + xgboost script {median(taken['script']):.2f} s, foretell predict {median(taken['foretell']):.2f} s"
    )
    print(f"memory of foretell predict: {peak_mb(command):,.0f} MB; of the script: {peak_mb(script):,.0f} MB")
    return verdict("times the script", ratio(taken["script"], taken["foretell"]), 1.3)


def run(command: list) -> None:
    subprocess.run([str(c) for c in command], check=True)


def peak_mb(command: list) -> float:
    """Return the peak resident memory of a command, measured by a process that runs nothing else."""
    code = (
        "import resource, subprocess, sys; subprocess.run(sys.argv[1:], check=True); "
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
    )
    done = subprocess.run([sys.executable, "-c", code, *map(str, command)], check=True, capture_output=True, text=True)
    return int(done.stdout.splitlines()[-1]) / 1024


if __name__ == "__main__":
    sys.exit(not main(int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000))
