"""A TCP proxy in front of Postgres, which fails at the moment that a test chooses."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

from sqlalchemy import make_url

_CHUNK = 65536
_READY = b"Z\0\0\0\5"


class Proxy:
    """Forwards connections to a database. `dsn` is the way through it; it is `open`, `shut` or `frozen`."""

    def __init__(self, dsn: str) -> None:
        self._target = make_url(dsn)
        self._server: asyncio.Server | None = None
        self._port = 0
        self._connections: set[asyncio.Task[None]] = set()
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._must_cut: Callable[[bytes], bool] | None = None
        self.cuts = 0
        self.answers = 0
        """How often Postgres has said that it is ready for the next question: once in a round trip."""

    @property
    def dsn(self) -> str:
        return self._target.set(host="127.0.0.1", port=self._port).render_as_string(hide_password=False)

    async def open(self) -> None:
        """Accepts connections, at the same port as before."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self._port)
        self._port = self._server.sockets[0].getsockname()[1]

    async def shut(self) -> None:
        """Refuses connections and cuts those there are, as a database that was stopped does."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for _ in range(3):
            await asyncio.sleep(
                0
            )  # what has just been accepted is served, and so known, a few turns of the loop later
        for connection in tuple(self._connections):
            connection.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    def freeze(self) -> None:
        """Passes nothing on any more, and says so to nobody, as a database that hangs does."""
        self._flowing.clear()

    def thaw(self) -> None:
        self._flowing.set()

    def cut_instead_of_answer(self, is_the_one: Callable[[bytes], bool]) -> None:
        """The next answer of Postgres that is the one is not passed on; its connection is cut instead."""
        self._must_cut = is_the_one

    async def cut_and_shut_instead_of_answer(self, is_the_one: Callable[[bytes], bool]) -> None:
        """Like `cut_instead_of_answer`, and the database is away from then on. Returns when that has happened."""
        seen = asyncio.Event()

        def see(answer: bytes) -> bool:
            if not is_the_one(answer):
                return False
            assert self._server is not None
            self._server.close()
            seen.set()
            return True

        self._must_cut = see
        await seen.wait()
        await self.shut()

    def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Not a coroutine, so that a connection that is cut before anything is forwarded is known and closed, too."""

        def end(forwarding: asyncio.Task[None]) -> None:
            self._connections.discard(forwarding)
            writer.transport.abort()

        forwarding = asyncio.create_task(self._forward(reader, writer))
        self._connections.add(forwarding)
        forwarding.add_done_callback(end)

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        host, port = self._target.host, self._target.port
        try:
            far_reader, far_writer = await asyncio.open_connection(host, port)
        except OSError:
            return
        ways = (
            asyncio.create_task(self._pass_on(reader, far_writer, is_answer=False)),
            asyncio.create_task(self._pass_on(far_reader, writer, is_answer=True)),
        )
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            far_writer.transport.abort()
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)

    async def _pass_on(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, is_answer: bool
    ) -> None:
        with suppress(OSError):
            while chunk := await reader.read(
                _CHUNK
            ):  # an answer of Postgres's is one chunk, unless it is long
                await self._flowing.wait()
                self.answers += is_answer and chunk.count(_READY)
                if is_answer and self._must_cut is not None and self._must_cut(chunk):
                    self._must_cut = None
                    self.cuts += 1
                    return
                writer.write(chunk)
                await writer.drain()


def answers_append(answer: bytes) -> bool:
    """Whether Postgres says that the journal's statement has been committed: the only one that selects a mere time."""
    return b"extract\0" in answer and b"SELECT 1\0" in answer


@asynccontextmanager
async def proxy_to(dsn: str) -> AsyncIterator[Proxy]:
    proxy = Proxy(dsn)
    await proxy.open()
    try:
        yield proxy
    finally:
        proxy.thaw()
        await proxy.shut()
