"""`foretell check`: golden examples again, and the tensors of a training code against those of a bundle."""

import io
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from foretell.cli.main import main

sys.path.insert(0, str(Path(__file__).parent))
from picture_networks import CLASSIFIER, classifier, written

SIDE = 16
PARTS = np.float32(1 / 255)


def photo(seed: int, width: int, height: int) -> Image.Image:
    """Return a picture with colours, edges and grain."""
    drawn = np.random.default_rng(seed)
    rough = Image.fromarray(drawn.integers(0, 256, (9, 7, 3)).astype(np.uint8))
    smooth = np.asarray(rough.resize((width, height), Image.Resampling.BICUBIC), np.float32)
    tint = np.array([60.0, 0.0, -60.0])
    return Image.fromarray(np.clip(smooth + tint + drawn.normal(0, 20, smooth.shape), 0, 255).astype(np.uint8))


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("checked")
    file, picture = written(folder, "colours", classifier(), CLASSIFIER)
    assert main(["convert", str(file), "--picture", str(picture), "-o", str(folder / "colours")]) == 0
    for i, size in enumerate([(60, 40), (48, 80), (100, 64)]):
        photo(i, *size).save(folder / f"{i}.png")
    return folder


def stretched(picture: Image.Image, kind: Image.Resampling = Image.Resampling.BILINEAR) -> np.ndarray:
    return np.asarray(picture.resize((SIDE, SIDE), kind), np.float32) * PARTS


def cropped(picture: Image.Image) -> np.ndarray:
    width, height = picture.size
    factor = SIDE / min(width, height)
    size = (SIDE, int(height * factor)) if width < height else (int(width * factor), SIDE)
    left, top = ((s - SIDE) / 2 for s in size)
    whole = picture.resize(size, Image.Resampling.BILINEAR)
    return np.asarray(whole.crop((round(left), round(top), round(left) + SIDE, round(top) + SIDE)), np.float32) * PARTS


def letterboxed(picture: Image.Image) -> np.ndarray:
    factor = SIDE / max(picture.size)
    size = tuple(round(s * factor) for s in picture.size)
    ground = Image.new("RGB", (SIDE, SIDE), (114, 114, 114))
    place = tuple((SIDE - s) // 2 for s in size)
    ground.paste(picture.resize(size, Image.Resampling.BILINEAR), place)
    return np.asarray(ground, np.float32) * PARTS


def reference(bundle: Path, path: Path, prepare: Callable, *, files: bool = False) -> Path:
    """Write what a training code would write."""
    names = [f"{i}.png" for i in range(3)]
    tensors = np.stack([prepare(Image.open(bundle / n).convert("RGB")) for n in names])
    content = {f"picture_{i}": np.fromfile(bundle / n, np.uint8) for i, n in enumerate(names)}
    np.savez(path, tensors=tensors, **({"files": np.array([str(bundle / n) for n in names])} if files else content))
    return path


def channels_first(prepare: Callable) -> Callable:
    return lambda picture: prepare(picture).transpose(2, 0, 1)


def test_the_same_preparation_fits(bundle: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for files in (False, True):
        path = reference(bundle, tmp_path / "r.npz", channels_first(stretched), files=files)
        assert main(["check", str(bundle / "colours"), "--against", str(path)]) == 0
        said = capfd.readouterr().out
        assert said.startswith("3 pictures; differences in levels")
        assert "  red           0.0     0.00\n" in said
        assert "cause" not in said


IMAGENET = np.array([0.485, 0.456, 0.406], np.float32), np.array([0.229, 0.224, 0.225], np.float32)
CASES: dict[str, tuple[Callable, str, list[str]]] = {
    "bgr": (lambda p: stretched(p)[:, :, ::-1], "the order of colours", ['colour = "bgr"']),
    "nearest": (lambda p: stretched(p, Image.Resampling.NEAREST), "the filter", ['resize = "nearest"']),
    "bicubic": (lambda p: stretched(p, Image.Resampling.BICUBIC), "the filter", ['resize = "bicubic"']),
    "crop": (cropped, "how pictures fill the tensor", ['fit = "crop"']),
    "letterbox": (letterboxed, "what a letterbox is filled with", ['fit = "letterbox"', "pad = 114"]),
    "raw": (lambda p: stretched(p) * 255, "scale, mean and std", ["scale = 1.0"]),
    "imagenet": (
        lambda p: (stretched(p) - IMAGENET[0]) / IMAGENET[1],
        "scale, mean and std",
        ["mean = [0.485, 0.456, 0.406]", "std = [0.229, 0.224, 0.225]"],
    ),
    "own numbers": (
        lambda p: (stretched(p) * 255 - 100) / 50,
        "scale, mean and std",
        ["scale = 1.0", "mean = [100.0, 100.0, 100.0]", "std = [50.0, 50.0, 50.0]"],
    ),
    "three at once": (
        lambda p: cropped(p)[:, :, ::-1] * 2 - 1,
        "the order of colours",
        ['fit = "crop"', 'colour = "bgr"', "scale = 0.00784313725490196", "mean = [1.0]"],
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_the_cause_is_named(bundle: Path, tmp_path: Path, name: str, capfd: pytest.CaptureFixture[str]) -> None:
    prepare, cause, lines = CASES[name]
    path = reference(bundle, tmp_path / "r.npz", channels_first(prepare))
    assert main(["check", str(bundle / "colours"), "--against", str(path)]) == 4
    said, told = capfd.readouterr()
    assert f"likely cause: {cause}\n" in said
    assert [line.strip() for line in said.splitlines() if " = " in line and "exact" not in line] == lines
    assert "left over with that, which fits:\n" in said
    assert cause in told
    assert told.count("\n") == 1


def test_another_layout_is_told(bundle: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = reference(bundle, tmp_path / "r.npz", stretched)
    assert main(["check", str(bundle / "colours"), "--against", str(path)]) == 4
    said, told = capfd.readouterr()
    assert 'have the layout "nhwc"' in said
    assert "likely cause: the layout" in told


def test_pictures_as_they_lie(bundle: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    held = io.BytesIO()
    picture = photo(5, 64, 48)
    exif = Image.Exif()
    exif[0x0112] = 6
    picture.save(held, "PNG", exif=exif)
    content = np.frombuffer(held.getvalue(), np.uint8)
    tensors = stretched(picture).transpose(2, 0, 1)[None]
    np.savez(tmp_path / "r.npz", tensors=tensors, picture_0=content)
    assert main(["check", str(bundle / "colours"), "--against", str(tmp_path / "r.npz")]) == 4
    said, told = capfd.readouterr()
    assert "without their EXIF orientation" in said
    assert "EXIF orientation" in told


def test_what_nothing_explains(bundle: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = reference(bundle, tmp_path / "r.npz", channels_first(lambda p: stretched(p)[:, ::-1]))
    assert main(["check", str(bundle / "colours"), "--against", str(path)]) == 4
    said, told = capfd.readouterr()
    assert "no other usual preparation comes closer" in said
    assert "likely cause: not found" in told


def test_references_that_are_none(bundle: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    tensors, picture = np.zeros((1, 3, SIDE, SIDE), np.float32), np.zeros((20, 20, 3), np.uint8)
    for name, arrays, said in (
        ("empty", {}, "has nothing, expected"),
        ("no pictures", {"tensors": tensors}, "has tensors and no pictures"),
        ("flat", {"tensors": tensors[0], "picture_0": picture}, "expected floats or uint8 of shape"),
        ("not finite", {"tensors": tensors + np.nan, "picture_0": picture}, "not finite"),
        ("too few", {"tensors": np.repeat(tensors, 2, 0), "picture_0": picture}, "1 pictures and 2 tensors"),
        ("floats", {"tensors": tensors, "picture_0": picture / 255}, '"picture_0" is float64'),
        ("small", {"tensors": tensors[:, :, :8], "picture_0": picture}, "compare what goes into the network"),
        ("broken", {"tensors": tensors, "picture_0": np.zeros(50, np.uint8)}, "image, row 0"),
        ("missing", {"tensors": tensors, "files": np.array(["nothing.png"])}, "nothing.png"),
        ("objects", {"tensors": np.array([{}]), "picture_0": picture}, "it holds objects"),
    ):
        path = tmp_path / f"{name}.npz"
        np.savez(path, **arrays)
        assert main(["check", str(bundle / "colours"), "--against", str(path)]) == 3, name
        told = capfd.readouterr().err
        assert said in told, told
        assert told.count("\n") == 1
    for name, content in (("text.npz", b"hello"), ("zip.npz", b"PK\x03\x04hello"), ("none.npz", b"")):
        (tmp_path / name).write_bytes(content)
        assert main(["check", str(bundle / "colours"), "--against", str(tmp_path / name)]) == 3, name
        assert "numpy.savez" in capfd.readouterr().err
    assert main(["check", str(bundle / "colours"), "--against", str(tmp_path / "nowhere.npz")]) == 3
    assert main(["check", str(bundle / "colours.onnx")]) == 2


def test_golden_examples_are_asked_again(bundle: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(bundle / "colours")]) == 0
    assert "every file has its digest; 2 golden examples get their answers" in capfd.readouterr().out
    with (bundle / "colours" / "golden.jsonl").open("a") as file:
        file.write("\n")
    assert main(["check", str(bundle / "colours")]) == 4
