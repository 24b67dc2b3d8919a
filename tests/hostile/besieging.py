"""What the hostile clients of a real server have in common."""

import http.client
import json
import re
from pathlib import Path

INFER = "/v2/models/twice/infer"
MIB = 1 << 10
"""In the kibibytes that the kernel counts."""


def resident_kib(server):
    found = Path(f"/proc/{server._process.pid}/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+)", found)[1])


def post(server, body, path=INFER, **headers):
    """Return status and code of an answer."""
    line = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    line.request("POST", path, body, {name.replace("_", "-"): value for name, value in headers.items()})
    reply = line.getresponse()
    told = json.loads(reply.read() or b"{}")
    line.close()
    return reply.status, told.get("code")


def body_of(shape="[1, 3]", data="[1, 2, 3]", name='"x"', datatype='"FP32"', more="", after=""):
    return (
        f'{{"inputs": [{{"name": {name}, "datatype": {datatype}, "shape": {shape}, "data": {data}{more}}}]{after}}}'
    ).encode()
