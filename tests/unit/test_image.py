"""Pictures to tensors: every form, format and mode, against Pillow's own reading and OpenCV's golden pixels."""

import io
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as Pillow
from PIL import ImageOps

from foretell.errors import ArtifactInvalid, InvalidInput
from foretell.model.data.image import ImagePreparation, Limits
from foretell.model.data.image_check import IMAGE_FIELD
from foretell.model.data.image_frame import frame_of
from foretell.model.data.image_resize import resize
from foretell.signature import Image, Signature, TensorSpec

DATA = Path(__file__).parents[1] / "data"
CHELSEA = DATA / "chelsea.jpg"
GOLDEN = np.load(DATA / "chelsea_golden.npz")


def signature_of(width: int = 32, height: int = 24, datatype: str = "UINT8", **keys: Any) -> Signature:
    image = Image("x", width, height, **keys)
    shape = (-1, image.channels, height, width) if image.layout == "nchw" else (-1, height, width, image.channels)
    return Signature((TensorSpec("x", datatype, shape),), (), (IMAGE_FIELD,), image=image)


def pixels_of(source: Any, width: int = 32, height: int = 24, **keys: Any) -> np.ndarray:
    """Return one prepared picture as it comes out: 8 bits, channels last."""
    keys = {"layout": "nhwc", "exact": True} | keys
    return ImagePreparation(signature_of(width, height, **keys)).prepare(source).inputs["x"][0]


def picture(width: int = 64, height: int = 48) -> Pillow.Image:
    """Return a picture in which every corner and channel differs."""
    across, down = np.meshgrid(np.linspace(0, 255, width), np.linspace(0, 255, height))
    stripes = (np.arange(width) // 5 % 2 * 200 + down / 5).astype(np.uint8)
    return Pillow.fromarray(np.dstack([across, down, stripes]).astype(np.uint8))


def saved(image: Pillow.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def chelsea() -> Pillow.Image:
    return Pillow.open(CHELSEA)


class TestForms:
    def test_every_form_of_one_picture_gives_the_same(self) -> None:
        content, array = CHELSEA.read_bytes(), np.asarray(chelsea())
        forms = [str(CHELSEA), CHELSEA, content, bytearray(content), memoryview(content), chelsea(), array, [CHELSEA]]
        first, *others = (pixels_of(form) for form in forms)
        assert first.std() > 20
        for other in others:
            np.testing.assert_array_equal(other, first)

    def test_many(self) -> None:
        preparation = ImagePreparation(signature_of())
        arrays = np.stack([np.asarray(picture()), np.asarray(picture())[::-1]])
        want = preparation.prepare(list(arrays)).inputs["x"]
        objects = np.array([saved(Pillow.fromarray(a), "PNG") for a in arrays], object)
        for data in (arrays, tuple(arrays), objects, [Pillow.fromarray(a) for a in arrays]):
            found = preparation.prepare(data)
            assert found.rows == 2
            assert found.notes == ()
            np.testing.assert_array_equal(found.inputs["x"], want)
        assert (want[0] != want[1]).any()

    def test_no_pictures(self) -> None:
        found = ImagePreparation(signature_of()).prepare([])
        assert found.rows == 0
        assert found.inputs["x"].shape == (0, 3, 24, 32)
        assert found.geometry.shape == (0, 6)

    def test_grey_arrays(self) -> None:
        grey = np.asarray(picture().convert("L"))
        for form in (grey, grey[:, :, None], picture().convert("L")):
            assert (pixels_of(form) == pixels_of(np.dstack([grey] * 3))).all()

    @pytest.mark.parametrize(
        ("data", "message"),
        [
            (3, "image: got int, expected a path, bytes"),
            ([None], "image, row 0: got NoneType"),
            (np.zeros((4, 4, 3)), "got an array of float64, expected uint8"),
            (np.zeros((4, 4, 4), np.uint8), r"got an array of shape \(4, 4, 4\), expected"),
            (np.zeros((0, 4, 3), np.uint8), "got 4 x 0 pixels"),
            ("no/such.jpg", '"no/such.jpg": No such file or directory; expected a file with a picture'),
            (Path(__file__).parent, "Is a directory"),
            ("a\0b.jpg", "null"),
            (Pillow.new("F", (4, 4)), r"pixels of 32 bits \(mode F\)"),
            (Pillow.new("I", (4, 4)), r"pixels of 32 bits \(mode I\)"),
        ],
    )
    def test_what_is_no_picture_is_told(self, data: Any, message: str) -> None:
        with pytest.raises(InvalidInput, match=message):
            ImagePreparation(signature_of()).prepare(data)

    def test_strangers_may_not_name_files(self) -> None:
        closed = ImagePreparation(signature_of(), files=False)
        for data in (str(CHELSEA), CHELSEA, [str(CHELSEA)], np.array([str(CHELSEA)], object)):
            with pytest.raises(InvalidInput, match="got a text, expected the bytes of a picture"):
                closed.prepare(data)
        assert closed.prepare(CHELSEA.read_bytes()).rows == 1

    def test_a_users_image_is_left_as_it_was(self) -> None:
        image = picture().quantize(16)
        image.info["transparency"] = 3
        before = image.tobytes()
        pixels_of(image)
        assert (image.mode, image.info["transparency"], image.tobytes()) == ("P", 3, before)


class TestFormats:
    @pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "GIF", "WEBP"])
    def test_by_content_whatever_the_name(self, kind: str, tmp_path: Path) -> None:
        image = picture().quantize(64).convert("RGB")
        content = saved(image, kind, **({"lossless": True} if kind == "WEBP" else {}))
        (tmp_path / "a.jpg").write_bytes(content)
        want = pixels_of(np.asarray(Pillow.open(io.BytesIO(content)).convert("RGB")))
        np.testing.assert_array_equal(pixels_of(tmp_path / "a.jpg"), want)

    @pytest.mark.parametrize(
        ("mode", "kind"),
        [
            *((mode, "PNG") for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")),
            *((mode, "TIFF") for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16", "YCbCr", "LAB")),
            *((mode, "JPEG") for mode in ("L", "RGB", "CMYK")),
            *((mode, "BMP") for mode in ("1", "L", "P", "RGB", "RGBA")),
            *((mode, "WEBP") for mode in ("RGB", "RGBA")),
            *((mode, "GIF") for mode in ("1", "L", "P")),
        ],
    )
    def test_modes(self, mode: str, kind: str) -> None:
        if mode == "I;16":
            high = np.asarray(picture().convert("L"))
            content = saved(Pillow.fromarray(high.astype(np.uint16) << 8 | 77), kind)
            want = np.dstack([high] * 3)
        else:
            content = saved(picture().convert(mode), kind)
            want = np.asarray(Pillow.open(io.BytesIO(content)).convert("RGB"))
        found = pixels_of(content)
        np.testing.assert_array_equal(found, pixels_of(want))
        assert found.std() > 20

    @pytest.mark.parametrize(
        "options",
        [
            {"progressive": True},
            {"subsampling": "4:4:4"},
            {"subsampling": "4:2:2"},
            {"quality": 20},
            {"restart_marker_blocks": 2},
            {"comment": b"x" * 60_000},
            {"keep_rgb": True},
        ],
    )
    def test_kinds_of_jpeg_decode_as_pillow_does(self, options: dict[str, Any]) -> None:
        content = saved(picture(123, 77), "JPEG", **options)
        want = np.asarray(Pillow.open(io.BytesIO(content)))
        np.testing.assert_array_equal(pixels_of(content, 123, 77), want)

    def test_pixels_of_a_photo_are_opencvs(self) -> None:
        np.testing.assert_array_equal(pixels_of(CHELSEA, 300, 200)[40:60, 100:130], GOLDEN["decoded"])

    def test_transparency_is_dropped_as_convert_does(self) -> None:
        image = Pillow.new("RGBA", (8, 8), (200, 100, 50, 0))
        assert (pixels_of(saved(image, "PNG")) == (200, 100, 50)).all()
        palette = picture().quantize(16)
        content = saved(palette, "PNG", transparency=bytes(range(16)))
        assert (pixels_of(content) == pixels_of(palette.convert("RGB"))).all()

    def test_the_first_frame_counts(self) -> None:
        frames = [Pillow.new("RGB", (8, 8), c) for c in ("red", "blue")]
        for kind in ("GIF", "WEBP", "TIFF", "PNG"):
            content = saved(frames[0], kind, save_all=True, append_images=frames[1:])
            red, green, blue = pixels_of(content)[0, 0].tolist()
            assert red > 250, kind
            assert max(green, blue) < 5, kind

    @pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
    @pytest.mark.parametrize("orientation", range(1, 9))
    def test_orientation(self, kind: str, orientation: int) -> None:
        exif = Pillow.Exif()
        exif[0x0112] = orientation
        image = picture().quantize(32).convert("RGB")
        content = saved(image, kind, exif=exif, **({"lossless": True} if kind == "WEBP" else {}))
        upright = ImageOps.exif_transpose(Pillow.open(io.BytesIO(content)))
        found = ImagePreparation(signature_of(64, 64, exact=True, layout="nhwc")).prepare(
            [content, upright, Pillow.open(io.BytesIO(content))]
        )
        assert (found.inputs["x"] == found.inputs["x"][1]).all()
        assert found.geometry[0, :2].tolist() == list(upright.size)


class TestResize:
    @pytest.mark.parametrize("kind", ["nearest", "box", "bilinear", "bicubic", "lanczos"])
    def test_exact_is_pillows(self, kind: Any) -> None:
        np.testing.assert_array_equal(pixels_of(CHELSEA, 40, 30, resize=kind), GOLDEN[f"pillow_{kind}"])

    @pytest.mark.parametrize(("kind", "most"), [("bilinear", 1), ("bicubic", 1)])
    def test_without_antialias_it_is_opencvs(self, kind: Any, most: int) -> None:
        array = np.asarray(chelsea())
        for source, name, size in ((array, "opencv_", (40, 30)), (array[:40, :60], "opencv_up_", (90, 52))):
            for exact in (True, False):
                found = pixels_of(source, *size, resize=kind, antialias=False, exact=exact).astype(int)
                assert np.abs(found - GOLDEN[name + kind]).max() <= most

    @pytest.mark.parametrize(
        ("kind", "most"), [("nearest", 0), ("box", 0), ("bilinear", 1), ("bicubic", 1), ("lanczos", 2)]
    )
    @pytest.mark.parametrize(
        "keys",
        [{}, {"fit": "letterbox", "pad": 9}, {"fit": "crop"}, {"fit": "crop", "crop_from": 77}],
        ids=["stretch", "letterbox", "crop", "crop from"],
    )
    def test_the_fast_way_stays_near(self, kind: Any, most: int, keys: dict[str, Any]) -> None:
        noise = np.random.default_rng(0).integers(0, 256, (130, 171, 3), dtype=np.uint8)
        for source in (noise, np.asarray(chelsea())):
            for size in ((64, 50), (50, 64), (171, 40)):
                keys = keys if not keys.get("crop_from") or min(size) <= 77 else {"fit": "crop"}
                fast = pixels_of(source, *size, resize=kind, exact=False, **keys).astype(int)
                assert np.abs(fast - pixels_of(source, *size, resize=kind, **keys)).max() <= most

    def test_a_cut_is_what_is_left_of_the_whole(self) -> None:
        image = Image("x", 40, 40, fit="crop", crop_from=50)
        whole = chelsea().resize((75, 200), Pillow.Resampling.BICUBIC).resize((75, 50), Pillow.Resampling.BICUBIC)
        want = np.asarray(whole)[5:45, 18:58]
        frame = frame_of(image, 300, 200)
        assert (frame.whole, frame.cut) == ((75, 50), (18, 5))
        np.testing.assert_array_equal(resize(np.asarray(chelsea()), frame, "bicubic", exact=True), want)

    def test_scaled_decoding_stays_near(self) -> None:
        large = chelsea().resize((1801, 1203), Pillow.Resampling.LANCZOS)
        for content in (saved(large, "JPEG", quality=95), saved(large.transpose(Pillow.Transpose.ROTATE_90), "JPEG")):
            for keys in ({}, {"fit": "crop", "crop_from": 80}, {"fit": "letterbox"}):
                exact = pixels_of(content, 64, 64, **keys).astype(int)
                off = np.abs(pixels_of(content, 64, 64, exact=False, **keys) - exact)
                assert 0 < off.mean() < 0.5
                assert off.max() <= 6

    def test_how_far_a_jpeg_is_decoded_smaller(self, monkeypatch: pytest.MonkeyPatch) -> None:
        import simplejpeg

        shapes = []
        decode = simplejpeg.decode_jpeg

        def spy(*args: Any, **keys: Any) -> Any:
            shapes.append((found := decode(*args, **keys)).shape[:2])
            return found

        monkeypatch.setattr(simplejpeg, "decode_jpeg", spy)
        content = saved(chelsea().resize((1000, 667)), "JPEG")
        for side, keys, want in (
            (32, {}, (84, 125)),
            (64, {}, (167, 250)),
            (128, {}, (334, 500)),
            (168, {}, (667, 1000)),
            (32, {"fit": "crop", "crop_from": 43}, (167, 250)),
            (32, {"exact": True}, (667, 1000)),
            (32, {"antialias": False}, (667, 1000)),
            (32, {"resize": "nearest"}, (667, 1000)),
        ):
            pixels_of(content, side, side, **({"exact": False} | keys))
            assert shapes.pop() == want, (side, keys)


class TestTensor:
    def test_scale_mean_and_std(self) -> None:
        keys = {"scale": 1 / 255, "mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225), "exact": True}
        pixels = np.asarray(picture(32, 24))
        want = (pixels / 255 - keys["mean"]) / keys["std"]
        for datatype, tolerance in (("FP32", 1e-6), ("FP16", 2e-3)):
            found = ImagePreparation(signature_of(datatype=datatype, layout="nhwc", **keys)).prepare(pixels).inputs["x"]
            assert found.dtype == {"FP32": np.float32, "FP16": np.float16}[datatype]
            np.testing.assert_allclose(found[0], want, atol=tolerance, rtol=tolerance)
            turned = ImagePreparation(signature_of(datatype=datatype, **keys)).prepare(pixels).inputs["x"]
            np.testing.assert_array_equal(turned, found.transpose(0, 3, 1, 2))
            assert turned.flags.c_contiguous

    def test_colours(self) -> None:
        image = picture(32, 24)
        np.testing.assert_array_equal(pixels_of(image, colour="bgr"), np.asarray(image)[:, :, ::-1])
        np.testing.assert_array_equal(pixels_of(image, colour="grey")[:, :, 0], np.asarray(image.convert("L")))
        swapped = ImagePreparation(signature_of(datatype="FP32", colour="bgr", mean=(1, 2, 3))).prepare(image)
        np.testing.assert_array_equal(swapped.inputs["x"][0, 0], np.asarray(image)[:, :, 2] - 1.0)

    def test_padding_is_scaled_like_a_pixel(self) -> None:
        keys = {"fit": "letterbox", "pad": 114, "scale": 1 / 255, "mean": (0.5,), "datatype": "FP32"}
        found = ImagePreparation(signature_of(20, 20, **keys)).prepare(np.full((10, 20, 3), 114, np.uint8))
        np.testing.assert_allclose(found.inputs["x"], 114 / 255 - 0.5, atol=1e-6)
        assert np.ptp(found.inputs["x"]) == 0

    def test_a_signature_that_cannot_be_done(self) -> None:
        with pytest.raises(ArtifactInvalid, match='resize "lanczos" without antialias'):
            ImagePreparation(signature_of(resize="lanczos", antialias=False))


class TestEach:
    def test_a_broken_picture_costs_no_other(self, tmp_path: Path) -> None:
        (tmp_path / "cut.jpg").write_bytes(CHELSEA.read_bytes()[:5000])
        data = [CHELSEA, tmp_path / "cut.jpg", b"GIF89a", picture(), "gone.png"]
        preparation = ImagePreparation(signature_of())
        for threads in (1, 3):
            found = preparation.prepare_each(data, threads=threads)
            assert found.kept == (0, 3)
            assert sorted(found.errors) == [1, 2, 4]
            assert {row: error.row for row, error in found.errors.items()} == {1: 1, 2: 2, 4: 4}
            assert "cut.jpg" in str(found.errors[1])
            assert found.rows == 2
            np.testing.assert_array_equal(found.inputs["x"], preparation.prepare([CHELSEA, picture()]).inputs["x"])
            assert found.geometry[:, 0].tolist() == [300, 64]
        with pytest.raises(InvalidInput, match=r"cut\.jpg") as raised:
            preparation.prepare(data, threads=2)
        assert raised.value.row == 1

    def test_several_threads_give_what_one_gives(self) -> None:
        preparation = ImagePreparation(signature_of(datatype="FP32"))
        data = [saved(picture(40 + i, 90 - i), "JPEG") for i in range(24)]
        want = preparation.prepare(data)
        found: list[Any] = []
        workers = [
            threading.Thread(target=lambda: found.append(preparation.prepare(data, threads=2))) for _ in range(3)
        ]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        assert len(found) == 3
        for other in found:
            np.testing.assert_array_equal(other.inputs["x"], want.inputs["x"])
            np.testing.assert_array_equal(other.geometry, want.geometry)

    def test_limits_are_the_callers(self) -> None:
        small = ImagePreparation(signature_of(), Limits(pixels=1000, bytes=20_000, side=100))
        for data, message in (
            (picture(), "got 64 x 48 pixels, expected at most 1,000 pixels in all and 100 on a side"),
            (np.zeros((2, 200, 3), np.uint8), "got 200 x 2 pixels"),
            (saved(picture(), "PNG"), "got 64 x 48 pixels"),
            (b"x" * 20_001, "got 20,001 bytes, expected at most 20,000"),
        ):
            with pytest.raises(InvalidInput, match=message):
                small.prepare(data)
