"""Questions whose right answers anybody can work out, and clients that ask them over raw HTTP/1.1 and keep the score.

Every row of every question is unique, so an answer that belongs to somebody else, to another row or to another
input is wrong. Knows no server; `echo_client_grpc` asks the same over gRPC.
"""

from __future__ import annotations

import asyncio
import random
import struct
from collections import Counter, deque
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import orjson
from onnx import TensorProto, helper, numpy_helper, save

WIDTH = 4096
"""Floats in a row of `wide`: some rows no longer fit through a socket at once."""
_ROWS = 64
"""Numbers a question reserves, one for each of its rows."""
_WAIT_S = 60.0
"""After so long without an answer a question counts as lost: twice the time the server gives one by itself."""


MIX = ("echo",) * 7 + ("words",)
"""Models to choose from, at random."""


def write_models(folder: Path) -> None:
    """Write `echo.onnx`, of whole numbers and floats, `words.onnx`, of texts too, and `wide.onnx`, of many floats."""
    folder.mkdir(parents=True, exist_ok=True)
    _write(
        folder / "echo.onnx",
        [("nonce", TensorProto.INT64, 1), ("x", TensorProto.FLOAT, 3)],
        [("code", TensorProto.INT64, 1), ("y", TensorProto.FLOAT, 3)],
        [
            helper.make_node("Mul", ["nonce", "three"], ["nonces"]),
            helper.make_node("ReduceSum", ["x", "axis"], ["sums"], keepdims=1),
            helper.make_node("Cast", ["sums"], ["whole"], to=TensorProto.INT64),
            helper.make_node("Add", ["nonces", "whole"], ["code"]),
            helper.make_node("Mul", ["x", "two"], ["doubled"]),
            helper.make_node("Add", ["doubled", "one"], ["y"]),
        ],
        {"three": np.array([3]), "axis": np.array([1]), "two": np.float32([2]), "one": np.float32([1])},
    )
    _write(
        folder / "words.onnx",
        [("word", TensorProto.STRING, 1), ("nonce", TensorProto.INT64, 1)],
        [("code", TensorProto.INT64, 1), ("said", TensorProto.STRING, 1)],
        [helper.make_node("Mul", ["nonce", "five"], ["code"]), helper.make_node("Identity", ["word"], ["said"])],
        {"five": np.array([5])},
    )
    _write(
        folder / "wide.onnx",
        [("x", TensorProto.FLOAT, WIDTH)],
        [("y", TensorProto.FLOAT, WIDTH)],
        [helper.make_node("Add", ["x", "one"], ["y"])],
        {"one": np.float32([1])},
    )


def _write(path, inputs, outputs, nodes, constants):
    def shown(tensors):
        return [helper.make_tensor_value_info(name, kind, ["rows", width]) for name, kind, width in tensors]

    tensors = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, path.stem, shown(inputs), shown(outputs), tensors)
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)


class Question:
    """One request: its tensors, and the tensors that answer it."""

    __slots__ = ("answers", "id", "inputs", "model", "rows")

    def __init__(self, number: int, rows: int, model: str) -> None:
        self.id, self.rows, self.model = f"q{number}", rows, model
        nonces = number * _ROWS + np.arange(rows, dtype=np.int64).reshape(-1, 1)
        if model == "echo":
            # Whole numbers small enough that FP32 has them, and their sums, exactly.
            x = np.hstack([nonces * 7919 % 99991, nonces % 4093, number % 8191 - nonces % 61]).astype(np.float32)
            self.inputs = [("nonce", "INT64", nonces), ("x", "FP32", x)]
            codes = nonces * 3 + x.sum(axis=1, dtype=np.float64, keepdims=True).astype(np.int64)
            self.answers = {"code": ("INT64", codes), "y": ("FP32", x * 2 + 1)}
        elif model == "wide":
            x = (nonces % 99991 * 8 + np.arange(WIDTH)).astype(np.float32)
            self.inputs, self.answers = [("x", "FP32", x)], {"y": ("FP32", x + 1)}
        else:
            words = np.array([[f"é{n:x}"] for n in nonces.ravel().tolist()], object)
            self.inputs = [("word", "BYTES", words), ("nonce", "INT64", nonces)]
            self.answers = {"code": ("INT64", nonces * 5), "said": ("BYTES", words)}

    def is_answered_by(self, name: str, datatype: str, shape: list[int], values: list | bytes) -> bool:
        """Whether one tensor of an answer is right, from its values or its raw bytes."""
        expected_type, expected = self.answers[name]
        if datatype != expected_type or shape != list(expected.shape):
            return False
        if isinstance(values, bytes):
            return values == raw(datatype, expected)
        return values == expected.ravel().tolist()


def raw(datatype: str, array: np.ndarray) -> bytes:
    """Return a tensor as the protocol's binary extension has it."""
    if datatype != "BYTES":
        return array.tobytes()
    return b"".join(struct.pack("<I", len(e := text.encode())) + e for text in array.ravel().tolist())


def draw(number: int, dice: random.Random, models: tuple[str, ...] = MIX) -> Question:
    """Return question `number`, to one of the models: 1 to 40 rows, mostly few."""
    rows = dice.randint(1, 6) if dice.random() < 0.6 else dice.randint(1, 40)
    return Question(number, rows, dice.choice(models))


@dataclass
class Score:
    """What became of the questions; everything but `right` and `gone` must be zero in the end."""

    right: Counter = field(default_factory=Counter)
    """By door; answered in full, and as it should be."""
    gone: Counter = field(default_factory=Counter)
    """By door; the client hung up or cancelled, and nobody knows."""
    wrong: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    duplicated: list[str] = field(default_factory=list)
    rows: int = 0

    def take(self, door: str, question: Question, tensors: list[tuple], id: str) -> None:
        """Judge an answer: (name, datatype, shape, values) of each output."""
        right = id == question.id and [t[0] for t in tensors] == list(question.answers)
        if right and all(question.is_answered_by(*tensor) for tensor in tensors):
            self.right[door] += 1
            self.rows += question.rows
        else:
            self.wrong.append(f"{door} {question.id} ({question.rows} rows of {question.model}): {id} {tensors}"[:500])

    def assert_clean(self) -> None:
        """Fail if anybody who stayed got anything but the right answer, once."""
        assert (self.wrong[:3], self.errors[:3], self.lost[:3], self.duplicated[:3]) == ([], [], [], []), self

    def __str__(self) -> str:
        return (
            f"{sum(self.right.values())} right {dict(self.right)} ({self.rows} rows), {sum(self.gone.values())} gone "
            f"{dict(self.gone)}, {len(self.wrong)} wrong, {len(self.errors)} errors, {len(self.lost)} lost, "
            f"{len(self.duplicated)} duplicated"
        )


class Line(asyncio.Protocol):
    """One connection that asks several questions before it waits for their answers."""

    def __init__(self, score: Score, door: str, port: int) -> None:
        self._score, self._door, self._port = score, door, port
        self._buffer = b""
        self._waiting: deque[Question] = deque()
        self._quiet: asyncio.Future | None = None
        self.transport: asyncio.Transport | None = None

    async def open(self) -> None:
        """Connect."""
        self._buffer = b""
        await asyncio.get_running_loop().create_connection(lambda: self, "127.0.0.1", self._port)

    def connection_made(self, transport) -> None:
        self.transport = transport

    def connection_lost(self, exc) -> None:
        self._score.lost += [f"{self._door} {q.id}: connection closed {exc}" for q in self._waiting]
        self._waiting.clear()
        self.transport = None
        self._wake()

    def _wake(self) -> None:
        if self._quiet is not None and not self._quiet.done():
            self._quiet.set_result(None)

    async def ask(self, questions: list[Question]) -> None:
        """Ask all of them at once, and wait until each is answered or lost."""
        if self.transport is None:
            await self.open()
        self._waiting.extend(questions)
        self._quiet = asyncio.get_running_loop().create_future()
        self.transport.write(b"".join(map(self._encoded, questions)))
        try:
            await asyncio.wait_for(self._quiet, _WAIT_S)
        except TimeoutError:
            self._score.lost += [f"{self._door} {q.id}: no answer for {_WAIT_S:g} s" for q in self._waiting]
            self._waiting.clear()
            self.transport.abort()
            await asyncio.sleep(0)

    async def leave(self, questions: list[Question], after_s: float, share: float) -> None:
        """Ask, or send so much of it, and hang up after a while, whether the answers have come or not."""
        if self.transport is None:
            await self.open()
        data = b"".join(map(self._encoded, questions))
        self._waiting.extend(questions)
        self._quiet = None
        self.transport.write(data if share >= 1 else data[: int(len(data) * share)])
        await asyncio.sleep(after_s)
        self._score.gone[self._door] += len(self._waiting)
        self._waiting.clear()
        transport, self.transport = self.transport, None
        if transport is not None:
            transport.abort() if after_s < 0.005 else transport.close()

    def data_received(self, data: bytes) -> None:
        buffer = self._buffer + data
        while (end := buffer.find(b"\r\n\r\n")) >= 0:
            lines = buffer[:end].split(b"\r\n")
            headers = dict(line.lower().split(b": ", 1) for line in lines[1:])
            length = int(headers[b"content-length"])
            if len(buffer) < end + 4 + length:
                break
            body, buffer = buffer[end + 4 : end + 4 + length], buffer[end + 4 + length :]
            self._answered(lines[0], headers, body)
        self._buffer = buffer

    def _answered(self, status: bytes, headers: dict[bytes, bytes], body: bytes) -> None:
        if not self._waiting:
            if self.transport is not None:  # else this client has hung up itself
                self._score.duplicated.append(f"{self._door}: {status} {headers} {body[:200]}")
            return
        question = self._waiting.popleft()
        if not status.startswith(b"HTTP/1.1 200"):
            self._score.errors.append(f"{self._door} {question.id}: {status.decode()} {body[:300]!r}")
        else:
            told, tensors = decoded(headers, body)
            id = told["id"] if headers[b"x-request-id"] == question.id.encode() else f"header {headers}"
            self._score.take(self._door, question, tensors, id)
        if not self._waiting:
            self._wake()

    def _encoded(self, question: Question) -> bytes:
        head, tail = {"id": question.id}, b""
        tensors = [{"name": n, "datatype": t, "shape": a.shape} for n, t, a in question.inputs]
        if self._door == "binary":
            parts = [raw(t, array) for _, t, array in question.inputs]
            for tensor, part in zip(tensors, parts, strict=True):
                tensor["parameters"] = {"binary_data_size": len(part)}
            head["parameters"], tail = {"binary_data_output": True}, b"".join(parts)
        else:
            for tensor, (_, _, array) in zip(tensors, question.inputs, strict=True):
                tensor["data"] = array.ravel().tolist()
        content = orjson.dumps(head | {"inputs": tensors})
        binary = f"inference-header-content-length: {len(content)}\r\n" if tail else ""
        return (
            (
                f"POST /v2/models/{question.model}/infer HTTP/1.1\r\nhost: localhost\r\nx-request-id: {question.id}\r\n"
                f"{binary}content-length: {len(content) + len(tail)}\r\n\r\n"
            ).encode()
            + content
            + tail
        )


def decoded(headers: dict[bytes, bytes], body: bytes) -> tuple[dict, list[tuple]]:
    """Return the JSON of an answer, and (name, datatype, shape, values or raw bytes) of its outputs."""
    at = int(headers.get(b"inference-header-content-length", len(body)))
    told, tensors = orjson.loads(body[:at]), []
    for output in told["outputs"]:
        values = output.get("data")
        if values is None:
            size = output["parameters"]["binary_data_size"]
            values, at = body[at : at + size], at + size
        tensors.append((output["name"], output["datatype"], output["shape"], values))
    return told, tensors


async def ask_http(
    score: Score,
    door: str,
    port: int,
    numbers: deque[int],
    seed: int,
    *,
    window: int = 6,
    leaving: float = 0.04,
    models: tuple[str, ...] = MIX,
) -> None:
    """Ask questions over one connection after another until their numbers are used up.

    Args:
        score: Takes the answers.
        door: `json` or `binary`.
        port: Of the server.
        numbers: Shared among all clients; each number is one question.
        seed: Of the dice.
        window: Most questions asked before the first answer.
        leaving: Share of the turns at which the client hangs up.
        models: See `draw`.
    """
    dice, line = random.Random(seed), Line(score, door, port)
    while numbers:
        count = min(dice.randint(1, window), len(numbers))
        questions = [draw(numbers.popleft(), dice, models) for _ in range(count)]
        if dice.random() < leaving:
            await line.leave(questions, dice.choice((0.0, 0.001, 0.01, 0.05)), dice.choice((1, 1, 1, 0.5, 0.95)))
        else:
            await line.ask(questions)
    await asyncio.sleep(0.3)  # an answer given twice would come now
    if line.transport is not None:
        line.transport.close()
