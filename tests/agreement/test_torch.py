"""PyTorch's networks: the same answers as PyTorch gives, served, converted, on any number of rows."""

import io
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tests.unit.torch_files import Made, node, tensor

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
from foretell.errors import ArtifactInvalid, ArtifactUntrusted, ConfigError, InferenceFailed  # noqa: E402
from foretell.model.convert import convert  # noqa: E402
from foretell.model.programs import read_program  # noqa: E402
from foretell.model.runtimes.torch import device_named  # noqa: E402
from foretell.model.runtimes.torch_graph import graph_module  # noqa: E402

FREE = torch.export.Dim.DYNAMIC


class Mlp(torch.nn.Module):
    """Standardises, two layers, a softmax; with operations in place, as people write them."""

    def __init__(self, columns: int, classes: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(columns))
        self.register_buffer("spread", torch.ones(columns))
        nn = torch.nn
        self.layers = nn.Sequential(
            nn.Linear(columns, 32), nn.BatchNorm1d(32), nn.ReLU(inplace=True), nn.Dropout(0.2), nn.Linear(32, classes)
        )

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return torch.softmax(self.layers((features - self.mean) / self.spread), -1)


class Seeing(torch.nn.Module):
    """Convolutions, shapes computed from the input, two outputs in a dict, one of them whole numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.convolve, self.norm = torch.nn.Conv2d(3, 8, 3, stride=2, padding=1), torch.nn.BatchNorm2d(8)
        self.last = torch.nn.Linear(8, 10)

    def forward(self, image: torch.Tensor) -> dict[str, torch.Tensor]:
        x = torch.nn.functional.silu(self.norm(self.convolve(image)), inplace=True)
        rows, channels, height, width = x.shape
        logits = self.last(x.reshape(rows, channels, height * width).mean(-1))
        return {"logits": logits, "best": logits.topk(3, 1)[1]}


def save(network: torch.nn.Module, example: tuple, path: Path, free=True) -> torch.nn.Module:
    shapes = tuple({0: FREE} for _ in example) if free else None
    torch.export.save(torch.export.export(network.eval(), example, dynamic_shapes=shapes), path)
    return network


def trained(columns: np.ndarray, labels: np.ndarray) -> Mlp:
    torch.manual_seed(0)
    x, y = torch.tensor(columns, dtype=torch.float32), torch.tensor(labels)
    net = Mlp(x.shape[1], int(y.max()) + 1)
    net.mean.copy_(x.mean(0))
    net.spread.copy_(x.std(0) + 1e-6)
    optimiser = torch.optim.Adam(net.parameters(), 0.02)
    for _ in range(60):
        optimiser.zero_grad()
        torch.nn.functional.nll_loss(net(x).log(), y).backward()
        optimiser.step()
    return net


@pytest.fixture(scope="module")
def cancer():
    from sklearn.datasets import load_breast_cancer

    return load_breast_cancer(return_X_y=True)


@pytest.fixture(scope="module")
def mlp(cancer, tmp_path_factory):
    path = tmp_path_factory.mktemp("mlp") / "mlp.pt2"
    net = trained(*cancer)
    return path, save(net, (torch.tensor(cancer[0][:4], dtype=torch.float32),), path)


@pytest.fixture(scope="module")
def seeing(tmp_path_factory):
    torch.manual_seed(1)
    path = tmp_path_factory.mktemp("seeing") / "seeing.pt2"
    return path, save(Seeing(), (torch.randn(2, 3, 32, 32),), path)


def asked(net: torch.nn.Module, rows: np.ndarray) -> np.ndarray:
    with torch.inference_mode():
        return net(torch.tensor(rows, dtype=torch.float32)).numpy()


@pytest.mark.parametrize("rows", [1, 2, 5, 300])
def test_an_mlp_answers_as_in_pytorch(mlp, cancer, rows: int) -> None:
    path, net = mlp
    model = foretell.load(path, threads=1)
    found = model.predict(cancer[0][:rows])
    np.testing.assert_array_equal(found.probabilities, asked(net, cancer[0][:rows]))
    assert model.task == "classification"


def test_it_has_learned_something(mlp, cancer) -> None:
    labels = foretell.load(mlp[0]).predict(cancer[0]).labels
    assert (labels == cancer[1]).mean() > 0.95


def test_a_network_of_pictures_answers_as_in_pytorch(seeing) -> None:
    path, net = seeing
    model = foretell.load(path, threads=1)
    images = np.random.default_rng(0).standard_normal((5, 3, 32, 32)).astype(np.float32)
    images.flags.writeable = False
    kept = images.copy()
    logits, best = model.infer({"image": images}, 5)
    with torch.inference_mode():
        expected = net(torch.tensor(images))
    np.testing.assert_array_equal(logits, expected["logits"].numpy())
    np.testing.assert_array_equal(best, expected["best"].numpy())
    np.testing.assert_array_equal(images, kept)
    assert [s.name for s in model.signature.outputs] == ["logits", "best"]


class Mixed(torch.nn.Module):
    def forward(self, tokens, mask, scale=2.0, *, bias=None):
        kept = torch.where(mask, tokens, torch.zeros_like(tokens)).to(torch.float16)
        shift = torch.arange(tokens.shape[1], device=tokens.device) if bias is None else bias
        return kept * scale + shift, torch.cat([tokens, tokens], 1).sum(1)


def test_datatypes_constants_and_free_sizes(tmp_path: Path) -> None:
    tokens, mask = torch.arange(12).reshape(3, 4), torch.tensor([[True, False, True, False]] * 3)
    shapes = {"tokens": {0: FREE, 1: FREE}, "mask": {0: FREE, 1: FREE}, "scale": None}
    program = torch.export.export(Mixed(), (tokens, mask, 3.0), dynamic_shapes=shapes)
    torch.export.save(program, tmp_path / "mixed.pt2")
    model = foretell.load(tmp_path / "mixed.pt2")
    assert [(s.name, s.datatype, s.shape) for s in model.signature.inputs] == [
        ("tokens", "INT64", (-1, -1)),
        ("mask", "BOOL", (-1, -1)),
    ]
    found = model.infer({"tokens": tokens.numpy(), "mask": mask.numpy()}, 3)
    for array, expected in zip(found, Mixed()(tokens, mask, 3.0), strict=True):
        np.testing.assert_array_equal(array, expected.numpy())
    assert [a.dtype.name for a in found] == ["float16", "int64"]


def test_bfloat16_travels_as_float32(tmp_path: Path) -> None:
    net = torch.nn.Linear(4, 2).to(torch.bfloat16)
    example = torch.randn(3, 4).to(torch.bfloat16)
    save(net, (example,), tmp_path / "narrow.pt2")
    model = foretell.load(tmp_path / "narrow.pt2")
    assert model.signature.inputs[0].datatype == "FP32"
    with torch.inference_mode():
        expected = net(example).float().numpy()
    np.testing.assert_array_equal(model.infer({"input": example.float().numpy()}, 3)[0], expected)


def test_a_fixed_batch_is_run_in_turns(tmp_path: Path) -> None:
    net = save(torch.nn.Linear(4, 2), (torch.randn(4, 4),), tmp_path / "four.pt2", free=False)
    model = foretell.load(tmp_path / "four.pt2")
    rows = np.random.default_rng(0).standard_normal((7, 4)).astype(np.float32)
    np.testing.assert_allclose(model.infer({"input": rows}, 7)[0], asked(net, rows), rtol=1e-6)


def test_an_answer_that_is_the_input_is_a_copy(tmp_path: Path) -> None:
    save(torch.nn.Flatten(), (torch.randn(3, 2, 2),), tmp_path / "same.pt2")
    model = foretell.load(tmp_path / "same.pt2")
    rows = np.ones((2, 2, 2), np.float32)
    (found,) = model.infer({"input": rows}, 2)
    rows[:] = 5
    assert (found == 1).all()


def test_views_of_one_storage_and_empty_weights(tmp_path: Path) -> None:
    class Views(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            whole = torch.arange(24.0).reshape(4, 6)
            self.register_buffer("part", whole[1:3, 2:5].t())
            self.register_buffer("other", whole[0])
            self.register_buffer("nothing", torch.zeros(0, 3))

        def forward(self, x):
            return x @ self.part + self.other[:2] + self.nothing.sum()

    net = save(Views(), (torch.randn(2, 3),), tmp_path / "views.pt2")
    rows = np.eye(3, dtype=np.float32)
    np.testing.assert_array_equal(foretell.load(tmp_path / "views.pt2").infer({"x": rows}, 3)[0], asked(net, rows))


class Aside(torch.nn.Module):
    """No gradients for a part, twice, one inside the other; an input handed on; a power of the number of rows."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(4, 4)

    def forward(self, x):
        with torch.no_grad():
            y, same = self.layer(x), x
            with torch.enable_grad():
                z = self.layer(y).relu_()
        return {"sum": y + z + same, "scaled": self.layer(y) * x.shape[0] ** 0.5, "y": y}


@pytest.mark.parametrize("rows", [1, 3])
def test_parts_without_gradients_and_powers_of_sizes(tmp_path: Path, rows: int) -> None:
    net = save(Aside(), (torch.randn(3, 4),), tmp_path / "aside.pt2")
    model = foretell.load(tmp_path / "aside.pt2")
    x = np.random.default_rng(0).standard_normal((rows, 4)).astype(np.float32)
    with torch.inference_mode():
        expected = net(torch.tensor(x))
    assert [s.name for s in model.signature.outputs] == list(expected)
    for found, name in zip(model.infer({"x": x}, rows), expected, strict=True):
        np.testing.assert_allclose(found, expected[name].numpy(), rtol=1e-6)


def test_a_file_made_by_hand_runs() -> None:
    program = read_program("net.pt2", Made().pack())
    (found,) = graph_module(program, "cpu")(torch.ones(2, 3))
    np.testing.assert_allclose(found.numpy(), torch.softmax(torch.tensor([[3.0, 12.0]] * 2), -1).numpy())


@pytest.mark.parametrize(
    "target",
    ["torch.ops.aten.no_such_thing.default", "torch.ops.aten.linear.no_such_overload", "torch.ops.aten.add.op"],
)
def test_an_operation_that_is_none(target: str) -> None:
    made = Made()
    made.nodes[0]["target"] = target
    with pytest.raises(ArtifactInvalid, match="operation"):
        graph_module(read_program("net.pt2", made.pack()), "cpu")


def test_wrong_arguments_fail_the_call_alone(tmp_path: Path) -> None:
    made = Made()
    made.nodes[1] = node("torch.ops.aten.softmax.int", [("self", tensor("h")), ("dim", {"as_int": 77})], "y")
    (tmp_path / "net.pt2").write_bytes(made.pack())
    model = foretell.load(tmp_path / "net.pt2")
    with pytest.raises(InferenceFailed, match="Dimension out of range"):
        model.predict(np.ones((2, 3)))


def test_texts_in_a_program_do_not_become_code(tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    made = Made()
    code = f"none'); __import__('pathlib').Path({str(mark)!r}).touch(); ('"
    made.nodes.insert(
        1,
        node("torch.ops.aten.gelu.default", [("self", tensor("h")), ("approximate", {"as_string": code})], "g"),
    )
    made.names["g"] = made.names["h"]
    (tmp_path / "net.pt2").write_bytes(made.pack())
    with pytest.raises(InferenceFailed, match="approximate"):
        foretell.load(tmp_path / "net.pt2").predict(np.ones((2, 3)))
    assert not mark.exists()


def test_convert_proves_against_pytorch(mlp, cancer, tmp_path: Path) -> None:
    report = convert(mlp[0], tmp_path / "b", labels=["malignant", "benign"])
    assert report.original.startswith("torch 2.")
    assert report.comparisons["model.onnx"].holds
    assert set(report.speed_us_per_row) == {"original", "model.onnx", "model.pt2"}
    model = foretell.load(tmp_path / "b")
    assert len(model.info()["runners"]) == 1
    np.testing.assert_allclose(model.predict(cancer[0]).probabilities, asked(mlp[1], cancer[0]), atol=1e-5)


def test_convert_proves_bare_tensors(seeing, tmp_path: Path) -> None:
    report = convert(seeing[0], tmp_path / "b")
    assert set(report.comparisons) == {"model.onnx logits", "model.onnx best"}
    assert all(c.holds and c.rows == 128 for c in report.comparisons.values())
    images = np.random.default_rng(3).standard_normal((2, 3, 32, 32)).astype(np.float32)
    found = foretell.load(tmp_path / "b").infer({"image": images}, 2)
    np.testing.assert_allclose(found[0], asked_logits(seeing[1], images), atol=1e-5)


def asked_logits(net: torch.nn.Module, images: np.ndarray) -> np.ndarray:
    with torch.inference_mode():
        return net(torch.tensor(images))["logits"].numpy()


def test_what_onnx_cannot_say_stays_in_pytorch(tmp_path: Path) -> None:
    class Odd(torch.nn.Module):
        def forward(self, x):
            return torch.special.bessel_j0(x)

    save(Odd(), (torch.rand(3, 4),), tmp_path / "odd.pt2")
    report = convert(tmp_path / "odd.pt2", tmp_path / "b")
    assert "no ONNX graph of it" in " ".join(report.opened.notes)
    model = foretell.load(tmp_path / "b")
    assert model.info()["runners"][0]["kind"] == "torch"
    rows = np.random.default_rng(0).random((5, 4), np.float32)
    np.testing.assert_array_equal(model.infer({"x": rows}, 5)[0], torch.special.bessel_j0(torch.tensor(rows)).numpy())


def test_inspect_and_predict_on_the_command_line(mlp, cancer, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert main(["inspect", str(mlp[0]), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["format"], facts["task"]["name"]) == ("torch", "classification")
    header = ",".join(f"x{i}" for i in range(30))
    lines = [",".join(map(repr, row)) for row in cancer[0][:20].tolist()]
    (tmp_path / "rows.csv").write_text("\n".join([header, *lines]) + "\n")
    assert main(["predict", str(mlp[0]), str(tmp_path / "rows.csv"), "-o", str(tmp_path / "out.csv")]) == 0
    found = np.loadtxt(tmp_path / "out.csv", delimiter=",", skiprows=1)
    np.testing.assert_allclose(found[:, 2:], asked(mlp[1], cancer[0][:20]), rtol=1e-6)


def test_served_boxed_in(mlp, cancer) -> None:
    sys.path.insert(0, str(Path(__file__).parent))
    from doors_of import Serving

    with Serving(mlp[0]) as running:
        body = json.dumps({"instances": cancer[0][:3].tolist()}).encode()
        found = json.loads(running.post("/v1/models/mlp:predict", body)[0])["predictions"]
    expected = asked(mlp[1], cancer[0][:3])
    np.testing.assert_allclose([list(p["probabilities"].values()) for p in found], expected, rtol=1e-6)


@pytest.fixture(scope="module")
def script(mlp, cancer, tmp_path_factory):
    path = tmp_path_factory.mktemp("script") / "mlp.pt"
    torch.jit.trace(mlp[1], torch.tensor(cancer[0][:4], dtype=torch.float32)).save(path)
    return path


def test_torchscript_needs_trust_and_shapes(script, tmp_path: Path) -> None:
    with pytest.raises(ArtifactUntrusted, match="--trust --input"):
        foretell.load(script)
    with pytest.raises(ConfigError, match="does not say which shapes"):
        foretell.load(script, trust=True)
    wrong = ["convert", str(script), "--trust", "-o", str(tmp_path / "b"), "--input", "x:FP32:-1,29"]
    assert main(wrong) == 4
    assert not (tmp_path / "b").exists()


def test_torchscript_becomes_onnx(script, mlp, cancer, tmp_path: Path) -> None:
    assert main(["convert", str(script), "--trust", "-o", str(tmp_path / "b"), "--input", "x:FP32:-1,30"]) == 0
    model = foretell.load(tmp_path / "b")
    assert model.info()["runners"][0]["kind"] == "onnxruntime"
    rows = cancer[0].astype(np.float32)
    np.testing.assert_allclose(model.infer({"x": rows}, len(rows))[0], asked(mlp[1], rows), atol=1e-5)


def test_torchscript_that_stays_runs_boxed_in(tmp_path: Path) -> None:
    class Odd(torch.nn.Module):
        def forward(self, x):
            return torch.special.bessel_j0(x)

    torch.jit.script(Odd()).save(tmp_path / "odd.pt")
    bundle = tmp_path / "b"
    command = ["convert", str(tmp_path / "odd.pt"), "--trust", "-o", str(bundle), "--input", "x:FP32:-1,4"]
    assert main(command) == 0
    with pytest.raises(ArtifactUntrusted):
        foretell.load(bundle)
    rows = np.random.default_rng(0).random((5, 4), np.float32)
    with foretell.load(bundle, trust=True) as model:
        found = model.infer({"x": rows}, 5)[0]
    np.testing.assert_array_equal(found, torch.special.bessel_j0(torch.tensor(rows)).numpy())


def test_torchscript_reads_no_file(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(b"abcd")

    class Spy(torch.nn.Module):
        def __init__(self, path: str) -> None:
            super().__init__()
            self.path = path

        def forward(self, x):
            return x + torch.from_file(self.path, size=4, dtype=torch.uint8)

    torch.jit.script(Spy(str(secret))).save(tmp_path / "spy.pt")
    assert torch.jit.load(tmp_path / "spy.pt")(torch.zeros(2, 4)).tolist() == [[97.0, 98.0, 99.0, 100.0]] * 2
    command = ["convert", str(tmp_path / "spy.pt"), "--trust", "-o", str(tmp_path / "b"), "--input", "x:FP32:-1,4"]
    if "none" in box_of(tmp_path):
        pytest.skip("this kernel has no Landlock")
    assert main(command) == 4
    assert "denied" in capsys.readouterr().err
    assert not (tmp_path / "b").exists()


def box_of(folder: Path) -> str:
    code = "import sys; from pathlib import Path; from foretell.box import enter; print(enter([Path(sys.argv[1])]))"
    done = subprocess.run([sys.executable, "-c", code, str(folder)], capture_output=True, text=True, check=True)
    return done.stdout.partition("filesystem': '")[2].partition("'")[0]


@pytest.mark.parametrize("hide", ["weights", "network"])
def test_files_of_torch_save_are_refused(mlp, tmp_path: Path, hide: str) -> None:
    content = io.BytesIO()
    torch.save(mlp[1].state_dict() if hide == "weights" else mlp[1], content)
    (tmp_path / "net.pt").write_bytes(content.getvalue())
    with pytest.raises(ArtifactUntrusted, match=r"torch\.export\.save"):
        foretell.load(tmp_path / "net.pt", trust=True)


def test_devices() -> None:
    assert device_named("cpu") == "cpu"
    for wrong in ("gpu", "cuda:x", "cuda:99"):
        with pytest.raises(ConfigError):
            device_named(wrong)


@pytest.mark.slow
def test_compiled_answers_agree(mlp, cancer, tmp_path: Path) -> None:
    code = (
        "import sys, numpy as np\nfrom dataclasses import replace\nfrom pathlib import Path\n"
        "from foretell.model.formats.torch import open_model\nfrom foretell.model.model import Model\n"
        "opened = open_model('mlp.pt2', Path(sys.argv[1]).read_bytes())\n"
        "runner = replace(opened.runners[0], options={'compile': True})\n"
        "rows = np.load(sys.argv[2], allow_pickle=False)\n"
        "plain = Model(opened, threads=1).predict(rows).probabilities\n"
        "made = Model(replace(opened, runners=(runner,)), threads=1).predict(rows).probabilities\n"
        "print(float(abs(plain - made).max()))\n"
    )
    np.save(tmp_path / "rows.npy", cancer[0])
    command = [sys.executable, "-W", "ignore", "-c", code, str(mlp[0]), str(tmp_path / "rows.npy")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280, check=True)
    assert float(done.stdout.split()[-1]) < 1e-5


@pytest.mark.slow
def test_efficientnet_answers_as_its_onnx(tmp_path: Path) -> None:
    examples = Path(__file__).parents[2] / "examples" / "vision"
    for script in ("efficientnet.py", "efficientnet_torch.py"):
        command = [sys.executable, "-W", "ignore", str(examples / script), str(tmp_path)]
        subprocess.run(command, check=True, timeout=250)
    images = np.random.default_rng(0).standard_normal((2, 3, 224, 224)).astype(np.float32)
    found, expected = (
        foretell.load(tmp_path / name).infer({"image": images}, 2)[0]
        for name in ("efficientnet.pt2", "efficientnet.onnx")
    )
    np.testing.assert_allclose(found, expected, atol=1e-4)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU that PyTorch sees")
@pytest.mark.parametrize("rows", [1, 3, 130])
def test_a_gpu_answers_as_the_processor(seeing, rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    images = np.random.default_rng(0).standard_normal((rows, 3, 32, 32)).astype(np.float32)
    monkeypatch.setenv("FORETELL_DEVICE", "cpu")
    expected = foretell.load(seeing[0]).infer({"image": images}, rows)
    monkeypatch.setenv("FORETELL_DEVICE", "cuda:0")
    model = foretell.load(seeing[0])
    for _ in range(2):  # recorded, then replayed
        found = model.infer({"image": images}, rows)
        np.testing.assert_allclose(found[0], expected[0], atol=1e-4)
