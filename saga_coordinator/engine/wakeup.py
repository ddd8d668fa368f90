"""The signal to look for work before the next poll. Whoever learns of work gives it; whoever looks for work waits for it."""

from __future__ import annotations

import asyncio
from contextlib import suppress


class Wakeup:
    """Wakes the search for work."""

    def __init__(self) -> None:
        self._event = asyncio.Event()
        self._is_in_doubt = False

    def look_now(self) -> None:
        """Wakes the search, because there may be sagas to claim."""
        self._event.set()

    def reconcile_soon(self) -> None:
        """Asks for a reconciliation: after an outage or a lost write, sagas in the database may differ from those in memory."""
        self._is_in_doubt = True
        self._event.set()

    def take_doubt(self) -> bool:
        """Tells whether a reconciliation was asked for since the last call."""
        is_in_doubt, self._is_in_doubt = self._is_in_doubt, False
        return is_in_doubt

    async def wait(self, seconds: float) -> None:
        """Returns when there may be work, and after `seconds` in any case."""
        # Not `wait_for`: before Python 3.12 it may swallow the cancellation that ends the waiting task.
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._event.wait()
        self._event.clear()
