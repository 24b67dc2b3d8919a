"""Files as PyTorch writes them, made without it: programs of torch.export, weights of torch.save."""

import io
import json
import zipfile

import numpy as np

FP32, INT64 = 7, 5
FREE = {"as_expr": {"expr_str": "Symbol('s0', positive=True, integer=True)", "hint": {"as_int": 2}}}
NAMES = {"float32": FP32, "int64": INT64}


def meta(shape, dtype=FP32, strides=None, offset=0):
    sizes = [FREE if d < 0 else {"as_int": d} for d in shape]
    if strides is None:
        strides = [int(np.prod([abs(d) for d in shape[at + 1 :]])) for at in range(len(shape))]
    return {
        "dtype": dtype,
        "sizes": sizes,
        "requires_grad": False,
        "device": {"type": "cpu", "index": None},
        "strides": [{"as_int": s} for s in strides],
        "storage_offset": {"as_int": offset},
        "layout": 7,
    }


def tensor(name):
    return {"as_tensor": {"name": name}}


def node(target, arguments, *results):
    """A node; arguments are (name, union) pairs."""
    inputs = [{"name": name, "arg": arg, "kind": 1} for name, arg in arguments]
    return {"target": target, "inputs": inputs, "outputs": [tensor(r) for r in results], "metadata": {}, "name": None}


class Made:
    """A program of one linear layer and a softmax, which a test may change before it is packed."""

    def __init__(self, columns=3, classes=2):
        self.weights = {"w": np.arange(classes * columns, dtype=np.float32).reshape(classes, columns)}
        self.names = {"x": meta((-1, columns)), "h": meta((-1, classes)), "y": meta((-1, classes))}
        self.inputs = [
            ({"parameter": {"arg": {"name": "p_w"}, "parameter_name": "w"}}, tensor("p_w")),
            ({"user_input": {"arg": tensor("x")}}, tensor("x")),
        ]
        self.outputs = [({"user_output": {"arg": tensor("y")}}, tensor("y"))]
        self.nodes = [
            node("torch.ops.aten.linear.default", [("input", tensor("x")), ("weight", tensor("p_w"))], "h"),
            node("torch.ops.aten.softmax.int", [("self", tensor("h")), ("dim", {"as_int": -1})], "y"),
        ]
        self.ranges = {"s0": {"min_val": 2, "max_val": None}}
        self.version = {"major": 8, "minor": 20}
        self.out_spec = '[1, {"type": null, "context": null, "children_spec": []}]'
        self.config = {
            name: {"path_name": f"weight_{i}", "is_param": True, "use_pickle": False, "tensor_meta": meta(a.shape)}
            for i, (name, a) in enumerate(self.weights.items())
        }
        self.extra = {"data/sample_inputs/model.pt": b"never looked at"}

    def graph(self):
        return {
            "graph_module": {
                "graph": {
                    "inputs": [given for _, given in self.inputs],
                    "outputs": [given for _, given in self.outputs],
                    "nodes": self.nodes,
                    "tensor_values": self.names,
                    "sym_int_values": {},
                    "sym_bool_values": {},
                },
                "signature": {
                    "input_specs": [spec for spec, _ in self.inputs],
                    "output_specs": [spec for spec, _ in self.outputs],
                },
                "module_call_graph": [{"fqn": "", "signature": {"out_spec": self.out_spec}}],
            },
            "opset_version": {"aten": 10},
            "range_constraints": self.ranges,
            "schema_version": self.version,
            "torch_version": "2.13.0",
        }

    def members(self):
        found = {
            "archive_format": b"pt2",
            "archive_version": b"0",
            "models/model.json": json.dumps(self.graph()).encode(),
            "data/weights/model_weights_config.json": json.dumps({"config": self.config}).encode(),
            "data/constants/model_constants_config.json": b'{"config": {}}',
        }
        found |= {f"data/weights/weight_{i}": a.tobytes() for i, a in enumerate(self.weights.values())}
        return found | self.extra

    def pack(self, compression=zipfile.ZIP_STORED):
        return packed({f"net/{name}": content for name, content in self.members().items()}, compression)


def packed(members, compression=zipfile.ZIP_STORED):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()
