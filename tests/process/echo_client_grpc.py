"""Clients that ask the questions of `echo_client` over gRPC, one by one and in streams."""

from __future__ import annotations

import asyncio
import random
from collections import deque

import grpc
from echo_client import Question, Score, draw, raw

from foretell.protocol import open_inference_pb2 as pb

_WAIT_S = 60.0
_SERVICE = "/inference.GRPCInferenceService"


def encoded(question: Question) -> bytes:
    """Return a question as a message."""
    message = pb.ModelInferRequest(model_name=question.model, id=question.id)
    for name, datatype, array in question.inputs:
        message.inputs.add(name=name, datatype=datatype, shape=array.shape)
        message.raw_input_contents.append(raw(datatype, array))
    return message.SerializeToString()


def judge(score: Score, door: str, question: Question, answer) -> None:
    """Enter an answer."""
    tensors = [
        (output.name, output.datatype, list(output.shape), content)
        for output, content in zip(answer.outputs, answer.raw_output_contents, strict=True)
    ]
    score.take(door, question, tensors, answer.id)


async def ask_grpc(score: Score, channel: grpc.aio.Channel, numbers: deque[int], seed: int, leaving: float) -> None:
    """Ask one question after another; now and then cancel one."""
    dice, call = random.Random(seed), channel.unary_unary(f"{_SERVICE}/ModelInfer")
    while numbers:
        question = draw(numbers.popleft(), dice)
        asked = call(encoded(question), timeout=_WAIT_S)
        if dice.random() < leaving:
            await asyncio.sleep(dice.choice((0.0, 0.001, 0.01)))
            asked.cancel()
            score.gone["grpc"] += 1
            continue
        try:
            answer = pb.ModelInferResponse.FromString(await asked)
        except grpc.aio.AioRpcError as error:
            (score.lost if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED else score.errors).append(
                f"grpc {question.id}: {error.code()} {error.details()}"
            )
            continue
        judge(score, "grpc", question, answer)


async def ask_stream(
    score: Score, channel: grpc.aio.Channel, numbers: deque[int], seed: int, leaving: float, window: int = 6
) -> None:
    """Ask in streams of some questions each; now and then cancel a whole stream."""
    dice, open_stream = random.Random(seed), channel.stream_stream(f"{_SERVICE}/ModelStreamInfer")
    while numbers:
        questions = [draw(numbers.popleft(), dice) for _ in range(min(dice.randint(1, window), len(numbers)))]
        stream = open_stream(timeout=_WAIT_S)
        try:
            for question in questions:
                await stream.write(encoded(question))
            if dice.random() < leaving:
                stream.cancel()
                score.gone["stream"] += len(questions)
                continue
            await stream.done_writing()
            waiting = deque(questions)
            async for content in stream:
                _streamed(score, waiting, pb.ModelStreamInferResponse.FromString(content))
            score.lost += [f"stream {q.id}: the stream ended" for q in waiting]
        except grpc.aio.AioRpcError as error:
            score.errors.append(f"stream of {len(questions)}: {error.code()} {error.details()}")


def _streamed(score: Score, waiting: deque[Question], message) -> None:
    if not waiting:
        score.duplicated.append(f"stream: {message}")
        return
    question = waiting.popleft()
    if message.error_message:
        score.errors.append(f"stream {question.id}: {message.error_message}")
    else:
        judge(score, "stream", question, message.infer_response)
