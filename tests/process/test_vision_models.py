"""With `--slow`: the two real networks of the vision example as bundles, over its photos, from the command line."""

import csv
import importlib
import sys
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

import foretell
from foretell.cli.main import main
from foretell.model.data.video import Video

EXAMPLE = Path(__file__).parents[2] / "examples" / "vision"
PHOTOS = ("astronaut.png", "chelsea.png", "coffee.png", "china.jpg", "flower.jpg")


@pytest.fixture(scope="module")
def real(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with both bundles and the photos; what is fetched is kept between runs."""
    fetched = Path(request.config.cache.mkdir("vision"))  # type: ignore[union-attr]
    folder = tmp_path_factory.mktemp("vision")
    sys.path.insert(0, str(EXAMPLE))
    try:
        importlib.import_module("fetch").fetch(fetched)
        for name in ("yolo", "efficientnet"):
            importlib.import_module(name).convert(fetched)
            network, tables = str(fetched / f"{name}.onnx"), str(fetched / f"{name}.toml")
            assert main(["convert", network, "--picture", tables, "-o", str(folder / name)]) == 0
    finally:
        sys.path.remove(str(EXAMPLE))
        for name in ("fetch", "graph", "yolo", "efficientnet"):
            sys.modules.pop(name, None)
    (folder / "photos").mkdir()
    (folder / "bikes.mp4").write_bytes((fetched / "bikes.mp4").read_bytes())
    for photo in PHOTOS:
        (folder / "photos" / photo).write_bytes((fetched / photo).read_bytes())
    return folder


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.slow
def test_what_is_in_the_photos(real: Path) -> None:
    out = real / "labels.csv"
    assert main(["predict", str(real / "efficientnet"), str(real / "photos"), "-o", str(out)]) == 0
    found = {Path(row["source"]).name: row for row in rows_of(out)}
    assert sorted(found) == sorted(PHOTOS)
    labels = {name: row["prediction"] for name, row in found.items()}
    assert labels["coffee.png"] == "espresso"
    assert float(found["coffee.png"]["probability"]) == pytest.approx(0.951, abs=0.005)
    assert labels["chelsea.png"] in ("tabby", "tiger cat", "Egyptian cat")
    assert labels["flower.jpg"] == "daisy"
    assert labels["china.jpg"] == "palace"


@pytest.mark.slow
def test_where_the_cup_is(real: Path) -> None:
    out, drawn = real / "objects.csv", real / "found.jpg"
    photo = real / "photos" / "coffee.png"
    assert main(["predict", str(real / "yolo"), str(photo), "-o", str(out), "--draw", str(drawn)]) == 0
    (cup,) = rows_of(out)
    assert cup["label"] == "cup"
    assert float(cup["score"]) == pytest.approx(0.64, abs=0.02)
    # Of the cup and its saucer, by eye: left, top, right, bottom.
    box = [float(cup[key]) for key in ("x_min", "y_min", "x_max", "y_max")]
    assert box == pytest.approx([150, 24, 428, 307], abs=3)
    with Image.open(drawn) as copy:
        assert copy.size == (600, 400)


@pytest.mark.slow
def test_who_is_in_the_street(real: Path) -> None:
    out, drawn, video = real / "street.csv", real / "found.mp4", real / "bikes.mp4"
    command = ["predict", str(real / "yolo"), str(video), "--every", "10", "--track", "-o", str(out)]
    assert main([*command, "--draw", str(drawn)]) == 0
    rows = rows_of(out)
    seen = {(int(row["frame"]), row["label"]) for row in rows if float(row["score"]) > 0.5}
    assert {(30, "person"), (110, "person"), (120, "person"), (120, "bicycle"), (40, "car")} <= seen
    assert all(float(row["time_s"]) == pytest.approx(int(row["frame"]) / 25) for row in rows)
    # The cyclist stands at the traffic lights from frame 107 to 136.
    cyclist = {
        r["track"] for r in rows if r["frame"] in ("120", "130") and r["label"] == "person" and float(r["score"]) > 0.9
    }
    assert len(cyclist) == 1
    assert cyclist != {""}
    with foretell.load(real / "yolo") as model, Video(video) as opened, av.open(str(drawn)) as copy:
        frames = {frame.number: frame for frame in opened.frames(every=10)}
        for number in (30, 120):
            expected = [(o["label"], np.float32(o["score"])) for o in model.predict(frames[number].pixels())[0]]
            found = [(r["label"], np.float32(r["score"])) for r in rows if int(r["frame"]) == number]
            assert found == expected
        shown = [frame.time for frame in copy.decode(video=0)]
    assert shown == pytest.approx([n / 25 for n in range(0, 250, 10)])
