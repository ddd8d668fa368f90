"""A listening socket whose connections are known from the first moment, so that none is left open."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Coroutine
from typing import Any


class Listening:
    """Does `serve` with each connection, and closes the connection when that has ended.

    asyncio's own server leaks, in Python 3.11, what it has accepted in the turn of the loop in which it is closed.
    """

    def __init__(self, serve: Callable[[socket.socket], Coroutine[Any, Any, None]]) -> None:
        self._serve = serve
        self._listener: socket.socket | None = None
        self._served: set[asyncio.Task[None]] = set()
        self.port = 0

    def open(self) -> None:
        """Accepts connections, at the same port as before."""
        self._listener = socket.create_server(("127.0.0.1", self.port), backlog=100)
        self._listener.setblocking(False)
        self.port = self._listener.getsockname()[1]
        asyncio.get_running_loop().add_reader(self._listener, self._accept, self._listener)

    def refuse(self) -> None:
        """Accepts no more connections."""
        if self._listener is not None:
            asyncio.get_running_loop().remove_reader(self._listener)
            self._listener.close()
            self._listener = None

    async def shut(self) -> None:
        """Accepts no more, and cuts the connections there are."""
        self.refuse()
        for served in tuple(self._served):
            served.cancel()
        await asyncio.gather(*self._served, return_exceptions=True)

    def _accept(self, listener: socket.socket) -> None:
        connection, _ = listener.accept()
        connection.setblocking(False)

        def end(serving: asyncio.Task[None]) -> None:
            self._served.discard(serving)
            connection.close()  # here, because what is cancelled at once never begins

        serving = asyncio.create_task(self._serve(connection))
        self._served.add(serving)
        serving.add_done_callback(end)
