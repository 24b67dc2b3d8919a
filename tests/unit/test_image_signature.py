"""What model.toml says of a picture comes back the same, and a mistake in it is told."""

import re
import tomllib
from dataclasses import replace

import pytest
import tomli_w

from foretell.errors import ArtifactInvalid
from foretell.model.data.image_check import IMAGE_FIELD, check_image
from foretell.model.describe import read_signature, write_signature
from foretell.signature import Column, Field, Image, Signature, TensorSpec

NET = Signature(
    inputs=(TensorSpec("image", "FP32", (-1, 3, 416, 608)),),
    outputs=(TensorSpec("boxes", "FP32", (-1, 2535, 85)),),
    fields=(IMAGE_FIELD,),
    image=Image(
        "image",
        608,
        416,
        fit="letterbox",
        resize="bicubic",
        antialias=False,
        colour="bgr",
        scale=1 / 255,
        mean=(0.485, 0.456, 0.406),
        std=(0.229,),
        pad=114,
        place="corner",
    ),
)


def written(signature: Signature = NET) -> dict[str, object]:
    """Return the signature as it is after having been a file."""
    return tomllib.loads(tomli_w.dumps(write_signature(signature)))


def changed(**keys: object) -> Signature:
    return replace(NET, image=replace(NET.image, **keys))


@pytest.mark.parametrize(
    "signature",
    [
        NET,
        replace(NET, image=Image("image", 608, 416)),
        changed(fit="crop", crop_from=420, place="centre", mean=(), std=(1.0, 2.0, 3.0)),
        replace(
            NET,
            image=Image("image", 608, 416, colour="grey", layout="nhwc", mean=(3.5,)),
            inputs=(TensorSpec("image", "FP16", (1, -1, -1, 1)),),
        ),
        replace(NET, image=Image("image", 608, 416), inputs=(TensorSpec("image", "UINT8", (-1, -1, 416, 608)),)),
    ],
)
def test_round_trip(signature: Signature) -> None:
    assert read_signature(written(signature)) == signature
    assert check_image(signature) == signature.image


def test_defaults_are_not_written() -> None:
    table = written(replace(NET, image=Image("image", 608, 416)))
    assert table["image"] == {"input": "image", "width": 608, "height": 416}
    assert table["field"] == [{"name": "image", "kind": "image", "nullable": False}]


def test_a_signature_of_a_table_says_nothing_of_pictures() -> None:
    table = Signature((TensorSpec("x", "FP32", (-1, 1)),), (), (Field("a"),), {"x": (Column("a"),)})
    assert "image" not in write_signature(table)
    with pytest.raises(ArtifactInvalid, match=r"add a table \[signature.image\]"):
        check_image(table)


def test_one_number_may_stand_for_all_channels() -> None:
    table = written()
    table["image"] |= {"mean": 127, "std": 128.0}  # type: ignore[operator]
    image = read_signature(table).image
    assert image is not None
    assert (image.mean, image.std) == ((127,), (128.0,))


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"fit": "strech"}, "fit 'strech', expected stretch, letterbox, crop"),
        ({"resize": "area"}, "resize 'area', expected nearest, bilinear"),
        ({"colour": ["rgb"]}, "colour ['rgb'], expected rgb, bgr, grey"),
        ({"layout": "chw"}, "layout 'chw'"),
        ({"antialias": "yes"}, "antialias 'yes', expected true or false"),
        ({"width": 0}, "width 0, expected a whole number from 1 to 16384"),
        ({"height": 416.0}, "height 416.0"),
        ({"height": 400}, "correct width, height, colour or layout"),
        ({"colour": "grey", "mean": [1]}, "makes (-1, 1, 416, 608)"),
        ({"layout": "nhwc"}, "makes (-1, 416, 608, 3)"),
        ({"pad": 256}, "pad 256"),
        ({"pad": True}, "pad True"),
        ({"crop_from": 500}, 'crop_from 500 with fit "letterbox"'),
        ({"crop_from": 10, "fit": "crop"}, "crop_from 10, expected at least 416, or 0"),
        ({"scale": 0}, "scale 0"),
        ({"scale": float("nan")}, "scale nan"),
        ({"mean": [1, 2]}, "mean (1, 2), expected 3 numbers"),
        ({"std": [1, 0, 1]}, "std (1, 0, 1), expected 3 numbers, 1 or none, and no 0"),
        ({"std": ["1"]}, "std ('1',)"),
        ({"input": "x"}, 'input "x", the model has "image"'),
        ({"filter": "bilinear"}, "signature.image: unknown key 'filter'"),
    ],
)
def test_mistakes_are_told(keys: dict[str, object], message: str) -> None:
    table = written()
    table["image"] |= keys  # type: ignore[operator]
    with pytest.raises(ArtifactInvalid, match=re.escape(message)):
        read_signature(table)


def test_keys_that_are_missing_are_told() -> None:
    table = written()
    del table["image"]["width"]  # type: ignore[attr-defined]
    with pytest.raises(ArtifactInvalid, match="width"):
        read_signature(table)
    with pytest.raises(ArtifactInvalid, match="expected a table"):
        read_signature(written() | {"image": 3})


def test_the_tensor_must_be_able_to_hold_it() -> None:
    for spec, message in (
        (TensorSpec("image", "INT64", (-1, 3, 416, 608)), "datatype INT64"),
        (TensorSpec("image", "UINT8", (-1, 3, 416, 608)), "take away scale, mean and std"),
        (TensorSpec("image", "FP32", (-1, 3, 416)), "shape"),
        (TensorSpec("image", "FP32", (-1, 4, 416, 608)), "shape"),
    ):
        with pytest.raises(ArtifactInvalid, match=message):
            check_image(replace(NET, inputs=(spec,)))
    with pytest.raises(ArtifactInvalid, match="expected it alone"):
        check_image(replace(NET, inputs=(*NET.inputs, TensorSpec("size", "FP32", (-1, 2)))))


def test_it_has_one_field_and_no_columns() -> None:
    with pytest.raises(ArtifactInvalid, match="expected one field"):
        check_image(replace(NET, fields=(Field("image", "image"),)))
    with pytest.raises(ArtifactInvalid, match="no columns"):
        check_image(replace(NET, columns={"image": (Column("image"),)}))
