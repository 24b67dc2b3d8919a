"""Encoded pictures through every door of a real server: what the model predicts in Python, to the last bit."""

import base64
import io
import json
import struct
import subprocess
import sys
from pathlib import Path

import grpc
import numpy as np
import pytest
from PIL import Image

import foretell
import foretell.testing
from foretell.cli.main import main
from foretell.errors import InvalidInput
from foretell.protocol import open_inference_pb2 as pb
from foretell.protocol.tensors import split_elements

sys.path.insert(0, str(Path(__file__).parent))
from doors_of import METHOD, Serving
from picture_networks import CLASSIFIER, DETECTOR, classifier, detector, written

NAMES = ("colours", "best", "things")
DOORS = ("own", "aio", "none")


def noise(seed: int, width: int, height: int, kind: str) -> bytes:
    drawn = np.random.default_rng(seed)
    pixels = drawn.integers(0, 256, (height, width, 3), dtype=np.uint8)
    pixels[:, :, seed % 3] |= 0x80
    held = io.BytesIO()
    Image.fromarray(pixels).save(held, kind)
    return held.getvalue()


PICTURES = [
    noise(0, 40, 30, "PNG"),
    noise(1, 200, 100, "JPEG"),
    noise(2, 16, 16, "BMP"),
    noise(3, 900, 700, "JPEG"),  # over the limits that small bodies have
    noise(4, 60, 60, "WEBP"),
    noise(5, 700, 600, "PNG"),  # and of a body that is joined elsewhere
    noise(6, 30, 50, "GIF"),
    noise(7, 33, 33, "TIFF"),
    noise(8, 20, 20, "PNG"),
]  # more than one batch takes
TYPES = ["png", "jpeg", "bmp", "jpeg", "webp", "png", "gif", "tiff", "png"]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of bundles: all classes, the best two, and a detector."""
    folder = tmp_path_factory.mktemp("made")
    best = CLASSIFIER.replace("logits = true", "logits = true\ntop = 2")
    for name, content, tables in zip(
        NAMES, (classifier(), classifier(), detector()), (CLASSIFIER, best, DETECTOR), strict=True
    ):
        file, picture = written(folder, name, content, tables)
        assert main(["convert", str(file), "--picture", str(picture), "-o", str(folder / "served" / name)]) == 0
    return folder / "served"


@pytest.fixture(scope="module", params=DOORS)
def served(request, made):
    """A server; the last one runs its models in itself."""
    options = ["--isolation", "none"] if request.param == "none" else ["--grpc-door", request.param]
    with Serving(*(made / name for name in NAMES), *options) as found:
        yield found


@pytest.fixture(scope="module")
def models(made):
    found = {name: foretell.load(made / name) for name in NAMES}
    yield found
    for model in found.values():
        model.close()


def predictions(served, name, body, kind="application/json"):
    return json.loads(served.post(f"/v1/models/{name}:predict", body, kind)[0])["predictions"]


@pytest.mark.parametrize("name", NAMES)
def test_rows(served, models, name):
    expected = models[name].predict(PICTURES).to_list()
    assert len({str(answer) for answer in expected}) > 1
    for picture, kind, want in zip(PICTURES, TYPES, expected, strict=True):
        assert predictions(served, name, picture, f"image/{kind}") == [want]
    for kind in ("image/jpeg", "application/octet-stream", "application/x-www-form-urlencoded"):  # whatever it says
        assert predictions(served, name, PICTURES[0], kind) == [expected[0]]
    texts = [base64.b64encode(picture).decode() for picture in PICTURES]
    forms = [
        {"instances": [{"b64": text} for text in texts]},
        {"instances": [{"image": {"b64": text}} for text in texts]},
        {"instances": texts},
        {"dataframe_records": [{"image": text} for text in texts]},
        {"dataframe_split": {"columns": ["image"], "data": [[text] for text in texts]}},
    ]
    for form in forms:
        assert predictions(served, name, json.dumps(form).encode()) == expected
    escaped = json.dumps(forms[0]).replace("/", "\\/").encode()  # as PHP writes it
    assert predictions(served, name, escaped) == expected
    assert predictions(served, name, b'{"instances": []}') == []


@pytest.mark.parametrize("name", NAMES)
def test_tensors_over_http(served, models, name):
    model, path = models[name], f"/v2/models/{name}/infer"
    expected, _ = model.see(PICTURES)
    specs = served.get(f"/v2/models/{name}")
    assert specs["inputs"] == [{"name": "image", "datatype": "BYTES", "shape": [-1]}]
    count = len(PICTURES)
    for shape in ([count], [count, 1]):
        tensor = {"name": "image", "datatype": "BYTES", "shape": shape}
        texts = [base64.b64encode(picture).decode() for picture in PICTURES]
        body = {"id": "mine", "inputs": [tensor | {"data": texts}]}
        told = json.loads(served.post(path, json.dumps(body).encode())[0])
        assert told["id"] == "mine"
        for output, spec, array in zip(told["outputs"], specs["outputs"], expected, strict=True):
            assert (output["name"], output["datatype"]) == (spec["name"], spec["datatype"])
            assert output["shape"] == list(array.shape)
            assert np.array(output["data"], array.dtype).tobytes() == array.tobytes() or array.dtype == object
            assert array.dtype != object or output["data"] == array.tolist()
        blob = b"".join(struct.pack("<I", len(picture)) + picture for picture in PICTURES)
        head = {"inputs": [tensor | {"parameters": {"binary_data_size": len(blob)}}]}
        found = asked_binary(served, path, head, blob)
        check_raw(found, expected)
    body, headers = served.post(path, PICTURES[1], "image/jpeg")
    check_raw(binary_of(body, headers), [array[1:2] for array in expected])
    body, headers = served.post(path, PICTURES[1], "application/octet-stream", inference_header_content_length=0)
    check_raw(binary_of(body, headers), [array[1:2] for array in expected])


def asked_binary(served, path, head, blob):
    text = json.dumps(head | {"parameters": {"binary_data_output": True}}).encode()
    body, headers = served.post(
        path, text + blob, "application/octet-stream", inference_header_content_length=len(text)
    )
    return binary_of(body, headers)


def binary_of(body, headers):
    length = int(headers["inference-header-content-length"])
    found, at = [], length
    for output in json.loads(body[:length])["outputs"]:
        end = at + output["parameters"]["binary_data_size"]
        found.append((output["shape"], body[at:end]))
        at = end
    return found


def check_raw(found, expected):
    for (shape, raw), array in zip(found, expected, strict=True):
        assert list(shape) == list(array.shape)
        if array.dtype == object:
            assert [bytes(text).decode() for text in split_elements(raw, array.size, "x")] == array.tolist()
        else:
            assert raw == array.tobytes()


@pytest.mark.parametrize("name", NAMES)
def test_tensors_over_grpc(served, models, name):
    expected, _ = models[name].see(PICTURES)
    call = served.channel.unary_unary(METHOD)
    raw = b"".join(struct.pack("<I", len(picture)) + picture for picture in PICTURES)
    for typed in (False, True):
        message = pb.ModelInferRequest(model_name=name, id="mine")
        tensor = message.inputs.add(name="image", datatype="BYTES", shape=[len(PICTURES)])
        if typed:
            tensor.contents.bytes_contents.extend(PICTURES)
        else:
            message.raw_input_contents.append(raw)
        told = pb.ModelInferResponse.FromString(call(message.SerializeToString(), timeout=60))
        assert told.id == "mine"
        if not typed:
            check_raw([(t.shape, r) for t, r in zip(told.outputs, told.raw_output_contents, strict=True)], expected)
            continue
        for tensor, array in zip(told.outputs, expected, strict=True):
            (field,) = [value for _, value in tensor.contents.ListFields()] or [[]]
            values = [v.decode() if isinstance(v, bytes) else v for v in field]
            assert np.array(values, array.dtype).reshape(array.shape).tolist() == array.tolist()


@pytest.mark.parametrize("name", NAMES)
def test_a_prepared_tensor_still_gets_the_network_s_outputs(served, models, name):
    model = models[name]
    tensors, rows, _ = model.prepare(PICTURES)
    ((input_name, tensor),) = tensors.items()
    expected = model.infer(tensors, rows)
    head = {"name": input_name, "datatype": "FP32", "shape": list(tensor.shape)}
    found = asked_binary(
        served, f"/v2/models/{name}/infer", {"inputs": [head | {"parameters": {"binary_data_size": tensor.nbytes}}]},
        tensor.tobytes(),
    )  # fmt: skip
    check_raw(found, expected)
    call = served.channel.unary_unary(METHOD)
    message = pb.ModelInferRequest(model_name=name, raw_input_contents=[tensor.tobytes()])
    message.inputs.add(name=input_name, datatype="FP32", shape=tensor.shape)
    for _ in range(4):  # from the third on its frame is known
        told = pb.ModelInferResponse.FromString(call(message.SerializeToString(), timeout=60))
        check_raw([(t.shape, r) for t, r in zip(told.outputs, told.raw_output_contents, strict=True)], expected)


def test_the_best_classes_as_texts(served, models):
    picture = base64.b64encode(PICTURES[0]).decode()
    body = {
        "inputs": [{"name": "image", "datatype": "BYTES", "shape": [1], "data": [picture]}],
        "outputs": [{"name": "probabilities", "parameters": {"classification": 2}}],
    }
    told = json.loads(served.post("/v2/models/colours/infer", json.dumps(body).encode())[0])
    (output,) = told["outputs"]
    best = models["colours"].predict(PICTURES[0])[0]
    score, _, label = output["data"][0].split(":")
    assert label == best["label"]
    assert float(score) == pytest.approx(best["probability"], abs=1e-6)


BROKEN = [PICTURES[0], PICTURES[1][:400], b"", PICTURES[2]]


def test_a_broken_picture_is_named_by_its_row_through_every_door(served):
    texts = [base64.b64encode(picture).decode() for picture in BROKEN]
    tensor = {"name": "image", "datatype": "BYTES", "shape": [len(BROKEN)], "data": texts}
    for path, body in (
        ("/v1/models/colours:predict", {"instances": [{"b64": text} for text in texts]}),
        ("/v2/models/colours/infer", {"inputs": [tensor]}),
    ):
        with pytest.raises(AssertionError, match=r"400 .*image, row 1: this JPEG is damaged"):
            served.post(path, json.dumps(body).encode())
    with pytest.raises(AssertionError, match=r"400 .*image, row 0: got 2 bytes of text"):
        served.post("/v1/models/colours:predict", b"ab", "image/png")
    with pytest.raises(AssertionError, match=r"400 .*image, row 1: its base64 is broken"):
        served.post("/v1/models/colours:predict", json.dumps({"instances": [texts[0], "/9j/!"]}).encode())
    with pytest.raises(AssertionError, match="415 "):
        served.post("/v1/models/colours:predict", b"a,b\n1,2", "text/csv")
    message = pb.ModelInferRequest(model_name="colours")
    message.inputs.add(name="image", datatype="BYTES", shape=[2]).contents.bytes_contents.extend([PICTURES[0], b"%PDF"])
    with pytest.raises(grpc.RpcError) as raised:
        served.channel.unary_unary(METHOD)(message.SerializeToString(), timeout=60)
    assert raised.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert raised.value.details().startswith("image, row 1: got PDF, expected JPEG")


def test_the_description_has_examples_that_run(served):
    paths = served.get("/openapi.json")["paths"]
    for name in NAMES:
        for path in (f"/v1/models/{name}:predict", f"/v2/models/{name}/infer"):
            content = paths[path]["post"]["requestBody"]["content"]
            assert json.loads(served.post(path, json.dumps(content["application/json"]["example"]).encode())[0])
        assert content.keys() == {"application/json"}
        assert "image/jpeg" in paths[f"/v1/models/{name}:predict"]["post"]["requestBody"]["content"]


def test_curl_needs_no_header(served, models, tmp_path):
    (tmp_path / "picture").write_bytes(PICTURES[0])
    command = ["curl", "-s", f"{served.url}/v1/models/things:predict", "--data-binary", f"@{tmp_path / 'picture'}"]
    told = subprocess.run(command, check=True, capture_output=True).stdout
    assert json.loads(told)["predictions"] == [models["things"].predict(PICTURES[0])[0]]


def test_the_client_for_tests_sends_pictures(made, models):
    with foretell.testing.client(made / "colours") as client:
        reply = client.request("POST", "/invocations", PICTURES[3], {"content-type": "image/jpeg"})
        assert reply.json()["predictions"] == [models["colours"].predict(PICTURES[3])[0]]
        assert client.predict("colours", PICTURES[0]) == [models["colours"].predict(PICTURES[0])[0]]
        assert client.predict("colours", PICTURES) == models["colours"].predict(PICTURES).to_list()
        with pytest.raises(InvalidInput, match="row 1: this JPEG is damaged"):
            client.predict("colours", BROKEN)
