"""Programs of torch.export, read without PyTorch: what they take and give, and what is refused."""

import json
import pickle
import zipfile
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
from tests.unit.torch_files import FREE, Made, meta, node, packed, tensor

from foretell.errors import ArtifactInvalid, ArtifactUntrusted, ConfigError, RuntimeMissing
from foretell.model.artifact import judge_bytes
from foretell.model.formats.torch import open_model
from foretell.model.load import open_artifact
from foretell.model.programs import read_program


def refusal(made: Made) -> str:
    with pytest.raises(ArtifactInvalid) as caught:
        read_program("net.pt2", made.pack())
    text = str(caught.value)
    assert text.startswith('"net.pt2": ')
    assert "\n" not in text
    return text


def test_a_program_is_recognised_and_read() -> None:
    content = Made().pack()
    artifact = judge_bytes(Path("net.pt2"), content)
    assert (artifact.format, artifact.why) == ("torch", "a PyTorch program")
    opened = open_artifact(artifact)
    assert [(s.name, s.datatype, s.shape) for s in opened.signature.inputs] == [("x", "FP32", (-1, 3))]
    assert [(s.name, s.datatype, s.shape) for s in opened.signature.outputs] == [("output", "FP32", (-1, 2))]
    assert opened.task.name == "classification"
    assert opened.task.classes == (0, 1)
    assert [f.name for f in opened.signature.fields] == ["x0", "x1", "x2"]
    assert opened.about["parameters"] == 6
    assert opened.runners[0].content == content


def test_a_softmax_over_rows_is_no_classification() -> None:
    made = Made()
    made.nodes[1]["inputs"][1]["arg"] = {"as_int": 0}
    assert open_model("net.pt2", made.pack()).task.name == "tensors"


def test_outputs_have_the_keys_of_a_dict() -> None:
    made = Made()
    made.outputs.append(({"user_output": {"arg": tensor("h")}}, tensor("h")))
    leaf = '{"type": null, "context": null, "children_spec": []}'
    made.out_spec = (
        f'[1, {{"type": "builtins.dict", "context": "[\\"score\\", \\"logit\\"]", "children_spec": [{leaf}, {leaf}]}}]'
    )
    program = read_program("net.pt2", made.pack())
    assert [t.name for t in program.outputs] == ["score", "logit"]
    assert program.results == ("y", "h")


@pytest.mark.parametrize(
    ("low", "high", "least", "most"), [(2, None, 1, 1 << 40), (0, 64, 1, 64), (8, 64, 8, 64), (2, 2, 2, 2)]
)
def test_bounds_of_the_rows(low: int, high: int | None, least: int, most: int) -> None:
    made = Made()
    made.ranges = {"s0": {"min_val": low, "max_val": high}}
    program = read_program("net.pt2", made.pack())
    assert (program.least_rows, program.most_rows) == (least, most)


def test_a_fixed_number_of_rows() -> None:
    made = Made()
    made.names = {name: meta((4, *(s["as_int"] for s in m["sizes"][1:]))) for name, m in made.names.items()}
    program = read_program("net.pt2", made.pack())
    assert (program.least_rows, program.most_rows) == (4, 4)
    assert "exactly 4 rows" in open_model("net.pt2", made.pack()).notes[0]


def test_sizes_that_are_code_are_never_evaluated(tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    made = Made()
    evil = {"as_expr": {"expr_str": f"__import__('pathlib').Path({str(mark)!r}).touch()", "hint": None}}
    made.names["x"]["sizes"][0] = evil
    assert read_program("net.pt2", made.pack()).inputs[0].shape == (-1, 3)
    assert not mark.exists()


class Bomb:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


def test_pickles_in_it_are_never_read(tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    bomb = packed({"model/data.pkl": pickle.dumps(Bomb(mark))})
    made = Made()
    made.extra = {"data/sample_inputs/model.pt": bomb, "data/constants/opaque_obj_0": pickle.dumps(Bomb(mark))}
    read_program("net.pt2", made.pack())
    made.config["w"]["use_pickle"] = True
    assert "stored as a pickle" in refusal(made)
    made = Made()
    made.extra = {"data/weights/model.pt": bomb}
    assert "torch.export.save(torch.export.load" in refusal(made)
    assert not mark.exists()


@pytest.mark.parametrize(
    "target",
    [
        "torch.os.system",
        "torch.hub.load",
        "torch.ops.load_library",
        "torch.ops.aten.from_file.default",
        "torch.ops.aten.set_.source_Storage",
        "torch.ops.aten._new_zeros_with_same_feature_meta.default",
        "torch.ops.aten.__class__.__mro__",
        "torch.ops.aten.add.__class__",
        "torch.ops.mylib.op.default",
        "torch.ops.higher_order.cond",
        "_operator.attrgetter",
        "_operator.lshift",
        "math.__loader__.load_module",
        "#ext:op",
        "builtins.eval",
        "torch.ops.aten.linear.default\n",
    ],
)
def test_operations_that_are_refused(target: str) -> None:
    made = Made()
    made.nodes[0]["target"] = target
    assert "operation " in refusal(made)


def without_gradients(made: Made, outputs: list[str], given: str = "h") -> None:
    """Put a graph of its own round the softmax; inside, the names are those of outside."""
    graph = {"inputs": [tensor("h")], "outputs": [tensor(name) for name in outputs], "nodes": [made.nodes[1]]}
    wrapper = node("torch.ops.higher_order.wrap_with_set_grad_enabled", [], "y", *[f"y{i}" for i in outputs[1:]])
    arguments = [{"as_bool": False}, {"as_graph": {"name": "inner", "graph": graph}}, tensor(given)]
    wrapper["inputs"] = [{"name": "", "arg": argument, "kind": 1} for argument in arguments]
    made.nodes[1] = wrapper


def test_a_graph_that_only_forbids_gradients_is_laid_out() -> None:
    made = Made()
    without_gradients(made, ["y", "h"])
    program = read_program("net.pt2", made.pack())
    assert [n.operator.name for n in program.nodes] == ["linear", "softmax", "alias"]
    assert [n.results for n in program.nodes] == ["h", "y", "yh"]
    assert open_model("net.pt2", made.pack()).task.name == "classification"


def test_such_a_graph_may_use_and_do_no_more_than_others() -> None:
    made = Made()
    without_gradients(made, ["y"], given="nothing")
    assert "used before it is there" in refusal(made)
    made = Made()
    made.nodes[1]["target"] = "torch.os.system"
    without_gradients(made, ["y"])
    assert 'operation "torch.os.system"' in refusal(made)


def test_powers_of_sizes_are_bounded() -> None:
    from foretell.model.runtimes.torch_graph import bounded_power

    assert bounded_power(7, 3) == 343
    assert bounded_power(9, 0.5) == 3.0
    with pytest.raises(ValueError, match="too large"):
        bounded_power(10, 10**9)


def test_training_mode_is_refused() -> None:
    made = Made()
    made.nodes[1] = node(
        "torch.ops.aten.dropout.default",
        [("input", tensor("h")), ("p", {"as_float": 0.5}), ("train", {"as_bool": True})],
        "y",
    )
    assert "call .eval()" in refusal(made)


def test_a_program_with_a_state_is_refused() -> None:
    made = Made()
    made.outputs.insert(0, ({"buffer_mutation": {"arg": {"name": "h"}, "buffer_name": "mean"}}, tensor("h")))
    assert '"mean" while it predicts' in refusal(made)


def change(made: Made, what: str) -> None:
    if what == "the file is too short for a weight":
        made.config["w"]["tensor_meta"] = meta((2, 4))
    elif what == "strides reach beyond":
        made.config["w"]["tensor_meta"] = meta((2, 3), strides=(1 << 40, 1))
    elif what == "an offset reaches beyond":
        made.config["w"]["tensor_meta"] = meta((2, 3), offset=1)
    elif what == "a huge empty weight":
        made.weights["w"] = np.zeros(0, np.float32)
        made.config["w"]["tensor_meta"] = meta((1 << 40, 1 << 20))
    elif what == "a negative size":
        made.config["w"]["tensor_meta"]["sizes"][0] = {"as_int": -1}
    elif what == "a symbolic weight":
        made.config["w"]["tensor_meta"]["sizes"][0] = FREE
    elif what == "a weight that is nowhere":
        made.config["w"]["path_name"] = "../../../../etc/passwd"
    elif what == "a value used before it is there":
        made.nodes.reverse()
    elif what == "a value defined twice":
        made.nodes.append(made.nodes[0])
    elif what == "an argument of an unknown form":
        made.nodes[1]["inputs"][1]["arg"] = {"as_operator": "torch.os.system"}
    elif what == "a number that is a text":
        made.nodes[1]["inputs"][1]["arg"] = {"as_int": "1"}
    elif what == "an argument whose name is code":
        made.nodes[1]["inputs"][1] = {"name": "a=print(1)", "arg": {"as_int": 1}, "kind": 2}
    elif what == "another version":
        made.version = {"major": 9, "minor": 0}
    elif what == "no output":
        made.outputs = []
    elif what == "no input":
        made.inputs.pop()
        made.nodes.clear()
        made.outputs = [({"user_output": {"arg": tensor("p_w")}}, tensor("p_w"))]
        made.names["p_w"] = meta((2, 3))
    elif what == "no rows":
        made.ranges = {"s0": {"min_val": 5, "max_val": 3}}
    elif what == "complex numbers":
        made.names["x"]["dtype"] = 10
    elif what == "no graph":
        made.extra["models/model.json"] = b"[]"
    elif what == "deep JSON":
        made.extra["models/model.json"] = b"[" * 200_000
    elif what == "machine code":
        made.extra["data/aotinductor/model/x.so"] = b"\x7fELF"
    elif what == "two programs":
        made.extra["models/other.json"] = b"{}"


@pytest.mark.parametrize(
    "what",
    [
        "the file is too short for a weight", "strides reach beyond", "an offset reaches beyond", "a huge empty weight",
        "a negative size", "a symbolic weight", "a weight that is nowhere", "a value used before it is there",
        "a value defined twice", "an argument of an unknown form", "a number that is a text",
        "an argument whose name is code", "another version", "no output", "no input", "no rows", "complex numbers",
        "no graph", "deep JSON", "machine code", "two programs",
    ],
)  # fmt: skip
def test_what_is_refused(what: str) -> None:
    made = Made()
    read_program("net.pt2", made.pack())
    change(made, what)
    refusal(made)


def test_a_compressed_member_is_refused() -> None:
    with pytest.raises(ArtifactInvalid, match="compressed"):
        read_program("net.pt2", Made().pack(zipfile.ZIP_DEFLATED))


def test_cut_off_anywhere_or_changed() -> None:
    content = Made().pack()
    for end in range(0, len(content) - 1, 37):
        with pytest.raises(ArtifactInvalid):
            read_program("net.pt2", content[:end])
    weights = Made().weights["w"].tobytes()
    at = content.index(weights)
    with pytest.raises(ArtifactInvalid, match="checksum"):
        read_program("net.pt2", content[: at + 4] + b"\xff" + content[at + 5 :])


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield path
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield from places(inner, (*path, key))


ODD: tuple[Any, ...] = (
    None, True, 0, -1, 10**30, 1.5, "", "x", "a\nb", [], {}, [[]], {"as_int": 3}, {"as_tensor": {"name": "x"}},
    {"as_none": True}, {"as_ints": [1, 2]}, "torch.ops.aten.relu.default", float("nan"),
)  # fmt: skip


def test_changed_anywhere_it_is_read_or_refused() -> None:
    random = Random(5)
    whole = Made().graph()
    every = [path for path in places(whole) if path]
    read = refused = 0
    for path in every:
        graph = deepcopy(whole)
        inside = graph
        for key in path[:-1]:
            inside = inside[key]
        inside[path[-1]] = random.choice(ODD)
        made = Made()
        made.extra["models/model.json"] = json.dumps(graph).encode()
        try:
            open_model("net.pt2", made.pack())
            read += 1
        except ArtifactInvalid as error:
            refused += "\n" not in str(error)
    assert read > 20
    assert refused > 50
    assert read + refused == len(every)


@pytest.mark.parametrize(
    ("members", "error", "said"),
    [
        ({"n/data.pkl": b"\x80\x02}.", "n/version": b"3"}, ArtifactUntrusted, "net.load_state_dict"),
        ({"n/data.pkl": b"\x80\x02ctorch.nn\nLinear\n)\x81.", "n/version": b"3"}, ArtifactUntrusted, "torch.nn.Linear"),
        ({"n/archive_format": b"pt2", "n/data/aotinductor/m/x.so": b""}, ArtifactUntrusted, "machine code"),
        ({"serialized_exported_program.json": b"{}", "version": b"8.8"}, ArtifactInvalid, "save it again"),
        ({"n/data.pkl": b"", "n/constants.pkl": b"", "n/code/__torch__.py": b""}, ArtifactUntrusted, "--trust --input"),
    ],
)
def test_other_files_of_pytorch(members: dict[str, bytes], error: type[Exception], said: str) -> None:
    with pytest.raises(error) as caught:
        open_artifact(judge_bytes(Path("net.pt"), packed(members)))
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "torch.export" in str(caught.value)


def test_a_file_of_old_torch_save() -> None:
    old = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03."
    with pytest.raises(ArtifactUntrusted, match="pickle of weights"):
        judge_bytes(Path("net.pth"), old)


def test_a_torchscript_file_needs_its_inputs_and_only_it_takes_them() -> None:
    script = packed({"n/data.pkl": b"", "n/constants.pkl": b"", "n/code/__torch__.py": b""})
    with pytest.raises(ConfigError, match="does not say which shapes"):
        open_artifact(judge_bytes(Path("net.pt"), script), trust=True)
    spec = open_model("net.pt2", Made().pack()).signature.inputs
    with pytest.raises(ConfigError, match="leave --input out"):
        open_artifact(judge_bytes(Path("net.pt2"), Made().pack()), inputs=spec)


def test_without_pytorch_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    from foretell.model.runtimes import open_runtime

    monkeypatch.setitem(sys.modules, "torch", None)
    opened = open_model("net.pt2", Made().pack())
    with pytest.raises(RuntimeMissing, match=r"pip install 'foretell\[torch\]'"):
        open_runtime(opened.runners[0], opened.signature)


@pytest.mark.parametrize(
    ("rows", "least", "most", "size"),
    [(1, 1, 1 << 40, 1), (3, 1, 99, 4), (200, 1, 1 << 40, 128), (3, 5, 7, 7), (9, 1, 8, 8)],
)
def test_sizes_of_batches_on_a_gpu(rows: int, least: int, most: int, size: int) -> None:
    from foretell.model.runtimes.torch_cuda import size_for

    assert size_for(rows, least, most) == size
