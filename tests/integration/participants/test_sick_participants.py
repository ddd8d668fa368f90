"""Participants that hang, break off, lie or talk nonsense: each is an outcome, and none is an exception."""

from __future__ import annotations

import asyncio
import math
import os
import signal
import socket
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.struct_pb2 import Value

from saga_coordinator.participants import attempts as calls
from saga_coordinator.pb.saga.v1.participant_service_pb2 import ExecuteResponse
from saga_coordinator.saga.words.identity import OperationKind
from saga_coordinator.saga.words.outcome import CauseCode, Outcome, Refused, Succeeded, Unknown
from saga_coordinator.wire.payload import NESTING_MAX
from tests.integration.participants.http2 import (
    ANSWER,
    DATA,
    GOAWAY,
    RST_STREAM,
    Frame,
    headers,
    http2_service,
    message,
    tcp_service,
)
from tests.integration.participants.services import (
    PAYLOAD_BYTES_MAX,
    Connect,
    Context,
    Serve,
    invoke,
    output,
)

ROOT = Path(__file__).resolve().parents[3]

# Says its port, then says of each call that it has come, and never answers.
HANGING_PROCESS = """
import asyncio, grpc.aio
from saga_coordinator.pb.saga.v1.participant_service_pb2_grpc import *
class Service(ParticipantServiceServicer):
    async def Execute(self, request, context):
        print("called", flush=True)
        await asyncio.Event().wait()
async def main():
    server = grpc.aio.server()
    add_ParticipantServiceServicer_to_server(Service(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(port, flush=True)
    await server.wait_for_termination()
asyncio.run(main())
"""


def cause_of(outcome: Outcome) -> tuple[str, str]:
    assert isinstance(outcome, Unknown)
    return outcome.cause.code, outcome.cause.message


async def hang(request: Any, context: Context) -> Any:
    await asyncio.Event().wait()


async def test_one_that_hangs_is_unknown_at_the_deadline(serve: Serve, connect: Connect) -> None:
    outcome = await connect(inventory=await serve(hang)).invoke(invoke(timeout_seconds=0.1))
    assert cause_of(outcome) == ("DEADLINE_EXCEEDED", "no answer within 0.1 s")


async def test_one_that_accepts_and_says_nothing_is_unknown_at_the_deadline(connect: Connect) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        target = f"127.0.0.1:{listener.getsockname()[1]}"
        outcome = await connect(inventory=target).invoke(invoke(timeout_seconds=0.1))
    assert cause_of(outcome) == ("DEADLINE_EXCEEDED", "no answer within 0.1 s")


async def test_a_call_that_outlives_its_deadline_is_given_up(
    serve: Serve, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Should gRPC ever fail to keep a deadline, the saga must not hang with it."""
    monkeypatch.setattr(calls, "_OVERDUE_SECONDS", 0.1)
    participants = connect(inventory=await serve(hang))
    connection = participants.connections.of("inventory")
    assert connection is not None
    execute = connection.methods[OperationKind.ACTION]

    def without_deadline(request: bytes, *, timeout: float, metadata: Any) -> Any:
        return execute(request, metadata=metadata)

    connection.methods[OperationKind.ACTION] = without_deadline  # type: ignore[assignment]

    outcome = await participants.invoke(invoke(timeout_seconds=0.1))

    assert cause_of(outcome) == ("DEADLINE_EXCEEDED", "no answer within 0.1 s")


async def test_a_cancelled_attempt_cancels_the_call(serve: Serve, connect: Connect) -> None:
    came, was_cancelled = asyncio.Event(), asyncio.Event()

    async def wait(request: Any, context: Context) -> Any:
        came.set()
        try:
            await asyncio.Event().wait()
        finally:
            was_cancelled.set()

    attempt = asyncio.create_task(connect(inventory=await serve(wait)).invoke(invoke()))
    await came.wait()
    attempt.cancel()
    with pytest.raises(asyncio.CancelledError):
        await attempt
    await asyncio.wait_for(was_cancelled.wait(), 120)


async def test_one_that_nobody_listens_for_is_unavailable_at_once(connect: Connect) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    code, said = cause_of(await connect(inventory=f"127.0.0.1:{port}").invoke(invoke(timeout_seconds=60)))
    assert code == "UNAVAILABLE"
    assert f"127.0.0.1:{port}" in said


async def test_a_socket_that_does_not_exist_is_unavailable(connect: Connect, tmp_path: Path) -> None:
    code, said = cause_of(await connect(inventory=f"unix:{tmp_path / 'none.sock'}").invoke(invoke()))
    assert code == "UNAVAILABLE"
    assert "none.sock" in said


async def test_one_that_is_killed_during_a_call_is_unavailable(connect: Connect) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", HANGING_PROCESS, cwd=ROOT, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    try:
        port = int(await process.stdout.readline())
        attempt = asyncio.create_task(connect(inventory=f"127.0.0.1:{port}").invoke(invoke()))
        assert await process.stdout.readline() == b"called\n"
    finally:
        os.kill(process.pid, signal.SIGKILL)
        await process.wait()
    assert cause_of(await attempt)[0] == "UNAVAILABLE"


def _reset(writer: asyncio.StreamWriter) -> None:
    connection = writer.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


@pytest.mark.parametrize(
    "behave",
    [
        pytest.param(_reset, id="reset"),
        pytest.param(lambda writer: None, id="closed"),
        pytest.param(lambda writer: writer.write(bytes(range(256)) * 100), id="garbage"),
        pytest.param(lambda writer: writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n"), id="HTTP/1.1"),
        pytest.param(lambda writer: writer.write(b"\0\0\4\4\0\0\0\0\0\xff"), id="half a frame"),
    ],
)
async def test_one_that_does_not_speak_http2_is_unavailable(
    connect: Connect, behave: Callable[[asyncio.StreamWriter], None]
) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        behave(writer)

    async with tcp_service(talk) as target:
        code, said = cause_of(await connect(inventory=target).invoke(invoke(timeout_seconds=5)))
    assert code == "UNAVAILABLE"
    assert said


GOOD = ExecuteResponse(output=Value(string_value="ok")).SerializeToString()


def trailers(status: bytes) -> Frame:
    return headers({"grpc-status": status}, is_last=True)


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        pytest.param([headers({":status": b"503"}, is_last=True)], "UNAVAILABLE", id="a proxy's 503"),
        pytest.param([headers({":status": b"404"}, is_last=True)], "UNIMPLEMENTED", id="a web server"),
        pytest.param([ANSWER, headers({"x": b"y"}, is_last=True)], "UNKNOWN", id="no status"),
        pytest.param([ANSWER, trailers(b"99")], "UNKNOWN", id="status 99"),
        pytest.param([ANSWER, trailers(b"none")], "INTERNAL", id="status that is no number"),
        pytest.param([ANSWER, (RST_STREAM, 0, b"\0\0\0\2")], "INTERNAL", id="reset with an error"),
        pytest.param([ANSWER, (RST_STREAM, 0, b"\0\0\0\x08")], "CANCELLED", id="reset by cancelling"),
        pytest.param([ANSWER, trailers(b"0")], "REPLY_INVALID", id="OK without a message"),
        pytest.param([ANSWER, message(GOOD, size=2**31)], "REPLY_INVALID", id="threatens with 2 GiB"),
        pytest.param([ANSWER, message(GOOD, size=99)], "DEADLINE_EXCEEDED", id="half a message"),
        pytest.param([ANSWER, message(GOOD), message(GOOD)], "DEADLINE_EXCEEDED", id="two messages"),
        pytest.param([(DATA, 0, b"\0" * 10)], "DEADLINE_EXCEEDED", id="data without headers"),
    ],
)
async def test_bad_grpc_is_unknown(connect: Connect, answer: list[Frame], code: str) -> None:
    async with http2_service(*answer) as target:
        outcome = await connect(inventory=target).invoke(invoke(timeout_seconds=0.5))
    assert cause_of(outcome)[0] == code


async def test_no_attempt_is_made_that_the_log_does_not_know(connect: Connect) -> None:
    """A server that shuts down says which streams it did not look at; gRPC by itself would send those again."""
    requests: list[int] = []
    looked_at_none = (GOAWAY, 0, bytes(8))
    async with http2_service(looked_at_none, hangs_up=True, requests=requests) as target:
        outcome = await connect(inventory=target).invoke(invoke())
    assert cause_of(outcome)[0] == "UNAVAILABLE"
    assert len(requests) == 1


async def test_hand_made_frames_can_say_ok(connect: Connect) -> None:
    """So that the tests above fail for the reason that they name."""
    async with http2_service(ANSWER, message(GOOD), trailers(b"0")) as target:
        assert await connect(inventory=target).invoke(invoke()) == Succeeded("ok")


async def test_one_that_hangs_up_in_the_middle_of_its_answer_is_unavailable(connect: Connect) -> None:
    async with http2_service(ANSWER, message(GOOD, size=1000), hangs_up=True) as target:
        assert cause_of(await connect(inventory=target).invoke(invoke()))[0] == "UNAVAILABLE"


@pytest.mark.parametrize("encoded", [b"caf%C3%A9 %FF%FE%00", b"caf\xc3\xa9 \xff\xfe"])
async def test_words_that_are_not_text_are_kept_as_far_as_they_are(connect: Connect, encoded: bytes) -> None:
    refusal = headers({"grpc-status": b"9", "grpc-message": encoded}, is_last=True)
    async with http2_service(ANSWER, refusal) as target:
        outcome = await connect(inventory=target).invoke(invoke())
    assert isinstance(outcome, Refused)
    assert outcome.cause.message.startswith("caf")
    assert "\0" not in outcome.cause.message


@pytest.mark.parametrize(
    ("name", "value", "code"),
    [("x-name", b"\xff\xfe", "ABORTED"), ("grpc-status-details-bin", b"%%%", "INTERNAL")],
)
async def test_rubbish_in_trailers_is_borne(connect: Connect, name: str, value: bytes, code: str) -> None:
    last = headers({"grpc-status": b"10", name: value}, is_last=True)
    async with http2_service(ANSWER, last) as target:
        assert cause_of(await connect(inventory=target).invoke(invoke()))[0] == code


def _nul() -> ExecuteResponse:
    return ExecuteResponse(output=Value(string_value="a\0b"))


def _nan() -> ExecuteResponse:
    reply = output({"rows": [{"price": 1}]})
    row = reply.output.struct_value.fields["rows"].list_value.values[0]
    row.struct_value.fields["price"].number_value = math.nan
    return reply


def _deep(levels: int) -> bytes:
    reply = ExecuteResponse()
    value = reply.output
    for _ in range(levels):
        value = value.struct_value.fields["k"]
    value.bool_value = True
    return reply.SerializeToString()


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        pytest.param(_nul().SerializeToString(), "output: must not contain NUL", id="NUL"),
        pytest.param(_nan().SerializeToString(), "output.rows[0].price: must be a finite", id="NaN"),
        pytest.param(_deep(NESTING_MAX + 1), "too deep", id="too deep"),
        pytest.param(_deep(40), "does not parse", id="too deep for protobuf"),
        pytest.param(GOOD[:-1], "does not parse", id="cut"),
        pytest.param(b"\xff" * 50, "does not parse", id="garbage"),
        pytest.param(GOOD[:-1] + b"\xff", "does not parse", id="not UTF-8"),
        pytest.param(
            output("x" * PAYLOAD_BYTES_MAX).SerializeToString(), "is 20004 bytes as protobuf", id="too large"
        ),
        pytest.param(output("x" * 4_200_000).SerializeToString(), "limit of 20000 bytes", id="far too large"),
    ],
)
async def test_a_reply_that_cannot_be_kept_is_unknown(
    serve_bytes: Serve, connect: Connect, reply: bytes, said: str
) -> None:
    code, message = cause_of(await connect(inventory=await serve_bytes(reply)).invoke(invoke()))
    assert code == CauseCode.REPLY_INVALID
    assert said in message


async def test_the_largest_reply_is_taken(serve: Serve, connect: Connect) -> None:
    """Measured as it is sent: eleven bytes for a number, and four for the list of them."""
    largest = [0] * ((PAYLOAD_BYTES_MAX - 4) // 11)

    async def answer(request: Any, context: Context) -> Any:
        return output(largest)

    assert await connect(inventory=await serve(answer)).invoke(invoke()) == Succeeded(largest)
