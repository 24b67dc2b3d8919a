"""Decoders, resizers and the whole preparation of pictures, in milliseconds of processor time on one core.

    python benchmarks/images.py                          # pillow, simplejpeg, cykooz-resizer, scikit-image's pictures
    python benchmarks/images.py --network model.onnx     # and what scaled decoding does to a network's outputs

opencv-python-headless takes part where it is installed. The floor of a preparation is the fastest decoder and the
fastest resizer that is at most 1 of 255 from the reference, each alone in the same run.
"""

import argparse
import io
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import cykooz_resizer
import numpy as np
import simplejpeg
from benchmarks.common import heading
from PIL import Image as Pillow

from foretell.model.data.image import ImagePreparation
from foretell.model.data.image_check import IMAGE_FIELD
from foretell.model.data.image_frame import frame_of
from foretell.model.data.image_resize import resize
from foretell.signature import Image, Signature, TensorSpec

try:
    import cv2
except ImportError:
    cv2 = None
else:
    cv2.setNumThreads(1)

SIZES = ((640, 480), (1024, 768), (1600, 1200), (2400, 1800), (4000, 3000))
TARGET = 224
TURNS = 9


def photos() -> dict[str, Pillow.Image]:
    import skimage

    folder = Path(skimage.__file__).parent / "data"
    names = ("coffee.png", "chelsea.png", "astronaut.png", "retina.jpg", "hubble_deep_field.jpg", "rocket.jpg")
    return {name: Pillow.open(folder / name).convert("RGB") for name in names if (folder / name).exists()}


def encoded(width: int, height: int) -> bytes:
    """Return a JPEG of many real pictures side by side, each at its own resolution: as sharp as a photograph."""
    sheet, left, top, high = Pillow.new("RGB", (width, height)), 0, 0, 0
    pictures = list(photos().values())
    count = 0
    while top < height:
        picture = pictures[count % len(pictures)]
        count += 1
        sheet.paste(picture, (left, top))
        high = max(high, picture.height)
        left += picture.width
        if left >= width:
            left, top, high = 0, top + high, 0
    file = io.BytesIO()
    sheet.save(file, "JPEG", quality=88)
    return file.getvalue()


def in_turn(calls: dict[str, Callable[[], object]]) -> dict[str, float]:
    """Return the median milliseconds of processor time of each call; the calls take turns."""
    taken: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(TURNS + 1):
        for name, call in calls.items():
            start = time.process_time()
            call()
            if turn:
                taken[name].append((time.process_time() - start) * 1e3)
    return {name: statistics.median(values) for name, values in taken.items()}


def table(title: str, rows: dict[str, dict[str, float]]) -> None:
    columns = list(next(iter(rows.values())))
    print(f"{title:34s}" + "".join(f"{column:>12s}" for column in columns))
    for name, values in rows.items():
        print(f"  {name:32s}" + "".join(f"{values.get(c, float('nan')):12.2f}" for c in columns))
    print()


def decoders(content: bytes) -> dict[str, Callable[[], object]]:
    def pillow() -> object:
        return np.asarray(Pillow.open(io.BytesIO(content)))

    def draft() -> object:
        opened = Pillow.open(io.BytesIO(content))
        opened.draft("RGB", (2 * TARGET, 2 * TARGET))
        return np.asarray(opened)

    height, width = simplejpeg.decode_jpeg_header(content)[:2]
    shrink = next(s for s in (8, 4, 2, 1) if min(width, height) / s >= 2 * TARGET or s == 1)
    least = {"min_width": -(-width // shrink), "min_height": -(-height // shrink)}
    calls: dict[str, Callable[[], object]] = {
        "Pillow": pillow,
        "simplejpeg": lambda: simplejpeg.decode_jpeg(content),
        "Pillow, draft": draft,
        "simplejpeg, scaled": lambda: simplejpeg.decode_jpeg(content, **least),
    }
    if cv2 is not None:
        calls["OpenCV"] = lambda: cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
    return calls


def resizers(pixels: np.ndarray) -> dict[str, Callable[[], object]]:
    height, width = pixels.shape[:2]
    as_image = Pillow.fromarray(pixels)
    data = cykooz_resizer.ImageData(width, height, cykooz_resizer.PixelType.U8x3, pixels.tobytes())
    linear = cykooz_resizer.ResizeAlg.convolution(cykooz_resizer.FilterType.bilinear)
    options = cykooz_resizer.ResizeOptions(linear, use_alpha=False)
    frame = frame_of(Image("x", TARGET, TARGET), width, height)

    def swift() -> object:
        found = cykooz_resizer.ImageData(TARGET, TARGET, cykooz_resizer.PixelType.U8x3)
        cykooz_resizer.Resizer().resize(data, found, options)
        return found

    calls: dict[str, Callable[[], object]] = {
        "Pillow, bilinear": lambda: as_image.resize((TARGET, TARGET), Pillow.Resampling.BILINEAR),
        "cykooz-resizer, bilinear": swift,
        "foretell, bilinear": lambda: resize(pixels, frame, "bilinear"),
        "Pillow, bicubic": lambda: as_image.resize((TARGET, TARGET), Pillow.Resampling.BICUBIC),
        "foretell, bicubic": lambda: resize(pixels, frame, "bicubic"),
        "foretell, bilinear, no antialias": lambda: resize(pixels, frame, "bilinear", antialias=False),
    }
    if cv2 is not None:
        calls["OpenCV, area"] = lambda: cv2.resize(pixels, (TARGET, TARGET), interpolation=cv2.INTER_AREA)
        calls["OpenCV, linear, no antialias"] = lambda: cv2.resize(pixels, (TARGET, TARGET))
    return calls


def signature(**keys: object) -> Signature:
    image = Image("x", TARGET, TARGET, mean=(127.0,), std=(128.0,), **keys)
    return Signature((TensorSpec("x", "FP32", (-1, 3, TARGET, TARGET)),), (), (IMAGE_FIELD,), image=image)


def usual(content: bytes) -> np.ndarray:
    """What is written most often: Pillow and numpy."""
    resized = Pillow.open(io.BytesIO(content)).convert("RGB").resize((TARGET, TARGET), Pillow.Resampling.BILINEAR)
    return ((np.asarray(resized, np.float32) - 127) / 128).transpose(2, 0, 1)[None]


def speed() -> None:
    swift, exact = ImagePreparation(signature()), ImagePreparation(signature(exact=True))
    decoding: dict[str, dict[str, float]] = {}
    resizing: dict[str, dict[str, float]] = {}
    whole: dict[str, dict[str, float]] = {}
    for width, height in SIZES:
        content = encoded(width, height)
        column = f"{width}x{height}"
        scaled = decoders(content)["simplejpeg, scaled"]()
        found = in_turn(
            {f"decode {name}": call for name, call in decoders(content).items()}
            | {f"resize {name}": call for name, call in resizers(simplejpeg.decode_jpeg(content)).items()}
            | {f"scaled {name}": call for name, call in resizers(scaled).items()}
            | {
                "foretell": lambda c=content: swift.prepare(c),
                "foretell, exact": lambda c=content: exact.prepare(c),
                "Pillow and numpy": lambda c=content: usual(c),
            }
        )
        for name, value in found.items():
            kind, _, rest = name.partition(" ")
            if kind in ("decode", "resize"):
                (decoding if kind == "decode" else resizing).setdefault(rest, {})[column] = value
            elif kind != "scaled":
                whole.setdefault(name, {})[column] = value
        least = min(v for n, v in found.items() if n.startswith("decode "))
        floor = least + found["scaled cykooz-resizer, bilinear"]
        whole.setdefault("floor: decode and resize alone", {})[column] = floor
        whole.setdefault("floor / foretell", {})[column] = floor / found["foretell"]
        whole.setdefault("Pillow and numpy / foretell", {})[column] = found["Pillow and numpy"] / found["foretell"]
    heading(f"JPEG to RGB, ms; scaled: at least {2 * TARGET} pixels left")
    table("decoder", decoding)
    heading(f"Full pixels to {TARGET} x {TARGET}, ms")
    table("resizer", resizing)
    heading(f"JPEG to a float32 tensor of {TARGET} x {TARGET}, ms")
    table("", whole)


def difference(network: Path | None) -> None:
    """Print what scaled decoding and other choices change, in pixels of 255 and in a network's outputs."""
    session = None
    if network is not None:
        import onnxruntime

        session = onnxruntime.InferenceSession(network)
    heading("What the choice of decoding and resizing changes, against the exact way of bilinear with antialias")
    print(f"{'':34s}{'pixels, mean':>14s}{'most':>8s}{'largest change of a probability':>34s}{'labels':>8s}")
    for name, change in variants().items():
        pixels, most, moved, labels, count = [], 0.0, 0.0, 0, 0
        for content in samples():
            base, other = ImagePreparation(signature(exact=True)).prepare(content).inputs["x"], change(content)
            off = np.abs(base - other) * 128
            pixels.append(float(off.mean()))
            most = max(most, float(off.max()))
            if session is not None:
                a, b = (_softmax(session.run(None, {session.get_inputs()[0].name: x})[0]) for x in (base, other))
                moved = max(moved, float(np.abs(a - b).max()))
                labels += int(a.argmax() != b.argmax())
            count += 1
        shown = f"{moved:34.4f}{labels:5d}/{count}" if session is not None else ""
        print(f"  {name:32s}{statistics.mean(pixels):14.3f}{most:8.1f}{shown}")


def samples() -> list[bytes]:
    """Return pictures that ImageNet has names for, whole and in pieces, at sizes of a camera, with noise as detail."""
    found, noise = [], np.random.default_rng(0)
    known = [photos()[name] for name in ("coffee.png", "chelsea.png")]
    pieces = [p.crop((p.width // 8, 0, p.width * 7 // 8, p.height)) for p in known]
    for picture in known + pieces:
        for width in (1024, 1600, 2400):
            large = np.asarray(
                picture.resize((width, width * picture.height // picture.width), Pillow.Resampling.LANCZOS)
            )
            grain = noise.normal(0, 6, large.shape[:2])[:, :, None]
            file = io.BytesIO()
            Pillow.fromarray(np.clip(large + grain, 0, 255).astype(np.uint8)).save(file, "JPEG", quality=88)
            found.append(file.getvalue())
    return found


def variants() -> dict[str, Callable[[bytes], np.ndarray]]:
    def by_ours(**keys: object) -> Callable[[bytes], np.ndarray]:
        preparation = ImagePreparation(signature(**keys))
        return lambda content: preparation.prepare(content).inputs["x"]

    return {
        "as it comes: scaled, fast": by_ours(),
        "bicubic": by_ours(exact=True, resize="bicubic"),
        "box": by_ours(exact=True, resize="box"),
        "without antialias": by_ours(exact=True, antialias=False),
        "nearest": by_ours(exact=True, resize="nearest"),
        "blue and red exchanged": by_ours(exact=True, colour="bgr"),
        "letterbox instead of stretch": by_ours(exact=True, fit="letterbox"),
        "centre crop of 256": by_ours(exact=True, fit="crop", crop_from=256),
    }


def _softmax(logits: np.ndarray) -> np.ndarray:
    raised = np.exp(logits - logits.max())
    return raised / raised.sum()


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--network", type=Path, help="ONNX classifier of 3 x 224 x 224, (x - 127) / 128")
    arguments.add_argument("--only", choices=("speed", "difference"))
    given = arguments.parse_args()
    if given.only != "difference":
        speed()
    if given.only != "speed":
        difference(given.network)


if __name__ == "__main__":
    main()
