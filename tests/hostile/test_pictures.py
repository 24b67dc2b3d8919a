"""Pictures that try to hurt: bombs, cut off, mutated, lying about size or kind. Only InvalidInput, in one line."""

import io
import struct
import tracemalloc
import zlib
from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from PIL import Image as Pillow

from foretell.errors import InvalidInput
from foretell.model.data.image import ImagePreparation, Limits, probe
from foretell.model.data.image_check import IMAGE_FIELD
from foretell.model.data.image_headers import without_metadata
from foretell.signature import Image, Signature, TensorSpec

PREPARATION = ImagePreparation(
    Signature((TensorSpec("x", "UINT8", (-1, 3, 16, 16)),), (), (IMAGE_FIELD,), image=Image("x", 16, 16)),
    Limits(pixels=1_000_000),
    files=False,
)
KINDS = ("JPEG", "progressive", "CMYK", "PNG", "WEBP", "lossless", "animated", "GIF", "TIFF", "deflated", "BMP")
# Pillow warns of damage that it can live with; a warning is an error here, and would be InvalidInput.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:PIL", "ignore::PIL.Image.DecompressionBombWarning")


@cache
def encoded(kind: str, width: int = 60, height: int = 40) -> bytes:
    noise = np.random.default_rng(5).integers(0, 256, (height, width, 3), dtype=np.uint8)
    image, file = Pillow.fromarray(noise), io.BytesIO()
    exif = Pillow.Exif()
    exif[0x0112] = 6
    if kind == "progressive":
        image.save(file, "JPEG", progressive=True, exif=exif)
    elif kind == "CMYK":
        image.convert("CMYK").save(file, "JPEG")
    elif kind == "lossless":
        image.save(file, "WEBP", lossless=True, exif=exif)
    elif kind == "animated":
        image.save(file, "WEBP", save_all=True, append_images=[image.transpose(Pillow.Transpose.ROTATE_180)])
    elif kind == "deflated":
        image.save(file, "TIFF", compression="tiff_adobe_deflate")
    else:
        image.save(file, kind, **({"exif": exif} if kind in ("JPEG", "PNG") else {}))
    return file.getvalue()


def refused(content: bytes, message: str | None = None) -> str:
    """Refuse content, and return the line that says why."""
    with pytest.raises(InvalidInput, match=message) as raised:
        PREPARATION.prepare(content)
    line = str(raised.value)
    assert "\n" not in line
    assert len(line) < 300
    assert line.startswith("image")
    return line


def fate(content: bytes) -> str:
    """Prepare content that may be damaged: a tensor of the right shape, or one line."""
    try:
        found = PREPARATION.prepare(content)
    except InvalidInput as error:
        line = str(error)
    else:
        assert found.inputs["x"].shape == (1, 3, 16, 16)
        return "prepared"
    assert "\n" not in line
    return "refused"


def png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_bomb(width: int, height: int) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = zlib.compress(bytes(10_000_000), 9)
    return b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) + png_chunk(b"IDAT", data) + png_chunk(b"IEND", b"")


def gif_bomb(width: int, height: int, screen: tuple[int, int]) -> bytes:
    frame = b"\x2c" + struct.pack("<HHHHB", 0, 0, width, height, 0) + b"\x08\x02\x4c\x01\x00\x3b"
    return b"GIF89a" + struct.pack("<HHBBB", *screen, 0x80, 0, 0) + bytes(6) + frame


def webp_bomb(width: int, height: int) -> bytes:
    bits = (width - 1) | (height - 1) << 14
    body = b"VP8L" + struct.pack("<IBI", 10, 0x2F, bits) + bytes(5)
    return b"RIFF" + struct.pack("<I", 4 + len(body)) + b"WEBP" + body


def webp_canvas(width: int, height: int) -> bytes:
    body = (
        b"VP8X" + struct.pack("<IB3x", 10, 2) + (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    )
    return b"RIFF" + struct.pack("<I", 4 + len(body)) + b"WEBP" + body


def tiff_of(tags: list[tuple[int, int, int, int]], more: bytes = b"") -> bytes:
    entries = b"".join(struct.pack("<HHII", *tag) for tag in tags)
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4) + more


def tiff_bomb(width: int, height: int) -> bytes:
    return tiff_of([(256, 4, 1, width), (257, 4, 1, height), (258, 3, 1, 8), (262, 3, 1, 1), (273, 4, 1, 8)])


def bmp_bomb(width: int, height: int) -> bytes:
    return b"BM" + struct.pack("<IIIIiiHHIIiiII", 200, 0, 54, 40, width, height, 1, 24, 0, 0, 0, 0, 0, 0)


def jpeg_bomb(width: int, height: int) -> bytes:
    content = encoded("JPEG")
    at = content.index(b"\xff\xc0")
    return content[: at + 5] + struct.pack(">HH", height, width) + content[at + 9 :]


BOMBS = {
    "png": png_bomb(60_000, 60_000),
    "png wide": png_bomb(65_535, 1),
    "png beyond": png_bomb(2**31 - 1, 2**31 - 1),
    "gif": gif_bomb(65_535, 65_535, (65_535, 65_535)),
    "gif behind a small screen": gif_bomb(65_535, 65_535, (1, 1)),
    "webp": webp_bomb(16_384, 16_384),
    "webp canvas": webp_canvas(2**24, 2**24),
    "tiff": tiff_bomb(2**31, 2**31),
    "bmp": bmp_bomb(2**31 - 1, 2**31 - 1),
    "bmp upside down": bmp_bomb(60_000, -60_000),
    "jpeg": jpeg_bomb(65_500, 65_500),
    "jpeg wide": jpeg_bomb(65_535, 1),
}


@pytest.mark.parametrize("name", BOMBS)
def test_bombs_are_refused_before_anything_is_allocated(name: str) -> None:
    tracemalloc.start()
    try:
        refused(BOMBS[name], "pixels, expected at most")
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < 100_000


@pytest.mark.parametrize("size", [(65_535, 1), (1, 65_535), (0, 7), (7, 0)])
def test_odd_sizes(size: tuple[int, int]) -> None:
    for bomb in (png_bomb, jpeg_bomb, tiff_bomb, bmp_bomb, lambda w, h: gif_bomb(w, h, (w, h))):
        refused(bomb(*size))


def test_a_long_thin_picture_is_not_blown_up_before_the_crop() -> None:
    crop = Signature(
        (TensorSpec("x", "UINT8", (-1, 3, 224, 224)),), (), (IMAGE_FIELD,), image=Image("x", 224, 224, fit="crop")
    )
    thin = np.zeros((1, 60_000, 3), np.uint8)
    with pytest.raises(InvalidInput, match="would become 13,440,000 x 224 before the crop"):
        ImagePreparation(crop).prepare(thin)
    assert PREPARATION.prepare(thin).rows == 1


@pytest.mark.parametrize("kind", KINDS)
def test_cut_off_at_every_fiftieth(kind: str) -> None:
    content = encoded(kind)
    assert fate(content) == "prepared"
    fates = [fate(content[: len(content) * part // 50]) for part in range(50)]
    assert fates[:49] == ["refused"] * 49


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data())
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
def test_mutated(kind: str, data: Any) -> None:
    content = bytearray(encoded(kind))
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.integers(0, min(400, len(content) - 1)) | st.integers(0, len(content) - 1))
        content[at] = data.draw(st.sampled_from((0, 1, 0x7F, 0x80, 0xFF)) | st.integers(0, 255))
    fate(bytes(content))


@given(content=st.binary(max_size=400), start=st.sampled_from((b"", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF89a",
       b"II*\0\x08\0\0\0", b"MM\0+", b"BM", b"RIFF\x20\0\0\0WEBPVP8X", b"RIFF\x20\0\0\0WEBPVP8L")))  # fmt: skip
@settings(max_examples=300, deadline=None)
@example(content=b"", start=b"")
def test_made_up(content: bytes, start: bytes) -> None:
    refused(start + content)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "got 0 bytes"),
        (b"\0" * 100, "got 100 bytes of no known picture format"),
        (b"hello", "got 5 bytes of text"),
        (b"<!DOCTYPE html><html>", "got HTML"),
        (b"<svg xmlns=''/>", "got SVG"),
        (b"%PDF-1.7", "got PDF"),
        (b"/9j/4AAQSkZJRg==", "base64: decode it first"),
        (b"data:image/png;base64,iVBO", "a data URL: decode it first"),
        (b"\0\0\0\x20ftypheic", "got HEIC"),
        (b"\0\0\0\x20ftypavif", "got AVIF"),
        (b"\0\0\0\x20ftypisom", "got a video"),
        (b"PK\x03\x04", "got a zip archive"),
    ],
)
def test_what_is_no_picture_is_named(content: bytes, message: str) -> None:
    refused(content, message)


def test_polyglots_are_what_they_begin_with() -> None:
    for kind in ("JPEG", "PNG", "GIF", "WEBP"):
        for more in (b"PK\x03\x04" + bytes(50), b"<script>alert(1)</script>", encoded("BMP"), b"%PDF-1.7"):
            assert fate(encoded(kind) + more) == "prepared"
            refused(more[:4].replace(b"BM", b"XX") + b"\n" + encoded(kind))


def test_a_jpeg_that_says_two_sizes() -> None:
    content = encoded("JPEG")
    at = content.index(b"\xff\xc0")
    segment = content[at : at + 19]
    refused(content[:at] + segment + content[at:], "says its size twice")


def test_floods_of_metadata() -> None:
    jpeg, png, gif = encoded("JPEG"), encoded("PNG"), encoded("GIF")
    refused(jpeg[:2] + b"\xff\xfe\0\2" * 6000 + jpeg[2:], "more than 5,000 segments")
    refused(png[:33] + png_chunk(b"abCd", b"") * 6000 + png[33:], "more than 5,000 chunks")
    refused(gif[:13] + b"\x21\xfe" + b"\1x" * 6000 + b"\0" + gif[13:])
    refused(tiff_of([(256, 4, 1, 99), (257, 4, 1, 99), (322, 4, 1, 60_000), (323, 4, 1, 60_000)]), "tiles larger than")
    screen = gif_bomb(4, 4, (4, 4))
    refused(screen[:19] + b"\x21\xfe" + b"\1x" * 6000 + b"\0" + screen[19:], "more than 5,000 blocks")
    refused(tiff_of([(i, 7, 60_000, 8) for i in range(1, 400)], bytes(70_000)), "point to more than the file holds")


def test_a_progressive_jpeg_of_very_many_scans() -> None:
    content = encoded("progressive")
    at = content.rindex(b"\xff\xda")
    (length,) = struct.unpack(">H", content[at + 2 : at + 4])
    scan = content[at : at + 2 + length]
    with pytest.raises(InvalidInput, match="save it again with fewer scans"):
        probe(content[:-2] + scan * 8000, Limits(pixels=1_000_000))


def test_exif_never_reaches_a_general_parser() -> None:
    """A directory of 60,000 bytes whose every tag points to all of it would be read a thousand times over."""
    tags = [(tag, 7, 59_000, 8) for tag in range(1, 4000)]
    exif = b"Exif\0\0" + tiff_of(tags, b"")[:60_000]
    segment = b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif
    for kind in ("JPEG", "CMYK"):
        content = encoded(kind)
        stuffed = content[:2] + segment + b"junk" + segment * 2 + content[2:]
        assert b"Exif" not in without_metadata(stuffed)
        tracemalloc.start()
        try:
            assert fate(stuffed) == "prepared"
            _, most = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert most < 5_000_000


def test_limits_hold_for_the_decoder_too() -> None:
    """What the header of a GIF's first frame says is found again by the decoder; neither may be over the limit."""
    found = probe(gif_bomb(900, 900, (1, 1)), Limits(pixels=1_000_000))
    assert (found.width, found.height) == (900, 900)
    with pytest.raises(InvalidInput, match="expected at most 800,000 pixels"):
        probe(gif_bomb(900, 900, (1, 1)), Limits(pixels=800_000))


@pytest.mark.parametrize("kind", KINDS)
def test_probing_reads_what_is_there(kind: str) -> None:
    found = probe(encoded(kind))
    assert (found.width, found.height) == (60, 40)
    assert found.format == {"progressive": "JPEG", "CMYK": "JPEG", "lossless": "WEBP", "animated": "WEBP",
                            "deflated": "TIFF"}.get(kind, kind)  # fmt: skip
    assert found.orientation == (6 if kind in ("JPEG", "progressive", "PNG", "lossless") else 1)
    assert found.components == {"JPEG": 3, "progressive": 3, "CMYK": 4}.get(kind, 0)
