"""Videos through networks of pictures: a frame of a video gets the answer of the same frame as an array."""

import json
import subprocess
import sys
import threading
from pathlib import Path

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import foretell
from foretell.cli.main import main
from foretell.errors import ConfigError, InvalidInput
from foretell.model.data.video import Video

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1] / "unit"))
from picture_networks import CLASSIFIER, DETECTOR, classifier, detector, written
from videos import BLUE, GREEN, RED, plain, write

COLOURS = [RED, RED, GREEN, BLUE, RED] * 4


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two bundles and some videos."""
    folder = tmp_path_factory.mktemp("watched")
    for name, content, tables in (("colours", classifier(), CLASSIFIER), ("things", detector(), DETECTOR)):
        file, picture = written(folder, name, content, tables)
        assert main(["convert", str(file), "--picture", str(picture), "-o", str(folder / name)]) == 0
    (folder / "clips" / "more").mkdir(parents=True)
    write(folder / "clips" / "a.mp4", [plain(c) for c in COLOURS])
    write(folder / "clips" / "more" / "b.mkv", [plain(RED, 64, 64), plain(BLUE, 64, 64)], sound=True)
    (folder / "clips" / "notes.txt").write_text("no video")
    return folder


def test_a_frame_is_answered_like_the_same_frame_as_an_array(made: Path) -> None:
    with foretell.load(made / "colours", threads=3) as model, Video(made / "clips" / "a.mp4") as video:
        frames = list(video.frames())
        seen = list(model.watch(made / "clips" / "a.mp4"))
        assert [(s.frame, s.time_s) for s in seen] == [(f.number, f.time_s) for f in frames]
        for one, frame in zip(seen, frames, strict=True):
            expected = model.predict(frame.pixels())
            assert one.predictions[0] == expected[0]
            np.testing.assert_array_equal(one.predictions.probabilities, expected.probabilities)
            np.testing.assert_array_equal(one.predictions.pictures()[0], frame.pixels())
        assert [s.frame for s in model.watch(made / "clips" / "a.mp4", every=8)] == [0, 8, 16]
        assert [s.frame for s in model.watch(made / "clips" / "a.mp4", fps=5)] == [0, 5, 10, 15]


def test_objects_keep_their_numbers(made: Path) -> None:
    with foretell.load(made / "things") as model:
        seen = list(model.watch(made / "clips" / "a.mp4", track=True))
        found = [[o["track"] for o in s.objects()] for s in seen]
        assert found == [[1] if colour == RED else [] for colour in COLOURS]
        assert seen[0].objects()[0]["label"] == "red thing"
        assert seen[0].draw().size == (64, 48)
        plain_objects = next(iter(model.watch(made / "clips" / "a.mp4"))).objects()
        assert list(plain_objects[0]) == ["label", "score", "box"]


def test_frames_are_run_side_by_side_and_no_more_than_needed(made: Path) -> None:
    with foretell.load(made / "colours", threads=2) as model:
        together, most, started = 0, 0, 0
        meeting, lock = threading.Barrier(2, timeout=20), threading.Lock()
        predict = model.predict_pictures

        def counted(pictures):
            nonlocal together, most, started
            with lock:
                started += 1
                together += 1
                most = max(most, together)
            meeting.wait()  # it would break if one were run after the other
            found = predict(pictures)
            with lock:
                together -= 1
            return found

        model.predict_pictures = counted
        watched = model.watch(made / "clips" / "a.mp4")
        next(watched)
        assert started <= 4, "threads + 2 are on the way"
        assert sum(1 for _ in watched) == 19
        assert most == 2


def test_a_video_that_is_left_early_lets_go_of_its_threads(made: Path) -> None:
    with foretell.load(made / "colours") as model:
        for seen in model.watch(made / "clips" / "a.mp4"):
            if seen.frame == 2:
                break
        assert not [t for t in threading.enumerate() if t.name.startswith("foretell-video")]


def test_what_cannot_be_watched(made: Path, tmp_path: Path) -> None:
    with foretell.load(made / "colours") as model:
        with pytest.raises(ConfigError, match="only the objects of a detection have tracks"):
            model.watch(made / "clips" / "a.mp4", track=True)
        with pytest.raises(ConfigError, match="two ways to choose"):
            model.watch(made / "clips" / "a.mp4", every=2, fps=1)
        with pytest.raises(InvalidInput, match=r'notes\.txt": not a video'):
            model.watch(made / "clips" / "notes.txt")
    with foretell.load(made / "colours.onnx") as model, pytest.raises(InvalidInput, match="takes no pictures"):
        model.watch(made / "clips" / "a.mp4")


def rows_of(path: Path) -> list[dict]:
    if path.suffix == ".jsonl":
        return [json.loads(line) for line in path.read_text().splitlines()]
    table = pq.read_table(path) if path.suffix == ".parquet" else pa.ipc.open_file(path).read_all()
    return table.to_pylist()


@pytest.mark.parametrize("ending", ["jsonl", "parquet", "arrow"])
def test_objects_become_rows(made: Path, tmp_path: Path, ending: str) -> None:
    out, clip = tmp_path / f"objects.{ending}", made / "clips" / "a.mp4"
    assert main(["predict", str(made / "things"), str(clip), "--track", "-o", str(out)]) == 0
    rows = rows_of(out)
    assert list(rows[0]) == ["source", "frame", "time_s", "label", "score", "x_min", "y_min", "x_max", "y_max", "track"]
    assert [r["frame"] for r in rows] == [n for n, colour in enumerate(COLOURS) if colour == RED]
    assert [r["time_s"] for r in rows] == pytest.approx([r["frame"] / 25 for r in rows])
    assert {(r["source"], r["label"], r["track"]) for r in rows} == {(str(clip), "red thing", 1)}
    assert (rows[0]["x_min"], rows[0]["x_max"]) == (16, 48)


def test_a_folder_of_videos_becomes_a_row_for_each_frame(made: Path, tmp_path: Path) -> None:
    out = tmp_path / "labels.csv"
    assert main(["predict", str(made / "colours"), str(made / "clips"), "--every", "2", "-o", str(out)]) == 0
    lines = out.read_text().splitlines()
    assert lines[0] == "source,frame,time_s,prediction,probability,probability_red,probability_green,probability_blue"
    rows = [line.split(",")[:4] for line in lines[1:]]
    a, b = made / "clips" / "a.mp4", made / "clips" / "more" / "b.mkv"
    names = {RED: "red", GREEN: "green", BLUE: "blue"}
    expected = [[str(a), str(n), f"{n / 25:g}", names[COLOURS[n]]] for n in range(0, 20, 2)]
    assert rows == [*expected, [str(b), "0", "0", "red"]]


def test_nothing_found_is_a_table_without_rows(made: Path, tmp_path: Path) -> None:
    clip = write(tmp_path / "blue.mp4", [plain(BLUE)] * 3)
    assert main(["predict", str(made / "things"), str(clip), "--track", "-o", str(tmp_path / "none.csv")]) == 0
    header = "source,frame,time_s,label,score,x_min,y_min,x_max,y_max,track\n"
    assert (tmp_path / "none.csv").read_text() == header
    assert main(["predict", str(made / "things"), str(clip), "-o", str(tmp_path / "none.parquet")]) == 0
    assert pq.read_table(tmp_path / "none.parquet").column_names == header.strip().split(",")[:-1]


def frames_of(path: Path) -> list[av.VideoFrame]:
    with av.open(str(path)) as container:
        return list(container.decode(video=0))


def test_a_copy_is_drawn(made: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    model, clip = str(made / "things"), made / "clips" / "a.mp4"
    copy = tmp_path / "found.mp4"
    assert main(["predict", model, str(clip), "-o", str(tmp_path / "o.csv"), "--draw", str(copy)]) == 0
    frames = frames_of(copy)
    assert [(f.width, f.height) for f in frames] == [(64, 48)] * 20
    assert [f.time for f in frames] == pytest.approx([n / 25 for n in range(20)])
    with av.open(str(copy)) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.average_rate, stream.time_base.denominator) == ("h264", 25, 12800)
        assert not container.streams.audio
    blank = frames_of(clip)
    changed = [
        np.abs(f.to_ndarray(format="rgb24").astype(int) - b.to_ndarray(format="rgb24")).max() > 60
        for f, b in zip(frames, blank, strict=True)
    ]
    assert changed == [colour == RED for colour in COLOURS]
    assert main(["predict", model, str(clip), "--every", "5", "--draw", str(copy), "-o", str(tmp_path / "o.csv")]) == 0
    assert [f.time for f in frames_of(copy)] == pytest.approx([0, 0.2, 0.4, 0.6])
    assert not [p for p in tmp_path.iterdir() if p.suffix == ".part"]


def test_copies_of_a_folder_have_its_names(made: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    odd = tmp_path / "clips"
    odd.mkdir()
    write(odd / "odd.mov", [plain(RED, 33, 21)] * 3)  # H.264 as players have it codes pairs of pixels
    write(odd / "turned.mp4", [plain(RED)] * 3, turn=(90, False))
    drawn = tmp_path / "drawn"
    arguments = ["predict", str(made / "things"), str(odd), str(made / "clips" / "more"), "--draw", f"{drawn}/"]
    assert main([*arguments, "-v", "-o", str(tmp_path / "o.csv")]) == 0
    assert "note: the copies have no sound" in capfd.readouterr().err
    sizes = {p.name: (frames_of(p)[0].width, frames_of(p)[0].height) for p in drawn.rglob("*.m*")}
    assert sizes == {"odd.mov": (34, 22), "turned.mp4": (48, 64), "b.mkv": (64, 64)}


def test_wrong_uses_are_told(made: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    model, clip, out = str(made / "things"), str(made / "clips" / "a.mp4"), str(tmp_path / "o.csv")
    picture = tmp_path / "p" / "red.png"
    picture.parent.mkdir()
    from PIL import Image

    Image.new("RGB", (20, 20), RED).save(picture)
    both = write(tmp_path / "p" / "clip.mp4", [plain(RED)] * 2)
    for arguments, said in (
        ([clip, str(picture)], "predict them apart"),
        ([str(picture.parent)], "predict them apart"),
        ([clip, "--keep", "a"], "--keep: is for rows"),
        ([clip, "--on-error", "quarantine=bad.csv"], "--on-error quarantine: is for rows"),
        ([clip, "--every", "2", "--fps", "3"], "two ways to choose frames"),
        ([clip, "--every", "0"], "expected every 1 or more"),
        ([clip, "-o", clip], "the ending says the format"),
        ([clip, "-o", str(tmp_path / "o.xyz")], "the ending says the format"),
        ([clip, "--draw", str(tmp_path / "found.jpg")], "expected a video .mp4 .mov or .mkv"),
        ([clip, "--draw", clip], "would be written over"),
        ([clip, str(both), "--draw", str(tmp_path / "found.mp4")], "2 videos do not go into one"),
        ([str(picture), "--every", "2"], "--every: is for videos"),
        ([clip, str(tmp_path / "missing.mp4")], "there is no such video"),
    ):
        assert main(["predict", model, "-o", out, *arguments]) == 2, arguments
        told = capfd.readouterr().err
        assert said in told, told
        assert told.count("\n") == 1
    assert main(["predict", str(made / "colours"), clip, "--track", "-o", out]) == 2
    assert "have tracks" in capfd.readouterr().err
    assert not Path(out).exists()


def test_a_broken_video_is_answered_as_far_as_it_goes(
    made: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    drawn = np.random.default_rng(0)
    noise = [np.dstack([drawn.integers(200, 255, (48, 64)), *drawn.integers(0, 60, (2, 48, 64))]) for _ in range(30)]
    whole = write(tmp_path / "whole.mp4", [f.astype(np.uint8) for f in noise])
    cut, out = tmp_path / "cut.mp4", tmp_path / "o.jsonl"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    copy = tmp_path / "found.mp4"
    assert main(["predict", str(made / "things"), str(cut), "-o", str(out), "--draw", str(copy)]) == 3
    said = capfd.readouterr().err
    assert f'"{cut}": damaged from frame' in said
    assert f'what could be decoded is in "{out}"' in said
    assert said.count("\n") == 1
    assert 5 <= len(rows_of(out)) == len(frames_of(copy)) < 30
    with foretell.load(made / "things") as model:
        seen = []
        with pytest.raises(InvalidInput, match="of 30 frames"):
            seen.extend(model.watch(cut))
        assert len(seen) == len(rows_of(out))


def test_a_file_that_is_no_video_ends_the_job_before_it_begins(
    made: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "wrong.mp4").write_bytes(b"nothing")
    out = tmp_path / "o.csv"
    assert (
        main(["predict", str(made / "things"), str(made / "clips"), str(tmp_path / "wrong.mp4"), "-o", str(out)]) == 3
    )
    assert f'"{tmp_path}/wrong.mp4": not a video that can be read' in capfd.readouterr().err
    assert not out.exists()


def test_broken_videos_are_passed_over(made: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "wrong.mp4").write_bytes(b"nothing")
    drawn = np.random.default_rng(0)
    whole = write(tmp_path / "cut.mp4", [drawn.integers(0, 255, (48, 64, 3)).astype(np.uint8) for _ in range(30)])
    whole.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    out, clip = tmp_path / "o.jsonl", made / "clips" / "a.mp4"
    command = ["predict", str(made / "colours"), str(tmp_path), str(clip), "--json", "-o", str(out)]
    assert main([*command, "--on-error", "skip"]) == 0
    told, said = capfd.readouterr()
    assert [line.split('": ')[0] for line in said.splitlines()] == [
        f'foretell: "{tmp_path}/{name}.mp4' for name in ("wrong", "cut")
    ]
    found = json.loads(told)
    assert len(found["faults"]) == 2
    assert found["frames"] == found["rows"] == len(rows_of(out)) > 20
    assert found["predictions"]["prediction"]["labels"]["red"] >= 12
    assert {r["source"] for r in rows_of(out)} == {str(tmp_path / "cut.mp4"), str(clip)}
    assert main(["predict", str(made / "colours"), str(tmp_path / "wrong.mp4"), "--on-error", "skip"]) == 3
    assert "none of the videos" in capfd.readouterr().err


def test_a_full_disk_leaves_nothing(made: Path, tmp_path: Path) -> None:
    drawn = np.random.default_rng(0)
    clip = write(tmp_path / "noise.mp4", [drawn.integers(0, 255, (96, 128, 3)).astype(np.uint8) for _ in range(40)])
    (tmp_path / "out").mkdir()
    # A file of this process may have so many bytes: to who writes, it is a full disk.
    limit = "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); "
    limit += "resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, 40_000)); from foretell.cli.main import main; "
    command = [sys.executable, "-c", limit + "sys.exit(main(sys.argv[1:]))", "predict", str(made / "things"), str(clip)]
    command += ["-o", str(tmp_path / "out" / "o.csv"), "--draw", str(tmp_path / "out" / "found.mp4")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 5, done.stderr
    assert done.stderr.count("\n") == 1
    assert "written" in done.stderr
    assert not list((tmp_path / "out").iterdir())
