"""A quick probe for `saga-coordinator health`. It costs no more than starting Python, because containers ask every few seconds.

Importing gRPC alone costs several times as much. So this module writes one `grpc.health.v1.Health/Check` by hand, in HTTP/2's
plainest form (RFC 9113; header fields as literals without an index, RFC 7541 section 6.2.2), and understands only the answer
SERVING. In every other case the full command asks again and says what is wrong. Only the standard library is imported.
"""

from __future__ import annotations

import socket
import struct

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _SETTINGS, _PING = 0x0, 0x1, 0x4, 0x6
_END_STREAM, _ACK, _END_HEADERS = 0x1, 0x1, 0x4
_STREAM = 1
_SERVING = b"\x00\x00\x00\x00\x02\x08\x01"
"""A gRPC frame of two bytes: HealthCheckResponse with `status` (field 1) SERVING (1)."""
_DEFAULT_ADDRESS = "127.0.0.1:7242"
_TIMEOUT_SECONDS = 3.0
_LENGTH_MAX = 126
"""The longest string whose length fits into one byte of HPACK. Addresses and names of services are shorter."""


def is_serving(arguments: list[str], addresses: str | None) -> bool:
    """Tells whether the coordinator that `health` would ask with these arguments answers SERVING. Returns False in any doubt.

    Args:
        arguments: what follows `health` on the command line.
        addresses: the value of SAGA_ADDRESSES, of which the first is asked.
    """
    asked = _asked(arguments, addresses)
    if asked is None:
        return False
    address, service = asked
    try:
        with _connected(address) as connection:
            connection.sendall(_request(service))
            return _answer(connection) == _SERVING
    except (OSError, ValueError, struct.error):
        return False


def _asked(arguments: list[str], addresses: str | None) -> tuple[str, str] | None:
    """The address and the service, if the arguments have the simplest form."""
    given = {"--address": (addresses or _DEFAULT_ADDRESS).partition(",")[0].strip(), "--service": ""}
    if len(arguments) % 2:
        return None
    for name, value in zip(arguments[::2], arguments[1::2], strict=True):
        if name not in given or value.startswith("-"):
            return None
        given[name] = value
    address, service = given["--address"], given["--service"]
    is_short = max(len(address), len(service.encode())) <= _LENGTH_MAX
    return (address, service) if is_short and address.isascii() else None


def _connected(address: str) -> socket.socket:
    if address.startswith("unix:"):
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(_TIMEOUT_SECONDS)
        connection.connect(address.removeprefix("unix:").removeprefix("//"))
        return connection
    host, _, port = address.rpartition(":")
    host = {"0.0.0.0": "127.0.0.1", "[::]": "::1"}.get(host, host.strip("[]"))  # noqa: S104  # replaced, not listened on
    return socket.create_connection((host, int(port)), timeout=_TIMEOUT_SECONDS)


def _request(service: str) -> bytes:
    name = service.encode()
    message = bytes((0x0A, len(name))) + name if name else b""
    fields = {
        ":method": "POST",
        ":scheme": "http",
        ":path": "/grpc.health.v1.Health/Check",
        ":authority": "localhost",
        "te": "trailers",
        "content-type": "application/grpc",
    }
    block = b"".join(b"\x00" + _text(key) + _text(value) for key, value in fields.items())
    body = b"\x00" + struct.pack(">I", len(message)) + message
    return (
        _PREFACE
        + _frame(_SETTINGS, 0, 0)
        + _frame(_HEADERS, _END_HEADERS, _STREAM, block)
        + _frame(_DATA, _END_STREAM, _STREAM, body)
    )


def _text(text: str) -> bytes:
    return bytes((len(text),)) + text.encode()


def _frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return struct.pack(">I", len(payload))[1:] + bytes((kind, flags)) + struct.pack(">I", stream) + payload


def _answer(connection: socket.socket) -> bytes:
    """The data that came before the stream ended."""
    reader = connection.makefile("rb")
    data = b""
    while header := reader.read(9):
        length, kind, flags = int.from_bytes(header[:3], "big"), header[3], header[4]
        stream = int.from_bytes(header[5:9], "big") & 0x7FFFFFFF
        payload = reader.read(length)
        if kind in (_SETTINGS, _PING) and not flags & _ACK:
            connection.sendall(_frame(kind, _ACK, 0, payload if kind == _PING else b""))
        elif stream == _STREAM and kind == _DATA:
            data += payload
        if stream == _STREAM and flags & _END_STREAM and kind in (_DATA, _HEADERS):
            return data
    return b""
