"""What every benchmark shares: models trained once, calls measured in turn, a table of ratios.

The machines this runs on are noisy, so rivals take turns (A B C A B C ...) and a row of a table is a median
of their turns; a ratio is the median of the ratios of single turns.
"""

import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path

import numpy as np

DATA = Path(__file__).with_name("data")
CORES = len(os.sched_getaffinity(0))


def in_turn(
    calls: Mapping[str, Callable[[], object]], *, turns: int = 7, at_least_s: float = 0.05
) -> dict[str, list[float]]:
    """Return the seconds of a call, turn by turn, for each name; every call is repeated to fill `at_least_s`."""
    repeats = {}
    for name, call in calls.items():
        call()
        start = time.perf_counter()
        call()
        repeats[name] = max(1, int(at_least_s / max(time.perf_counter() - start, 1e-9)))
    taken: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(turns):
        for name, call in calls.items():
            start = time.perf_counter()
            for _ in range(repeats[name]):
                call()
            taken[name].append((time.perf_counter() - start) / repeats[name])
    return taken


def ratio(rival: list[float], ours: list[float]) -> float:
    """Return how many times faster ours is: the median over the turns."""
    return statistics.median(r / o for r, o in zip(rival, ours, strict=True))


def median(values: list[float]) -> float:
    return statistics.median(values)


def heading(title: str) -> None:
    print(f"\n## {title}\n\n{platform.machine()}, {CORES} cores, Python {platform.python_version()}\n")


def verdict(text: str, found: float, wanted: float, *, at_most: bool = False) -> bool:
    """Print whether a ratio reaches what it must, and return it."""
    good = found <= wanted if at_most else found >= wanted
    print(f"{'reached' if good else 'MISSED '}  {text}: {found:.2f}, {'at most' if at_most else 'at least'} {wanted:g}")
    return good


@cache
def thirty_floats() -> tuple[np.ndarray, np.ndarray]:
    """Return 20,000 rows of 30 floats, and a rare class."""
    from sklearn.datasets import make_classification

    x, y = make_classification(20_000, 30, n_informative=20, random_state=0, weights=[0.95])
    return x.astype(np.float32), y


def many(rows: int, seed: int = 1) -> np.ndarray:
    """Return rows like those of training, but none of them twice."""
    x, _ = thirty_floats()
    random = np.random.default_rng(seed)
    picked = x[random.integers(0, len(x), rows)]
    return picked + random.normal(scale=0.05, size=picked.shape).astype(np.float32)


def saved(name: str, make: Callable[[Path], None]) -> Path:
    """Return a file of the benchmark's data folder, made at its first use."""
    path = DATA / name
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        make(path)
    return path


def session(content: bytes, threads: int):
    """Return an ONNX Runtime session as a careful user makes it."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
