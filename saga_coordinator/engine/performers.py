"""Passes each effect to the performer that it needs: a participant, another saga, or the kept events."""

from __future__ import annotations

from saga_coordinator.engine.awaited import Awaited
from saga_coordinator.engine.children import Children
from saga_coordinator.engine.lease import Lease
from saga_coordinator.engine.ports import Participants
from saga_coordinator.saga.definition.model import CHILD_PARTICIPANT
from saga_coordinator.saga.machine.effects import Invoke, LookForEvent, LookForRoom
from saga_coordinator.saga.machine.inputs import EventArrived
from saga_coordinator.saga.words.outcome import Held, Outcome


class PerformersByKind:
    """The performers of effects: participants for calls, other sagas for steps that run sagas, and the kept events."""

    def __init__(
        self, participants: Participants, children: Children, awaited: Awaited, lease: Lease
    ) -> None:
        self._participants = participants
        self._children = children
        self._awaited = awaited
        self._lease = lease

    @property
    def worker_names(self) -> frozenset[str]:
        return self._participants.worker_names

    async def invoke(self, call: Invoke) -> Outcome:
        """Makes one attempt: at a participant, or by running or undoing another saga."""
        if call.participant == CHILD_PARTICIPANT:
            return await self._children.invoke(call, self._lease.now())
        return await self._participants.invoke(call)

    async def look_for_room(self, wanted: LookForRoom) -> Held | None:
        return await self._participants.look_for_room(wanted)

    async def look_for_event(self, wanted: LookForEvent) -> EventArrived | None:
        return await self._awaited.look(wanted)
