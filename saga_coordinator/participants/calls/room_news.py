"""News of room: names of participants that may have room by now for attempts that were held."""

from __future__ import annotations

import asyncio


class RoomNews:
    """News that gates and pools of workers tell, and that the engine waits for. A participant told of twice is heard of once."""

    def __init__(self) -> None:
        self._told: dict[str, None] = {}
        self._event = asyncio.Event()

    def tell(self, participant: str) -> None:
        """Tells that held attempts may find room at the participant now."""
        self._told[participant] = None
        self._event.set()

    async def heard(self) -> str:
        """Waits for news; returns the participant that was told of first and not heard of yet."""
        while not self._told:
            self._event.clear()
            await self._event.wait()
        participant = next(iter(self._told))
        del self._told[participant]
        return participant
