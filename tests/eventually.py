"""Waiting for what happens elsewhere: the only loops of the tests that look again and again."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

_T = TypeVar("_T")

PATIENCE_SECONDS = 120.0
"""Only what never comes takes so long, on the slowest machine."""
_POLL_SECONDS = 0.005
_POLL_APART_SECONDS = 0.05
"""Between looks at another process, which want to leave it the processor."""


async def eventually(condition: Callable[[], Any], what: str, seconds: float = PATIENCE_SECONDS) -> Any:
    """What `condition` returns (or its awaitable gives) once that is true; AssertionError when it is not in time."""
    give_up_at = time.monotonic() + seconds
    while True:
        result = condition()
        if isinstance(result, Awaitable):
            result = await result
        if result:
            return result
        assert time.monotonic() < give_up_at, _in_vain(what, seconds)
        await asyncio.sleep(_POLL_SECONDS)


def wait_until(condition: Callable[[], _T], what: str, seconds: float = PATIENCE_SECONDS) -> _T:
    """The same without an event loop, or in the way of one."""
    give_up_at = time.monotonic() + seconds
    while not (result := condition()):
        assert time.monotonic() < give_up_at, _in_vain(what, seconds)
        time.sleep(_POLL_APART_SECONDS)
    return result


def _in_vain(what: str, seconds: float) -> str:
    return f"waited {seconds:g} s in vain for {what}"
