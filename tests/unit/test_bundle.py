"""A bundle says the same after it was written and read, and a changed byte is refused."""

import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foretell.errors import ArtifactInvalid, ConfigError, MachineError
from foretell.model.bundle import Bundle, Golden, read_bundle, write_bundle
from foretell.model.describe import read_signature, read_task, write_signature, write_task
from foretell.model.formats.base import Opened
from foretell.model.runtimes import Runner
from foretell.model.tasks.classification import Classification
from foretell.model.tasks.predictions import Task
from foretell.model.tasks.regression import Regression
from foretell.model.tasks.tensors import Tensors
from foretell.signature import Column, Field, Signature, TensorSpec

SIGNATURE = Signature(
    inputs=(TensorSpec("features", "FP64", (-1, 2)),),
    outputs=(TensorSpec("value", "FP64", (-1, 1)),),
    fields=(Field("größe", low=0.5, high=2.0), Field("art", "category", categories=("a", "None"), closed=True)),
    columns={"features": (Column("größe"), Column("art", "code"))},
)
BUNDLE = Bundle(
    "homes",
    Opened(
        format="scikit-learn",
        signature=SIGNATURE,
        task=Regression(),
        runners=(
            Runner("onnxruntime", "model.onnx", b"\x00\x01"),
            Runner("xgboost", "model.ubj", b"\x02", 64, {"k": 1}),
        ),
        about={"library": "scikit-learn 1.9"},
        notes=("a note",),
    ),
    Golden([{"größe": 1.5, "art": None}], [{"value": 0.1}]),
    1e-6,
    {"rows": 1},
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_bundle(tmp_path / "homes", BUNDLE)
    return tmp_path / "homes"


def test_round_trip(folder: Path) -> None:
    assert read_bundle(folder) == BUNDLE


def test_trust_reaches_the_runners(folder: Path) -> None:
    assert all(r.trusted for r in read_bundle(folder, trust=True).opened.runners)
    assert not any(r.trusted for r in read_bundle(folder).opened.runners)


@pytest.mark.parametrize("name", ["model.toml", "model.onnx", "model.ubj", "golden.jsonl", "proof.json", "SHA256SUMS"])
def test_a_changed_byte_is_refused(folder: Path, name: str) -> None:
    content = bytearray((folder / name).read_bytes())
    content[0] ^= 1
    (folder / name).write_bytes(content)
    with pytest.raises(ArtifactInvalid, match=r"convert the model again|or convert"):
        read_bundle(folder)


@pytest.mark.parametrize("name", ["model.toml", "model.onnx", "golden.jsonl", "SHA256SUMS"])
def test_a_missing_file_is_refused(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(ArtifactInvalid, match="is missing"):
        read_bundle(folder)


def test_a_file_that_is_not_listed_is_refused(folder: Path) -> None:
    (folder / "extra.py").write_text("import os")
    with pytest.raises(ArtifactInvalid, match=r'"extra\.py" is not listed'):
        read_bundle(folder)


def test_a_link_is_refused(folder: Path, tmp_path: Path) -> None:
    shutil.move(folder / "model.onnx", tmp_path / "elsewhere")
    (folder / "model.onnx").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ArtifactInvalid, match="not a plain file"):
        read_bundle(folder)


@pytest.mark.parametrize("name", ["../../etc/passwd", "/etc/passwd", "..", "a/b"])
def test_the_list_cannot_point_outside(folder: Path, name: str) -> None:
    with (folder / "SHA256SUMS").open("a") as file:
        file.write(f"{'0' * 64}  {name}\n")
    with pytest.raises(ArtifactInvalid, match="has the line"):
        read_bundle(folder)


def test_what_is_there_is_never_overwritten(folder: Path) -> None:
    with pytest.raises(ConfigError, match="exists already"):
        write_bundle(folder, BUNDLE)


def test_nothing_is_left_where_nothing_can_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(MachineError, match="cannot be written"):
        write_bundle(tmp_path / "file" / "homes", BUNDLE)
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize(
    "task",
    [
        Regression(),
        Regression(1, "ranking"),
        Classification((0, 1), probability_output=0),
        Classification(("a", "b"), label_output=0, probability_output=1, label_is_index=True),
        Tensors(("x", "y")),
    ],
    ids=repr,
)
def test_tasks_round_trip(task: Task) -> None:
    assert read_task(write_task(task)) == task


@pytest.mark.parametrize(
    ("table", "message"),
    [({"name": "regresion"}, "expected one of"), ({"name": "regression", "outputt": 1}, "outputt"), ({}, "None")],
)
def test_a_wrong_task_is_refused(table: dict[str, object], message: str) -> None:
    with pytest.raises(ArtifactInvalid, match=message):
        read_task(table)


labels = st.one_of(st.text(), st.integers(-5, 5), st.booleans())
fields = st.builds(
    Field,
    name=st.text(min_size=1),
    kind=st.sampled_from(["number", "integer", "boolean", "category", "text", "date"]),
    nullable=st.booleans(),
    categories=st.lists(labels, max_size=4).map(tuple),
    closed=st.booleans(),
    low=st.none() | st.floats(-10, 10),
    high=st.none() | st.floats(-10, 10),
)


@given(st.lists(fields, max_size=5, unique_by=lambda f: f.name))
def test_signatures_round_trip(made: list[Field]) -> None:
    columns = {"x": tuple(Column(f.name) for f in made)} if made else {}
    signature = Signature((TensorSpec("x", "FP32", (-1, len(made))),), (), tuple(made), columns, named=False)
    assert read_signature(write_signature(signature)) == signature


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"fields": []}, "unknown key 'fields'"),
        ({"field": [{"name": "a", "kind": "nmber"}]}, 'kind "nmber"'),
        ({"field": [{"name": "a", "nulable": True}]}, "nulable"),
        ({"input": [{"name": "x", "datatype": "FP32", "shape": [-1], "columns": [["a", "number"]]}]}, "no field names"),
        ({"input": [{"name": "x", "datatype": "FP32", "shape": [-1], "columns": [["a", "nmber"]]}]}, "nmber"),
    ],
)
def test_a_wrong_signature_is_refused(table: dict[str, object], message: str) -> None:
    with pytest.raises(ArtifactInvalid, match=message):
        read_signature(table)
