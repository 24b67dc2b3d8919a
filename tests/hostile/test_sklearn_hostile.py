"""Pickles that try to get out: nothing happens outside, and the parent says so in one line."""

import os
import pickle
import socket

import joblib
import numpy as np
import pytest
from sklearn.linear_model import LinearRegression

from foretell.box import kernel, landlock
from foretell.errors import ArtifactInvalid, ArtifactUntrusted, LoadError
from foretell.model.formats.sklearn import open_model
from foretell.model.runtimes import Runner, open_runtime
from foretell.signature import Signature


class Calls:
    """Unpickles as a call of a function."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.fixture
def boxed():
    try:
        landlock.abi()
    except kernel.NotHere as e:
        pytest.skip(str(e))


def written(tmp_path, thing, protocol=4):
    path = tmp_path / "model.pkl"
    path.write_bytes(pickle.dumps(thing, protocol))
    return path


def effects(tmp_path):
    target = tmp_path / "out" / "touched"
    target.parent.mkdir(exist_ok=True)
    return target, {
        "a shell": Calls(os.system, f"echo > {target}"),
        "a file": Calls(open, str(target), "w"),
        "a folder": Calls(os.mkdir, str(target)),
        "code": Calls(exec, f"import os; os.symlink('/', {str(target)!r})"),
    }


@pytest.mark.parametrize("kind", ["a shell", "a file", "a folder", "code"])
def test_without_trust_nothing_runs(tmp_path, kind):
    target, calls = effects(tmp_path)
    path = written(tmp_path, [LinearRegression(), calls[kind]])
    with pytest.raises(ArtifactUntrusted, match="runs whatever code"):
        open_model(path)
    assert not target.exists()


@pytest.mark.parametrize("kind", ["a shell", "a file", "a folder", "code"])
def test_with_trust_nothing_gets_out(tmp_path, boxed, kind):
    target, calls = effects(tmp_path)
    path = written(tmp_path, calls[kind])
    with pytest.raises(LoadError) as caught:
        open_model(path, trust=True)
    assert not target.exists()
    assert "\n" not in str(caught.value)
    assert "Traceback" not in str(caught.value)


def test_no_network(tmp_path, boxed):
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.2)
        address = server.getsockname()
        with pytest.raises(LoadError, match="cannot be constructed"):
            open_model(written(tmp_path, Calls(socket.create_connection, address)), trust=True)
        with pytest.raises(TimeoutError):
            server.accept()


def test_secrets_cannot_be_read(tmp_path, boxed):
    secret = tmp_path / "secret.txt"
    secret.write_text("42")
    with pytest.raises(LoadError, match="PermissionError"):
        open_model(written(tmp_path, Calls(open, str(secret))), trust=True)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (Calls(os._exit, 3), "exit code 3 while opening it"),
        (Calls(os.abort), "signal 6 while opening it"),
        (Calls(os.write, 3, b"x" * 64), "while opening it|cannot be constructed|holds a int"),
    ],
)
def test_a_child_that_dies_or_babbles_is_one_line(tmp_path, call, says):
    with pytest.raises(LoadError, match=says) as caught:
        open_model(written(tmp_path, call), trust=True)
    assert "\n" not in str(caught.value)


def test_what_is_no_estimator_is_said(tmp_path):
    with pytest.raises(ArtifactInvalid, match="holds a dict, which has no predict"):
        open_model(written(tmp_path, {"a": np.arange(3)}), trust=True)


def test_a_module_that_is_missing_is_named(tmp_path):
    content = b"\x80\x04cno_such_library.models\nThing\n."
    path = tmp_path / "model.pkl"
    path.write_bytes(content)
    with pytest.raises(LoadError, match='"no_such_library"'):
        open_model(path, trust=True)


def test_truncated_files_are_refused_in_one_line(tmp_path):
    path = tmp_path / "model.joblib"
    joblib.dump(LinearRegression().fit(np.eye(3), [1, 2, 3]), path)
    content = path.read_bytes()
    for share in (0.3, 0.9):
        path.write_bytes(content[: int(len(content) * share)])
        with pytest.raises(LoadError) as caught:
            open_model(path, trust=True)
        assert "\n" not in str(caught.value)


def test_an_estimator_is_not_hosted_without_trust(tmp_path):
    target, calls = effects(tmp_path)
    runner = Runner(
        "estimator", "estimator.joblib", pickle.dumps(calls["a file"]), options={"kind": "pickle", "trusted": True}
    )
    with pytest.raises(ArtifactUntrusted, match="--trust"):
        open_runtime(runner, Signature((), ()))
    assert not target.exists()
