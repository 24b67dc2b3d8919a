"""Drawing on copies of pictures: boxes with labels, captions, contact sheets, and pictures for notebooks.

Pillow alone, and its own font, so that a server without fonts draws the same. Knows no model and no file.
"""

from __future__ import annotations

import base64
import html
import io
import math
import zlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from foretell.errors import RuntimeMissing

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL.Image import Image
    from PIL.ImageDraw import ImageDraw

__all__ = ["caption", "colour_of", "contact_sheet", "draw", "html_of", "jpeg_of", "png_of"]

Colour = tuple[int, int, int]

# Strong colours that stay apart from each other for most eyes: those of Okabe and Ito (2008), without black, and
# five more between them.
_COLOURS: tuple[Colour, ...] = (
    *((230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66), (0, 114, 178), (213, 94, 0), (204, 121, 167)),
    *((148, 103, 255), (140, 200, 60), (255, 90, 90), (0, 200, 200), (170, 120, 70)),
)
_DARK, _LIGHT = (0, 0, 0), (255, 255, 255)
_PAPER, _INK = (250, 250, 250), (40, 40, 40)
_NOTEBOOK_SIDE = 640
_GAP = 8
_JPEG_QUALITY = 90


def colour_of(name: str) -> Colour:
    """Return the colour of a class: the same for the same name, in every picture and every run."""
    return _COLOURS[zlib.crc32(name.encode()) % len(_COLOURS)]


def draw(
    picture: Image,
    boxes: NDArray[Any],
    labels: Sequence[str],
    scores: Sequence[float] = (),
    names: Sequence[str] = (),
) -> Image:
    """Draw boxes and labels on a copy of a picture.

    Args:
        picture: Of any mode; the copy is RGB.
        boxes: (objects, 4): x_min, y_min, x_max, y_max in its pixels. The first is drawn last, on top.
        labels: Class of each object: it makes the colour.
        scores: Of each object, 0 to 1; none are written if there are none.
        names: What to write in place of the label, such as "car 7".

    Raises:
        RuntimeMissing: Pillow is not installed.
    """
    copy, tool, font, width = _pen(picture)
    for i in reversed(range(len(labels))):
        x_min, y_min, x_max, y_max = (float(v) for v in boxes[i])
        colour = colour_of(labels[i])
        tool.rectangle((x_min, y_min, max(x_max - 1, x_min), max(y_max - 1, y_min)), outline=colour, width=width)
        text = names[i] if names else labels[i]
        _tag(tool, font, copy.size, (x_min, y_min), f"{text} {scores[i]:.2f}" if len(scores) else text, colour)
    return copy


def caption(picture: Image, text: str) -> Image:
    """Write a line at the foot of a copy of a picture."""
    copy, tool, font, _ = _pen(picture)
    _tag(tool, font, copy.size, (0, copy.height), text, colour_of(text.rsplit(" ", 1)[0]))
    return copy


def contact_sheet(pictures: Sequence[Image], titles: Sequence[str] = (), *, cell: int = 320, columns: int = 0) -> Image:
    """Lay pictures out on one sheet, in rows, each as large as fits its cell.

    Args:
        pictures: Any number, of any sizes.
        titles: One below each; none if there are none.
        cell: Longest side of a picture on the sheet, in pixels. Smaller pictures stay as they are.
        columns: How many a row has; 0: about as many as there are rows.
    """
    from PIL import Image as images
    from PIL import ImageDraw

    columns = columns or max(1, min(len(pictures), math.ceil(len(pictures) ** 0.5)))
    font, line = _font(13), 20 if len(titles) else 0
    small = [_smaller(p, cell) for p in pictures]
    rows = [small[at : at + columns] for at in range(0, len(small), columns)]
    heights = [max(p.height for p in row) for row in rows]
    sheet = images.new("RGB", (columns * (cell + _GAP) + _GAP, sum(h + line + _GAP for h in heights) + _GAP), _PAPER)
    tool = ImageDraw.Draw(sheet)
    top = _GAP
    for r, (row, height) in enumerate(zip(rows, heights, strict=True)):
        for c, picture in enumerate(row):
            left = _GAP + c * (cell + _GAP)
            sheet.paste(picture, (left + (cell - picture.width) // 2, top + (height - picture.height) // 2))
            if len(titles):
                title = _shortened(font, titles[r * columns + c], cell)
                tool.text((left, top + height + 2), title, font=font, fill=_INK)
        top += height + line + _GAP
    return sheet


def html_of(pictures: Sequence[Image], titles: Sequence[str] = ()) -> str:
    """Return pictures as HTML that needs no file: each made small enough for a page, with its title."""
    parts = []
    for i, picture in enumerate(pictures):
        data = base64.b64encode(jpeg_of(_smaller(picture, _NOTEBOOK_SIDE))).decode()
        title = html.escape(titles[i]) if len(titles) else ""
        parts.append(
            '<figure style="display:inline-block;margin:4px">'
            f'<img alt="{title}" src="data:image/jpeg;base64,{data}"><figcaption>{title}</figcaption></figure>'
        )
    return "".join(parts)


def png_of(picture: Image) -> bytes:
    """Return a picture as the bytes of a PNG file."""
    held = io.BytesIO()
    picture.save(held, "PNG")
    return held.getvalue()


def jpeg_of(picture: Image) -> bytes:
    """Return a picture as the bytes of a JPEG file."""
    held = io.BytesIO()
    picture.convert("RGB").save(held, "JPEG", quality=_JPEG_QUALITY)
    return held.getvalue()


def _smaller(picture: Image, side: int) -> Image:
    """Return an RGB copy whose longer side is at most this long."""
    small = picture.convert("RGB")
    small.thumbnail((side, side))
    return small


def _pen(picture: Image) -> tuple[Image, ImageDraw, Any, int]:
    """Return an RGB copy, what draws on it, and a font and a width of lines that suit its size."""
    try:
        from PIL import ImageDraw
    except ImportError as error:
        raise RuntimeMissing("drawing needs Pillow; run: pip install 'foretell[image]'") from error
    copy = picture.convert("RGB") if picture.mode != "RGB" else picture.copy()
    side = max(copy.size)
    return copy, ImageDraw.Draw(copy), _font(min(max(round(side / 45), 11), 64)), max(round(side / 320), 2)


def _font(size: int) -> Any:
    from PIL import ImageFont

    return ImageFont.load_default(size)


def _tag(
    tool: ImageDraw, font: Any, size: tuple[int, int], corner: tuple[float, float], text: str, colour: Colour
) -> None:
    """Write on a ground of its own above a corner, or below where there is no room, always inside the picture."""
    text = "".join(c if c.isprintable() else " " for c in text)
    left, top, right, bottom = tool.textbbox((0, 0), text, font=font)
    width, height = right - left + 6, bottom - top + 6
    x = min(max(corner[0], 0), max(size[0] - width, 0))
    y = corner[1] - height if corner[1] >= height else corner[1]
    y = min(max(y, 0), max(size[1] - height, 0))
    tool.rectangle((x, y, x + width - 1, y + height - 1), fill=colour)
    tool.text((x + 3 - left, y + 3 - top), text, font=font, fill=_DARK if _is_bright(colour) else _LIGHT)


def _is_bright(colour: Colour) -> bool:
    return 0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2] > 120


def _shortened(font: Any, text: str, room: int) -> str:
    """Cut the middle out of a text that is wider than the room."""
    text = "".join(c if c.isprintable() else " " for c in text)
    if font.getlength(text) <= room:
        return text
    half = len(text) // 2
    while half > 1 and font.getlength(f"{text[:half]}...{text[-half:]}") > room:
        half -= 1
    return f"{text[:half]}...{text[-half:]}"
