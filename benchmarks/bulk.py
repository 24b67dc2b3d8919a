"""`foretell predict` over more rows than memory should hold, beside what else can score them.

python benchmarks/bulk.py [--part floats ray homes options] [--rows N] [--turns N] [--kind float32|float64]

* floats   10 million rows of 30 floats in Parquet through XGBoost: beside the floor, and a careful loop
* ray      fewer of them: beside Ray Data with the library, and on Ray in both ways
* homes    2 million homes in CSV through a fitted pipeline: beside its own `predict` in pandas chunks
* options  the first again, with one worker and two, into Parquet and CSV

The floor is the processor time of reading alone, of predicting what lies ready in memory, and of writing alone, spread
perfectly over the cores. Answers are checked before anything is measured.
"""

import argparse
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import models
from common import CORES, DATA, heading, ratio, verdict
from rivals.venvs import python_of
from scoring import answers, data
from scoring.measure import Taken, middle, run

HERE = Path(__file__).parent
OUT = DATA / "bulk" / "out"
FORETELL = Path(sys.executable).with_name("foretell")
RAY = ("ray-data", "ray[data]==2.60.*", "aiohttp", "xgboost==3.2.*", "pyarrow==26.*", "pandas==3.1.*")
OURS_ON_RAY = ("ray-foretell", "--editable", f"{HERE.parent}[xgboost,ray]", *RAY[1:])


def floats(rows: int, turns: int, kind: str) -> bool:
    heading(f"{rows:,} rows x 30 {kind}s in Parquet, XGBoost with 300 trees, end to end")
    files, model = data.floats(rows, kind), models.xgboost().path
    ours, theirs = OUT / "ours.parquet", OUT / "theirs.parquet"
    loop = [sys.executable, HERE / "rivals/bulk/arrow_loop.py", CORES, model, theirs, *files]
    score = [FORETELL, "predict", model, *files, "-o", ours]
    floors: list[dict[str, float]] = []

    def floor() -> Taken:
        command = [sys.executable, HERE / "scoring/floor.py", CORES, model, OUT / "floor.parquet", *files]
        done = subprocess.run([str(c) for c in command], check=True, capture_output=True, text=True)
        floors.append(json.loads(done.stdout))
        cpu_s = sum(floors[-1][part] for part in ("read_s", "predict_s", "write_s"))
        return Taken(cpu_s / CORES, cpu_s, 0)

    run(loop)
    run(score)
    answers.agree(ours, theirs)
    taken = _in_turn({"floor": floor, "loop": lambda: run(loop), "foretell": lambda: run(score)}, turns)
    parts = {part: sorted(f[part] for f in floors)[len(floors) // 2] for part in ("read_s", "predict_s", "write_s")}
    print(
        f"the floor's processor time: reading {parts['read_s']:.2f} s, predicting {parts['predict_s']:.2f} s "
        f"({floors[-1]['best']}), writing {parts['write_s']:.2f} s\n"
    )
    _show(taken, rows)
    wall = {name: [t.wall_s for t in found] for name, found in taken.items()}
    cpu = {name: [t.cpu_s for t in found] for name, found in taken.items()}
    print(
        f"\nin processor time {ratio(cpu['floor'], cpu['foretell']):.2f} of the floor, "
        f"{ratio(cpu['loop'], cpu['foretell']):.2f} times the loop"
    )
    return all(
        [
            verdict("of the floor", ratio(wall["floor"], wall["foretell"]), 0.85),
            verdict("times the loop", ratio(wall["loop"], wall["foretell"]), 1.0),
            verdict("MiB at most", max(t.peak_mb for t in taken["foretell"]), 500, at_most=True),
        ]
    )


def ray(rows: int, turns: int, kind: str) -> bool:
    heading(f"{rows:,} rows x 30 {kind}s in Parquet, XGBoost with 300 trees: Ray Data")
    files, model = data.floats(rows, kind), models.xgboost().path
    ours, theirs, python = OUT / "ours.parquet", OUT / "ray", python_of(*OURS_ON_RAY)
    score = [FORETELL, "predict", model, *files, "-o", ours]
    on_cluster = [python.with_name("foretell"), "predict", model, *files, "-o", OUT / "on_ray.parquet"]

    def pipeline(python: Path, script: str) -> Taken:
        shutil.rmtree(theirs, ignore_errors=True)
        return run([python, HERE / "rivals/bulk" / script, CORES, model, theirs, *files], is_cluster=True)

    calls = {
        "Ray Data": lambda: pipeline(python_of(*RAY), "ray_data.py"),
        "  with foretell.ray": lambda: pipeline(python, "ray_foretell.py"),
        "foretell --on ray": lambda: run([*on_cluster, "--on", "ray"], is_cluster=True),
        "foretell": lambda: run(score),
    }
    run(score)
    for name in list(calls)[:-1]:
        calls[name]()
        if "--on" in name:
            answers.agree(ours, OUT / "on_ray.parquet")
        else:  # Ray Data was seen to give rows of a file in another order, with `preserve_order` too
            answers.agree(ours, theirs, in_order=False)
    taken = _in_turn(calls, turns)
    _show(taken, rows)
    print()
    return verdict("times Ray Data", ratio(*([t.wall_s for t in taken[name]] for name in ("Ray Data", "foretell"))), 4)


def homes(rows: int, turns: int) -> bool:
    heading(f"{rows:,} homes of 73 mixed columns in CSV, a fitted scikit-learn pipeline, end to end")
    pipeline, source = models.ames(), data.homes(rows)
    ours, theirs = OUT / "ours.csv", OUT / "theirs.csv"
    bundle = OUT / "homes"
    if not bundle.exists():
        run([FORETELL, "convert", pipeline, "-o", bundle, "--sample", pipeline.with_name("homes.csv"), "--trust"])
    chunks = [sys.executable, HERE / "rivals/bulk/pipeline_chunks.py", pipeline, theirs, source]
    score = [FORETELL, "predict", bundle, source, "-o", ours]
    run(chunks)
    run(score)
    answers.agree(ours, theirs, relative=1e-5)
    taken = _in_turn({"pipeline": lambda: run(chunks), "foretell": lambda: run(score)}, turns)
    _show(taken, rows)
    print()
    return all(
        [
            verdict("times the pipeline", ratio(*([t.wall_s for t in found] for found in taken.values())), 2),
            verdict("MiB at most", max(t.peak_mb for t in taken["foretell"]), 500, at_most=True),
        ]
    )


def options(rows: int, turns: int, kind: str) -> bool:
    heading(f"{rows:,} rows x 30 {kind}s in Parquet, XGBoost with 300 trees: options")
    files, model = data.floats(rows, kind), models.xgboost().path
    calls = {}
    for workers in (1, 2):
        for ending in ("parquet", "csv"):
            command = [FORETELL, "predict", model, *files, "-o", OUT / f"ours.{ending}", "--threads", workers]
            calls[f"--workers {workers}, .{ending}"] = lambda command=command: run(command)
    _show(_in_turn(calls, turns), rows)
    return True


def _in_turn(calls: Mapping[str, Callable[[], Taken]], turns: int) -> dict[str, list[Taken]]:
    taken: dict[str, list[Taken]] = {name: [] for name in calls}
    for _ in range(turns):
        for name, call in calls.items():
            taken[name].append(call())
    return taken


def _show(taken: Mapping[str, list[Taken]], rows: int) -> None:
    print(f"{'':<24}{'seconds':>9}{'rows/s':>12}{'processor s':>13}{'peak MiB':>10}")
    for name, turns in taken.items():
        wall_s = middle(turns, lambda t: t.wall_s)
        cpu = f"{middle(turns, lambda t: t.cpu_s):.2f}" if turns[0].cpu_s else "-"
        peak = f"{max(t.peak_mb for t in turns):,.0f}" if turns[0].peak_mb else "-"
        print(f"{name:<24}{wall_s:>9.2f}{rows / wall_s:>12,.0f}{cpu:>13}{peak:>10}")


def main() -> bool:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument(
        "--part",
        nargs="+",
        choices=("floats", "ray", "homes", "options"),
        default=("floats", "ray", "homes", "options"),
    )
    parser.add_argument(
        "--rows", type=int, default=10_000_000, help="of floats; a fifth as many homes, and rows for Ray"
    )
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--kind", choices=("float32", "float64"), default="float32")
    args = parser.parse_args()
    OUT.mkdir(parents=True, exist_ok=True)
    few = max(args.rows // 5, 1000)
    parts = {
        "floats": lambda: floats(args.rows, args.turns, args.kind),
        "ray": lambda: ray(few, args.turns, args.kind),
        "homes": lambda: homes(few, args.turns),
        "options": lambda: options(few, args.turns, args.kind),
    }
    return all([parts[part]() for part in args.part])


if __name__ == "__main__":
    sys.exit(not main())
