"""A participant that speaks HTTP/2 by hand (RFC 9113), to say what no gRPC library would let it say."""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress

from tests.integration.listening import Listening

DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY = 0x0, 0x1, 0x3, 0x4, 0x6, 0x7
END_STREAM, ACK, END_HEADERS = 0x1, 0x1, 0x4

Frame = tuple[int, int, bytes]
"""Type, flags, payload; on the stream of the request, but for GOAWAY."""


def headers(pairs: dict[str, bytes], *, is_last: bool = False) -> Frame:
    """Literal fields without indexing and without Huffman coding (RFC 7541, 6.2.2)."""
    block = b"".join(
        b"\x00" + _length(len(name)) + name.encode() + _length(len(value)) + value
        for name, value in pairs.items()
    )
    return HEADERS, END_HEADERS | (END_STREAM if is_last else 0), block


def _length(size: int) -> bytes:
    if size < 127:
        return bytes([size])
    size -= 127
    encoded = b"\x7f"
    while size >= 128:
        encoded += bytes([size % 128 + 128])
        size //= 128
    return encoded + bytes([size])


def message(payload: bytes, *, size: int | None = None) -> Frame:
    """A gRPC message in one DATA frame, which may lie about its size."""
    said = len(payload) if size is None else size
    return DATA, 0, b"\x00" + said.to_bytes(4, "big") + payload


ANSWER = headers({":status": b"200", "content-type": b"application/grpc"})


@asynccontextmanager
async def tcp_service(
    talk: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
) -> AsyncIterator[str]:
    """Does `talk` on each connection, then closes it; yields the target."""

    async def serve(connection: socket.socket) -> None:
        reader, writer = await asyncio.open_connection(sock=connection)
        try:
            with suppress(asyncio.IncompleteReadError, ConnectionError):  # the client has gone
                await talk(reader, writer)
                writer.close()
                await writer.wait_closed()
        finally:
            writer.transport.abort()

    listening = Listening(serve)
    listening.open()
    try:
        yield f"127.0.0.1:{listening.port}"
    finally:
        await listening.shut()


def http2_service(
    *answer: Frame, hangs_up: bool = False, requests: list[int] | None = None
) -> AbstractAsyncContextManager[str]:
    """Serves `answer` to every request, noting its stream in `requests`; yields the target."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(24)  # the connection preface
        writer.write(_frame((SETTINGS, 0, b""), 0))
        while True:
            stream = await _next_request(reader, writer)
            if requests is not None:
                requests.append(stream)
            for frame in answer:
                writer.write(_frame(frame, 0 if frame[0] == GOAWAY else stream))
            await writer.drain()
            if hangs_up:
                return

    return tcp_service(talk)


async def _next_request(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> int:
    """The stream of the next request that has come as a whole."""
    while True:
        head = await reader.readexactly(9)
        payload = await reader.readexactly(int.from_bytes(head[:3], "big"))
        kind, flags, stream = head[3], head[4], int.from_bytes(head[5:], "big")
        if kind == SETTINGS and not flags & ACK:
            writer.write(_frame((SETTINGS, ACK, b""), 0))
        elif kind == PING and not flags & ACK:
            writer.write(_frame((PING, ACK, payload), 0))
        elif kind in (DATA, HEADERS) and flags & END_STREAM:
            return stream


def _frame(frame: Frame, stream: int) -> bytes:
    kind, flags, payload = frame
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload
