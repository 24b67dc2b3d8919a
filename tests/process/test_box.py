"""Real child processes go into the box and try to get out."""

import json
import os
import subprocess
import sys
import textwrap

import pytest

from foretell.box import kernel, landlock, seccomp

START = """
import json, os, sys
from pathlib import Path
from foretell import box
from foretell.errors import ConfigError
folder, scratch, secret = map(Path, sys.argv[1:4])
def attempt(name, call):
    try:
        call()
    except OSError as e:
        said[name] = type(e).__name__
    else:
        said[name] = "done"
said = {}
"""


@pytest.fixture
def landlock_abi():
    try:
        return landlock.abi()
    except kernel.NotHere as e:
        pytest.skip(str(e))


@pytest.fixture
def child(tmp_path):
    folder, scratch, secret = tmp_path / "model", tmp_path / "scratch", tmp_path / "secret.txt"
    folder.mkdir()
    scratch.mkdir()
    (folder / "model.bin").write_text("weights")
    secret.write_text("key")

    def run(body, *, code=0):
        script = START + textwrap.dedent(body) + "\nprint(json.dumps(said))"
        env = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p), "HOME": str(tmp_path)}
        done = subprocess.run(
            [sys.executable, "-c", script, folder, scratch, secret],
            capture_output=True, text=True, env=env, timeout=120, cwd=tmp_path,
        )  # fmt: skip
        assert done.returncode == code, done.stderr
        return json.loads(done.stdout.splitlines()[-1]) if code == 0 else {}

    return run


def test_the_report_says_what_is_in_force(child, landlock_abi):
    said = child("said = box.enter([folder], memory_bytes=8 << 30)")
    assert said["filesystem"] == f"landlock abi {landlock_abi}"
    assert said["processes"] == "seccomp"
    assert said["network"] in ("seccomp", "seccomp+landlock")
    assert str(8 << 30) in said["limits"]


def test_files(child, landlock_abi):
    said = child("""
        box.enter([folder], [scratch])
        attempt("model", lambda: (folder / "model.bin").read_text())
        attempt("change model", lambda: (folder / "model.bin").write_text("x"))
        attempt("new file", lambda: (folder / "new").write_text("x"))
        attempt("remove model", lambda: (folder / "model.bin").unlink())
        attempt("scratch", lambda: (scratch / "new").write_text("x"))
        attempt("read scratch", lambda: (scratch / "new").read_text())
        attempt("chmod", lambda: (folder / "model.bin").chmod(0o777))
        attempt("utime", lambda: os.utime(folder / "model.bin", (0, 0)))
        attempt("secret", lambda: secret.read_text())
        attempt("link to secret", lambda: (scratch / "link").symlink_to(secret))
        attempt("through the link", lambda: (scratch / "link").read_text())
        attempt("home", lambda: os.listdir(Path.home()))
        attempt("passwd", lambda: open("/etc/passwd").close())
        attempt("environ", lambda: open(f"/proc/{os.getppid()}/environ").close())
        attempt("own memory", lambda: open("/proc/self/mem").close())
        attempt("null", lambda: open("/dev/null", "w").close())
        attempt("random", lambda: open("/dev/urandom", "rb").close())
    """)
    allowed = {k for k, v in said.items() if v == "done"}
    assert allowed == {"model", "scratch", "read scratch", "link to secret", "null", "random"}
    assert {said[k] for k in set(said) - allowed} == {"PermissionError"}


def test_the_network(child, landlock_abi):
    said = child("""
        import socket, urllib.request
        left, right = socket.socketpair()
        listening = socket.create_server(("127.0.0.1", 0))
        box.enter([folder])
        left.sendall(b"still open")
        said["open socket"] = right.recv(99).decode()
        attempt("tcp", lambda: socket.create_connection(listening.getsockname(), 1))
        attempt("udp", lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        attempt("unix", lambda: socket.socket(socket.AF_UNIX))
        attempt("pair", socket.socketpair)
        attempt("name", lambda: socket.getaddrinfo("example.org", 80))
        attempt("url", lambda: urllib.request.urlopen("http://127.0.0.1:1/"))
    """)
    assert said.pop("open socket") == "still open"
    assert said.pop("name") == "gaierror"
    assert said.pop("url") == "URLError"
    assert set(said.values()) == {"PermissionError"}
    assert len(said) == 4


def test_processes(child, landlock_abi):
    said = child("""
        import ctypes, signal, subprocess, threading
        box.enter([folder])
        attempt("fork", os.fork)
        attempt("run", lambda: subprocess.run([sys.executable, "-c", "1"]))
        attempt("posix_spawn", lambda: os.posix_spawn(sys.executable, [sys.executable], {}))
        attempt("exec", lambda: os.execv(sys.executable, [sys.executable, "-c", "1"]))
        attempt("kill the parent", lambda: os.kill(os.getppid(), signal.SIGTERM))
        attempt("kill the group", lambda: os.kill(0, signal.SIGTERM))
        attempt("signal to itself", lambda: os.kill(os.getpid(), 0))
        libc = ctypes.CDLL(None, use_errno=True)
        said["ptrace"] = [libc.ptrace(16, os.getppid(), 0, 0), ctypes.get_errno()]
        said["unknown call"] = [libc.syscall(470 + 40), ctypes.get_errno()]
        said["thread"] = []
        thread = threading.Thread(target=lambda: said["thread"].append(1))
        thread.start()
        thread.join()
    """)
    assert said.pop("signal to itself") == "done"
    assert said.pop("thread") == [1]
    assert said.pop("ptrace") == [-1, 1]
    assert said.pop("unknown call") == [-1, 38]
    assert set(said.values()) == {"PermissionError"}
    assert len(said) == 6


def test_threads_that_run_already_cannot_make_sockets(child, landlock_abi):
    said = child("""
        import socket, threading
        go = threading.Event()
        def early():
            go.wait(60)
            attempt("early", socket.socket)
        thread = threading.Thread(target=early)
        thread.start()
        said["report"] = box.enter([folder])["filesystem"]
        go.set()
        thread.join()
    """)
    assert said["early"] == "PermissionError"
    assert landlock_abi >= 8 or said["report"].startswith(f"partial: landlock abi {landlock_abi}, but 1 thread")


def test_limits(child, landlock_abi):
    said = child("""
        import resource
        box.enter([folder], memory_bytes=2 << 30)
        said["core"] = resource.getrlimit(resource.RLIMIT_CORE)
        try:
            bytearray(3 << 30)
        except MemoryError:
            said["memory"] = "refused"
    """)
    assert said["core"] == [0, 0]
    assert said["memory"] == "refused"


@pytest.mark.parametrize("early", [False, True])
def test_sklearn_trains_and_predicts_inside_with_threads(child, landlock_abi, early):
    imports = """
        os.environ["JOBLIB_MULTIPROCESSING"] = "0"
        import joblib, numpy as np
        from sklearn.datasets import load_iris
        from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
    """
    enter = """
        import warnings
        warnings.simplefilter("error")
        inside = box.enter([folder], [scratch])
    """
    work = """
        x, y = load_iris(return_X_y=True)
        forest = RandomForestClassifier(20, n_jobs=2, random_state=0).fit(x, y)
        boosted = HistGradientBoostingClassifier(max_iter=5).fit(x, y)
        joblib.dump(forest, scratch / "forest.joblib")
        again = joblib.load(scratch / "forest.joblib")
        said["right"] = [float(m.score(x, y)) for m in (again, boosted)]
        said["matrix"] = float((np.ones((300, 300)) @ np.ones((300, 300))).sum())
        attempt("secret", lambda: secret.read_text())
    """
    parts = (imports, enter, work) if early else (enter, imports, work)
    said = child("".join(textwrap.dedent(p) for p in parts))
    assert min(said["right"]) > 0.95
    assert said["matrix"] == 300.0**3
    if not early:  # libraries imported early have threads of their own, which the report names
        assert said["secret"] == "PermissionError"


def test_a_path_that_is_not_there_is_wrong_use(child):
    said = child("""
        try:
            box.enter([folder / "no"])
        except ConfigError as e:
            said["error"] = str(e)
    """)
    assert "does not exist" in said["error"]


def test_a_system_without_the_means_is_reported_and_not_raised(child):
    said = child("""
        import platform
        platform.machine = lambda: "riscv64"
        said = box.enter([folder])
    """)
    assert said["filesystem"].startswith("none: not written for a riscv64")
    assert said["network"].startswith("none: ")
    assert said["processes"].startswith("none: ")


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_every_jump_of_the_filter_lands_on_a_return_or_a_rule(machine):
    code = seccomp._program(machine)
    lines = [(code[i] | code[i + 1] << 8, code[i + 2], code[i + 3]) for i in range(0, len(code), 8)]
    assert lines[-1][0] == 0x06
    for at, (op, yes, no) in enumerate(lines):
        assert op == 0x06 or at + 1 + max(yes, no) < len(lines)
