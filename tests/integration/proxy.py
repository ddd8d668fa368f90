"""A TCP proxy in front of Postgres, which fails at the moment that a test chooses."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

from sqlalchemy import make_url

from tests.integration.listening import Listening

_CHUNK = 65536
_READY = b"Z\0\0\0\5"


class Proxy:
    """Forwards connections to a database. `dsn` is the way through it; it is `open`, `shut` or `frozen`."""

    def __init__(self, dsn: str) -> None:
        self._target = make_url(dsn)
        self._listening = Listening(self._forward)
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._must_cut: Callable[[bytes], bool] | None = None
        self.cuts = 0
        self.answers = 0
        """How often Postgres has said that it is ready for the next question: once in a round trip."""

    @property
    def port(self) -> int:
        return self._listening.port

    @property
    def dsn(self) -> str:
        return self._target.set(host="127.0.0.1", port=self.port).render_as_string(hide_password=False)

    def open(self) -> None:
        """Accepts connections, at the same port as before."""
        self._listening.open()

    async def shut(self) -> None:
        """Refuses connections and cuts those there are, as a database that was stopped does."""
        await self._listening.shut()

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
            self._listening.refuse()
            seen.set()
            return True

        self._must_cut = see
        await seen.wait()
        await self.shut()

    async def _forward(self, near: socket.socket) -> None:
        with suppress(OSError), socket.socket() as far:
            far.setblocking(False)
            far.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            await asyncio.get_running_loop().sock_connect(far, (self._target.host, self._target.port))
            ways = (
                asyncio.create_task(self._pass_on(near, far, is_answer=False)),
                asyncio.create_task(self._pass_on(far, near, is_answer=True)),
            )
            try:
                await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for way in ways:
                    way.cancel()
                await asyncio.gather(*ways, return_exceptions=True)

    async def _pass_on(self, source: socket.socket, target: socket.socket, *, is_answer: bool) -> None:
        loop = asyncio.get_running_loop()
        with suppress(OSError):
            # An answer of Postgres's is one chunk, unless it is long.
            while chunk := await loop.sock_recv(source, _CHUNK):
                await self._flowing.wait()
                self.answers += is_answer and chunk.count(_READY)
                if is_answer and self._must_cut is not None and self._must_cut(chunk):
                    self._must_cut = None
                    self.cuts += 1
                    return
                await loop.sock_sendall(target, chunk)


def answers_append(answer: bytes) -> bool:
    """Whether Postgres says that the journal's statement has been committed: the only one that selects a mere time."""
    return b"extract\0" in answer and b"SELECT 1\0" in answer


@asynccontextmanager
async def proxy_to(dsn: str) -> AsyncIterator[Proxy]:
    proxy = Proxy(dsn)
    proxy.open()
    try:
        yield proxy
    finally:
        proxy.thaw()
        await proxy.shut()
