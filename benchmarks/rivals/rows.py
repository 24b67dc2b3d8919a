"""The servers of the Ames part: one fitted scikit-learn pipeline, one home of 73 named, mixed values a request."""

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rivals.rival import SERVERS, Installed, Place, Server
from rivals.tensors import INFER, mlserver_command

MLFLOW = Installed("mlflow", ("mlflow==3.17.2", "scikit-learn==1.9.1", "joblib"))
Home = Mapping[str, Any]


def servers(bundle: Path, pipeline: Path) -> list[Server]:
    """Return them in the order of their turns; `bundle` is what Foretell made of the pipeline."""
    return [
        foretell("foretell", "defaults, the bundle that `foretell convert` made of the pipeline", bundle),
        foretell("foretell --isolation none", "the same in the front", bundle, "--isolation", "none"),
        mlserver(pipeline),
        mlflow(pipeline),
    ]


def foretell(name: str, settings: str, bundle: Path, *options: str) -> Server:
    def command(place: Place) -> list[str | Path]:
        ports = ["--http-port", str(place.port), "--grpc-port", str(place.other_port)]
        return [Path(sys.executable).with_name("foretell"), "serve", place.model, *ports, *options]

    return Server(
        name,
        settings,
        command,
        "/v1/models/ames:predict",
        lambda home: {"instances": [home]},
        lambda document: document["predictions"],
        is_ours=True,
        model=bundle,
    )


def mlserver(pipeline: Path) -> Server:
    return Server(
        "MLServer 1.7.1",
        "the pipeline on its pandas codec, in the front (parallel_workers 0), batches of up to 64, waits 1 ms",
        lambda place: mlserver_command(place, "mlserver_model.Pipeline", "xgb"),
        INFER,
        columns,
        lambda document: document["outputs"][0]["data"],
        {"MODEL": str(pipeline), "PYTHONPATH": str(SERVERS), "OMP_NUM_THREADS": "1"},
    )


def columns(home: Home) -> object:
    """Return an input for each column, as its pandas codec reads them."""
    return {"parameters": {"content_type": "pd"}, "inputs": [_column(*item) for item in home.items()]}


def _column(name: str, value: object) -> dict[str, object]:
    # It cannot read a null among texts; "none" is what the pipeline itself puts in its place.
    datatype = {int: "INT64", float: "FP64"}.get(type(value), "BYTES")
    made: dict[str, object] = {"name": name, "shape": [1, 1], "datatype": datatype}
    made["data"] = ["none" if value is None else value]
    if datatype == "BYTES":
        made["parameters"] = {"content_type": "str"}
    return made


def mlflow(pipeline: Path) -> Server:
    folder = pipeline.parent / "served" / "ames-mlflow"

    def command(place: Place) -> list[str | Path]:
        save = [MLFLOW.script("save_for_mlflow.py")(place)[0], SERVERS / "save_for_mlflow.py", pipeline, folder]
        subprocess.run(save, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        options = ["--env-manager", "local", "--host", "127.0.0.1", "--port", str(place.port), "--workers", "1"]
        return [MLFLOW.program("mlflow"), "models", "serve", "-m", folder, *options]

    return Server(
        "mlflow models serve 3.17",
        "1 uvicorn worker, env-manager local",
        command,
        "/invocations",
        lambda home: {"dataframe_records": [{k: "none" if v is None else v for k, v in home.items()}]},
        lambda document: document["predictions"],
        {"PATH": f"{MLFLOW.folder}/bin:/usr/bin:/bin", "OMP_NUM_THREADS": "1", "MLFLOW_DISABLE_TELEMETRY": "true"},
    )
