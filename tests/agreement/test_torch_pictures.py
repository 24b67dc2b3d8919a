"""Networks of PyTorch that take pictures: converted with the proof, and asked with pictures."""

import sys
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs PyTorch: scripts/test --torch")
pytestmark = [
    pytest.mark.torch,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning:torch"),
    pytest.mark.filterwarnings("ignore:`isinstance"),
]

import foretell  # noqa: E402
from foretell.cli.main import main  # noqa: E402

sys.path.insert(0, str(Path(__file__).parent))
from picture_networks import CLASSIFIER, plain  # noqa: E402

COLOURS = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255)}


class Means(torch.nn.Module):
    """Ten times the mean of each channel."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return image.mean((2, 3)) * 10


@pytest.fixture
def files(tmp_path: Path) -> Path:
    example = torch.rand(2, 3, 16, 16)
    free = {"image": {0: torch.export.Dim.DYNAMIC}}
    torch.export.save(torch.export.export(Means(), (example,), dynamic_shapes=free), tmp_path / "net.pt2")
    torch.jit.trace(Means(), example).save(str(tmp_path / "net.pt"))
    (tmp_path / "net.toml").write_text(CLASSIFIER)
    return tmp_path


@pytest.mark.parametrize("name", ["net.pt2", "net.pt"])
def test_a_program_becomes_a_bundle_of_pictures(files: Path, name: str, capfd: pytest.CaptureFixture[str]) -> None:
    more = ["--trust", "--input", "image:FP32:-1,3,16,16"] if name == "net.pt" else []
    command = ["convert", str(files / name), "--picture", str(files / "net.toml"), *more]
    assert main([*command, "-o", str(files / "net")]) == 0
    said = capfd.readouterr().out
    assert "proof against torch" in said
    assert "classification, pictures" in said
    with foretell.load(files / "net", trust=True) as model:
        for label, colour in COLOURS.items():
            (found,) = model.predict(plain(colour))
            assert found["label"] == label
            expected = np.exp([10.0 * (name == label) for name in COLOURS])
            np.testing.assert_allclose(list(found["probabilities"].values()), expected / expected.sum(), atol=1e-6)


def test_what_is_missing_is_asked_for(files: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (files / "net.toml").write_text(CLASSIFIER.replace('fit = "stretch"\n', ""))
    command = ["convert", str(files / "net.pt2"), "--picture", str(files / "net.toml"), "-o", str(files / "net")]
    assert main(command) == 2
    assert '"net.pt2" needs 1 more lines: [signature.image], fit' in capfd.readouterr().err
    assert not (files / "net").exists()
