"""Models that the workers of `served_process` load: what a row asks for in its first element is what happens."""

import mmap
import os
import signal
import time

from foretell.model.runtimes.fake import FakeRuntime
from foretell.model.tasks.tensors import Tensors
from foretell.signature import Signature, TensorSpec

TWICE, SLEEP, SEGV, HANG, SHARE, ABORT, FAIL = range(7)
KEPT = []


class Model:
    """Gives each row back, doubled, after it has done what the rows ask for."""

    name = "made up"

    def __init__(self, infer):
        self.signature = Signature((TensorSpec("x", "FP32", (-1, 2)),), (TensorSpec("y", "FP32", (-1, 2)),))
        self.task_reader = Tensors(("y",))
        self._runtime = FakeRuntime(infer)

    def infer(self, inputs, rows):
        return self._runtime.infer(inputs)

    def info(self):
        return {"runners": []}


def fragile(path, *, trust, threads):
    return Model(_do)


def _do(inputs):
    x = inputs["x"]
    for what, much in x.tolist():
        if what == SLEEP:
            time.sleep(much)
        elif what == SEGV:
            os.kill(os.getpid(), signal.SIGSEGV)
        elif what == ABORT:
            os.abort()
        elif what == HANG:
            time.sleep(600)
        elif what == SHARE:
            KEPT.append(mmap.mmap(-1, int(much) << 20))  # memory that no limit of the kernel counts
            for _ in range(int(much)):
                KEPT[-1].write(bytes(1 << 20))
            time.sleep(60)
        elif what == FAIL:
            raise ValueError("made up: /no/such/file")
    return [x * 2]


def endless(path, *, trust, threads):
    time.sleep(600)
