"""Turns at work that is long for what it is: so many at once, so many that wait, and threads of its own.

What takes memory or a processor for a noticeable time gets a `Turns` of its kind, so that a flood of it waits for itself and for
nothing else, and holds no more memory than its turns have.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from saga_coordinator.saga.errors import Overloaded

_Given = TypeVar("_Given")
_T = TypeVar("_T")


class Turns:
    """Turns at one kind of work. Used from one event loop."""

    def __init__(self, what: str, *, at_once: int, waiting_max: int) -> None:
        """`what` names the work in the plural, for who is refused and for the threads."""
        self._what = what
        self._waiting_max = waiting_max
        self._waiting = 0
        self._free = asyncio.Semaphore(at_once)
        self._threads = ThreadPoolExecutor(at_once, thread_name_prefix=what)

    async def run(self, fetch: Callable[[], Awaitable[_Given]], work: Callable[[_Given], _T]) -> _T:
        """Fetches on the event loop, then works on what was fetched in a thread, both within one turn.

        Work that has begun goes on when the caller hangs up, and keeps its turn: a thread cannot be stopped.

        Raises:
            Overloaded: as many wait as may.
        """
        await self._take()
        try:
            given = await fetch()
            working = asyncio.get_running_loop().run_in_executor(self._threads, work, given)
        except BaseException:
            self._free.release()
            raise
        working.add_done_callback(self._worked)
        return await asyncio.shield(working)

    async def in_thread(self, work: Callable[[], _T]) -> _T:
        """Work that needs nothing fetched. Raises Overloaded."""

        async def nothing() -> None:
            return None

        return await self.run(nothing, lambda _: work())

    async def _take(self) -> None:
        if self._waiting >= self._waiting_max:
            raise Overloaded(f"{self._waiting} {self._what} wait for their turn, and no more may; try again")
        self._waiting += 1
        try:
            await self._free.acquire()
        finally:
            self._waiting -= 1

    def _worked(self, working: asyncio.Future[_T]) -> None:
        self._free.release()
        if not working.cancelled():
            working.exception()  # is the caller's to hear, and nobody's when that has hung up

    def close(self) -> None:
        """Begins nothing any more."""
        self._threads.shutdown(wait=False, cancel_futures=True)
