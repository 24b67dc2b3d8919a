"""A linear booster as ONNX: missing values count as 0, then weights, base and link."""

from __future__ import annotations

from foretell.model.trees.ensemble import Ensemble
from foretell.model.trees.graph import IR_VERSION, OPSET, output_width
from foretell.model.trees.links import Builder, add_link
from foretell.model.trees.xgboost import Linear

__all__ = ["linear_to_onnx"]


def linear_to_onnx(linear: Linear, output: str) -> bytes:
    """Return a model from `features` (rows, features) to `output`, both FP32."""
    from onnx import TensorProto, helper

    features, targets = linear.weights.shape
    build = Builder("linear_", "FP32")
    known = build.add("Where", [build.add("IsNaN", ["features"]), build.constant(0), "features"])
    total = build.add("Gemm", [known, build.constant(linear.weights), build.constant(linear.base)])
    shape = Ensemble((), features, targets=targets, link=linear.link)
    add_link(build, total, shape)
    graph = helper.make_graph(
        build.finish(output),
        "linear",
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, [None, features])],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, [None, output_width(shape)])],
    )
    opsets = [helper.make_opsetid("", OPSET)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION, producer_name="foretell")
    content: bytes = model.SerializeToString()
    return content
