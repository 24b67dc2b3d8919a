"""A folder of JPEG photos through `foretell predict` against its floor and against the usual loop.

    python benchmarks/picture_folder.py MODEL [--count 1000] [--turns 3] [--folder DIR]

MODEL is a bundle of EfficientNet-lite0 (examples/vision). Photos are made of real pictures side by side, 640 to 4,000
pixels wide, and kept in DIR. The floor is the processor time of the fastest decoder, the fastest resizer and ONNX
Runtime on ready tensors, each alone in one thread, divided by the cores: no work can be spread better. The loop opens a
photo with Pillow, prepares it with numpy, and runs it, one after the other, with ONNX Runtime on all cores.

Both are processes of their own, less the same over two photos: loading is left out of both. All are measured in turn,
and wall time is compared only where nothing else runs; the share of processor time says the same of a busy machine.
"""

import argparse
import io
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Callable
from pathlib import Path

import cykooz_resizer
import numpy as np
import onnxruntime
import simplejpeg
from benchmarks.common import CORES, DATA, heading, verdict
from benchmarks.images import photos
from PIL import Image as Pillow

WIDTHS = (640, 800, 1024, 1280, 1600, 2048, 2400, 3000, 3600, 4000)
SIDE, COVERED = 224, 256
TOGETHER = 60
TARGET_FLOOR, TARGET_LOOP = 0.9, 2.0


def photo(number: int) -> bytes:
    """Return a JPEG of a place in a large sheet of real pictures, another one for each number."""
    drawn = np.random.default_rng(number)
    width = WIDTHS[number % len(WIDTHS)]
    height = width * 3 // 4
    if number % 3 == 2:
        width, height = height, width
    every = list(photos().values())
    sheet = Pillow.new("RGB", (width, height))
    top = 0
    while top < height:
        left, high = 0, 0
        while left < width:
            picture = every[int(drawn.integers(len(every)))]
            sheet.paste(picture, (left, top))
            left, high = left + picture.width, max(high, picture.height)
        top += high
    file = io.BytesIO()
    sheet.save(file, "JPEG", quality=int(drawn.integers(80, 95)), progressive=number % 10 == 9)
    return file.getvalue()


def folder_of(folder: Path, count: int) -> list[Path]:
    """Return so many photos, made at the first use."""
    folder.mkdir(parents=True, exist_ok=True)
    files = [folder / f"{i:04}.jpg" for i in range(count)]
    for i, file in enumerate(files):
        if not file.exists():
            file.write_bytes(photo(i))
    return files


def processor_s(call: object, *arguments: object) -> float:
    began = time.process_time()
    call(*arguments)
    return time.process_time() - began


def floor_s(model: Path, files: list[Path]) -> dict[str, float]:
    """Return seconds of processor time for a photo: the fastest decode, resize and run, each alone.

    Short tries choose the way to decode each photo; then all go, one after the other, so that a moment in which the
    machine is fast is worth no more here than to what is measured beside it.
    """
    ways = [Running(model, rows) for rows in (1, 4)]
    spent = dict.fromkeys(("decode", "resize", "network"), 0.0)
    best = None
    for at in range(0, len(files), TOGETHER):
        contents = [file.read_bytes() for file in files[at : at + TOGETHER]]
        decoders = [fastest_decoder(content) for content in contents]
        spent["decode"] += processor_s(lambda decoders=decoders: [decode() for decode in decoders])
        scaled = [Scaled(content) for content in contents]
        spent["resize"] += processor_s(lambda scaled=scaled: [picture.resize() for picture in scaled])
        tensors = [picture.tensor() for picture in scaled]
        best = best or min(ways, key=lambda way: min(processor_s(way.run, way.ready(tensors)) for _ in range(3)))
        spent["network"] += processor_s(best.run, best.ready(tensors))
    return {name: seconds / len(files) for name, seconds in spent.items()}


def shrunk(content: bytes) -> dict[str, int]:
    """Return how far a photo is scaled as it is decoded: two pixels stay for each that is wanted."""
    height, width = simplejpeg.decode_jpeg_header(content)[:2]
    shrink = next(s for s in (8, 4, 2, 1) if min(width, height) / s >= 2 * COVERED or s == 1)
    return {"min_width": -(-width // shrink), "min_height": -(-height // shrink)}


def fastest_decoder(content: bytes) -> Callable[[], object]:
    least = shrunk(content)
    ways = (lambda: simplejpeg.decode_jpeg(content, "RGB", **least), lambda: drafted(content))
    return min(ways, key=lambda way: min(processor_s(way) for _ in range(2)))


class Scaled:
    """A decoded photo, ready to be resized."""

    def __init__(self, content: bytes) -> None:
        pixels = simplejpeg.decode_jpeg(content, "RGB", **shrunk(content))
        high, wide = pixels.shape[:2]
        self._data = cykooz_resizer.ImageData(wide, high, cykooz_resizer.PixelType.U8x3, pixels.tobytes())
        side = min(wide, high) * SIDE / COVERED
        box = cykooz_resizer.CropBox((wide - side) / 2, (high - side) / 2, side, side)
        cubic = cykooz_resizer.ResizeAlg.convolution(cykooz_resizer.FilterType.catmull_rom)
        self._options = cykooz_resizer.ResizeOptions(cubic, use_alpha=False, crop_box=box)
        self._out = cykooz_resizer.ImageData(SIDE, SIDE, cykooz_resizer.PixelType.U8x3)

    def resize(self) -> None:
        cykooz_resizer.Resizer().resize(self._data, self._out, self._options)

    def tensor(self) -> np.ndarray:
        ready = np.frombuffer(self._out.get_buffer(), np.uint8).reshape(SIDE, SIDE, 3)
        return ((ready.astype(np.float32) - 127) / 128).transpose(2, 0, 1)


def drafted(content: bytes) -> np.ndarray:
    opened = Pillow.open(io.BytesIO(content))
    opened.draft("RGB", (2 * COVERED, 2 * COVERED))
    return np.asarray(opened)


class Running:
    """The network alone, in one thread, on some rows a call."""

    def __init__(self, model: Path, rows: int) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(model / "model.onnx", options, providers=["CPUExecutionProvider"])
        self._name = self._session.get_inputs()[0].name
        self._rows = rows

    def ready(self, tensors: list[np.ndarray]) -> list[np.ndarray]:
        return [np.stack(tensors[at : at + self._rows]) for at in range(0, len(tensors), self._rows)]

    def run(self, batches: list[np.ndarray]) -> None:
        for batch in batches:
            self._session.run(None, {self._name: batch})


LOOP = """
import sys, numpy as np, onnxruntime
from PIL import Image
model, out, *files = sys.argv[1:]
session = onnxruntime.InferenceSession(model)
with open(out, "w") as written:
    for file in files:
        picture = Image.open(file).convert("RGB")
        factor = 256 / min(picture.size)
        picture = picture.resize([int(side * factor) for side in picture.size], Image.Resampling.BICUBIC)
        left, top = (picture.width - 224) // 2, (picture.height - 224) // 2
        pixels = np.asarray(picture.crop((left, top, left + 224, top + 224)), np.float32)
        logits = session.run(None, {"image": ((pixels - 127) / 128).transpose(2, 0, 1)[None]})[0][0]
        odds = np.exp(logits - logits.max())
        best = int(odds.argmax())
        written.write(f"{file},{best},{odds[best] / odds.sum():.6f}\\n")
"""


def process_s(command: list[str]) -> tuple[float, float]:
    """Return wall and processor time of a process."""
    used, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(command, check=True)
    wall, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - used.ru_utime - used.ru_stime


def foretell_s(model: Path, files: list[Path], out: Path) -> tuple[float, float]:
    command = [sys.executable, "-m", "foretell.cli.main", "predict", str(model), *map(str, files)]
    return process_s([*command, "-o", str(out / "labels.csv")])


def loop_s(model: Path, files: list[Path], out: Path) -> tuple[float, float]:
    return process_s([sys.executable, "-c", LOOP, str(model / "model.onnx"), str(out / "loop.csv"), *map(str, files)])


def less(whole: tuple[float, float], start: tuple[float, float]) -> tuple[float, float]:
    return max(whole[0] - start[0], 1e-9), max(whole[1] - start[1], 1e-9)


def agreed(model: Path, out: Path) -> float:
    """Return the share of photos to which both gave the same label."""
    classes = tomllib.loads((model / "model.toml").read_text())["task"]["classes"]
    ours = [line.split(",")[1] for line in (out / "labels.csv").read_text().splitlines()[1:]]
    theirs = [classes[int(line.split(",")[1])] for line in (out / "loop.csv").read_text().splitlines()]
    return float(np.mean([a.strip('"') == b.split(",")[0] for a, b in zip(ours, theirs, strict=True)]))


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("model", type=Path)
    arguments.add_argument("--count", type=int, default=1000)
    arguments.add_argument("--turns", type=int, default=3)
    arguments.add_argument("--folder", type=Path, default=DATA / "photos")
    given = arguments.parse_args()
    files = folder_of(given.folder, given.count)
    floors, ours, loops = [], [], []
    with tempfile.TemporaryDirectory() as held:
        out = Path(held)
        for _ in range(given.turns):
            floors.append(floor_s(given.model, files))
            for run, found in ((foretell_s, ours), (loop_s, loops)):
                start = run(given.model, files[:2], out)
                found.append(less(run(given.model, files, out), start))
        same = agreed(given.model, out)
    count, megabytes = len(files), sum(f.stat().st_size for f in files) / 1e6
    heading(f"{count:,} JPEGs, {megabytes:,.0f} MB, load {os.getloadavg()[0]:.1f}; milliseconds a photo")
    parts = {name: statistics.median(f[name] for f in floors) for name in floors[0]}
    for name, value in parts.items():
        print(f"  {name + ' alone, one core':44s}{value * 1e3:9.2f}")
    print(f"  {'floor: all three, spread over the cores':44s}{sum(parts.values()) / CORES * 1e3:9.2f}")
    for name, found in (("foretell predict", ours), ("Pillow, numpy, ONNX Runtime in a loop", loops)):
        wall, used = (statistics.median(column) / count * 1e3 for column in zip(*found, strict=True))
        print(f"  {name + ', wall':44s}{wall:9.2f}\n  {name + ', processor':44s}{used:9.2f}")
    print(f"  same label as the loop: {same:.1%}\n")
    by_wall = statistics.median(sum(f.values()) * count / CORES / o[0] for f, o in zip(floors, ours, strict=True))
    by_processor = statistics.median(sum(f.values()) * count / o[1] for f, o in zip(floors, ours, strict=True))
    by_loop = statistics.median(r[0] / o[0] for r, o in zip(loops, ours, strict=True))
    verdict("floor / foretell, wall", by_wall, TARGET_FLOOR)
    verdict("floor / foretell, processor time", by_processor, TARGET_FLOOR)
    verdict("loop / foretell, wall", by_loop, TARGET_LOOP)


if __name__ == "__main__":
    main()
