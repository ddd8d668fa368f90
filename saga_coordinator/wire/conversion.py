"""Converts payloads: small payloads at once, large payloads in a thread beside the event loop.

The cost of a conversion grows with the payload, about a microsecond for each value in it. The interpreter switches between the
thread and the loop every few milliseconds, so that the loop goes on. One thread is enough: the interpreter runs one thread at a
time, and a second one would only make the loop wait for two.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, ParamSpec, TypeVar

from saga_coordinator.saga.words.errors import Overloaded
from saga_coordinator.saga.words.size import Measure, TooLarge
from saga_coordinator.turns import Threads

AT_ONCE_BYTES_MAX = 16 * 1024
"""What is smaller is converted on the event loop: it takes less than a thread does to come to it."""

_AT_ONCE_VALUES_MAX = 4000

WAITING_MAX = 200
"""Large requests that may wait to be converted; each holds its memory meanwhile."""

_P = ParamSpec("_P")
_T = TypeVar("_T")

_thread = Threads("payloads", 1)
_waiting = 0


async def convert(size: int, work: Callable[_P, _T], *args: _P.args, **more: _P.kwargs) -> _T:
    """Does `work` and returns or raises what it does. `size` is how many bytes it handles. If cancelled, begun work goes on."""
    if size <= AT_ONCE_BYTES_MAX:
        return work(*args, **more)
    return await _thread.begin(partial(work, *args, **more))


async def convert_request(size: int, work: Callable[_P, _T], *args: _P.args, **more: _P.kwargs) -> _T:
    """Does `work` for a caller, who can come again. Raises Overloaded if too many wait."""
    global _waiting  # noqa: PLW0603  # as the thread, it is one for the process
    if size <= AT_ONCE_BYTES_MAX:
        return work(*args, **more)
    if _waiting >= WAITING_MAX:
        raise Overloaded(
            f"{_waiting} requests with large payloads wait to be read, and no more may; try again"
        )
    _waiting += 1
    try:
        return await convert(size, work, *args, **more)
    finally:
        _waiting -= 1


def size_of(payload: Any) -> int:
    """The size by which `convert` tells whether a payload is small; more than `AT_ONCE_BYTES_MAX` for every large one."""
    try:
        return Measure(AT_ONCE_BYTES_MAX, _AT_ONCE_VALUES_MAX).check(payload)
    except TooLarge:
        return AT_ONCE_BYTES_MAX + 1


def is_large(payload: Any) -> bool:
    """Tells whether work on the whole payload should be done beside the event loop."""
    return size_of(payload) > AT_ONCE_BYTES_MAX
