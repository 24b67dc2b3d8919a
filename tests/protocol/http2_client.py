"""A client of HTTP/2 that does what it is told, right or wrong."""

from __future__ import annotations

import select
import socket
import struct
import time

import hpack

from foretell.protocol import open_inference_pb2 as pb
from foretell.server.http2.frames import (
    ACK,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    PING,
    PREFACE,
    RST_STREAM,
    SETTINGS,
    Code,
    frame,
)  # fmt: skip

GREETING = PREFACE + frame(SETTINGS, 0, 0)
INFER = "/inference.GRPCInferenceService/ModelInfer"
STREAM = "/inference.GRPCInferenceService/ModelStreamInfer"


def message(model="echo", values=(1, 2, 3)):
    """Return a framed message for a model of three numbers."""
    made = pb.ModelInferRequest(model_name=model)
    made.inputs.add(name="x", datatype="FP32", shape=[1, 3])
    made.raw_input_contents.append(struct.pack("<3f", *values))
    return framed(made.SerializeToString())


def framed(data):
    return b"\0" + len(data).to_bytes(4, "big") + data


def head(path=INFER, **changed):
    """Return the fields of a sound call; `changed` names have underscores for dashes, and None leaves one out."""
    fields = {
        ":method": "POST", ":scheme": "http", ":path": path, ":authority": "localhost",
        "content-type": "application/grpc", "te": "trailers",
    } | {name.replace("_", "-") if name[0] != ":" else name: value for name, value in changed.items()}  # fmt: skip
    return [(name, value) for name, value in fields.items() if value is not None]


class Client:
    """One connection. Frames that came are in `frames`, as (kind, flags, stream, payload)."""

    def __init__(self, server, greeting=GREETING, timeout=5):
        self.socket = socket.create_connection(("127.0.0.1", server.server.grpc_port), timeout=timeout)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.encoder, self.decoder = hpack.Encoder(), hpack.Decoder()
        self.frames = []
        self._rest = b""
        self.is_open = True
        self.send(greeting)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def send(self, *frames):
        try:
            self.socket.sendall(b"".join(frames))
        except OSError:
            self.is_open = False

    def block(self, fields):
        return self.encoder.encode(fields)

    def ask(self, stream, body=None, fields=None):
        """Send a whole request in one go."""
        body = message() if body is None else body
        self.send(
            frame(HEADERS, END_HEADERS, stream, self.block(fields or head())), frame(DATA, END_STREAM, stream, body)
        )

    def read(self, until, timeout=5.0):
        """Read frames until `until(frames)`, or until the end of the connection; say whether it came true."""
        ends = time.monotonic() + timeout
        while not until(self.frames):
            if not self.is_open or time.monotonic() > ends:
                return False
            try:
                data = self.socket.recv(1 << 16)
            except OSError:
                data = b""
            self.is_open = bool(data)
            self._rest += data
            while len(self._rest) >= 9 and len(self._rest) >= (size := 9 + int.from_bytes(self._rest[:3], "big")):
                self._take(self._rest[:size])
                self._rest = self._rest[size:]
        return True

    def _take(self, data):
        kind, flags, stream = struct.unpack_from(">BBI", data, 3)
        payload = data[9:]
        if kind == HEADERS:
            payload = dict(self.decoder.decode(payload))
        self.frames.append((kind, flags, stream, payload))

    def trailers(self, stream, timeout=5.0):
        """Return the fields of the block that ends a stream; None: it was reset, or the connection ended."""

        def ended(frames):
            return any(s == stream and (k == RST_STREAM or (k == HEADERS and f & END_STREAM)) for k, f, s, _ in frames)

        self.read(ended, timeout)
        return next((p for k, f, s, p in self.frames if s == stream and k == HEADERS and f & END_STREAM), None)

    def status(self, stream):
        """Return gRPC's number for how a call ended, as text; None: without one."""
        found = self.trailers(stream)
        return None if found is None else found.get("grpc-status")

    def reset_code(self, stream):
        """Return the code a stream was reset with."""
        self.read(lambda frames: any(k == RST_STREAM and s == stream for k, _, s, _ in frames))
        return next(
            (Code(int.from_bytes(p, "big")) for k, _, s, p in self.frames if k == RST_STREAM and s == stream), None
        )

    def goaway_code(self, timeout=5.0):
        """Return the code the connection was ended with, after it is closed; None: it was closed without one."""
        self.read(lambda frames: False, timeout)
        assert not self.is_open, self.frames
        return next((Code(int.from_bytes(p[4:8], "big")) for k, _, _, p in self.frames if k == GOAWAY), None)

    def is_told_to_go(self):
        """Whether the connection is over, from what has come so far."""
        while self.is_open and select.select([self.socket], [], [], 0)[0]:
            self.frames.clear()
            self.read(bool)
            if any(kind == GOAWAY for kind, *_ in self.frames):
                return True
        return not self.is_open

    def alive(self):
        """Whether the connection answers a ping."""
        mark = struct.pack(">d", time.monotonic())
        self.send(frame(PING, 0, 0, mark))
        return self.read(lambda frames: (PING, ACK, 0, mark) in frames)

    def body(self, stream):
        """Return the data of a stream so far."""
        return b"".join(p for k, _, s, p in self.frames if k == DATA and s == stream)
