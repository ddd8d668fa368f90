"""Says when to look for work before the next poll. Whoever learns of work tells it, and whoever looks for work waits for it."""

from __future__ import annotations

import asyncio
from contextlib import suppress


class Wakeup:
    """Wakes the search for work."""

    def __init__(self) -> None:
        self._event = asyncio.Event()
        self._is_in_doubt = False

    def look_now(self) -> None:
        """There may be sagas to claim."""
        self._event.set()

    def reconcile_soon(self) -> None:
        """What is this coordinator's own in the database may differ from what is in memory: after an outage or a lost write."""
        self._is_in_doubt = True
        self._event.set()

    def take_doubt(self) -> bool:
        """Whether a reconciliation was asked for since this was taken last."""
        is_in_doubt, self._is_in_doubt = self._is_in_doubt, False
        return is_in_doubt

    async def wait(self, seconds: float) -> None:
        """Returns when there may be work, and after `seconds` in any case."""
        # Not `wait_for`: before Python 3.12 it may swallow the cancellation that ends the waiting task.
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._event.wait()
        self._event.clear()
