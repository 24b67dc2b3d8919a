"""A video through `foretell predict` against its floor: decoding alone and the network alone, spread over the cores.

    python benchmarks/video.py MODEL VIDEO [--every 2] [--draw] [--turns 3]

MODEL is a bundle of pictures in ONNX. The floor is the processor time of decoding all frames in one thread, and of ONNX
Runtime in one thread on tensors that are ready, divided by the cores. The job is measured as a process of its own less
one over the first frame alone, so that loading is left out; on a machine that does other things too its processor time
says more than its wall time. All are measured in turn.
"""

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import av
import onnxruntime
from benchmarks.common import heading

import foretell
from foretell import machine
from foretell.model.data.video import Video


def decoding_s(path: Path) -> float:
    """Return the processor time of decoding every frame, in one thread."""
    began = time.process_time()
    with av.open(str(path)) as container:
        for _ in container.decode(video=0):
            pass
    return time.process_time() - began


def running_s(model: Path, path: Path, every: int, most: int = 40) -> tuple[float, int]:
    """Return the processor time of the network on every nth frame, prepared before, and how many these are."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(model / "model.onnx", options, providers=["CPUExecutionProvider"])
    with foretell.load(model) as loaded, Video(path) as video:
        frames = list(video.frames(every=every))
        tensors = [loaded.prepare(f.pixels())[0] for f in frames[:: max(1, len(frames) // most)]]
    session.run(None, tensors[0])
    began = time.process_time()
    for tensor in tensors:
        session.run(None, tensor)
    return (time.process_time() - began) / len(tensors) * len(frames), len(frames)


def job_s(model: Path, path: Path, out: Path, every: int, *, draw: bool) -> tuple[float, float]:
    """Return wall and processor time of the command."""
    command = [sys.executable, "-m", "foretell.cli.main", "predict", str(model), str(path), "-o", str(out / "o.jsonl")]
    command += ["--every", str(every), *(["--draw", str(out / "found.mp4")] if draw else [])]
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    began = time.perf_counter()
    subprocess.run(command, check=True)
    wall = time.perf_counter() - began
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - used.ru_utime - used.ru_stime


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("model", type=Path)
    arguments.add_argument("video", type=Path)
    arguments.add_argument("--every", type=int, default=2)
    arguments.add_argument("--draw", action="store_true")
    arguments.add_argument("--turns", type=int, default=3)
    given = arguments.parse_args()
    cores = machine.cores()
    turns = []
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(given.turns):
            decode = decoding_s(given.video)
            run, frames = running_s(given.model, given.video, given.every)
            empty = job_s(given.model, given.video, Path(folder), 1 << 30, draw=given.draw)
            whole = job_s(given.model, given.video, Path(folder), given.every, draw=given.draw)
            turns.append((decode, run, max(whole[0] - empty[0], 0), max(whole[1] - empty[1], 0)))
    heading(f"{given.video.name}: {frames} frames, {cores} cores, load {os.getloadavg()[0]:.1f}, seconds")
    decode, run, wall, used = (statistics.median(column) for column in zip(*turns, strict=True))
    # The empty job decodes the file too, to its end, and runs one frame.
    floor, wall, used = (decode + run) / cores, wall + (decode + run / frames) / cores, used + decode + run / frames
    for name, value in (
        ("decode alone, one core", decode),
        ("network alone, one core", run),
        ("floor: both, spread over the cores", floor),
        ("foretell predict, wall", wall),
        ("foretell predict, processor time", used),
    ):
        print(f"  {name:40s}{value:10.2f}")
    print(f"  {'floor / foretell, wall':40s}{floor / wall:10.2f}")
    print(f"  {'floor / foretell, processor time':40s}{floor * cores / used:10.2f}")
    print(f"  {'frames/s':40s}{frames / wall:10.1f}")


if __name__ == "__main__":
    main()
