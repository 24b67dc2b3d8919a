"""A real `foretell serve`, and every way to ask it; the command, and Python itself.

An answer is a list of arrays: the outputs of the model, or what people read of them where a door gives rows.
"""

import io
import json
import os
import re
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import grpc
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet

from foretell.dtypes import dtype_of
from foretell.protocol import open_inference_pb2 as pb
from foretell.protocol.tensors import split_bytes, to_raw

ENVIRONMENT = {**os.environ, "PYTHONWARNINGS": "ignore"}
METHOD = "/inference.GRPCInferenceService/ModelInfer"
TYPED = {
    "BYTES": "bytes_contents", "BOOL": "bool_contents", "FP32": "fp32_contents", "FP64": "fp64_contents",
    "INT64": "int64_contents", "INT32": "int_contents",
}  # fmt: skip
PORTS = re.compile(r"(http|grpc): \S*?127\.0\.0\.1:(\d+)")


class Serving:
    """`foretell serve` with both doors, until it is left."""

    def __init__(self, *arguments):
        command = [sys.executable, "-m", "foretell.cli.main", "serve", *map(str, arguments)]
        command += ["--http-port", "0", "--grpc-port", "0"]
        self._process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT)

    def __enter__(self):
        ports, lines = {}, []
        for line in self._process.stderr:
            lines.append(line)
            ports.update(PORTS.findall(line))
            if len(ports) == 2:
                break
        assert len(ports) == 2, lines
        self.port, self.url = int(ports["http"]), f"http://127.0.0.1:{ports['http']}"
        self.grpc_port = int(ports["grpc"])
        self.channel = grpc.insecure_channel(f"127.0.0.1:{self.grpc_port}")
        self._infer = self.channel.unary_unary(METHOD)
        return self

    def __exit__(self, *_):
        self.channel.close()
        self._process.terminate()
        self._process.wait(30)
        self._process.stderr.close()

    def post(self, path, body, kind="application/json", **headers):
        """Return the body and the headers of an answer; an AssertionError tells of a refusal."""
        headers = {name.replace("_", "-"): str(value) for name, value in headers.items()} | {"content-type": kind}
        try:
            with urllib.request.urlopen(urllib.request.Request(self.url + path, body, headers), timeout=60) as reply:
                return reply.read(), reply.headers
        except urllib.error.HTTPError as refusal:
            raise AssertionError(f"{path}: {refusal.code} {refusal.read()!r}") from None

    def get(self, path):
        with urllib.request.urlopen(self.url + path, timeout=60) as reply:
            return json.load(reply)

    def infer_json(self, model, tensors):
        """Ask for tensors as JSON; a missing number is null."""
        inputs = [
            {"name": name, "datatype": datatype, "shape": array.shape, "data": values_of(array)}
            for name, datatype, array in tensors
        ]
        told = json.loads(self.post(f"/v2/models/{model}/infer", json.dumps({"inputs": inputs}).encode())[0])
        return {
            o["name"]: np.array([np.nan if v is None else v for v in o["data"]], dtype_of(o["datatype"])).reshape(
                o["shape"]
            )
            for o in told["outputs"]
        }

    def infer_binary(self, model, tensors):
        """Ask for tensors as bytes."""
        blobs = [to_raw(array) for _, _, array in tensors]
        inputs = [
            {"name": name, "datatype": datatype, "shape": array.shape, "parameters": {"binary_data_size": len(blob)}}
            for (name, datatype, array), blob in zip(tensors, blobs, strict=True)
        ]
        head = json.dumps({"inputs": inputs, "parameters": {"binary_data_output": True}}).encode()
        kind, length = "application/octet-stream", len(head)
        body, headers = self.post(
            f"/v2/models/{model}/infer", head + b"".join(blobs), kind, inference_header_content_length=length
        )
        at = int(headers["inference-header-content-length"])
        found = {}
        for output in json.loads(body[:at])["outputs"]:
            size = output["parameters"]["binary_data_size"]
            found[output["name"]] = array_of(body[at : at + size], output["datatype"], output["shape"])
            at += size
        assert at == len(body)
        return found

    def infer_grpc(self, model, tensors, raw):
        """Ask for tensors over gRPC, as bytes or as typed contents."""
        answer = pb.ModelInferResponse.FromString(self._infer(message_of(model, tensors, raw), timeout=60))
        if raw:
            return {
                o.name: array_of(blob, o.datatype, list(o.shape))
                for o, blob in zip(answer.outputs, answer.raw_output_contents, strict=True)
            }
        assert not answer.raw_output_contents
        return {
            o.name: np.array(list(getattr(o.contents, TYPED[o.datatype])), dtype_of(o.datatype)).reshape(list(o.shape))
            for o in answer.outputs
        }

    def infer_later(self, message):
        """Ask over gRPC, and wait for it later."""
        return self._infer.future(message, timeout=60)


def message_of(model, tensors, raw):
    message = pb.ModelInferRequest(model_name=model)
    for name, datatype, array in tensors:
        tensor = message.inputs.add(name=name, datatype=datatype, shape=array.shape)
        if raw:
            message.raw_input_contents.append(to_raw(array))
        else:
            values = array.reshape(-1).tolist()
            getattr(tensor.contents, TYPED[datatype]).extend(v.encode() if isinstance(v, str) else v for v in values)
    return message.SerializeToString()


def values_of(array):
    """Return elements as JSON takes them; Python writes the shortest decimal that reads back as the same float64."""
    return [None if isinstance(v, float) and v != v else v for v in array.reshape(-1).tolist()]


def array_of(raw, datatype, shape):
    if datatype == "BYTES":
        return np.array(split_bytes(raw, int(np.prod(shape)), "output"), object).reshape(shape)
    return np.frombuffer(raw, dtype_of(datatype)).reshape(shape)


def read_predictions(body, classes):
    """Return what `:predict` says: numbers, or labels and probabilities in the order of the classes."""
    told = json.loads(body)["predictions"]
    if not classes:
        return [np.array(told, np.float64)]
    for row in told:
        assert row["probability"] == row["probabilities"][str(row["label"])]
    chances = [[row["probabilities"][str(c)] for c in classes] for row in told]
    return [np.array([row["label"] for row in told], object), np.array(chances, np.float64)]


def read_columns(path, classes):
    """Return what `foretell predict` wrote."""
    table = pd.read_csv(path, float_precision="round_trip") if path.suffix == ".csv" else pd.read_parquet(path)
    if "prediction" not in table:  # bare tensors: a column for each element of a row
        return [table.to_numpy(np.float64)]
    if not classes:
        return [table["prediction"].to_numpy(np.float64)]
    chances = [table[f"probability_{c}"].to_numpy(np.float64) for c in classes]
    return [table["prediction"].to_numpy(object), np.stack(chances, axis=1)]


def said(predictions):
    """Return predictions of Python in the same form; float32 as the float64 of the same value."""
    if not predictions.classes:
        return [np.asarray(predictions.values, np.float64)]
    return [np.asarray(predictions.values, object), np.asarray(predictions.probabilities, np.float64)]


def predict_file(model, path, out):
    """Run the command."""
    command = [sys.executable, "-m", "foretell.cli.main", "predict", str(model), str(path), "-o", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT, timeout=120)
    assert done.returncode == 0, done.stderr
    return out


def write(frame, path):
    """Write rows as a file, by its ending."""
    path = Path(path)
    if path.suffix == ".csv":
        frame.to_csv(path, index=False)
    elif path.suffix == ".jsonl":
        frame.to_json(path, orient="records", lines=True, double_precision=15)
    elif path.suffix == ".parquet":
        frame.to_parquet(path)
    else:
        path.write_bytes(arrow_stream(frame))
    return path


def arrow_stream(frame):
    table = pa.Table.from_pandas(frame, preserve_index=False)
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=7)
    return sink.getvalue()


def records(frame):
    """Return rows as JSON has them: None for what is missing."""
    return [{k: None if v is None or v != v else v for k, v in row.items()} for row in frame.to_dict("records")]


def assert_same(found, expected, door):
    """Hold answers against each other: every text, every bit of every number."""
    assert len(found) == len(expected), door
    for one, other in zip(found, expected, strict=True):
        assert one.shape == other.shape, door
        if other.dtype.kind == "O":
            assert [str(v) for v in one.tolist()] == [str(v) for v in other.tolist()], door
        else:
            assert one.dtype == other.dtype, (door, one.dtype, other.dtype)
            np.testing.assert_array_equal(bits(one), bits(other), err_msg=door)


def bits(array):
    return np.ascontiguousarray(array).view(f"u{array.itemsize}") if array.dtype.kind == "f" else array
