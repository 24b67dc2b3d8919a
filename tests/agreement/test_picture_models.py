"""A network of pictures from the bare file to answers: converted, loaded, asked in Python and on the command line."""

import hashlib
import io
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import onnx
import pyarrow.parquet as pq
import pytest
from PIL import Image

import foretell
import foretell.testing
from foretell.cli.main import main
from foretell.errors import ConfigError, InvalidInput, ProofFailed
from foretell.model.convert import convert

sys.path.insert(0, str(Path(__file__).parent))
from picture_networks import CLASSIFIER, DETECTOR, classifier, detector, plain, written

RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two bundles and some pictures."""
    folder = tmp_path_factory.mktemp("seen")
    for name, content, tables in (("colours", classifier(), CLASSIFIER), ("things", detector(), DETECTOR)):
        file, picture = written(folder, name, content, tables)
        assert main(["convert", str(file), "--picture", str(picture), "-o", str(folder / name)]) == 0
    photos = folder / "photos" / "more"
    photos.mkdir(parents=True)
    plain(RED, 64, 32).save(folder / "photos" / "a.png")
    plain(GREEN).save(folder / "photos" / "b.bmp")
    plain(BLUE).save(photos / "c", "JPEG")  # known by what is in it
    (folder / "photos" / "notes.txt").write_text("no picture")
    return folder


def encoded(picture: Image.Image, kind: str = "PNG") -> bytes:
    held = io.BytesIO()
    picture.save(held, kind)
    return held.getvalue()


def test_a_picture_in_any_form_gets_the_same_answer(made: Path) -> None:
    with foretell.load(made / "colours") as model:
        picture = plain(GREEN)
        forms = [made / "photos" / "b.bmp", str(made / "photos" / "b.bmp"), encoded(picture), picture]
        forms.append(np.asarray(picture))
        answers = [model.predict(form)[0] for form in forms]
        assert answers == [answers[0]] * len(forms)
        assert answers[0]["label"] == "green"
        expected = np.exp([0, 10, 0]) / np.exp([0, 10, 0]).sum()
        assert list(answers[0]["probabilities"].values()) == pytest.approx(expected, abs=1e-6)
        assert model.predict(forms).to_list() == answers
        assert len(model.predict([])) == 0
        tensor = model.prepare(picture)[0]["image"]
        assert tensor.shape == (1, 3, 16, 16)
        assert model.predict(tensor)[0] == answers[0]


def test_boxes_are_in_pixels_of_the_original(made: Path) -> None:
    with foretell.load(made / "things", threads=2) as model:
        # 64 x 32 becomes 16 x 8 with four rows of nothing above and below: red's mean is a half.
        pictures = [plain(RED, 64, 32), plain(BLUE), plain(RED, 32, 32)] * 5
        found = model.predict(pictures)
        assert found[0] == [{"label": "red thing", "score": pytest.approx(0.5), "box": [16, 8, 48, 24]}]
        assert found[1] == []
        assert found[2] == [{"label": "red thing", "score": pytest.approx(1.0), "box": [8, 12, 24, 20]}]
        assert found.to_list() == [found[0], found[1], found[2]] * 5
        assert len(model.predict([])) == 0
        drawn = found.draw(0)
        assert drawn.size == (64, 32)
        assert drawn.getpixel((16, 20)) != RED
        assert [p.size for p in found.pictures()[:3]] == [(64, 32), (32, 32), (32, 32)]


def test_a_broken_picture_is_named(made: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(encoded(plain(RED))[:-30])
    with foretell.load(made / "colours") as model:
        with pytest.raises(InvalidInput, match=r"broken\.png") as caught:
            model.predict([plain(RED), plain(RED), broken, plain(RED)])
        assert caught.value.row == 2
        with pytest.raises(InvalidInput, match="image, row 1: got 0 bytes"):
            model.predict([plain(RED), b""])


def test_a_folder_becomes_a_table(made: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", str(made / "colours"), str(made / "photos")]) == 0
    lines = capfd.readouterr().out.splitlines()
    assert lines[0] == "source,prediction,probability,probability_red,probability_green,probability_blue"
    folder = made / "photos"
    rows = [line.split(",")[:2] for line in lines[1:]]
    assert rows == [[f"{folder}/a.png", "red"], [f"{folder}/b.bmp", "green"], [f"{folder}/more/c", "blue"]]


@pytest.mark.parametrize("ending", ["jsonl", "parquet", "csv"])
def test_objects_become_rows(made: Path, tmp_path: Path, ending: str) -> None:
    out, red = tmp_path / f"objects.{ending}", made / "photos" / "a.png"
    other = made / "photos" / "b.bmp"
    # The first block of files has no object at all.
    assert main(["predict", str(made / "things"), *[str(other)] * 9, str(red), "-o", str(out)]) == 0
    if ending == "csv":
        assert out.read_text().splitlines()[0] == "source,label,score,x_min,y_min,x_max,y_max"
        assert out.read_text().splitlines()[1] == f"{red},red thing,0.5,16,8,48,24"
        return
    rows = (
        pq.read_table(out).to_pylist()
        if ending == "parquet"
        else [json.loads(line) for line in out.read_text().splitlines()]
    )
    box = {"x_min": 16, "y_min": 8, "x_max": 48, "y_max": 24}
    assert rows == [{"source": str(red), "label": "red thing", "score": pytest.approx(0.5), **box}]


def test_nothing_found_is_a_table_without_rows(made: Path, tmp_path: Path) -> None:
    out = tmp_path / "none.csv"
    assert main(["predict", str(made / "things"), str(made / "photos" / "b.bmp"), "-o", str(out)]) == 0
    assert out.read_text() == "source,label,score,x_min,y_min,x_max,y_max\n"


def test_pictures_are_drawn_on_copies(made: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    model, photos, before = str(made / "things"), made / "photos", (made / "photos" / "a.png").read_bytes()
    assert main(["predict", model, str(photos / "a.png"), "--draw", str(tmp_path / "one.jpg")]) == 0
    with Image.open(tmp_path / "one.jpg") as one:
        assert one.size == (64, 32)
    assert main(["predict", model, str(photos), "--draw", str(tmp_path / "all")]) == 0
    drawn = sorted(p.relative_to(tmp_path / "all").as_posix() for p in (tmp_path / "all").rglob("*") if p.is_file())
    assert drawn == ["a.png", "b.bmp.jpg", "more/c.jpg"]
    assert main(["predict", model, str(photos), "--draw", str(tmp_path / "sheet.png")]) == 0
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.width > 640
    assert main(["predict", model, str(photos / "a.png"), "--draw", str(photos / "a.png")]) == 2
    assert "would be written over" in capfd.readouterr().err
    assert (photos / "a.png").read_bytes() == before


def test_a_broken_picture_ends_the_job_and_leaves_nothing(
    made: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for i in range(20):
        plain(RED).save(tmp_path / f"{i:02}.png")
    (tmp_path / "17.png").write_bytes(b"")
    assert main(["predict", str(made / "colours"), str(tmp_path), "-o", str(tmp_path / "out.csv")]) == 3
    said = capfd.readouterr().err
    assert f'"{tmp_path}/17.png": got 0 bytes, expected JPEG' in said
    assert said.count("\n") == 1
    assert not (tmp_path / "out.csv").exists()


def test_another_preparation_is_found_when_it_is_loaded(made: Path, tmp_path: Path) -> None:
    bundle = tmp_path / "changed"
    shutil.copytree(made / "colours", bundle)
    for change, what in (('colour = "rgb"', 'colour = "bgr"'), ('fit = "stretch"', 'fit = "crop"')):
        manifest, sums = bundle / "model.toml", bundle / "SHA256SUMS"
        text, listed = manifest.read_text(), sums.read_text()
        default = change.split(" = ")[0]
        changed = text.replace("[signature.image]\n", f"[signature.image]\n{what}\n")
        assert f"\n{default} = " not in text, "it is at its default, which is not written"
        manifest.write_text(changed)
        old, new = (hashlib.sha256(t.encode()).hexdigest() for t in (text, changed))
        sums.write_text(listed.replace(old, new))
        with pytest.raises(ProofFailed, match="golden picture 0: the prepared tensor is another one"):
            foretell.load(bundle)
        manifest.write_text(text)
        sums.write_text(listed)
    foretell.load(bundle).close()


def test_what_is_not_known_is_asked_for(made: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ConfigError, match=r'3 more lines: \[signature.image\], fit: .*add: fit = "stretch"'):
        convert(
            made / "colours.onnx",
            tmp_path / "b",
            picture={
                "task": {"name": "classification", "classes": ["a", "b", "c"], "logits": True},
                "signature": {"image": {"scale": 1.0}},
            },
        )
    assert main(["predict", str(made / "colours.onnx"), str(made / "photos")]) == 2
    said = capfd.readouterr().err
    assert "foretell convert" in said
    assert "--picture picture.toml" in said
    assert 'colour = "rgb"' in said


def test_labels_of_a_file_and_pictures_of_a_sample(
    made: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "names").write_text("rot\ngrün\nblau\n")
    tables = CLASSIFIER.replace('classes = ["red", "green", "blue"]\n', "")
    file, picture = written(tmp_path, "colours", classifier(), tables)
    command = ["convert", str(file), "--picture", str(picture), "--labels", str(tmp_path / "names")]
    assert main([*command, "--sample", str(made / "photos"), "-o", str(tmp_path / "b")]) == 0
    golden = [json.loads(line) for line in (tmp_path / "b" / "golden.jsonl").read_text().splitlines()]
    assert [entry["answer"]["found"]["label"] for entry in golden] == ["rot", "grün", "blau"]
    assert main(["inspect", str(tmp_path / "b")]) == 0
    said = capfd.readouterr().out
    assert "wants pictures:\n  stretched to 16 x 16\n  filter bilinear\n" in said
    assert "gives classification into 3 classes: rot, grün, blau" in said


def test_an_export_that_says_everything_needs_no_tables(tmp_path: Path) -> None:
    model = onnx.load_from_string(detector())
    onnx.helper.set_model_props(model, {"names": "{0: 'red thing', 1: 'other'}", "stride": "32"})
    (tmp_path / "net.onnx").write_bytes(model.SerializeToString())
    report = convert(tmp_path / "net.onnx", tmp_path / "net")
    assert any("known by its metadata" in note for note in report.opened.notes)
    with foretell.load(tmp_path / "net") as model:
        # The grey rows above and below, 114 of 255, make the mean of red larger than a half.
        (thing,) = model.predict(plain(RED, 64, 32))[0]
        assert thing["label"] == "red thing"
        assert thing["score"] == pytest.approx(0.5 + 0.5 * 114 / 255, abs=1e-3)
        assert thing["box"] == [16, 8, 48, 24]


def test_served_by_its_prepared_tensor(made: Path) -> None:
    with foretell.load(made / "colours") as model, foretell.testing.client(made / "colours") as client:
        tensors, *_ = model.prepare(plain(GREEN))
        (name,) = tensors
        body = {"name": name, "datatype": "FP32", "shape": list(tensors[name].shape)}
        told = client.post(
            "/v2/models/colours/infer", json={"inputs": [body | {"data": tensors[name].ravel().tolist()}]}
        )
        assert told.status == 200
        expected = model.infer(tensors, 1)
        for output, array in zip(told.json()["outputs"], expected, strict=True):
            np.testing.assert_array_equal(np.array(output["data"], array.dtype), array.ravel())
        refused = client.post("/v1/models/colours:predict", json={"instances": [{"image": "x"}]})
        assert (refused.status, refused.json()["code"]) == (400, "invalid_input")
