"""Frames of video files: their order, numbers, times and pixels, and what happens to broken files."""

import io
import sys
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))
from videos import BLUE, GREEN, RED, colour_of, corners, plain, quarters, write

from foretell.bulk.video_files import is_video
from foretell.errors import ConfigError, InvalidInput
from foretell.model.data.image_probe import Limits
from foretell.model.data.video import Video
from foretell.model.data.video_frame import check_pace


@pytest.fixture(scope="module")
def noisy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty frames that do not compress well."""
    drawn = np.random.default_rng(0)
    frames = [drawn.integers(0, 255, (48, 64, 3)).astype(np.uint8) for _ in range(40)]
    return write(tmp_path_factory.mktemp("video") / "noise.mp4", frames)


def test_frames_come_in_order_with_their_times(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mp4", [plain(c) for c in (RED, GREEN, BLUE) * 4], rate=30)
    with Video(path) as video:
        assert video.size == (64, 48)
        assert video.rate == 30
        assert video.count == 12
        assert not video.has_sound
        frames = list(video.frames())
        assert [f.number for f in frames] == list(range(12))
        assert [f.time_s for f in frames] == pytest.approx([n / 30 for n in range(12)])
        assert "".join(colour_of(f.pixels()[20, 20]) for f in frames) == "RGB" * 4
        assert frames[0].pixels().dtype == np.uint8
        assert video.fault is None


def test_pixels_are_those_of_the_decoder(noisy: Path) -> None:
    with Video(noisy, threads=3) as video, av.open(str(noisy)) as container:
        expected = [f.to_ndarray(format="rgb24") for f in container.decode(video=0)]
        found = [f.pixels() for f in video.frames()]
    assert len(found) == 40
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    ("turn", "seen"),
    [
        ((0, False), "RGKB"),
        ((90, False), "GBRK"),
        ((180, False), "BKGR"),
        ((-90, False), "KRBG"),
        ((0, True), "GRBK"),
        ((180, True), "KBRG"),
        ((90, True), "BGKR"),
        ((-90, True), "RKGB"),
    ],
)
def test_a_turned_video_is_seen_upright(tmp_path: Path, turn: tuple[float, bool], seen: str) -> None:
    path = write(tmp_path / "turned.mp4", [quarters()] * 2, turn=turn)
    with Video(path) as video:
        pixels = next(video.frames()).pixels()
    assert corners(pixels) == seen
    assert pixels.shape[:2] == ((64, 48) if turn[0] in (90, -90) else (48, 64))


def test_an_odd_angle_is_left(tmp_path: Path) -> None:
    with Video(write(tmp_path / "tilted.mp4", [quarters()] * 2, turn=(30, False))) as video:
        assert corners(next(video.frames()).pixels()) == "RGKB"


def test_some_frames_are_taken(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mp4", [plain(RED)] * 25)
    for keys, numbers in (
        ({"every": 10}, [0, 10, 20]),
        ({"every": 1}, list(range(25))),
        ({"fps": 5}, [0, 5, 10, 15, 20]),
        ({"fps": 10}, [0, 3, 5, 8, 10, 13, 15, 18, 20, 23]),
        ({"fps": 1000.0}, list(range(25))),
        ({"fps": 0.1}, [0]),
    ):
        with Video(path) as video:
            assert [f.number for f in video.frames(**keys)] == numbers, keys


def test_times_are_those_of_the_file(tmp_path: Path) -> None:
    ticks = [0, 1, 2, 40, 41, 100]
    with Video(write(tmp_path / "a.mkv", [plain(RED)] * 6, times=ticks)) as video:
        times = [f.time_s for f in video.frames()]
    assert times == pytest.approx([t / 25 for t in ticks], abs=1e-3)
    with Video(write(tmp_path / "b.mkv", [plain(RED)] * 6, times=ticks)) as video:
        assert [f.number for f in video.frames(fps=1)] == [0, 3, 5]


def test_videos_are_known_by_what_is_in_them(tmp_path: Path) -> None:
    for ending in ("mp4", "mov", "mkv", "avi", "ts", "mpg", "flv"):
        path = write(tmp_path / f"a.{ending}", [plain(RED)] * 30)
        assert is_video(path.rename(tmp_path / f"no_ending_{ending}")), ending
    contents = {
        "code.ts": b"const a: number = 1\n" * 50,
        "page.txt": b"G" + b" " * 187 + b"H" * 100,
        "a.avif": b"\0\0\0 ftypavif",
    }
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
        assert not is_video(tmp_path / name), name
    (tmp_path / "broken.mp4").write_bytes(b"")
    assert is_video(tmp_path / "broken.mp4")
    assert not is_video(tmp_path / "nothing")


def test_a_video_that_begins_late_begins_at_zero(tmp_path: Path) -> None:
    with Video(write(tmp_path / "late.ts", [plain(RED)] * 5)) as video:  # MPEG-TS begins at 1.4 s by itself
        assert [f.time_s for f in video.frames()] == pytest.approx([n / 25 for n in range(5)])


@pytest.mark.parametrize(("every", "fps"), [(0, None), (-1, None), (1, 0.0), (1, float("nan")), (1, -2.0), (2, 5.0)])
def test_no_pace_at_all(every: int, fps: float | None) -> None:
    with pytest.raises(ConfigError, match=f"every {every}"):
        check_pace(every, fps)


def test_colours_are_those_the_file_names(tmp_path: Path) -> None:
    """A saturated green differs by tens between BT.601 and BT.709."""
    found = {}
    for name, space in (("ITU601", 5), ("ITU709", 1)):
        path = tmp_path / f"{name}.mp4"
        with av.open(str(path), "w") as container:
            stream = container.add_stream("libx264", rate=25, options={"crf": "1"})
            stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
            stream.codec_context.colorspace = space
            frame = av.VideoFrame.from_ndarray(plain((40, 200, 90)), format="rgb24")
            frame = frame.reformat(format="yuv420p", dst_colorspace=name)
            for packet in [*stream.encode(frame), *stream.encode(None)]:
                container.mux(packet)
        with Video(path) as video:
            found[name] = next(video.frames()).pixels()[20, 20].astype(int)
    for pixel in found.values():
        assert np.abs(pixel - (40, 200, 90)).max() <= 4, found


def broken(kind: str, whole: bytes) -> bytes:
    """Return a video with something wrong with it."""
    if kind == "cut":
        return whole[: len(whole) * 6 // 10]
    damaged = bytearray(whole)
    middle = len(whole) // 2
    damaged[middle : middle + 600] = np.random.default_rng(1).bytes(600)
    return bytes(damaged)


@pytest.mark.parametrize("kind", ["cut", "damaged"])
def test_a_broken_video_is_seen_as_far_as_it_goes(noisy: Path, tmp_path: Path, kind: str) -> None:
    path = tmp_path / "broken.mp4"
    path.write_bytes(broken(kind, noisy.read_bytes()))
    with Video(path) as video, Video(noisy) as whole:
        found = list(video.frames())
        assert 15 <= len(found) <= 40
        np.testing.assert_array_equal(found[5].pixels(), [f.pixels() for f in whole.frames()][5])
        fault = video.fault or ""
    assert fault.startswith(f'"{path}": damaged from frame ')
    if kind == "cut":
        assert f"; ends after {len(found)} of 40 frames, at " in fault


def test_a_file_without_a_count_of_frames_that_ends_early(tmp_path: Path) -> None:
    drawn = np.random.default_rng(0)
    frames = [drawn.integers(0, 255, (48, 64, 3)).astype(np.uint8) for _ in range(100)]
    whole = write(tmp_path / "whole.mkv", frames)
    (tmp_path / "cut.mkv").write_bytes(whole.read_bytes()[:300_000])
    with Video(whole) as video:
        assert len(list(video.frames())) == 100
        assert video.fault is None
    with Video(tmp_path / "cut.mkv") as video:
        assert 10 < len(list(video.frames())) < 80
        assert "s of 4.00 s" in (video.fault or "")


def test_what_is_no_video_is_refused(noisy: Path, tmp_path: Path) -> None:
    picture = io.BytesIO()
    from PIL import Image

    Image.new("RGB", (32, 32)).save(picture, "PNG")
    contents = {
        "zero.mp4": b"",
        "random.mp4": np.random.default_rng(0).bytes(5000),
        "text.mp4": b"hello\n" * 500,
        "picture.mp4": picture.getvalue(),
        # Lists of other files: what they name must not be opened.
        "hls.mp4": f"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nfile://{noisy}\n#EXT-X-ENDLIST\n".encode(),
        "concat.mp4": f"ffconcat version 1.0\nfile '{noisy}'\n".encode(),
        "dash.mp4": b'<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011"></MPD>',
    }
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InvalidInput, match="not a video that can be read") as caught:
            Video(tmp_path / name)
        assert str(caught.value).startswith(f'"{tmp_path / name}": ')
        assert "\n" not in str(caught.value)
    for path in (tmp_path / "nothing.mp4", tmp_path):
        with pytest.raises(InvalidInput, match="expected a video file"):
            Video(path)
    with pytest.raises(InvalidInput, match="expected a video file"):
        Video("http://127.0.0.1:9/a.mp4")


def test_sound_alone_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "song.m4a"
    with av.open(str(path), "w", format="mp4") as container:
        audio = container.add_stream("aac", rate=8000)
        silence = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        silence.sample_rate = 8000
        for packet in [*audio.encode(silence), *audio.encode(None)]:
            container.mux(packet)
    with pytest.raises(InvalidInput, match="no pictures that move"):
        Video(path)


def test_large_frames_are_refused_before_they_are_decoded(noisy: Path) -> None:
    with pytest.raises(InvalidInput, match="got 64 x 48 pixels, expected at most 3,000"):
        Video(noisy, Limits(pixels=3000))


def test_a_video_like_it_can_be_written(noisy: Path) -> None:
    with Video(noisy) as video:
        assert video.time_base == Fraction(1, 12800)
        assert video.codec.width == 64
