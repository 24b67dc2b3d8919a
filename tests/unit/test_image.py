"""Pictures to tensors: every form, format and mode, against Pillow's own reading."""

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow

from foretell.errors import InvalidInput
from foretell.model.data.image import ImagePreparation
from foretell.model.data.image_check import IMAGE_FIELD
from foretell.signature import Image, Signature, TensorSpec


def signature_of(width: int = 32, height: int = 24, datatype: str = "UINT8", **keys: object) -> Signature:
    image = Image("x", width, height, **keys)
    shape = (-1, image.channels, height, width) if image.layout == "nchw" else (-1, height, width, image.channels)
    return Signature((TensorSpec("x", datatype, shape),), (), (IMAGE_FIELD,), image=image)


def test_one_path(tmp_path: Path) -> None:
    Pillow.new("RGB", (64, 48), (10, 20, 30)).save(tmp_path / "a.png")
    found = ImagePreparation(signature_of(layout="nhwc")).prepare(tmp_path / "a.png")
    assert found.rows == 1
    assert (found.inputs["x"] == (10, 20, 30)).all()
    assert found.geometry.tolist() == [[64, 48, 0.5, 0.5, 0, 0]]
