"""Events that sagas wait for: a published event is kept, then told to every saga that waits for it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from saga_coordinator.engine import ports
from saga_coordinator.engine.asking import Answered
from saga_coordinator.saga.machine.effects import LookForEvent
from saga_coordinator.saga.machine.inputs import EventArrived
from saga_coordinator.saga.words.errors import NotFound, NotPossibleNow
from saga_coordinator.saga.words.namespace import Namespace
from saga_coordinator.store.records import Event

DELIVERIES_AT_ONCE = 32

Ask = Callable[[str, EventArrived], Awaitable[Answered]]
"""Tells a saga of an event. Raises NotPossibleNow if no step of the saga waits for events any more."""


@dataclass(frozen=True, slots=True)
class Published:
    """The result of publishing an event: the number of sagas for which it counted now. The rest is as in `KeptEvent`."""

    sagas: int
    kept_until: float | None
    is_duplicate: bool
    remembered_until: float


class Awaited:
    """Brings events and the sagas that wait for them together, whichever comes first."""

    def __init__(self, events: ports.EventStore, ask: Ask) -> None:
        self._events = events
        self._ask = ask

    async def publish(self, namespace: Namespace, event: Event) -> Published:
        """Keeps the event, and tells it to all sagas of its namespace that wait for it. Publishing it again is safe.

        Raises:
            AlreadyExists: the event's identity belongs to a different event.
            Unavailable: the database is away, or a coordinator did not answer.
        """
        kept = await self._events.keep(namespace, event)
        if kept.is_told:
            return Published(0, None, not kept.is_new, kept.remembered_until)
        limit = asyncio.Semaphore(DELIVERIES_AT_ONCE)

        async def tell(saga_id: str) -> bool | None:
            """Returns whether the event counted for the saga; False if it had come before."""
            async with limit:
                try:
                    return (await self._ask(saga_id, _arrived(event))).is_applied
                except (NotFound, NotPossibleNow):  # it has ended meanwhile
                    return None

        waiting = await self._events.waiting(namespace, event.event_id)
        told = await asyncio.gather(*(tell(saga_id) for saga_id in waiting))
        # A saga that has the event may have been told of it twice.
        if is_had := any(answer is not None for answer in told):
            await self._events.matched(namespace, event.event_id)
        kept_until = None if is_had else kept.kept_until
        return Published(
            sum(answer is True for answer in told), kept_until, not kept.is_new, kept.remembered_until
        )

    async def look(self, wanted: LookForEvent) -> EventArrived | None:
        """Looks for an event that came before the saga waited for it. Raises Unavailable."""
        event = await self._events.take(
            wanted.saga_id, wanted.event, wanted.correlation, wanted.look_back_seconds
        )
        return None if event is None else _arrived(event)


def _arrived(event: Event) -> EventArrived:
    return EventArrived(event.event_id, event.name, event.correlation, event.payload)
