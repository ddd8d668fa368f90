"""TCP connections that fail as networks do: cut, delayed, silent, or with the answer lost after the request has arrived."""

from __future__ import annotations

import asyncio
import random
from collections import deque
from typing import cast

HOST = "127.0.0.1"
TIMER_SECONDS = 0.002


class Proxy:
    """Forwards connections made to `port` to `target_port`, both on loopback."""

    def __init__(self, name: str, target_port: int, dice: random.Random) -> None:
        self.name = name
        self.port = 0
        self.delay_seconds = 0.0
        self.is_hole = False
        self.answers_to_lose = 0
        self.answers_lost = 0
        self._target_port = target_port
        self._dice = dice
        self._links: set[_Link] = set()
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _Link(self).near, HOST, 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
        self.cut()

    def cut(self) -> int:
        """Resets every connection, with what was on its way; returns how many."""
        links = tuple(self._links)
        for link in links:
            link.cut()
        return len(links)

    def heal(self) -> None:
        """From now on it forwards as if nothing were; what was held back goes on its way, in order."""
        self.delay_seconds = 0.0
        self.answers_to_lose = 0
        self.is_hole = False
        for link in tuple(self._links):
            link.pump()

    async def connect(self, link: _Link) -> None:
        """Connects a link with the target; one that cannot be reached is hung up on."""
        self._links.add(link)
        loop = asyncio.get_running_loop()
        try:
            await loop.create_connection(lambda: link.far, HOST, self._target_port)
        except OSError:
            link.cut()

    def ended(self, link: _Link) -> None:
        self._links.discard(link)

    def maybe_lose_answer(self, link: _Link, *, is_answer: bool) -> bool:
        """Whether this chunk is where the connection breaks: at an answer, or right behind a request."""
        if not self.answers_to_lose or self._dice.random() < 0.5:
            return False
        if not is_answer and self._dice.random() < 0.5:
            return False
        self.answers_to_lose -= 1
        self.answers_lost += 1
        link.lose_answer()
        return True


class _Link:
    """One connection: `near` is the caller's end, `far` the target's."""

    def __init__(self, proxy: Proxy) -> None:
        self.proxy = proxy
        self.is_over = False
        self.near = _End(self, is_far=False)
        self.far = _End(self, is_far=True)
        self.near.other, self.far.other = self.far, self.near
        self.connecting: asyncio.Task[None] | None = None

    def pump(self) -> None:
        self.near.pump()
        self.far.pump()

    def cut(self) -> None:
        """Both ends see the connection reset."""
        self._end()
        for end in (self.near, self.far):
            if end.transport is not None:
                end.transport.abort()

    def lose_answer(self) -> None:
        """The target gets everything sent so far and may do it; the caller never hears of it."""
        self._end()
        if self.near.transport is not None:
            self.near.transport.abort()
        if self.far.transport is not None:
            self.far.transport.close()

    def _end(self) -> None:
        self.is_over = True
        self.proxy.ended(self)


class _End(asyncio.Protocol):
    """One end of a link. `queue` holds what is still to be written to it: when it is due, and the bytes; None closes it."""

    def __init__(self, link: _Link, *, is_far: bool) -> None:
        self.link = link
        self.is_far = is_far
        self.other: _End = self
        self.transport: asyncio.Transport | None = None
        self.queue: deque[tuple[float, bytes | None]] = deque()
        self.comes_back_at = float("inf")

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        if self.link.is_over:
            self.transport.abort()
        elif not self.is_far:
            self.link.connecting = asyncio.ensure_future(self.link.proxy.connect(self.link))
        else:
            self.pump()

    def data_received(self, data: bytes) -> None:
        self._pass_on(data)

    def eof_received(self) -> bool:
        self._pass_on(None)
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.link.is_over:
            self.link.cut()

    def _pass_on(self, data: bytes | None) -> None:
        proxy, other = self.link.proxy, self.other
        if self.link.is_over:
            return
        now = asyncio.get_running_loop().time()
        due = max(now + proxy.delay_seconds, other.queue[-1][0] if other.queue else 0.0)
        if not (data and self.is_far and proxy.maybe_lose_answer(self.link, is_answer=True)):
            other.queue.append((due, data))
            other.pump()
            if data and not self.is_far and not other.queue and not self.link.is_over:
                proxy.maybe_lose_answer(self.link, is_answer=False)

    def pump(self) -> None:
        """Writes what is due, and comes back for the rest."""
        if self.transport is None or self.link.is_over or self.link.proxy.is_hole:
            return
        loop = asyncio.get_running_loop()
        # A timer may go off a little early; what it came for is due all the same.
        now = loop.time() + TIMER_SECONDS
        if self.comes_back_at <= now:
            self.comes_back_at = float("inf")
        while self.queue and self.queue[0][0] <= now:
            _, data = self.queue.popleft()
            if data is not None:
                self.transport.write(data)
            elif self.transport.can_write_eof():
                self.transport.write_eof()
        if self.queue and self.queue[0][0] < self.comes_back_at:
            self.comes_back_at = self.queue[0][0]
            loop.call_at(self.comes_back_at, self.pump)
