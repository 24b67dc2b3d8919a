"""Runs jobs in forked children, and kills them if asked to: a line of JSON in, a line of JSON out.

Everything is imported once, so that a child is at work within milliseconds. Each call of the model adds a line
to a log.
"""

import json
import os
import signal
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import pyarrow
import pyarrow.compute
import pyarrow.csv
import pyarrow.parquet  # noqa: F401
from conftest import SumModel

from foretell.bulk import arrow, delimited, dialect, jsonl
from foretell.bulk.job import predict_files

delimited.DelimitedSource.__init__.__kwdefaults__["block_bytes"] = 1 << 11
delimited._WIDE_ROWS = 0
dialect._HEAD_BYTES = 1 << 8
jsonl._BLOCK_BYTES = 1 << 12
arrow._MAX_ROWS = 256
NEVER_S = 3600


class LoggedModel(SumModel):
    def __init__(self, log, pause_s):
        super().__init__("ab")
        self.log = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self.pause_s = pause_s

    def predict_arrow(self, batch, first_row=0):
        os.write(self.log, b"%d\n" % batch.num_rows)
        time.sleep(self.pause_s)
        return super().predict_arrow(batch, first_row)


def run(asked):
    model = LoggedModel(asked["log"], asked.get("pause_s", 0.0))
    predict_files(
        model,
        asked["inputs"],
        asked["out"],
        threads=asked["workers"],
        chunk_rows=asked.get("chunk_rows", 1),
        keep=["a"],
    )


def main():
    for line in sys.stdin:
        asked = json.loads(line)
        child = os.fork()
        if child == 0:
            if asked.get("waits"):
                os.kill(os.getpid(), signal.SIGSTOP)
            try:
                run(asked)
            except BaseException as e:  # noqa: BLE001 - this process ends with it
                sys.stderr.write(f"{type(e).__name__}: {e}\n")
                sys.stderr.flush()
                os._exit(1)
            os._exit(0)
        if asked.get("waits"):
            os.waitpid(child, os.WUNTRACED)
            print(json.dumps({"pid": child}), flush=True)
        end = time.monotonic() + asked.get("kill_after_s", NEVER_S)
        while True:
            found, status = os.waitpid(child, os.WNOHANG)
            if found:
                break
            if time.monotonic() >= end:
                os.kill(child, signal.SIGKILL)
                _, status = os.waitpid(child, 0)
                break
            time.sleep(0.0005)
        print(json.dumps({"code": os.waitstatus_to_exitcode(status)}), flush=True)


if __name__ == "__main__":
    main()
