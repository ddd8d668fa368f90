"""The load's own HTTP/2, against a real gRPC server."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import grpc.aio
import pytest

from bench.http2 import CallFailed, Http2Connection

# More than a frame holds, and more than the window that every stream has from the start.
MUCH = bytes(range(256)) * 1000


async def _echo(request: bytes, context: Any) -> bytes:
    if request == b"refuse":
        await context.abort(grpc.StatusCode.FAILED_PRECONDITION, "as asked")
    return MUCH if request == b"much" else request


@pytest.fixture
async def address() -> AsyncIterator[str]:
    server = grpc.aio.server()
    handler: Any = grpc.unary_unary_rpc_method_handler(_echo)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Echo", {"Say": handler}),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    yield f"127.0.0.1:{port}"
    await server.stop(None)


async def test_each_of_many_calls_at_once_gets_its_own_answer(address: str) -> None:
    connection = await Http2Connection.open(address)
    messages = [f"message {number}".encode() * (number % 7) for number in range(500)]
    answers: list[bytes] = []
    for first in range(0, len(messages), 100):
        calls = [connection.call("/test.Echo/Say", message) for message in messages[first : first + 100]]
        answers += await asyncio.gather(*calls)
    connection.close()
    assert answers == messages


async def test_an_answer_may_come_in_many_frames(address: str) -> None:
    connection = await Http2Connection.open(address)
    assert await connection.call("/test.Echo/Say", b"much") == MUCH
    connection.close()


async def test_a_failed_call_says_so_and_leaves_the_connection_usable(address: str) -> None:
    connection = await Http2Connection.open(address)
    with pytest.raises(CallFailed, match="refused"):
        await connection.call("/test.Echo/Say", b"refuse")
    with pytest.raises(CallFailed):
        await connection.call("/test.Echo/Unknown", b"")
    assert await connection.call("/test.Echo/Say", b"again") == b"again"
    connection.close()


async def test_calls_fail_when_there_is_no_connection_any_more(address: str) -> None:
    connection = await Http2Connection.open(address)
    connection.close()
    await asyncio.sleep(0)
    with pytest.raises(CallFailed, match=r"no connection|was lost"):
        await connection.call("/test.Echo/Say", b"late")
