"""With `--slow`: the two real networks of the vision example as bundles, over its photos, from the command line."""

import csv
import importlib
import sys
from pathlib import Path

import pytest
from PIL import Image

from foretell.cli.main import main

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
