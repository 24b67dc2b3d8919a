"""Triton's own four clients, unchanged."""

import asyncio
import queue

import numpy as np
import pytest

pytest.importorskip("tritonclient.http")
pytest.importorskip("tritonclient.grpc")

import tritonclient.grpc as over_grpc
import tritonclient.grpc.aio as over_grpc_aio
import tritonclient.http as over_http
import tritonclient.http.aio as over_http_aio
from tritonclient.utils import InferenceServerException

X = np.random.default_rng(0).normal(size=(3, 3)).astype(np.float32)
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:.*InferenceServerClient.*:pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(params=["http", "grpc", "grpc on aio"])
def client(request, server):
    module = over_http if request.param == "http" else over_grpc
    if request.param == "grpc on aio":
        server = request.getfixturevalue("aio_server")
    made = module.InferenceServerClient(f"127.0.0.1:{server.port}" if request.param == "http" else server.grpc)
    yield made, module
    made.close()


def tensor(module, name="x", array=X, datatype="FP32", **options):
    made = module.InferInput(name, list(array.shape), datatype)
    made.set_data_from_numpy(array, **options)
    return made


def test_health_and_metadata(client):
    made, module = client
    assert made.is_server_live()
    assert not made.is_server_ready()  # one model is broken on purpose
    assert made.is_model_ready("echo")
    assert made.is_model_ready("echo", "1")
    told = made.get_model_metadata("echo", **({"as_json": True} if module is over_grpc else {}))
    assert told["inputs"][0]["name"] == "x"
    assert [int(d) for d in told["inputs"][0]["shape"]] == [-1, 3]
    index = made.get_model_repository_index(**({"as_json": True} if module is over_grpc else {}))
    models = {m["name"]: m for m in (index["models"] if module is over_grpc else index)}
    assert models["echo"]["state"] == "READY"
    assert models["broken"]["state"] == "UNAVAILABLE"
    assert "broken on purpose" in models["broken"]["reason"]


def test_infer(client):
    made, module = client
    result = made.infer("echo", [tensor(module)], request_id="seven")
    np.testing.assert_array_equal(result.as_numpy("twice"), X * 2)
    np.testing.assert_array_equal(result.as_numpy("sum"), X.sum(axis=1))
    answer = result.get_response()
    assert (answer["id"] if isinstance(answer, dict) else answer.id) == "seven"


def test_infer_chosen_outputs(client):
    made, module = client
    wanted = [module.InferRequestedOutput("twice")]
    result = made.infer("echo", [tensor(module)], outputs=wanted, model_version="1", timeout=2_000_000, priority=2)
    np.testing.assert_array_equal(result.as_numpy("twice"), X * 2)
    assert result.as_numpy("sum") is None


@pytest.mark.parametrize("asked", [True, False])
@pytest.mark.parametrize("sent", [True, False])
def test_json_and_binary_mix(server, sent, asked):
    with over_http.InferenceServerClient(f"127.0.0.1:{server.port}") as made:
        wanted = [over_http.InferRequestedOutput("twice", binary_data=asked)]
        result = made.infer("echo", [tensor(over_http, binary_data=sent)], outputs=wanted)
        np.testing.assert_array_equal(result.as_numpy("twice"), X * 2)


def test_every_datatype(client):
    made, module = client
    arrays = {
        "BOOL": np.array([True, False]),
        **{k: np.array([np.iinfo(k.lower()).min, np.iinfo(k.lower()).max], k.lower())
           for k in ("INT8", "INT16", "INT32", "INT64", "UINT8", "UINT16", "UINT32", "UINT64")},
        "FP16": np.array([1.5, -0.0], np.float16),
        "FP32": np.array([np.finfo(np.float32).max, 1e-45], np.float32),
        "FP64": np.array([np.finfo(np.float64).max, 5e-324], np.float64),
        "BYTES": np.array(["", "grün\x00 ✓"], object),
    }  # fmt: skip
    result = made.infer("kinds", [tensor(module, k, a, k) for k, a in arrays.items()])
    for name, array in arrays.items():
        found = result.as_numpy(f"{name}_out")
        if name == "BYTES":
            assert [v.decode() for v in found] == list(array)
        else:
            np.testing.assert_array_equal(found, array)
            assert found.dtype == array.dtype


def test_not_finite_stays_in_binary(client):
    made, module = client
    array = np.array([[np.nan, np.inf, -np.inf]], np.float32)
    result = made.infer("echo", [tensor(module, array=array)])
    np.testing.assert_array_equal(result.as_numpy("twice"), array)


def test_classification(client):
    made, module = client
    scores = np.array([[0.1, 0.7, 0.2]], np.float32)
    wanted = [module.InferRequestedOutput("p", class_count=2)]
    found = made.infer("pets", [tensor(module, array=scores)], outputs=wanted).as_numpy("p")
    assert [v.decode() for v in found[0]] == ["0.700000:1:dog", "0.200000:2:emu"]


def test_statistics(client):
    made, module = client
    as_json = {"as_json": True} if module is over_grpc else {}

    def counted():
        (one,) = made.get_inference_statistics("echo", "1", **as_json)["model_stats"]
        return int(one.get("inference_count", 0))

    before = counted()
    made.infer("echo", [tensor(module)])
    assert counted() == before + 3


def test_load_and_unload(client):
    made, _ = client
    made.unload_model("pets")
    assert not made.is_model_ready("pets")
    made.load_model("pets")
    assert made.is_model_ready("pets")
    with pytest.raises(InferenceServerException, match="broken on purpose"):
        made.load_model("broken")


@pytest.mark.parametrize(
    ("name", "array", "datatype", "said"),
    [
        ("y", X, "FP32", 'input "y": the model has none of this name'),
        ("x", X[:, :2], "FP32", r"shape \(3, 2\), the model takes \(rows, 3\)"),
        ("x", X.astype(np.float64), "FP64", "datatype FP64, the model takes FP32"),
    ],
)
def test_what_is_wrong_is_said(client, name, array, datatype, said):
    made, module = client
    with pytest.raises(InferenceServerException, match=said):
        made.infer("echo", [tensor(module, name, array, datatype)])


def test_unknown_model(client):
    made, module = client
    with pytest.raises(InferenceServerException, match='"nothing": not found'):
        made.infer("nothing", [tensor(module)])


def test_stream(grpc_server):
    answers = queue.Queue()
    with over_grpc.InferenceServerClient(grpc_server.grpc) as made:
        made.start_stream(lambda result, error: answers.put((result, error)))
        for at in range(20):
            made.async_stream_infer("echo", [tensor(over_grpc, array=X + at)], request_id=str(at))
        made.async_stream_infer("echo", [tensor(over_grpc, "y")])
        for at in range(20):
            result, error = answers.get(timeout=10)
            assert error is None
            assert result.get_response().id == str(at)
            np.testing.assert_array_equal(result.as_numpy("twice"), (X + at) * 2)
        result, error = answers.get(timeout=10)
        assert "none of this name" in str(error)


def test_asynchronous_clients(server, grpc_server):
    async def both():
        async with over_http_aio.InferenceServerClient(f"127.0.0.1:{server.port}") as made:
            found = [await made.infer("echo", [tensor(over_http_aio)])]
            assert (await made.get_model_metadata("echo"))["name"] == "echo"
        async with over_grpc_aio.InferenceServerClient(grpc_server.grpc) as made:
            found.append(await made.infer("echo", [tensor(over_grpc_aio)]))
        return found

    for result in asyncio.run(both()):
        np.testing.assert_array_equal(result.as_numpy("twice"), X * 2)


@pytest.mark.parametrize("algorithm", ["gzip", "deflate"])
def test_compressed_requests(grpc_server, algorithm):
    big = np.arange(30_000, dtype=np.float32).reshape(-1, 3)
    with over_grpc.InferenceServerClient(grpc_server.grpc) as made:
        result = made.infer("echo", [tensor(over_grpc, array=big)], compression_algorithm=algorithm)
    np.testing.assert_array_equal(result.as_numpy("twice"), big * 2)


def test_columns_as_tensors(client):
    """A model whose tensor has codes in it takes its fields one by one, and says so."""
    made, module = client
    told = made.get_model_metadata("house", **({"as_json": True} if module is over_grpc else {}))
    assert [(i["name"], i["datatype"]) for i in told["inputs"]] == [
        ("area", "FP64"),
        ("town", "BYTES"),
        ("age", "FP64"),
    ]
    area = np.array([[100.5], [np.nan], [-7]])
    town = np.array([["Rom"], ["Bern"], ["Rom"]], object)
    for age, kind in ((np.array([3, 4.5, 0]), "FP64"), (np.array([3, 4, 0], np.int32), "INT32")):
        given = [
            tensor(module, "town", town, "BYTES"),
            tensor(module, "area", area, "FP64"),
            tensor(module, "age", age, kind),
        ]
        found = made.infer("house", given).as_numpy("price")
        np.testing.assert_allclose(found, [1100.5 + age[0] / 10, age[1] / 10, 993.0])
    oslo = tensor(module, "town", np.array([["Oslo"]], object), "BYTES")
    one = [tensor(module, n, np.array([[1.0]]), "FP64") for n in ("area", "age")]
    with pytest.raises(InferenceServerException, match='column "town", row 0: got "Oslo"'):
        made.infer("house", [oslo, *one])
    with pytest.raises(InferenceServerException, match='"age"'):
        made.infer("house", given[:2])
    codes = tensor(module, "input", np.array([[100.5, 1, 3]]), "FP64")
    assert made.infer("house", [codes]).as_numpy("price")[0] == pytest.approx(1100.8)
