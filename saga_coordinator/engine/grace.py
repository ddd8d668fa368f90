"""The time that what is under way gets when a coordinator stops, as long as anything can come of it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from saga_coordinator.engine.lease import Lease

_LOOK_SECONDS = 0.1

_OUT_SECONDS = 0.5
"""A lease that has run out may come back in a moment, where it was this machine that stood still."""


async def give_time(ending: Callable[[float], Awaitable[bool]], grace_seconds: float, lease: Lease) -> None:
    """Waits by `ending`, which takes the seconds that it may wait and says whether everything has ended.

    It is over after `grace_seconds`, and sooner when the lease has run out: a database that is away takes nothing of what is
    waited for, and once it is back the sagas are anybody's.
    """
    loop = asyncio.get_running_loop()
    acted_at = loop.time()
    ends_at = acted_at + grace_seconds
    while (left := ends_at - loop.time()) > 0 and not await ending(min(left, _LOOK_SECONDS)):
        if lease.may_act:
            acted_at = loop.time()
        elif loop.time() >= acted_at + _OUT_SECONDS:
            return
