"""News of room: which participants may take an attempt by now for which attempts were held."""

from __future__ import annotations

import asyncio


class RoomNews:
    """Gates and pools of workers tell, and the engine waits to hear. A participant that is told of twice is heard of once."""

    def __init__(self) -> None:
        self._told: dict[str, None] = {}
        self._event = asyncio.Event()

    def tell(self, participant: str) -> None:
        """Held attempts may find room at the participant now."""
        self._told[participant] = None
        self._event.set()

    async def heard(self) -> str:
        """The participant that was told of first and not heard of yet."""
        while not self._told:
            self._event.clear()
            await self._event.wait()
        participant = next(iter(self._told))
        del self._told[participant]
        return participant
