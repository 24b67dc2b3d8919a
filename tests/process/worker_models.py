"""Models that the workers of test_worker.py load: what a batch asks for in its first element is what happens."""

import json
import mmap
import os
import signal
import socket
import sys
import time

import numpy as np

from foretell.errors import ArtifactInvalid, InferenceFailed
from foretell.model.runtimes.fake import FailingRuntime, FakeRuntime
from foretell.model.tasks.tensors import Tensors
from foretell.signature import Signature, TensorSpec

TWICE, SLEEP, KILL_ITSELF, SEGV, EXIT, RAISE, REFUSE, ALLOCATE, SHARE, SHORT, LIE = range(11)
KEPT = []


class Model:
    name = "made up"

    def __init__(self, runtime, inputs, outputs, about=()):
        self.signature = Signature(inputs, outputs)
        self.task_reader = Tensors(tuple(spec.name for spec in outputs))
        self._runtime, self._about = runtime, dict(about)

    def infer(self, inputs, rows):
        return self._runtime.infer(inputs)

    def info(self):
        return {"runners": [], **self._about}

    def close(self):
        self._runtime.close()


WIDE = TensorSpec("x", "FP32", (-1, -1))


def twice(path, *, trust, threads):
    return Model(FakeRuntime(lambda i: [i["x"] * 2]), (WIDE,), (TensorSpec("y", "FP32", (-1, -1)),), told())


def told():
    return {"environment": sorted(os.environ)}


def kinds(path, *, trust, threads):
    specs = [("f", "FP64"), ("i", "INT8"), ("b", "BOOL"), ("t", "BYTES"), ("h", "FP16")]
    inputs = tuple(TensorSpec(name, datatype, (-1, 2)) for name, datatype in specs)
    outputs = tuple(TensorSpec(name.upper(), datatype, (-1, 2)) for name, datatype in reversed(specs))
    return Model(FakeRuntime(lambda i: [i[name] for name, _ in reversed(specs)]), inputs, outputs)


def wild(path, *, trust, threads):
    return Model(FakeRuntime(do), (TensorSpec("x", "FP32", (-1, 2)),), (TensorSpec("y", "FP32", (-1, 2)),))


def do(inputs):
    x = inputs["x"]
    what, much = (int(x[0, 0]), float(x[0, 1])) if len(x) and x[0, 0] >= 1 else (TWICE, 0)
    if what == SLEEP:
        time.sleep(much)
    elif what == KILL_ITSELF:
        os.kill(os.getpid(), signal.SIGKILL)
    elif what == SEGV:
        os.kill(os.getpid(), signal.SIGSEGV)
    elif what == EXIT:
        os._exit(int(much))
    elif what == RAISE:
        raise KeyError("over\nseveral\nlines")
    elif what == REFUSE:
        raise InferenceFailed("made up: no")
    elif what == ALLOCATE:
        np.ones(int(much) << 20, np.uint8)
    elif what == SHARE:
        KEPT.append(mmap.mmap(-1, int(much) << 20))
        for _ in range(int(much)):
            KEPT[-1].write(bytes(1 << 20))
        time.sleep(60)
    elif what == SHORT:
        return [x[1:]]
    elif what == LIE:
        lie(int(much))
    return [x * 2]


def lie(which):
    """Speak past the frames, as a model that took its worker over could."""
    from foretell.engine.worker import frames

    y = np.zeros((1, 2), np.float32)
    wide = np.zeros((1, 50_000), np.float32)  # beyond what a packet may hold
    arrays = [[y], [y, y], [y.astype(np.float64)], [np.zeros((5, 2), np.float32)], [y], [y], [y], [y], [wide]][which]
    packed = frames.pack(arrays)
    job, rows = (999 if which == 4 else 1), (7 if which == 5 else 1)
    content = b"".join(frames.parts_inline(frames.ANSWER, job, rows, packed))
    if which == 6:
        content = b"".join(frames.parts_in_slot(frames.ANSWER, job, rows, packed, 77))
    if which == 7:
        content = b"\xff" * 50
    if which == 0:
        content = content[:-1]
    spec = json.loads(sys.argv[1])
    with socket.socket(fileno=os.dup(spec["socket"])) as sock:
        length = 1 << 40 if which == 8 else len(content)
        prefix = length.to_bytes(8, "little") if sock.type == socket.SOCK_STREAM else b""
        sock.sendall(prefix + content)
    time.sleep(60)


def curious(path, *, trust, threads):
    """Say what a boxed-in worker can reach."""
    spec = json.loads(sys.argv[1])
    tries = {
        "passwd": lambda: open("/etc/passwd").close(),
        "socket": lambda: socket.socket(),
        "fork": os.fork,
        "write": lambda: open(os.path.join(path, "new"), "w").close(),
        "shrink": lambda: os.ftruncate(spec["memory"], 0),
        "grow": lambda: os.ftruncate(spec["memory"], 1 << 40),
        "read": lambda: os.listdir(path),
    }
    said = {}
    for name, attempt in tries.items():
        try:
            attempt()
            said[name] = "done"
        except OSError as error:
            said[name] = type(error).__name__
    return Model(FakeRuntime(lambda i: [i["x"]]), (WIDE,), (TensorSpec("y", "FP32", (-1, -1)),), {"said": said})


def failing(path, *, trust, threads):
    x = TensorSpec("x", "FP32", (-1, 2))
    return Model(FailingRuntime(), (x,), (x,))


def damaged(path, *, trust, threads):
    raise ArtifactInvalid("made up: damaged")


def buggy(path, *, trust, threads):
    raise ValueError("a\nmessage\nof many lines")


def killed(path, *, trust, threads):
    os.kill(os.getpid(), signal.SIGKILL)


def endless(path, *, trust, threads):
    time.sleep(600)


def greedy(path, *, trust, threads):
    KEPT.append(np.ones(1 << 30, np.uint8))


def costly(path, *, trust, threads):
    def slowly(inputs):
        time.sleep(0.004)
        return [inputs["x"] * 2]

    return Model(FakeRuntime(slowly), (TensorSpec("x", "FP32", (-1, 2)),), (TensorSpec("y", "FP32", (-1, 2)),))
