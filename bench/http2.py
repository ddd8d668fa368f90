"""Unary gRPC calls over HTTP/2 at a third of what gRPC for Python costs, so that the load is not what is measured.

It speaks as much of RFC 9113 as a load needs: requests with the same few headers, never compressed with what came before; a
receive window that is opened once for good; settings and pings answered. Responses' headers are not read: an answer without
a message is a failure. Requests must be small, since the send window is not counted.
"""

from __future__ import annotations

import asyncio
import struct
from typing import Final, Self, cast

_PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _RESET, _SETTINGS, _PING, _GOAWAY = 0, 1, 3, 4, 6, 7
_END_STREAM, _ACK, _END_HEADERS = 0x1, 0x1, 0x4
_WINDOW: Final = 2**31 - 1
_STREAMS_MAX: Final = 2**30


class CallFailed(Exception):
    """The server answered without a message, or not at all."""


class Http2Connection(asyncio.Protocol):
    """One connection. `call` may be awaited by many at once."""

    def __init__(self, authority: str) -> None:
        self._authority = authority
        self._headers: dict[str, bytes] = {}
        self._received = bytearray()
        self._messages: dict[int, bytearray] = {}
        self._waiting: dict[int, asyncio.Future[bytes]] = {}
        self._next_stream = 1
        self._transport: asyncio.Transport | None = None

    @classmethod
    async def open(cls, address: str) -> Self:
        host, _, port = address.rpartition(":")
        _, connection = await asyncio.get_running_loop().create_connection(
            lambda: cls(address), host, int(port)
        )
        return connection

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # By name only: uvloop's is none of asyncio's classes.
        self._transport = transport = cast("asyncio.Transport", transport)
        settings = struct.pack(
            ">HIHIHI", 1, 0, 2, 0, 4, _WINDOW
        )  # no header table, no push, a wide stream window
        update = struct.pack(">I", _WINDOW - 65_535)
        transport.write(_PREFACE + _frame(_SETTINGS, 0, 0, settings) + _frame(8, 0, 0, update))

    def connection_lost(self, error: Exception | None) -> None:
        for waiting in self._waiting.values():
            if not waiting.done():
                waiting.set_exception(CallFailed(f"the connection to {self._authority} was lost: {error}"))
        self._waiting.clear()
        self._transport = None

    def call(self, path: str, message: bytes) -> asyncio.Future[bytes]:
        """The answer's message. Raises CallFailed."""
        waiting: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        if self._transport is None or self._next_stream > _STREAMS_MAX:
            waiting.set_exception(CallFailed(f"there is no connection to {self._authority}"))
            return waiting
        stream = self._next_stream
        self._next_stream += 2
        self._waiting[stream] = waiting
        block = self._headers.get(path) or self._block(path)
        self._transport.write(
            _frame(_HEADERS, _END_HEADERS, stream, block)
            + _frame(_DATA, _END_STREAM, stream, b"\x00" + struct.pack(">I", len(message)) + message)
        )
        return waiting

    def _block(self, path: str) -> bytes:
        """HPACK (RFC 7541) with literals that are never indexed, names from the static table where it has them."""
        block = b"\x83\x86"  # POST, http
        block += b"\x04" + _text(path) + b"\x01" + _text(self._authority)
        block += b"\x0f\x10" + _text("application/grpc")
        block += b"\x00" + _text("te") + _text("trailers") + b"\x00" + _text("grpc-timeout") + _text("60S")
        self._headers[path] = block
        return block

    def data_received(self, data: bytes) -> None:
        received = self._received
        received += data
        at = 0
        while len(received) - at >= 9:
            length = received[at] << 16 | received[at + 1] << 8 | received[at + 2]
            if len(received) - at < 9 + length:
                break
            kind, flags = received[at + 3], received[at + 4]
            stream = int.from_bytes(received[at + 5 : at + 9]) & _WINDOW
            self._take(kind, flags, stream, bytes(received[at + 9 : at + 9 + length]))
            at += 9 + length
        del received[:at]

    def _take(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        if kind == _DATA:
            self._messages.setdefault(stream, bytearray()).extend(payload)
        elif kind in {_SETTINGS, _PING} and not flags & _ACK:
            assert self._transport is not None
            self._transport.write(_frame(kind, _ACK, 0, payload if kind == _PING else b""))
        elif kind == _RESET:
            self._end(stream, f"reset with code {int.from_bytes(payload)}")
        elif kind == _GOAWAY and self._transport is not None:
            self._transport.close()
        if kind in {_DATA, _HEADERS} and flags & _END_STREAM:
            self._end(stream, f"refused: {payload.decode('ascii', 'replace')!r}")

    def _end(self, stream: int, failure: str) -> None:
        waiting = self._waiting.pop(stream, None)
        message = self._messages.pop(stream, None)
        if waiting is None or waiting.done():
            return
        if message is None:
            waiting.set_exception(CallFailed(f"{self._authority} {failure}"))
        else:
            waiting.set_result(bytes(message[5:]))


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def _text(value: str) -> bytes:
    encoded = value.encode()
    assert len(encoded) < 127, "longer ones have their length in several octets"
    return bytes([len(encoded)]) + encoded
