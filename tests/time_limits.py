"""Every test ends: what takes longer than its limit is told where it stands, and ended.

The limit is the ini option `timeout` or the test's own `@pytest.mark.timeout`, in seconds, for its fixtures and itself. It is
there for what would hang for ever, so it is long; no test may come near it on a slow machine.

1. A coroutine is cancelled through its event loop, which wakes it. A signal would not do: its exception is raised in whatever
   runs just then, a background task or a callback of gRPC's, and is swallowed there.
2. Anything else, and a loop that stands still, gets an exception by a signal to the main thread; again after a while.
3. The end of the fixtures has a limit of its own, because a test that fails often leaves behind what hangs.
4. What does not end even then is ended with its process, and with the processes that it started. pytest-xdist reports the test
   and goes on in another process.

pytest-timeout reads the options and asks us for the rest.
"""

from __future__ import annotations

import asyncio
import contextlib
import faulthandler
import gc
import inspect
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass
from types import FrameType
from typing import Any, TextIO

import _pytest.runner
import psutil
import pytest
from pytest_timeout import Settings, is_debugging

GRACE = "timeout_grace"
ASKED_IN_GRACE = 6
"""How often a test that does not end is asked to in its grace."""

_PHASES = {
    phase.__code__
    for phase in (
        _pytest.runner.pytest_runtest_setup,
        _pytest.runner.pytest_runtest_call,
        _pytest.runner.pytest_runtest_teardown,
    )
}
_run = asyncio.Runner.run
_limits: list[Limit] = []
"""Those that are running: one at most, and none between tests."""


@dataclass(frozen=True, slots=True)
class _Awaited:
    """What an event loop runs until it is complete."""

    loop: asyncio.AbstractEventLoop
    task: asyncio.Task[Any]


_awaited: list[_Awaited] = []


class Limit:
    """Ends what the main thread does, `seconds` after it was made, unless it is cancelled before."""

    def __init__(self, seconds: float, grace: float, what: str, is_debugged: Callable[[], bool]) -> None:
        self.reason = f"{what} took longer than {seconds:g} s, the limit for what would never end"
        self.is_over = False
        self._seconds = seconds
        self._pause = grace / ASKED_IN_GRACE
        self._is_debugged = is_debugged
        self._cancelled = threading.Event()
        signal.signal(signal.SIGALRM, self._hear)
        _limits.append(self)
        threading.Thread(target=self._watch, name="time limit", daemon=True).start()

    def cancel(self) -> None:
        self._cancelled.set()
        if self in _limits:
            _limits.remove(self)

    def _watch(self) -> None:
        if self._cancelled.wait(self._seconds) or self._is_debugged():
            return
        self.is_over = True
        _tell_threads(sys.stderr)
        is_first = True
        while True:
            awaited = _awaited[-1:] if is_first else []
            for each in awaited:
                with contextlib.suppress(RuntimeError):  # its loop has been closed just now
                    each.loop.call_soon_threadsafe(_tell_and_cancel, each)
            if not awaited:
                signal.pthread_kill(_main_thread(), signal.SIGALRM)
            if self._cancelled.wait(self._pause):
                return
            is_first = not is_first

    def _hear(self, _: int, frame: FrameType | None) -> None:
        if not self._cancelled.is_set() and _is_the_tests(frame):
            pytest.fail(self.reason)


def _is_the_tests(frame: FrameType | None) -> bool:
    """Whether a test or a fixture runs, and not pytest itself: when it reports one that was ended before."""
    while frame is not None:
        if frame.f_code in _PHASES:
            return True
        frame = frame.f_back
    return False


def _main_thread() -> int:
    identity = threading.main_thread().ident
    assert identity is not None
    return identity


def _run_and_be_known(runner: asyncio.Runner, coro: Coroutine[Any, Any, Any], **more: Any) -> Any:
    """`asyncio.Runner.run`, of what a limit can then end."""

    async def known() -> Any:
        task = asyncio.current_task()
        assert task is not None
        _awaited.append(_Awaited(asyncio.get_running_loop(), task))
        try:
            return await coro
        except asyncio.CancelledError:
            if _limits and _limits[-1].is_over:
                pytest.fail(_limits[-1].reason)
            raise
        finally:
            _awaited.pop()

    return _run(runner, known(), **more)


def _tell_and_cancel(awaited: _Awaited) -> None:
    """Says where each task of the loop stands, then cancels the one that is awaited. Called in that loop."""
    _tell_tasks(awaited, sys.stderr)
    awaited.task.cancel()


def _tell_tasks(awaited: _Awaited, to: TextIO) -> None:
    for task in asyncio.all_tasks(awaited.loop):
        print(f"--- task {task.get_name()} stands in", file=to)
        print("".join(traceback.format_list(_frames(task.get_coro()))), end="", file=to)


def _frames(awaiting: Any) -> traceback.StackSummary:
    """Where a suspended coroutine stands, outermost first: `Task.print_stack` shows the outermost only."""
    frames: list[traceback.FrameSummary] = []
    while awaiting is not None:
        kind = next((kind for kind in ("cr", "gi", "ag") if hasattr(awaiting, f"{kind}_frame")), None)
        if kind is None:  # a step of an asynchronous generator knows that generator; a future knows nothing
            known = gc.get_referents(awaiting)
            awaiting = next((each for each in known if inspect.isasyncgen(each)), None)
            continue
        if (frame := getattr(awaiting, f"{kind}_frame")) is not None:
            code = frame.f_code
            frames.append(traceback.FrameSummary(code.co_filename, frame.f_lineno, code.co_name))
        awaiting = getattr(awaiting, "gi_yieldfrom" if kind == "gi" else f"{kind}_await")
    return traceback.StackSummary.from_list(frames)


def _tell_threads(to: TextIO) -> None:
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    for identity, frame in sys._current_frames().items():
        if identity != threading.get_ident():
            print(f"--- thread {names.get(identity, identity)} stands in", file=to)
            print("".join(traceback.format_stack(frame)), end="", file=to)


class _LastResort:
    """Ends the process, and those it started, when a test has not ended long after it was told to."""

    def __init__(self, seconds: float, what: str, is_debugged: Callable[[], bool], to: TextIO) -> None:
        self._what = what
        self._is_debugged = is_debugged
        self._to = to
        self._timer = threading.Timer(seconds, self._end)
        self._timer.daemon = True
        self._timer.start()
        # Needs no turn of the interpreter, which an extension may hold.
        faulthandler.dump_traceback_later(seconds + 10, exit=True, file=to)

    def cancel(self) -> None:
        self._timer.cancel()
        faulthandler.cancel_dump_traceback_later()

    def _end(self) -> None:
        if self._is_debugged():
            faulthandler.cancel_dump_traceback_later()
            return
        print(f"{self._what} cannot be ended, so its process is", file=self._to)
        _tell_threads(self._to)
        for awaited in tuple(_awaited):
            _tell_tasks(awaited, self._to)
        self._to.flush()
        for child in psutil.Process().children(recursive=True):
            child.kill()
        os._exit(1)


_stderr = pytest.StashKey[TextIO]()
_limit = pytest.StashKey[Limit]()
_last_resort = pytest.StashKey[_LastResort]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addini(
        GRACE,
        "Seconds for a test that is over its limit to end; as many again for its fixtures",
        default="60",
    )


def pytest_configure(config: pytest.Config) -> None:
    # Output is captured while a test runs, and lost if the process ends meanwhile.
    config.stash[_stderr] = os.fdopen(os.dup(2), "w")
    asyncio.Runner.run = _run_and_be_known  # type: ignore[method-assign,assignment]


def pytest_unconfigure(config: pytest.Config) -> None:
    asyncio.Runner.run = _run  # type: ignore[method-assign]
    config.stash[_stderr].close()


@pytest.hookimpl(tryfirst=True)
def pytest_timeout_set_timer(item: pytest.Item, settings: Settings) -> bool:
    def is_debugged() -> bool:
        return not settings.disable_debugger_detection and is_debugging()

    grace = float(item.config.getini(GRACE))
    item.stash[_limit] = Limit(settings.timeout, grace, item.nodeid, is_debugged)
    item.stash[_last_resort] = _LastResort(
        settings.timeout + 2 * grace, item.nodeid, is_debugged, item.config.stash[_stderr]
    )
    return True


@pytest.hookimpl(tryfirst=True)
def pytest_timeout_cancel_timer(item: pytest.Item) -> bool:
    """Called as soon as a test has failed, and again when its fixtures have ended."""
    if _limit in item.stash:
        item.stash[_limit].cancel()
    return True


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_teardown(item: pytest.Item) -> Iterator[None]:
    if _limit not in item.stash:  # it has none, by its own mark
        return (yield)
    item.stash[_limit].cancel()
    grace = float(item.config.getini(GRACE))
    limit = Limit(grace, grace, f"the end of {item.nodeid}", is_debugging)
    try:
        return (yield)
    finally:
        limit.cancel()


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    try:
        return (yield)
    finally:
        if _last_resort in item.stash:
            item.stash[_last_resort].cancel()
