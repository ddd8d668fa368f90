"""An asyncio event loop in virtual time, whose callbacks belong to nodes that crash and freeze.

Nothing waits: when no callback is ready, time jumps to the next timer. Each callback takes a little virtual time, so that
what happens elsewhere falls between the steps of a task; among ready callbacks of different nodes (and, in half of the runs,
of the same node) chance decides which comes next.

A callback belongs to the node that its context names. A dead node's callbacks are dropped, which is a crash at whatever
await its tasks had reached; a frozen node's are kept until it thaws, while time goes on.
"""

from __future__ import annotations

import asyncio
import contextvars
import heapq
import random
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, TypeVar

_T = TypeVar("_T")

_STEP_SECONDS_MAX = 60e-6
_FOREVER = float("inf")


class Node:
    """One process. Its clock starts anywhere and runs a little fast or slow."""

    __slots__ = ("context", "frozen", "id", "is_alive", "is_frozen", "loop", "offset", "pace")

    def __init__(self, loop: SimulatedLoop, identity: str, offset: float, pace: float) -> None:
        self.loop = loop
        self.id = identity
        self.offset = offset
        self.pace = pace
        self.is_alive = True
        self.is_frozen = False
        self.frozen: list[_Callback] = []
        self.context = contextvars.Context()
        self.context.run(_node.set, self)

    def clock(self) -> float:
        """The node's own monotonic clock."""
        return self.loop.now * self.pace + self.offset

    def spawn(self, work: Coroutine[Any, Any, _T]) -> asyncio.Task[_T]:
        """Runs a coroutine on this node."""
        return self.loop.create_task(work, context=self.context.copy())

    def crash(self) -> None:
        self.is_alive = False
        self.loop.graveyard += self.frozen
        self.frozen = []

    def thaw(self) -> None:
        self.is_frozen = False
        self.loop.ready += self.frozen
        self.frozen = []


_node: contextvars.ContextVar[Node | None] = contextvars.ContextVar("node", default=None)


class _Callback(asyncio.TimerHandle):
    """`asyncio.Handle` without what only debugging needs; `node` is None for the world outside of all nodes."""

    __slots__ = ("context", "node")

    def __init__(  # the base's fields would never be read
        self, callback: Callable[..., object], args: tuple[Any, ...], context: contextvars.Context | None
    ) -> None:
        self._callback = callback
        self._args = args
        self._cancelled = False
        self.context = context
        self.node = None if context is None else context.get(_node)

    def __lt__(self, other: object) -> bool:
        return False  # the heap's tuples are told apart before

    def __repr__(self) -> str:
        return f"<{self._callback} of {self.node and self.node.id}>"

    def cancel(self) -> None:
        self._cancelled = True

    def cancelled(self) -> bool:
        return self._cancelled


class _Task(asyncio.Task[Any]):
    """Hashes by order of creation: the engine's sets of tasks must not be walked in the order of memory addresses."""

    __slots__ = ("_order",)
    _log_destroy_pending: bool

    def __init__(self, order: int, work: Coroutine[Any, Any, Any], **more: Any) -> None:
        self._order = order
        super().__init__(work, **more)

    def __hash__(self) -> int:
        return self._order


class SimulatedLoop(asyncio.BaseEventLoop):
    """Only what asyncio's primitives need. `is_fifo`: callbacks of one node keep asyncio's order."""

    def __init__(self, dice: random.Random, *, is_fifo: bool) -> None:
        self.now = 0.0
        self.ready: list[_Callback] = []
        self.graveyard: list[Any] = []
        """What crashed nodes leave, kept so that nothing of theirs is finalised before the end."""
        self.failures: list[str] = []
        """Exceptions that nobody handled."""
        self.steps = 0
        self._timers: list[tuple[float, int, _Callback]] = []
        self._draw = dice.random
        self._is_fifo = is_fifo
        self._order = 0
        self._is_closed = False

    def later(self, delay: float, callback: Callable[..., object], *args: Any) -> None:
        """Has the world outside of all nodes do something."""
        self._order += 1
        heapq.heappush(self._timers, (self.now + delay, self._order, _Callback(callback, args, None)))

    def run(self, until: Callable[[], bool], limit: float) -> bool:
        """Runs until the condition holds, looking at it every half second; False when it does not by `limit`."""
        look_at = self.now
        asyncio._set_running_loop(self)
        try:
            while True:
                if self.now >= look_at:
                    if until():
                        return True
                    if self.now >= limit or not (self.ready or self._timers):
                        return False
                    look_at = self.now + 0.5
                self._step()
        finally:
            asyncio._set_running_loop(None)

    def _step(self) -> None:
        ready, timers = self.ready, self._timers
        if not ready and timers:
            self.now = max(self.now, timers[0][0])
        while timers and timers[0][0] <= self.now:
            ready.append(heapq.heappop(timers)[2])
        if not ready:
            self.now += 0.5
            return
        call = self._next(ready)
        if call._cancelled:
            return
        self.steps += 1
        node = call.node
        if node is None:
            if call.context is None:
                call._callback(*call._args)
            else:
                call.context.run(call._callback, *call._args)
        elif not node.is_alive:
            self.graveyard.append(call)
        elif node.is_frozen:
            node.frozen.append(call)
        else:
            self.now += _STEP_SECONDS_MAX * self._draw()
            assert call.context is not None
            try:
                call.context.run(call._callback, *call._args)
            except Exception as error:  # noqa: BLE001 - as asyncio does
                self.failures.append(f"{call}: {error!r}")

    def _next(self, ready: list[_Callback]) -> _Callback:
        if len(ready) == 1:
            return ready.pop()
        chosen = int(self._draw() * len(ready))
        if self._is_fifo:  # the oldest of the node that was chosen
            node = ready[chosen].node
            return ready.pop(next(index for index, call in enumerate(ready) if call.node is node))
        last = ready.pop()
        if chosen == len(ready):
            return last
        call, ready[chosen] = ready[chosen], last
        return call

    def close(self) -> None:
        """Ends every coroutine where it stands, and lets go of everything; what is still scheduled by that never runs.

        Left to the garbage collector, a coroutine may be finalised after the task that ran it, which crashes CPython 3.11.
        """
        self._is_closed = True
        for task in asyncio.all_tasks(self):
            work = task.get_coro()
            with suppress(Exception):
                assert isinstance(work, Coroutine)
                work.close()
        self.ready.clear()
        self._timers.clear()
        self.graveyard.clear()

    # What asyncio calls.

    def time(self) -> float:
        return self.now

    def get_debug(self) -> bool:
        return False

    def is_closed(self) -> bool:
        return self._is_closed

    def is_running(self) -> bool:
        return True

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)

    def create_task(  # type: ignore[override]
        self,
        coro: Coroutine[Any, Any, _T],
        *,
        name: object = None,
        context: contextvars.Context | None = None,
    ) -> asyncio.Task[_T]:
        self._order += 1
        task = _Task(self._order, coro, loop=self, context=context)
        task._log_destroy_pending = False
        return task

    def call_soon(  # type: ignore[override]
        self, callback: Callable[..., object], *args: Any, context: contextvars.Context | None = None
    ) -> asyncio.Handle:
        call = _Callback(callback, args, context or contextvars.copy_context())
        if not self._is_closed:
            self.ready.append(call)
        return call

    def call_later(  # type: ignore[override]
        self,
        delay: float,
        callback: Callable[..., object],
        *args: Any,
        context: contextvars.Context | None = None,
    ) -> asyncio.TimerHandle:
        return self.call_at(self.now + delay, callback, *args, context=context)

    def call_at(  # type: ignore[override]
        self,
        when: float,
        callback: Callable[..., object],
        *args: Any,
        context: contextvars.Context | None = None,
    ) -> asyncio.TimerHandle:
        call = _Callback(callback, args, context or contextvars.copy_context())
        self._order += 1
        if not self._is_closed:
            heapq.heappush(self._timers, (when, self._order, call))
        return call

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        if not self._is_closed:
            self.failures.append(f"{context.get('message')}: {context.get('exception')!r}")


def node_of_context() -> Node:
    """The node on which this runs."""
    node = _node.get()
    assert node is not None, "this runs on no node"
    return node
