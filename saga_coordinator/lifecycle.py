"""The two contracts of long-lived parts: a `Service` starts and stops, and a `Background` holds the tasks that it runs.

The code that starts a list of services stops them in the reverse order, even if some of them have failed. A service may be
stopped at any time.

A `Background` gives a name to every task that runs beside its caller. It makes sure that a failure is heard, and that the task
ends.

- A loop that runs all the time is *kept*. If it fails, the failure is logged with the loop's name, and the loop begins again
  after pauses that grow. Until it has gone round once more, it is among the `problems` that health tells.
- Work that ends by itself is *spawned* if nobody waits for it: then its failure is logged.
- Work that ends by itself is *begun* if somebody awaits the task: then that caller gets the failure.

No other module makes tasks (`tests/unit/test_lifecycle.py` walks the code), because a task made in passing fails in silence.
"""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

import structlog

from saga_coordinator.retrying import Pauses, kept_going, retried_until

RESTART_SECONDS = (0.1, 5.0)
"""The first and the longest pause, in seconds, before a failed loop begins again."""

SETTLED_SECONDS = 5.0
"""Seconds. A loop that has run for so long since it failed counts as well, even if a round of it takes longer."""

MOMENT_SECONDS = 1.0
"""The seconds that a cancelled task may take to end. After that it is left behind, for example if it waits for a database that
does not answer.
"""

_at_work: set[int] = set()

_T = TypeVar("_T")
_Part = TypeVar("_Part", bound="Service")

_log = structlog.get_logger(__name__)


class Service(ABC):
    """A part of the program that lives as long as its owner. It is not started twice."""

    async def start(self) -> None:  # noqa: B027  # many have nothing to begin
        """Starts the part. Raises if the part cannot run; it can be stopped then, too."""

    @abstractmethod
    async def stop(self, grace_seconds: float = 0.0) -> None:
        """Stops the part, and returns when it has let go of everything. Work in progress has `grace_seconds` to end by itself.

        It may be called before the start, after a failed start, and repeatedly. It does nothing then.
        """


class Services(Service):
    """Services in the order in which they start; they stop in the reverse order."""

    def __init__(self, *services: Service) -> None:
        self._services = list(services)

    def add(self, service: _Part) -> _Part:
        """Adds the next service, which may need the services before it. Returns the service."""
        self._services.append(service)
        return service

    async def start(self) -> None:
        """Starts the services one after the other. If a service fails to start, the services after it are not started."""
        for service in self._services:
            await service.start()

    async def stop(self, grace_seconds: float = 0.0) -> None:
        """Stops all services, even if some fail to stop. The first failure is raised in the end. The services share the
        grace.
        """
        clock = asyncio.get_running_loop().time
        ends_at = clock() + grace_seconds
        failures: list[Exception] = []
        for service in reversed(self._services):
            try:
                await service.stop(max(0.0, ends_at - clock()))
            except Exception as error:  # noqa: BLE001  # raised below; what was started before has to be stopped first
                failures.append(error)
        for failure in failures:
            raise failure


class Together(Service):
    """Services that start one after the other and stop at the same time, because each needs the others in order to end well."""

    def __init__(self, *services: Service) -> None:
        self._services = services

    async def start(self) -> None:
        """Starts them in order."""
        for service in self._services:
            await service.start()

    async def stop(self, grace_seconds: float = 0.0) -> None:
        """Stops all at once; the first failure is raised when all have ended."""
        ends = await asyncio.gather(
            *(service.stop(grace_seconds) for service in self._services), return_exceptions=True
        )
        for failure in ends:
            if isinstance(failure, BaseException):
                raise failure


class Kept:
    """A loop that runs as long as its owner.

    The loop says `turned` after each round that went well, `rests` before it waits for something that may never come, and
    `begins` once that has come. A round of more than `turn_seconds_max` is a problem; None: it may take any time.
    """

    def __init__(self, name: str, turn_seconds_max: float | None) -> None:
        self.name = name
        self._turn_seconds_max = turn_seconds_max
        self._clock = asyncio.get_running_loop().time
        self._since: float | None = self._clock()
        self._begun_at = self._clock()
        self._failures = 0
        self._last: BaseException | None = None
        self.task: asyncio.Task[None] | None = None

    def turned(self) -> None:
        """Notes that a round is over and the next round begins."""
        self._since = self._clock()
        self._failures = 0
        self._last = None

    def begins(self) -> None:
        """Notes that the rest is over."""
        self._since = self._clock()

    def rests(self) -> None:
        """Notes that there is nothing to do, for an unknown time."""
        self._since = None

    @property
    def problem(self) -> str | None:
        """The problem that keeps the loop from doing its work; None if no problem is known."""
        if self.task is not None and self.task.done():
            return f"{self.name} has ended"
        if self._last is not None and self._clock() < self._begun_at + SETTLED_SECONDS:
            return f"{self.name} failed {self._failures} times in a row: {_said(self._last)}"
        limit, since = self._turn_seconds_max, self._since
        if limit is not None and since is not None and (age := self._clock() - since) > limit:
            return f"{self.name} has not turned for {age:.0f} s"
        return None

    async def run(self, work: Callable[[Kept], Awaitable[None]]) -> None:
        """Begins `work` again whenever it fails. Returns when `work` returns or is cancelled."""
        await kept_going(lambda: work(self), is_failure=_is_failure, pause=self._failed)

    def _failed(self, error: BaseException) -> float:
        """Logs the failure; returns how many seconds to wait before the loop is begun again."""
        is_anew = self._clock() >= self._begun_at + SETTLED_SECONDS
        self._failures = 1 if is_anew else self._failures + 1
        self._last = error
        _log.error("background_failed", task=self.name, failures=self._failures, exc_info=error)
        pause = Pauses(*RESTART_SECONDS).after(self._failures)
        self._begun_at = self._since = self._clock() + pause
        return pause


class Background:
    """The loops and tasks that one part of the program runs. Used from one event loop."""

    def __init__(self) -> None:
        self._kept: list[Kept] = []
        self._tasks: set[asyncio.Task[Any]] = set()

    def keep(
        self,
        name: str,
        work: Callable[[Kept], Coroutine[Any, Any, None]],
        *,
        turn_seconds_max: float | None = None,
    ) -> Kept:
        """Runs a loop until `stop`; see `Kept`."""
        kept = Kept(name, turn_seconds_max)
        kept.task = asyncio.get_running_loop().create_task(kept.run(work), name=name)
        self._kept.append(kept)
        return kept

    def spawn(self, name: str, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Runs work that no caller waits for. A failure is logged."""
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._spawned_ended)
        return task

    def begin(self, name: str, work: Coroutine[Any, Any, _T]) -> asyncio.Task[_T]:
        """Runs work that the caller awaits. The caller gets its result or its failure."""
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    @property
    def problems(self) -> Iterator[str]:
        """The problems of the loops that are kept."""
        return (problem for kept in self._kept if (problem := kept.problem) is not None)

    def __len__(self) -> int:
        """The number of spawned or begun tasks that have not ended."""
        return len(self._tasks)

    async def finish(self, seconds: float | None = None) -> None:
        """Returns when all spawned and begun tasks have ended by themselves, or after `seconds`."""
        if seconds is not None:
            if self._tasks:
                await asyncio.wait(self._tasks, timeout=seconds)
            return
        while self._tasks:
            await asyncio.wait(self._tasks)

    async def stop(self, patience_seconds: float | None = MOMENT_SECONDS) -> None:
        """Cancels every loop and task. A task that has not ended after `patience_seconds` is left behind. With None, it waits
        for all.
        """
        tasks = [kept.task for kept in self._kept if kept.task is not None] + list(self._tasks)
        self._kept.clear()
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=patience_seconds)

    def _spawned_ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("background_failed", task=task.get_name(), exc_info=error)


class LoopThread(Service):
    """A loop that is kept on an event loop of its own, in a daemon thread: it turns while the caller's event loop is busy.

    Started on the event loop that stops it.
    """

    def __init__(self, name: str, work: Callable[[Kept], Awaitable[None]]) -> None:
        self._name = name
        self._work = work
        self._caller: asyncio.AbstractEventLoop | None = None
        self._ended = asyncio.Event()
        self._is_stopping = threading.Event()
        self._kept: Kept | None = None
        self._task: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._has_ended = False

    async def start(self) -> None:
        """Starts the thread."""
        self._caller = asyncio.get_running_loop()
        daemon(self._name, self._run)

    @property
    def problems(self) -> Iterator[str]:
        """The problem that keeps the loop from turning, if there is one."""
        if self._has_ended:
            yield f"{self._name}'s thread has ended"
        elif self._kept is not None and (problem := self._kept.problem) is not None:
            yield problem

    async def stop(self, grace_seconds: float = MOMENT_SECONDS) -> None:
        """Ends the loop. A thread that has not ended after `grace_seconds` is left behind."""
        self._is_stopping.set()
        if self._caller is None:
            return
        if self._loop is not None and self._task is not None:
            with suppress(RuntimeError):  # it is closed
                self._loop.call_soon_threadsafe(self._task.cancel)
        with suppress(TimeoutError):
            async with asyncio.timeout(grace_seconds):
                await self._ended.wait()

    def _run(self) -> None:
        try:
            retried_until(
                self._is_stopping, self._turn, BaseException, Pauses(*RESTART_SECONDS), tell=self._failed
            )
        finally:
            self._has_ended = True
            assert self._caller is not None
            with suppress(RuntimeError):  # the caller's event loop is closed
                self._caller.call_soon_threadsafe(self._ended.set)

    def _turn(self) -> None:
        """Runs the loop. After a failure the loop begins anew by itself, so an error that arrives here is worse."""
        asyncio.run(self._main())
        if not self._is_stopping.is_set():
            raise RuntimeError(f"{self._name} has returned")

    def _failed(self, error: BaseException) -> None:
        _log.error("background_failed", task=self._name, exc_info=error)

    async def _main(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._task = asyncio.current_task()
        if self._kept is None:
            self._kept = Kept(self._name, None)
        self._kept.task = self._task
        if not self._is_stopping.is_set():
            await self._kept.run(self._work)


def daemon(name: str, work: Callable[[], None]) -> threading.Thread:
    """Runs `work` in a thread that nothing waits for, not even the end of the program. A failure is logged."""

    def run() -> None:
        try:
            work()
        except BaseException as error:  # noqa: BLE001  # of a thread nobody else hears
            _log.error("background_failed", task=name, exc_info=error)

    thread = threading.Thread(target=run, name=name, daemon=True)
    thread.start()
    return thread


@contextmanager
def at_work() -> Iterator[None]:
    """Marks the work of a daemon during which the interpreter must not end by itself: see `leave`."""
    this = threading.get_ident()
    _at_work.add(this)
    try:
        yield
    finally:
        _at_work.discard(this)


def leave(last: Callable[[], None]) -> None:
    """Ends the process here and now, with exit code 0, if daemons are still at work after an orderly stop; else returns.

    `last` is called before that end, for what is still to be written.

    Python's own end would destroy the state that the daemons use, and would wait for threads that libraries have made.
    """
    if _at_work:
        _log.warning("left_at_work", threads=len(_at_work))
        last()
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError, AttributeError):
                stream.flush()
        os._exit(0)


def _is_failure(error: BaseException) -> bool:
    """Tells whether a loop begins again after the error. If something that the loop awaited was cancelled, the loop does not
    end.
    """
    if isinstance(error, asyncio.CancelledError):
        return not _is_cancelled()
    return isinstance(error, Exception)


def _is_cancelled() -> bool:
    """Tells whether the running task itself was cancelled."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _said(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
