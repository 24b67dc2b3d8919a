"""The servers of the tensor part: one ONNX file, one row of 30 floats a request, each with its best fair settings.

All run the graph in ONNX Runtime with one intra-op thread and parse JSON with the fastest parser they take. The
settings are those that answered most at 64 connections on 2 cores shared with the generator.
"""

import json
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from rivals.rival import SERVERS, Installed, Place, Server

INFER = "/v2/models/xgb/infer"
RUNTIME = "onnxruntime==1.31.1"

MOSEC = Installed("mosec", ("mosec==0.9.8", RUNTIME, "orjson"))
MLSERVER = Installed("mlserver", ("mlserver==1.7.1", RUNTIME, "pandas", "scikit-learn==1.9.1", "joblib"))
KSERVE = Installed("kserve", ("kserve==0.21.0", RUNTIME))
LITSERVE = Installed("litserve", ("litserve==0.2.19", RUNTIME))
BENTOML = Installed("bentoml", ("bentoml==1.4.39", RUNTIME))
RAY = Installed("ray", ("ray[serve]==2.60.0", RUNTIME))


def question(row: Sequence[float], name: str = "input") -> object:
    """Return the document of the Open Inference Protocol; `name` is the tensor's."""
    return {"inputs": [{"name": name, "shape": [1, len(row)], "datatype": "FP32", "data": list(row)}]}


def answer(document: Any) -> Sequence[float]:
    outputs = {output["name"]: output["data"] for output in document["outputs"]}
    found: Sequence[float] = outputs["probabilities"]
    return found


def foretell(name: str, settings: str, *options: str, model: Path | None = None, tensor: str = "input") -> Server:
    def command(place: Place) -> list[str | Path]:
        ports = ["--http-port", str(place.port), "--grpc-port", str(place.other_port)]
        return [Path(sys.executable).with_name("foretell"), "serve", place.model, *ports, *options]

    ask = partial(question, name=tensor)
    return Server(name, settings, command, INFER, ask, answer, is_ours=True, model=model)


def servers(model: Path, json_model: Path) -> list[Server]:
    """Return them in the order of their turns."""
    shared = {"MODEL": str(model), "OMP_NUM_THREADS": "1"}
    return [
        floor(),
        foretell("foretell", "defaults: the model in a worker process of its own"),
        foretell("foretell --isolation none", "the model in the front", "--isolation", "none"),
        foretell("foretell, xgb.json", "defaults, the file as XGBoost saved it", model=json_model, tensor="features"),
        mosec(shared),
        mlserver(shared),
        kserve(shared),
        litserve(shared),
        bentoml(shared),
        ray_serve(shared),
    ]


def floor() -> Server:
    def command(_: Place) -> list[str | Path]:
        return [sys.executable, SERVERS / "floor_server.py"]

    return Server("(an empty reply)", "uvloop + httptools", command, INFER, question, answer, is_floor=True)


def mosec(shared: Mapping[str, str]) -> Server:
    script = MOSEC.script("mosec_server.py", "--address", "127.0.0.1", "--log-level", "warning")
    return Server(
        "mosec 0.9.8",
        "1 worker, batches of up to 64, waits 1 ms (its least) for company, orjson in the worker",
        lambda place: [*script(place), "--port", str(place.port)],
        INFER,
        question,
        answer,
        {**shared, "WORKERS": "1", "WAIT_MS": "1"},
    )


def mlserver(shared: Mapping[str, str]) -> Server:
    return Server(
        "MLServer 1.7.1",
        "own runtime on its numpy codec, in the front (parallel_workers 0), batches of up to 64, waits 1 ms, debug off",
        lambda place: mlserver_command(place, "mlserver_model.Xgb", "xgb"),
        INFER,
        question,
        answer,
        {**shared, "PYTHONPATH": str(SERVERS)},
    )


def mlserver_command(place: Place, implementation: str, name: str) -> list[str | Path]:
    """Write MLServer's settings files, and return how to start it on them."""
    settings = {
        "debug": False,
        "host": "127.0.0.1",
        "parallel_workers": 0,
        "http_port": place.port,
        "grpc_port": place.other_port,
        "metrics_port": place.third_port,
    }
    model = {"name": name, "implementation": implementation, "max_batch_size": 64, "max_batch_time": 0.001}
    place.folder.mkdir(parents=True, exist_ok=True)
    (place.folder / "settings.json").write_text(json.dumps(settings))
    (place.folder / "model-settings.json").write_text(json.dumps(model))
    return [MLSERVER.program("mlserver"), "start", place.folder]


def kserve(shared: Mapping[str, str]) -> Server:
    script = KSERVE.script("kserve_server.py", "--enable_latency_logging", "false", "--enable_grpc", "false")
    return Server(
        "KServe SDK 0.21",
        "1 worker, no gRPC, no log line a request; it has no batching",
        lambda place: [*script(place), "--http_port", str(place.port), "--workers", "1"],
        INFER,
        question,
        answer,
        dict(shared),
    )


def litserve(shared: Mapping[str, str]) -> Server:
    script = LITSERVE.script("litserve_server.py")
    settings = {"WORKERS": "1", "API_SERVERS": "1", "WAIT_MS": "1", "FAST_QUEUE": "1"}
    return Server(
        "LitServe 0.2.19",
        "1 worker, 1 API process, batches of up to 64, waits 1 ms, fast_queue (ZeroMQ)",
        script,
        INFER,
        question,
        answer,
        {**shared, **settings},
    )


def bentoml(shared: Mapping[str, str]) -> Server:
    return Server(
        "BentoML 1.4.39",
        "1 worker, batchable, batches of up to 64, max_latency_ms 1000 (less refuses requests), no access log",
        lambda place: [
            BENTOML.program("bentoml"), "serve", "bento_service:Xgb", "--working-dir", SERVERS,
            "--host", "127.0.0.1", "--port", str(place.port),
        ],
        "/infer",
        lambda row: {"rows": [list(row)]},
        lambda document: document[0],
        {**shared, "PYTHONPATH": str(SERVERS), "WORKERS": "1", "WAIT_MS": "1000", "BENTOML_DO_NOT_TRACK": "1"},
    )  # fmt: skip


def ray_serve(shared: Mapping[str, str]) -> Server:
    script = RAY.script("ray_server.py")
    settings = {"WAIT_MS": "1", "REPLICAS": "1", "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1", "RAY_USAGE_STATS_ENABLED": "0"}
    return Server(
        "Ray Serve 2.60",
        "1 replica, batches of up to 64, waits 1 ms, RAY_SERVE_THROUGHPUT_OPTIMIZED",
        script,
        INFER,
        question,
        answer,
        {**shared, **settings, "PYTHONPATH": str(SERVERS)},
    )
