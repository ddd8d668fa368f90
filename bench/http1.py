"""POSTs of JSON over HTTP/1.1 connections that are kept, for peers that are asked that way."""

from __future__ import annotations

import asyncio
from typing import Self

from bench.http2 import CallFailed


class Http1Connection:
    """One request at a time."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, authority: str) -> None:
        self._reader = reader
        self._writer = writer
        self._authority = authority

    @classmethod
    async def open(cls, address: str) -> Self:
        host, _, port = address.rpartition(":")
        return cls(*await asyncio.open_connection(host, int(port)), address)

    def close(self) -> None:
        self._writer.close()

    async def post(self, path: str, body: bytes) -> bytes:
        """The answer's body. Raises CallFailed for any status but those of success."""
        head = (
            f"POST {path} HTTP/1.1\r\nhost: {self._authority}\r\ncontent-type: application/json\r\n"
            f"content-length: {len(body)}\r\n\r\n"
        )
        self._writer.write(head.encode() + body)
        answer = (await self._reader.readuntil(b"\r\n\r\n")).lower()
        status = answer[9:12].decode()
        content = await self._content(answer)
        if not status.startswith("2"):
            raise CallFailed(f"{self._authority}{path}: {status} {content[:300].decode(errors='replace')}")
        return content

    async def _content(self, head: bytes) -> bytes:
        if b"transfer-encoding: chunked" in head:
            content = b""
            while size := int(await self._reader.readuntil(b"\r\n"), 16):
                content += await self._reader.readexactly(size)
                await self._reader.readexactly(2)
            await self._reader.readexactly(2)
            return content
        _, found, rest = head.partition(b"content-length:")
        return await self._reader.readexactly(int(rest.split(b"\r\n", 1)[0])) if found else b""
