"""Limits one kind of long work, which runs in its own threads: how much of it runs at once, how much waits, and how long it may
take.

Every kind of work that takes memory, a processor or a disk for a noticeable time has its own `Turns`. So a flood of one kind
waits for itself and for nothing else, and holds no more memory than its turns have. A thread cannot be stopped. Work that hangs,
such as reading a file on a dead mount, keeps its turn; but nobody waits for it longer than its kind allows, and the program ends
without it.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from functools import partial
from typing import Any, TypeVar

import structlog

from saga_coordinator.lifecycle import at_work, daemon
from saga_coordinator.saga.words.errors import Overloaded, Unavailable
from saga_coordinator.saga.words.reasons import Reason

_IDLE_SECONDS = 5.0
"""Seconds. A thread that has had nothing to do for so long ends."""

_Given = TypeVar("_Given")
_T = TypeVar("_T")

_log = structlog.get_logger(__name__)


class Turns:
    """The turns of one kind of work. Used from one event loop."""

    def __init__(self, what: str, *, at_once: int, waiting_max: int, seconds_max: float) -> None:
        """`what` names the work in the plural, in messages and in the names of the threads. Nobody waits longer than
        `seconds_max` for a turn, nor for the end of work that has begun.
        """
        self._what = what
        self._at_once = at_once
        self._waiting_max = waiting_max
        self._seconds_max = seconds_max
        self._waiting = 0
        self._free = asyncio.Semaphore(at_once)
        self._threads = Threads(what, at_once)
        self._working: dict[asyncio.Future[Any], float] = {}

    @property
    def problems(self) -> Iterator[str]:
        """The problem that keeps all work of this kind from being done: every thread hangs."""
        if self._is_stuck:
            yield f"{self._at_once} {self._what} have been at work for more than {self._seconds_max:g} s, and no more may be"

    async def run(self, fetch: Callable[[], Awaitable[_Given]], work: Callable[[_Given], _T]) -> _T:
        """Fetches on the event loop, then works on what was fetched in a thread, both within one turn.

        Work that has begun goes on when the caller hangs up, and keeps its turn.

        Raises:
            Overloaded: as many callers wait as may, or all turns hang.
            Unavailable: it took longer than its kind may.
        """
        await self._take()
        try:
            given = await fetch()
            working = self._begin(partial(work, given))
        except BaseException:
            self._free.release()
            raise
        await asyncio.wait([working], timeout=self._seconds_max)
        if not working.done():
            _log.warning("turn_overdue", what=self._what, seconds=self._seconds_max)
            raise Unavailable(
                Reason.TOOK_TOO_LONG,
                f"this was given up after {self._seconds_max:g} s, which is as long as {self._what} may take",
            )
        return working.result()

    async def in_thread(self, work: Callable[..., _T], *arguments: Any) -> _T:
        """Runs work that needs nothing fetched. Raises as `run` does."""

        async def nothing() -> None:
            return None

        return await self.run(nothing, lambda _: work(*arguments))

    @property
    def _is_stuck(self) -> bool:
        since = asyncio.get_running_loop().time() - self._seconds_max
        return sum(begun_at < since for begun_at in self._working.values()) >= self._at_once

    async def _take(self) -> None:
        if self._is_stuck:
            raise Overloaded(next(self.problems))
        if self._waiting >= self._waiting_max:
            raise Overloaded(f"{self._waiting} {self._what} wait for their turn, and no more may; try again")
        self._waiting += 1
        try:
            async with asyncio.timeout(self._seconds_max):
                await self._free.acquire()
        except TimeoutError:
            raise Overloaded(f"no turn came within {self._seconds_max:g} s: {self._what} take long") from None
        finally:
            self._waiting -= 1

    def _begin(self, work: Callable[[], _T]) -> asyncio.Future[_T]:
        working = self._threads.begin(work)
        self._working[working] = asyncio.get_running_loop().time()
        working.add_done_callback(self._worked)
        return working

    def _worked(self, working: asyncio.Future[Any]) -> None:
        self._free.release()
        del self._working[working]
        working.exception()  # is the caller's to hear, and nobody's when that has hung up


def _done(work: Callable[[], _T]) -> Callable[[asyncio.Future[_T]], None]:
    """Does the work. Returns a function that tells its end to the future, if anybody still waits for it."""
    try:
        result = work()
    except Exception as error:  # noqa: BLE001  # whatever it is, it is the caller's
        return partial(_tell_failure, error)
    except BaseException as error:  # noqa: BLE001  # as asyncio does not carry these on
        return partial(_tell_failure, RuntimeError(f"the work ended by {type(error).__name__}: {error}"))
    return partial(_tell_result, result)


def _tell_result(result: _T, working: asyncio.Future[_T]) -> None:
    if not working.done():
        working.set_result(result)


def _tell_failure(error: Exception, working: asyncio.Future[Any]) -> None:
    if not working.done():
        working.set_exception(error)


class Threads:
    """A pool of at most `most` threads, which are started when there is work for them. The end of the program does not wait for
    them.
    """

    def __init__(self, name: str, most: int) -> None:
        self._name = name
        self._most = most
        self._work: deque[Callable[[], None]] = deque()
        self._count = 0
        self._idle = 0
        self._changed = threading.Condition()

    def begin(self, work: Callable[[], _T]) -> asyncio.Future[_T]:
        """Does the work as soon as a thread is free. Work that is cancelled before that does not begin; work that has begun
        goes on.
        """
        loop = asyncio.get_running_loop()
        working: asyncio.Future[_T] = loop.create_future()

        def run() -> None:
            if not working.cancelled():
                tell = _done(work)
                with suppress(RuntimeError):  # the loop is closed, so nobody is there to be told
                    loop.call_soon_threadsafe(tell, working)

        with self._changed:
            self._work.append(run)
            if self._idle >= len(self._work):
                self._changed.notify()
                return working
            if self._count >= self._most:
                return working
            self._count += 1
        try:
            daemon(self._name, self._run)
        except RuntimeError as error:  # the system gives this process no more
            with self._changed:
                self._count -= 1
                if not self._count:
                    self._work.clear()
            raise Unavailable(
                Reason.OVERLOADED, f"no thread could be begun for {self._name}: {error}"
            ) from None
        return working

    def _run(self) -> None:
        while (work := self._next()) is not None:
            with at_work():
                work()

    def _next(self) -> Callable[[], None] | None:
        with self._changed:
            if not self._work:
                self._idle += 1
                self._changed.wait(_IDLE_SECONDS)
                self._idle -= 1
            if self._work:
                return self._work.popleft()
            self._count -= 1
            return None
