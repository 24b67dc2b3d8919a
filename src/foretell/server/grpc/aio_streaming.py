"""ModelStreamInfer on grpc.aio: the requests of a stream are answered in their order, or the newest wins: see `latest`.

An error is one answer and does not end the stream.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from time import perf_counter
from typing import Any

from foretell.engine.engine import Engine
from foretell.errors import ForetellError
from foretell.protocol import open_inference_pb2 as pb
from foretell.protocol.openinference_proto import parse
from foretell.protocol.status import error_text, status_of
from foretell.server.doors import Doors
from foretell.server.grpc.lane import Asker
from foretell.server.grpc.latest import Latest, mode_of

__all__ = ["Talk"]

_STREAMED = 64
"""Requests of one stream that are in the engine at once, or answered and not taken."""

Answer = Callable[[Any, float | None], Awaitable[Any]]
"""Answers a ModelInferRequest with a ModelInferResponse, within seconds."""


class Talk:
    """One stream."""

    def __init__(self, engine: Engine, doors: Doors, answer: Answer, left_s: Callable[[], float | None]) -> None:
        self._engine = engine
        self._doors = doors
        self._answer = answer
        self._left_s = left_s
        self._room = asyncio.Semaphore(_STREAMED)
        self._answers: asyncio.Queue[asyncio.Future[bytes] | None] = asyncio.Queue()
        self._latest: Latest | None = None

    async def answers(self, requests: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """Give a ModelStreamInferResponse for every request that is answered."""
        reader = asyncio.ensure_future(self._read(requests))
        try:
            while (answer := await self._answers.get()) is not None:
                yield await answer
                self._room.release()
        finally:
            reader.cancel()
            if self._latest is not None:
                self._latest.leave()
            while not self._answers.empty():
                left = self._answers.get_nowait()
                if left is not None:
                    left.cancel()

    async def _read(self, requests: AsyncIterator[bytes]) -> None:
        is_first = True
        async for data in requests:
            await self._room.acquire()
            try:
                if is_first and mode_of(data) == "latest":
                    self._latest = Latest(self._engine, self._doors, data, self._ask, self._tell)
                is_first = False
            except ForetellError as error:
                self._answers.put_nowait(_ready(self._refusal(error)))
                continue
            if self._latest is None:
                self._answers.put_nowait(asyncio.ensure_future(self._streamed(data)))
            else:
                self._room.release()  # frames that are dropped are never answered
                self._latest.take(data)
                while self._answers.qsize() >= _STREAMED:  # noqa: ASYNC110 - the client does not take its answers
                    await asyncio.sleep(0.01)
        while self._latest is not None and self._latest.is_busy:  # noqa: ASYNC110 - once, at the end
            await asyncio.sleep(0.001)
        self._answers.put_nowait(None)

    def _ask(self, data: bytes, asker: Asker) -> None:
        asker.cancel = asyncio.ensure_future(self._infer(data, asker)).cancel

    async def _infer(self, data: bytes, asker: Asker) -> None:
        try:
            found = await self._answer(parse(pb.ModelInferRequest, data), self._left_s())
        except ForetellError as error:
            asker.fail(error)
            return
        asker.answer(found.SerializeToString(), None, perf_counter())

    def _tell(self, found: bytes, status: str, _began: float, _result: Any, _settled: float) -> None:
        self._engine.metrics.responses.child("grpc", "ModelStreamInfer", status).value += 1
        self._answers.put_nowait(_ready(found))

    async def _streamed(self, data: bytes) -> bytes:
        try:
            answer = await self._answer(parse(pb.ModelInferRequest, data), self._left_s())
        except ForetellError as error:
            return self._refusal(error)
        self._engine.metrics.responses.child("grpc", "ModelStreamInfer", "OK").value += 1
        found: bytes = pb.ModelStreamInferResponse(infer_response=answer).SerializeToString()
        return found

    def _refusal(self, error: ForetellError) -> bytes:
        self._engine.metrics.responses.child("grpc", "ModelStreamInfer", status_of(error).grpc).value += 1
        told: bytes = pb.ModelStreamInferResponse(error_message=error_text(error)).SerializeToString()
        return told


def _ready(answer: bytes) -> asyncio.Future[bytes]:
    future: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
    future.set_result(answer)
    return future
