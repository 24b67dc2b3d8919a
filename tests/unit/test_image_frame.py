"""Where pixels go: known recipes, and what holds for every picture and every tensor."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foretell.model.data.image_frame import frame_of
from foretell.signature import Image

SIDES = st.integers(1, 5000)
TENSORS = st.integers(1, 700)


@pytest.mark.parametrize(
    ("keys", "picture", "whole", "cut", "place"),
    [
        ({"fit": "stretch"}, (1600, 1200), (224, 224), (0, 0), (0, 0)),
        ({"fit": "letterbox"}, (1600, 1200), (224, 168), (0, 0), (0, 28)),
        ({"fit": "letterbox"}, (1201, 1600), (168, 224), (0, 0), (28, 0)),
        ({"fit": "letterbox"}, (300, 199), (224, 149), (0, 0), (0, 37)),
        ({"fit": "letterbox", "place": "corner"}, (300, 199), (224, 149), (0, 0), (0, 0)),
        ({"fit": "letterbox"}, (9000, 1), (224, 1), (0, 0), (0, 111)),
        ({"fit": "crop"}, (1600, 1200), (298, 224), (37, 0), (0, 0)),
        ({"fit": "crop", "crop_from": 256}, (1600, 1200), (341, 256), (58, 16), (0, 0)),
        ({"fit": "crop", "crop_from": 256}, (1200, 1600), (256, 341), (16, 58), (0, 0)),
        ({"fit": "crop", "crop_from": 225}, (300, 300), (225, 225), (0, 0), (0, 0)),
    ],
)
def test_recipes(keys: dict[str, object], picture: tuple[int, int], whole: object, cut: object, place: object) -> None:
    frame = frame_of(Image("x", 224, 224, **keys), *picture)
    assert (frame.whole, frame.cut, frame.place) == (whole, cut, place)


@given(SIDES, SIDES, TENSORS, TENSORS, st.sampled_from(["stretch", "letterbox", "crop"]), st.booleans())
def test_points_map_there_and_back(width: int, height: int, wide: int, high: int, fit: str, corner: bool) -> None:
    place = "corner" if corner else "centre"
    frame = frame_of(Image("x", wide, high, fit=fit, place=place), width, height)
    got_width, got_height, x_scale, y_scale, x_offset, y_offset = frame.geometry
    assert (got_width, got_height) == (width, height)
    for part, scale, offset, side, tensor in (
        (0, x_scale, x_offset, width, wide),
        (1, y_scale, y_offset, height, high),
    ):
        first, last = offset, side * scale + offset
        if fit == "crop":  # the tensor is filled
            assert first <= 0
            assert last >= tensor - 1e-6
        else:  # the picture is in it as a whole
            assert first >= 0
            assert last <= tensor + 1e-6
        assert abs(((last - offset) / scale) - side) < 1e-6 * side
        assert frame.place[part] + frame.size[part] <= tensor
        assert frame.cut[part] + frame.size[part] <= frame.whole[part]


@given(SIDES, SIDES, TENSORS, TENSORS)
def test_a_letterbox_keeps_proportions_to_half_a_pixel(width: int, height: int, wide: int, high: int) -> None:
    frame = frame_of(Image("x", wide, high, fit="letterbox"), width, height)
    factor = min(wide / width, high / height)
    for whole, side in zip(frame.whole, (width, height), strict=True):
        assert abs(whole - max(side * factor, 0.5)) <= 0.5 + 1e-9
    left = [tensor - whole for tensor, whole in zip((wide, high), frame.whole, strict=True)]
    assert 0 in left
    assert frame.place == (left[0] // 2, left[1] // 2)


@given(SIDES, SIDES, TENSORS, TENSORS, st.integers(0, 300))
def test_a_crop_covers_just_its_frame(width: int, height: int, wide: int, high: int, more: int) -> None:
    crop_from = min(wide, high) + more if more else 0
    frame = frame_of(Image("x", wide, high, fit="crop", crop_from=crop_from), width, height)
    scale = max(1.0, crop_from / min(wide, high))
    assert frame.size == (wide, high)
    assert frame.whole[0] >= wide * scale - 1e-6
    assert frame.whole[1] >= high * scale - 1e-6
    assert min(frame.whole[0] - wide * scale, frame.whole[1] - high * scale) < 1 + 1e-6
    for cut, whole, kept in zip(frame.cut, frame.whole, frame.size, strict=True):
        assert abs(cut - (whole - kept) / 2) <= 0.5
