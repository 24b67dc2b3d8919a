"""docs/images.md says of every key what the code says."""

import json
import tomllib
from dataclasses import MISSING, fields
from pathlib import Path
from typing import get_args

from foretell.model.data.image_probe import Limits
from foretell.signature import Colour, Filter, Fit, Image, Layout, Place

PAGE = (Path(__file__).parents[2] / "docs" / "images.md").read_text()


def rows() -> dict[str, list[str]]:
    """Return the table of keys."""
    table = PAGE.split("## Keys")[1].split("\n\n")[1]
    cells = [[c.strip() for c in line.strip("|").split(" | ")] for line in table.splitlines()[2:]]
    return {c[0].strip("` "): c[1:] for c in cells}


def test_every_key_is_there_with_its_default() -> None:
    found = rows()
    assert list(found) == [slot.name for slot in fields(Image)]
    for slot in fields(Image):
        told = found[slot.name][0]
        if slot.default is MISSING:
            assert told == "needed", slot.name
        else:
            assert json.loads(told.strip("`")) == (list(slot.default) if slot.default == () else slot.default), (
                slot.name
            )


def test_every_word_is_there() -> None:
    found = rows()
    for key, words in (("fit", Fit), ("resize", Filter), ("colour", Colour), ("layout", Layout), ("place", Place)):
        for word in get_args(words):
            assert f"`{word}`" in " | ".join(found[key]), (key, word)


def test_the_example_is_one() -> None:
    block = "\n".join(line[4:] for line in PAGE.split("## Keys")[0].splitlines() if line.startswith("    "))
    image = Image(**tomllib.loads(block)["signature"]["image"])
    assert (image.fit, image.crop_from, image.scale) == ("crop", 256, 1 / 255)


def test_the_limits_are_those() -> None:
    limits = Limits()
    for told in (f"{limits.bytes >> 20} MiB", f"{limits.pixels:,} pixels", f"{limits.side:,} on a side"):
        assert told in PAGE
