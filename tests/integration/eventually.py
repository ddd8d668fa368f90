"""Awaiting what happens elsewhere."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

PATIENCE_SECONDS = 120.0
"""Only what never comes takes so long, on the slowest machine."""
_POLL_SECONDS = 0.005


async def eventually(condition: Callable[[], Any], what: str, seconds: float = PATIENCE_SECONDS) -> Any:
    """What `condition` returns (or its awaitable gives) once that is true; AssertionError when it is not in time."""
    give_up_at = time.monotonic() + seconds
    while True:
        result = condition()
        if isinstance(result, Awaitable):
            result = await result
        if result:
            return result
        assert time.monotonic() < give_up_at, f"waited {seconds:g} s in vain for {what}"
        await asyncio.sleep(_POLL_SECONDS)
