"""`foretell bench` of a model of pictures: pictures a second, and what of that is preparation and what the network."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from foretell.errors import ConfigError

if TYPE_CHECKING:
    from foretell.model.model import Model

__all__ = ["bench_pictures", "read_pictures"]

_COUNTS = (1, 4, 16, 64)
_BUDGET_S = 1.0
_SIDE = 1280
_QUALITY = 88
_MOST = 64


def read_pictures(path: str) -> list[bytes]:
    """Return encoded pictures of a file or a folder, the first so many.

    Raises:
        ConfigError: Nothing is there.
    """
    from foretell.bulk.pictures import find_pictures

    return [Path(file).read_bytes() for file in find_pictures([path])[:_MOST]]


def bench_pictures(model: Model, name: str, pictures: Sequence[bytes], *, as_json: bool) -> None:
    """Measure `predict` on so many pictures a call, and its parts on one core; print a table or JSON.

    Args:
        model: Of pictures.
        name: As it was given.
        pictures: Encoded; drawn ones where there are none.
        as_json: Whether to print JSON.
    """
    from foretell.model.pace import time_s

    source = f"{len(pictures)} pictures" if pictures else f"1 drawn JPEG of {_SIDE} x {_SIDE * 3 // 4}"
    chosen = list(pictures) or [_drawn()]

    def some(count: int) -> list[bytes]:
        return [chosen[i % len(chosen)] for i in range(count)]

    seconds = {n: time_s(partial(model.predict, some(n)), budget_s=_BUDGET_S) for n in _COUNTS}
    parts = _parts(model, some(min(len(chosen), 8)))
    if as_json:
        told: dict[str, Any] = {"model": name, "pictures": source}
        told["seconds_per_call"] = {str(n): s for n, s in seconds.items()}
        told["seconds_per_picture_alone"] = parts
        sys.stdout.write(json.dumps(told) + "\n")
        return
    sys.stdout.write(f"{source}; one at a time, on one core: ")
    sys.stdout.write(", ".join(f"{part} {s * 1e3:,.2f} ms" for part, s in parts.items()) + "\n")
    sys.stdout.write(f"{'pictures a call':>16}{'call, ms':>12}{'picture, ms':>13}{'pictures/s':>12}\n")
    for count, taken in seconds.items():
        sys.stdout.write(f"{count:>16,}{taken * 1e3:>12,.2f}{taken / count * 1e3:>13,.2f}{count / taken:>12,.1f}\n")


def _parts(model: Model, pictures: Sequence[bytes]) -> dict[str, float]:
    """Return seconds a picture of preparation and of the network."""
    from foretell.model.pace import time_s

    tensors = [model.prepare(p)[0] for p in pictures]
    prepare = time_s(lambda: [model.prepare(p) for p in pictures], budget_s=_BUDGET_S / 2)
    network = time_s(lambda: [model.infer(t, 1) for t in tensors], budget_s=_BUDGET_S / 2)
    return {"preparation": prepare / len(pictures), "network": network / len(pictures)}


def _drawn() -> bytes:
    """Return a JPEG as large as a photo of a web page, with slopes, edges and grain."""
    try:
        from PIL import Image
    except ImportError:
        raise ConfigError("bench: pictures need Pillow; run: pip install 'foretell[image]'") from None
    import numpy as np

    drawn = np.random.default_rng(0)
    wide, high = _SIDE, _SIDE * 3 // 4
    rough = Image.fromarray(drawn.integers(0, 256, (high // 16, wide // 16, 3)).astype(np.uint8))
    smooth = np.asarray(rough.resize((wide, high), Image.Resampling.BICUBIC), np.float32)
    pixels = np.clip(smooth + drawn.normal(0, 8, (high, wide, 1)), 0, 255).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=_QUALITY)
    return file.getvalue()
