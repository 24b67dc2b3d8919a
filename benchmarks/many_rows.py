"""Many rows, in memory, all cores: beside the original library, and ONNX Runtime on the public converters' graph.

python benchmarks/many_rows.py [ROWS]
"""

import sys

import models
import numpy as np
from common import CORES, heading, in_turn, many, median, ratio, session, verdict

import foretell


def main(rows: int) -> bool:
    heading(f"Many rows: {rows:,} rows of 30 floats, microseconds a row")
    x = many(rows)
    print(f"{'model':<10}{'original':>10}{'ONNX Runtime':>14}{'foretell':>10}   times the better")
    good = []
    for case in models.cases():
        model = foretell.load(case.path, trust=True)
        expected = case.original(x)
        found = model.predict(x).probabilities[:, 1]
        moved = np.abs(found - expected) > 1e-5
        if moved.mean() > 1e-4:
            raise SystemExit(
                f"{case.name}: {moved.sum()} of {rows} answers differ, up to {np.abs(found - expected).max()}"
            )
        calls = {
            "original": lambda case=case: case.original(x),
            "foretell": lambda model=model: model.predict(x).probabilities,
        }
        if case.graph is not None:
            run = session(case.graph(), CORES)
            name = run.get_inputs()[0].name
            outputs = [run.get_outputs()[1].name]
            calls["onnxruntime"] = lambda run=run, outputs=outputs, name=name: run.run(outputs, {name: x})
        taken = in_turn(calls, turns=5)
        rivals = [t for who, t in taken.items() if who != "foretell"]
        better = [min(turn) for turn in zip(*rivals, strict=True)]
        cells = [
            f"{median(taken[who]) / rows * 1e6:.3f}" if who in taken else "-"
            for who in ("original", "onnxruntime", "foretell")
        ]
        times = ratio(better, taken["foretell"])
        print(f"{case.name:<10}{cells[0]:>10}{cells[1]:>14}{cells[2]:>10}   {times:.2f}")
        good.append((case.name, times))
    print()
    return all([verdict(f"{name}, times the better of both", times, 1.0) for name, times in good])


if __name__ == "__main__":
    sys.exit(not main(int(sys.argv[1]) if len(sys.argv) > 1 else 200_000))
