"""Drawings: where the lines lie, what stays as it was, and pictures for notebooks."""

import base64
import io
import re

import numpy as np
import pytest
from PIL import Image

from foretell.model.picture import caption, colour_of, contact_sheet, draw, html_of
from foretell.model.tasks.classification import Classification
from foretell.model.tasks.detection import Detection
from foretell.model.tasks.objects import Objects
from foretell.model.tasks.predictions import Predictions
from foretell.model.tasks.regression import Regression

GREY = (128, 128, 128)


def grey(width: int = 300, height: int = 200) -> Image.Image:
    return Image.new("RGB", (width, height), GREY)


def pixels(picture: Image.Image) -> np.ndarray:
    return np.asarray(picture)


def test_lines_lie_inside_the_box_and_the_original_is_left_alone() -> None:
    original = grey()
    before = original.tobytes()
    drawn = pixels(draw(original, np.array([[50.0, 60.0, 150.0, 160.0]]), ["car"], [0.5]))
    assert original.tobytes() == before
    colour = list(colour_of("car"))
    for y, x in ((60, 100), (159, 100), (110, 50), (110, 149)):
        assert drawn[y, x].tolist() == colour, f"no line at {x}, {y}"
    for y, x in ((160, 100), (110, 49), (110, 150), (110, 100)):
        assert drawn[y, x].tolist() == list(GREY), f"a line at {x}, {y}"
    assert (drawn[40:60, 50:100] == colour).all(axis=2).any(), "no ground for the text above the box"
    assert (drawn[40:60, 50:100] == 0).all(axis=2).any() or (drawn[40:60, 50:100] == 255).all(axis=2).any()


@pytest.mark.parametrize(
    "box", [[0, 0, 300, 200], [290, 190, 300, 200], [0, 0, 1, 1], [0, 195, 300, 200], [299, 0, 300, 3]]
)
@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "P", "CMYK", "1", "I;16"])
def test_any_box_in_any_picture_is_drawn(box: list[float], mode: str) -> None:
    picture = Image.new(mode, (300, 200))
    drawn = draw(picture, np.array([box], np.float32), ["a class with a long name that goes on and on and on"], [1.0])
    assert (drawn.mode, drawn.size) == ("RGB", (300, 200))
    assert picture.mode == mode
    assert len(np.unique(pixels(drawn).reshape(-1, 3), axis=0)) > 1


@pytest.mark.parametrize("size", [(1, 1), (3, 400), (6000, 20)])
def test_pictures_of_any_shape(size: tuple[int, int]) -> None:
    assert draw(grey(*size), np.array([[0, 0, *size]]), ["car"], [0.9]).size == size
    assert caption(grey(*size), "car").size == size


def test_the_best_object_is_on_top() -> None:
    boxes = np.array([[50, 60, 150, 160], [50, 60, 150, 160]])
    labels = ["car", "person"]
    assert colour_of("car") != colour_of("person")
    drawn = pixels(draw(grey(), boxes, labels, [0.9, 0.3]))
    assert drawn[110, 50].tolist() == list(colour_of("car"))


def test_a_class_has_one_colour_for_good() -> None:
    # Of every run and every machine: a report of today must look like yesterday's.
    assert [colour_of(n) for n in ("car", "person", "dog")] == [(255, 90, 90), (0, 158, 115), (86, 180, 233)]


def test_text_that_is_hostile_is_drawn_as_text() -> None:
    draw(grey(), np.array([[0, 100, 50, 150]]), ["a\nb\x1b[2J\u202e日本"], [0.5])
    assert "<script>" not in html_of([grey()], ["<script>alert(1)</script>"])


@pytest.mark.parametrize(("count", "columns", "size"), [(1, 1, (336, 249)), (5, 3, (992, 490)), (0, 1, (336, 8))])
def test_a_contact_sheet_is_as_large_as_it_needs(count: int, columns: int, size: tuple[int, int]) -> None:
    # 600 x 400 becomes 320 x 213; below are 20 for the title, around it 8.
    sheet = contact_sheet([grey(600, 400)] * count, [f"{i}.jpg" for i in range(count)])
    assert sheet.size == size
    for i in range(count):
        left, top = 8 + i % columns * 328, 8 + i // columns * 241
        cell = pixels(sheet)[top : top + 213, left : left + 320]
        assert (cell == GREY).all()
        assert (pixels(sheet)[top + 213 : top + 233, left : left + 40].min()) < 100, "no title"


def test_a_row_of_flat_pictures_is_flat() -> None:
    assert contact_sheet([grey(600, 100)] * 2, columns=2).size == (664, 8 + 53 + 8)


def predictions(**given: object) -> Predictions:
    found = Objects.none(2, 5)
    found.boxes[0, 0] = (50, 60, 150, 160)
    found.scores[0, 0], found.labels[0, 0], found.counts[0] = 0.9, 1, 1
    return Predictions(Detection(("car", "dog"), "yolo"), found.arrays(), **given)  # type: ignore[arg-type]


def test_predictions_draw_themselves() -> None:
    pictures = [grey(), grey(200, 300)]
    found = predictions(sources=("a.jpg", "b.jpg"), picture=pictures.__getitem__)
    one = found.draw(0)
    assert pixels(one)[110, 50].tolist() == list(colour_of("dog"))
    assert found.draw(1).tobytes() == pictures[1].tobytes(), "nothing was found there"
    assert found.draw().width > 600
    with pytest.raises(IndexError):
        found.draw(2)


def test_a_notebook_shows_pictures() -> None:
    found = predictions(sources=("a<b>.jpg", "b.jpg"), picture=[grey(), grey()].__getitem__)
    html = found._repr_html_()
    assert html is not None
    assert "a&lt;b&gt;.jpg" in html
    shown = [Image.open(io.BytesIO(base64.b64decode(d))) for d in re.findall(r"base64,([^\"]+)", html)]
    assert [p.size for p in shown] == [(300, 200)] * 2
    png = found._repr_png_()
    assert png is not None
    assert Image.open(io.BytesIO(png)).size == found.draw().size


def test_without_pictures_a_notebook_shows_text() -> None:
    found = predictions()
    assert found._repr_html_() is None
    assert found._repr_png_() is None
    with pytest.raises(AttributeError, match="no pictures"):
        found.draw(0)
    assert Predictions(Regression(), [np.zeros(2)])._repr_html_() is None


def test_a_classified_picture_gets_a_caption() -> None:
    task = Classification(("cat", "dog"), probability_output=0, logits=True)
    found = Predictions(task, [np.array([[9.0, 1.0]])], picture=lambda _: grey())
    drawn = pixels(found.draw())
    assert (drawn[180:, :60] == colour_of("cat")).all(axis=2).any()
    assert (drawn[:150] == GREY).all()
