"""Wakes sagas that sleep until they look for room at a participant, as soon as a participant may have room."""

from __future__ import annotations

import asyncio

from saga_coordinator.engine.housekeeping.chores import Chore
from saga_coordinator.engine.ports import OwnershipStore
from saga_coordinator.engine.wakeup import Wakeup

WITHIN_SECONDS, SAGAS_AT_ONCE = 30.0, 1000
"""Sagas are woken that would wake up within this time, and so many of them. Which of them hold an attempt is told only by their
logs."""


class Waking:
    """Is done when it is prompted, and never otherwise: the sagas wake by themselves in the end."""

    def __init__(self, ownership: OwnershipStore, wakeup: Wakeup) -> None:
        self._ownership = ownership
        self._wakeup = wakeup
        self._prompt = asyncio.Event()

    @property
    def chore(self) -> Chore:
        return Chore("waking held sagas", None, self._wake, self._prompt)

    def wake_soon(self) -> None:
        """A participant may have room."""
        self._prompt.set()

    async def _wake(self) -> None:
        await self._ownership.wake_within(WITHIN_SECONDS, SAGAS_AT_ONCE)
        self._wakeup.look_now()
