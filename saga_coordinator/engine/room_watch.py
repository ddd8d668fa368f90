"""Hears which participants may have room, and makes the sagas that wait for that room look again."""

from __future__ import annotations

from collections.abc import Iterator

from saga_coordinator.engine.drive import Drive
from saga_coordinator.engine.housekeeping.waking import Waking
from saga_coordinator.engine.ports import Participants
from saga_coordinator.lifecycle import Background, Kept, Service


class RoomWatch(Service):
    """Passes on which participants may have room: to sagas in memory at once, to sleeping ones by the chore that wakes them."""

    def __init__(self, participants: Participants, drive: Drive, waking: Waking) -> None:
        self._participants = participants
        self._drive = drive
        self._waking = waking
        self._background = Background()

    async def start(self) -> None:
        """Begins to listen."""
        self._background.keep("the watch for room", self._keep_listening)

    async def stop(self, grace_seconds: float = 0.0) -> None:
        """Stops listening."""
        await self._background.stop()

    @property
    def problems(self) -> Iterator[str]:
        """The problems that keep it from listening."""
        return self._background.problems

    async def _keep_listening(self, kept: Kept) -> None:
        while True:
            kept.rests()
            participant = await self._participants.room_found()
            kept.begins()
            self._drive.look_again(participant)
            self._waking.wake_soon()
            kept.turned()
