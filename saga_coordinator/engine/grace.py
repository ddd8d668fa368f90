"""Gives work that is under way some time to end when a coordinator stops, as long as the work can still have a result."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from saga_coordinator.engine.lease import Lease

_LOOK_SECONDS = 0.1

_OUT_SECONDS = 0.5
"""The seconds in which a lease that has run out may come back. It does if only this machine stood still for a moment."""


async def give_time(ending: Callable[[float], Awaitable[bool]], grace_seconds: float, lease: Lease) -> None:
    """Waits until the work has ended, but no longer than `grace_seconds`.

    `ending` waits as many seconds as it is given, at most, and returns whether all work has ended. The wait is over sooner if the
    lease has run out: a database that is away takes no results, and once it is back the sagas are anybody's.
    """
    loop = asyncio.get_running_loop()
    acted_at = loop.time()
    ends_at = acted_at + grace_seconds
    while (left := ends_at - loop.time()) > 0 and not await ending(min(left, _LOOK_SECONDS)):
        if lease.may_act:
            acted_at = loop.time()
        elif loop.time() >= acted_at + _OUT_SECONDS:
            return
