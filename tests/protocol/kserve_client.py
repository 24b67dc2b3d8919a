"""KServe's own clients against a server: kserve_client.py URL GRPC. Run by test_kserve in an environment of its own."""

import asyncio
import sys

import numpy as np
from kserve import InferenceGRPCClient, InferenceRESTClient, InferInput, InferRequest
from kserve.inference_client import RESTConfig
from kserve.protocol.infer_type import RequestedOutput

X = np.random.default_rng(0).normal(size=(3, 3)).astype(np.float32)


def asked(binary, outputs=True):
    tensor = InferInput(name="x", shape=list(X.shape), datatype="FP32")
    tensor.set_data_from_numpy(X, binary_data=binary)
    wanted = [RequestedOutput("twice", parameters={"binary_data": binary})] if outputs else None
    return InferRequest(model_name="echo", infer_inputs=[tensor], request_outputs=wanted, request_id="seven")


def texts(binary):
    columns = {"area": [100.5, -7.0], "age": [3.0, 0.0]}
    tensors = []
    for name, values in columns.items():
        tensors.append(InferInput(name=name, shape=[2, 1], datatype="FP64"))
        tensors[-1].set_data_from_numpy(np.array(values).reshape(2, 1), binary_data=binary)
    tensors.append(InferInput(name="town", shape=[2, 1], datatype="BYTES"))
    tensors[-1].set_data_from_numpy(np.array([["Rom"], ["Bern"]], object), binary_data=binary)
    return InferRequest(model_name="house", infer_inputs=tensors)


async def over_http(url):
    client = InferenceRESTClient(RESTConfig(protocol="v2", timeout=20))
    assert await client.is_server_live(url)
    assert await client.is_model_ready(url, "echo")
    for binary in (False, True):
        answer = await client.infer(url, asked(binary), model_name="echo")
        assert answer.id == "seven"
        (twice,) = answer.outputs
        np.testing.assert_array_equal(twice.as_numpy(), X * 2)
        price = (await client.infer(url, texts(binary), model_name="house")).outputs[0]
        np.testing.assert_allclose(price.as_numpy(), [1100.8, -7.0])
    rows = {"instances": [{"area": 100.5, "town": "Rom", "age": 3}]}
    old = InferenceRESTClient(RESTConfig(protocol="v1", timeout=20))
    told = await old.infer(url, rows, model_name="house")
    np.testing.assert_allclose(told["predictions"], [1100.8])
    await client.close()
    await old.close()


async def over_grpc(address):
    async with InferenceGRPCClient(address) as client:
        assert await client.is_server_live()
        assert await client.is_model_ready("echo")
        for binary in (False, True):
            answer = await client.infer(asked(binary, outputs=False), timeout=20)
            found = {o.name: o.as_numpy() for o in answer.outputs}
            np.testing.assert_array_equal(found["twice"], X * 2)
            price = (await client.infer(texts(binary), timeout=20)).outputs[0]
            np.testing.assert_allclose(price.as_numpy(), [1100.8, -7.0])


if __name__ == "__main__":
    asyncio.run(over_http(sys.argv[1]))
    asyncio.run(over_grpc(sys.argv[2]))
    print("agreed")
