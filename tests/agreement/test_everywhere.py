"""The same rows through every door of a real server, the command and Python: the same answers, to the last bit.

Decimal forms are exact too: JSON and CSV are written with the shortest decimals that read back as the same float64,
and a float32 is told as the float64 of the same value. Calls here have too few rows for a booster's own library to
take over from the graph, which rounds otherwise; `test_company` says how far.
"""

import json
import random
import socket
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import pytest
from sklearn.compose import make_column_selector, make_column_transformer
from sklearn.datasets import load_wine
from sklearn.ensemble import GradientBoostingRegressor
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from foretell.model.convert import convert
from foretell.model.load import load
from foretell.model.tasks.predictions import Predictions
from foretell.protocol.columns import described_inputs

sys.path.insert(0, str(Path(__file__).parent))
from doors_of import (
    Serving,
    arrow_stream,
    assert_same,
    message_of,
    predict_file,
    read_columns,
    read_predictions,
    records,
    said,
    write,
)

pytestmark = pytest.mark.filterwarnings("ignore")
AMES = Path(__file__).parents[2] / "examples" / "ames" / "ames.csv"
ROWS = 24
MODELS = ("ames", "wines", "xgb", "lgb", "cat", "net")


def homes():
    """Return homes and prices, with holes in columns of both kinds."""
    frame = pd.read_csv(AMES).sample(700, random_state=0).reset_index(drop=True)
    prices = frame.pop("Sale_Price")
    frame = frame.drop(columns=["Id"])
    frame.loc[::7, "Lot_Frontage"] = np.nan
    frame.loc[::5, "Street"] = None
    frame["Wood_Deck_SF"] = frame["Wood_Deck_SF"] + 0.1  # no binary fraction
    return frame, prices


def train_homes(folder):
    frame, prices = homes()
    numbers, words = make_column_selector(dtype_include=np.number), make_column_selector(dtype_exclude=np.number)
    filled = make_pipeline(
        SimpleImputer(strategy="constant", fill_value="none"), OneHotEncoder(handle_unknown="ignore")
    )
    prepare = make_column_transformer((SimpleImputer(strategy="median"), numbers), (filled, words))
    model = make_pipeline(prepare, GradientBoostingRegressor(n_estimators=10, random_state=0)).fit(frame, prices)
    joblib.dump(model, folder / "ames.joblib")
    convert(folder / "ames.joblib", folder / "served" / "ames", trust=True)


def train_wines(folder):
    wine = load_wine(as_frame=True)
    names = np.array(["barolo", "grignolino", "barbera"])[wine.target]
    joblib.dump(make_pipeline(StandardScaler(), LogisticRegression()).fit(wine.data, names), folder / "wines.joblib")
    convert(folder / "wines.joblib", folder / "served" / "wines", trust=True)


def train_boosters(folder):
    catboost, lightgbm, xgboost = map(pytest.importorskip, ("catboost", "lightgbm", "xgboost"))
    wine = load_wine(as_frame=True)
    X, y = wine.data, wine.target
    xgboost.XGBClassifier(n_estimators=20, max_depth=4).fit(X, y).save_model(folder / "xgb.json")
    lightgbm.LGBMClassifier(n_estimators=20, verbose=-1).fit(X, y).booster_.save_model(folder / "lgb.txt")
    model = catboost.CatBoostRegressor(iterations=20, verbose=0, allow_writing_files=False).fit(X, X["alcohol"] * y)
    model.save_model(str(folder / "cat.cbm"))


def write_network(path):
    """Write two layers of float32 as an ONNX file of bare tensors."""
    onnx = pytest.importorskip("onnx")
    from onnx import TensorProto, helper, numpy_helper

    rng = np.random.default_rng(0)
    weights = {"a": (13, 32), "b": (32,), "c": (32, 3), "d": (3,)}
    held = [numpy_helper.from_array(rng.normal(size=s).astype(np.float32), n) for n, s in weights.items()]
    nodes = [
        helper.make_node("Gemm", ["x", "a", "b"], ["h"]),
        helper.make_node("Tanh", ["h"], ["t"]),
        helper.make_node("Gemm", ["t", "c", "d"], ["z"]),
        helper.make_node("Softmax", ["z"], ["p"], axis=1),
    ]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, 13])
    p = helper.make_tensor_value_info("p", TensorProto.FLOAT, [None, 3])
    graph = helper.make_graph(nodes, "net", [x], [p], held)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("everywhere")
    (made / "served").mkdir()
    with ThreadPoolExecutor() as pool:  # converting is done in processes of its own
        for done in [pool.submit(train_homes, made), pool.submit(train_wines, made)]:
            done.result()
    train_boosters(made / "served")
    write_network(made / "served" / "net.onnx")
    return made / "served"


@pytest.fixture(scope="module")
def server(folder):
    with Serving(folder) as running:
        yield running


@pytest.fixture(scope="module")
def paths(folder):
    return {p.name.partition(".")[0]: p for p in folder.iterdir()}


@pytest.fixture(scope="module")
def loaded(paths):
    return {name: load(paths[name]) for name in MODELS}


def rows_of(name, count=ROWS):
    frame = homes()[0] if name == "ames" else load_wine(as_frame=True).data.sample(frac=1, random_state=1)
    if name == "net":
        frame.columns = [f"x{at}" for at in range(frame.shape[1])]  # as Foretell names what has no names
    return frame.iloc[:count].reset_index(drop=True)


def as_tensors(model, frame):
    """Return rows as the tensors of the model's runtime."""
    inputs = model.prepare(frame).inputs
    return [(spec.name, spec.datatype, inputs[spec.name]) for spec in model.signature.inputs]


def as_columns(model, frame):
    """Return rows as the metadata asks for them: a tensor for each field, texts as BYTES, a missing one empty."""
    tensors = []
    for spec in described_inputs(model.signature):
        column = frame[spec.name]
        array = column.fillna("").to_numpy(object) if spec.datatype == "BYTES" else column.to_numpy(np.float64)
        tensors.append((spec.name, spec.datatype, array.reshape(-1, 1)))
    return tensors


@pytest.mark.parametrize("name", MODELS)
def test_rows(server, loaded, name):
    """`:predict` in each of its forms says what Python says."""
    model, frame, path = loaded[name], rows_of(name), f"/v1/models/{name}:predict"
    expected = said(model.predict(frame))
    fields = [f.name for f in model.signature.fields]
    rows = records(frame)
    bodies = {
        "dicts": ({"instances": rows}, "application/json"),
        "lists": ({"instances": [[row[f] for f in fields] for row in rows]}, "application/json"),
        "split": ({"dataframe_split": {"columns": fields, "data": [[row[f] for f in fields] for row in rows]}}, None),
        "csv": (frame.to_csv(index=False).encode(), "text/csv"),
        "arrow": (arrow_stream(frame), "application/vnd.apache.arrow.stream"),
    }
    for door, (body, kind) in bodies.items():
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        answer, _ = server.post(path, raw, kind or "application/json")
        assert_same(read_predictions(answer, model.task_reader.classes), expected, door)
    one_by_one = [server.post(path, json.dumps({"instances": [row]}).encode())[0] for row in rows[:5]]
    alone = [read_predictions(answer, model.task_reader.classes) for answer in one_by_one]
    assert_same([np.concatenate(part) for part in zip(*alone, strict=True)], [e[:5] for e in expected], "alone")


@pytest.mark.parametrize("name", MODELS)
def test_tensors(server, loaded, name):
    """The Open Inference Protocol in each of its forms gives the runtime's own outputs."""
    model, frame = loaded[name], rows_of(name)
    given = as_tensors(model, frame)
    expected = model.infer({n: array for n, _, array in given}, len(frame))
    outputs = [spec.name for spec in model.signature.outputs]
    forms = {"tensors": given}
    if name == "ames":
        forms["columns"] = as_columns(model, frame)
        assert len(forms["columns"]) == len(model.signature.fields) > 70
    for form, tensors in forms.items():
        answers = {
            "JSON": server.infer_json(name, tensors),
            "binary": server.infer_binary(name, tensors),
            "gRPC, raw": server.infer_grpc(name, tensors, raw=True),
            "gRPC, typed": server.infer_grpc(name, tensors, raw=False),
        }
        for door, found in answers.items():
            assert_same([found[n] for n in outputs], expected, f"{form}, {door}")
        read = said(Predictions(model.task_reader, [answers["JSON"][n] for n in outputs]))
        assert_same(read, said(model.predict(frame)), form)


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet", "arrow"])
def test_the_command(paths, loaded, tmp_path, ending):
    """`foretell predict` on every kind of file, and a decimal output as exact as a binary one."""
    model, frame = loaded["ames"], rows_of("ames")
    file, out = write(frame, tmp_path / f"homes.{ending}"), tmp_path / ("o.csv" if ending == "csv" else "o.parquet")
    found = read_columns(predict_file(paths["ames"], file, out), ())
    assert_same(found, said(model.predict(frame)), ending)


@pytest.mark.parametrize("name", [name for name in MODELS if name != "ames"])
def test_the_command_on_other_models(paths, loaded, tmp_path, name):
    model, frame = loaded[name], rows_of(name)
    file = write(frame, tmp_path / "wines.parquet")
    found = read_columns(predict_file(paths[name], file, tmp_path / "o.parquet"), model.task_reader.classes)
    assert_same(found, said(model.predict(frame)), name)


def test_invocations(paths, loaded):
    """A server of one model: `/invocations`, in the forms of MLflow, and without isolation."""
    model, frame = loaded["wines"], rows_of("wines")
    expected = said(model.predict(frame))
    with Serving(paths["wines"], "--isolation", "none") as alone:
        for body, kind in (
            (json.dumps({"dataframe_records": records(frame)}).encode(), "application/json"),
            (frame.to_csv(index=False).encode(), "text/csv"),
        ):
            answer, _ = alone.post("/invocations", body, kind)
            assert_same(read_predictions(answer, model.task_reader.classes), expected, kind)


BURSTS, BURST = 12, 24


@pytest.mark.parametrize("name", MODELS)
def test_in_any_company(server, loaded, name):
    """Requests of random rows, sizes and doors at once: each row is answered as it is alone, to the bit."""
    model = loaded[name]
    frame = rows_of(name, 40)
    (tensor,) = as_tensors(model, frame)
    alone = np.concatenate([model.infer({tensor[0]: tensor[2][i : i + 1]}, 1)[-1] for i in range(len(frame))])
    output = model.signature.outputs[-1].name
    before = statistics(server, name)
    draw, threads, wrong = random.Random(name), [], []
    for _ in range(3):
        seed = draw.random()
        threads += [
            threading.Thread(
                target=guarded, args=(wrong, ask, server, name, tensor, alone, output, random.Random(seed))
            )
            for ask in (ask_pipelined, ask_grpc)
        ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert not wrong, wrong[0]
    rows, batches = (now - then for now, then in zip(statistics(server, name), before, strict=True))
    assert rows > 6 * BURSTS // 3 * BURST
    assert batches < rows / 4  # or they had no company


def statistics(server, name):
    (told,) = server.get(f"/v2/models/{name}/stats")["model_stats"]
    return told["inference_count"], told["execution_count"]


def guarded(wrong, ask, *arguments):
    try:
        ask(*arguments)
    except Exception as error:  # noqa: BLE001 - told in the thread of the test
        wrong.append(error)


def chosen(draw, most):
    return [draw.randrange(most) for _ in range(draw.choice((1, 1, 1, 2, 3, 5, 9, 17)))]


def ask_pipelined(server, name, tensor, alone, output, draw):
    """Ask over one connection, a burst of requests in one write."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=60) as client:
        replies = client.makefile("rb")
        for _ in range(BURSTS // 3):
            asked = [chosen(draw, len(alone)) for _ in range(BURST)]
            client.sendall(b"".join(as_request(name, tensor, rows) for rows in asked))
            for rows in asked:
                found = {o["name"]: o for o in json.loads(body_of(replies))["outputs"]}[output]
                expected = alone[rows]
                assert found["data"] == expected.reshape(-1).tolist(), rows
                assert found["shape"] == list(expected.shape)


def as_request(name, tensor, rows):
    array = tensor[2][rows]
    data = [None if v != v else v for v in array.reshape(-1).tolist()]
    inputs = [{"name": tensor[0], "datatype": tensor[1], "shape": array.shape, "data": data}]
    body = json.dumps({"inputs": inputs}).encode()
    head = f"POST /v2/models/{name}/infer HTTP/1.1\r\nhost: localhost\r\ncontent-length: {len(body)}\r\n\r\n"
    return head.encode() + body


def body_of(replies):
    length = 0
    assert replies.readline().split()[1] == b"200"
    while (line := replies.readline()) != b"\r\n":
        key, _, value = line.partition(b":")
        length = int(value) if key.lower() == b"content-length" else length
    return replies.read(length)


def ask_grpc(server, name, tensor, alone, output, draw):
    """Ask over gRPC, a burst of calls at once."""
    from foretell.protocol import open_inference_pb2 as pb

    for _ in range(BURSTS // 3):
        asked = [chosen(draw, len(alone)) for _ in range(BURST)]
        calls = [
            server.infer_later(message_of(name, [(*tensor[:2], np.ascontiguousarray(tensor[2][rows]))], raw=True))
            for rows in asked
        ]
        for rows, call in zip(asked, calls, strict=True):
            answer = pb.ModelInferResponse.FromString(call.result())
            at = [o.name for o in answer.outputs].index(output)
            assert answer.raw_output_contents[at] == alone[rows].tobytes(), rows
