"""Events that were published, kept until a saga waits for one, and who waits for which.

A publisher writes the event and then looks for waits; a saga writes its wait and then looks for events. Whichever of the two
comes second sees the other, so none is missed; a saga that is told of an event twice counts it once.

`taken_by` is the saga that looked for an event and got it; without it, `taken_at` is when all who waited had been told. A saga
that ended before it was told of what it had got leaves it to the next, unless others who waited have got it, too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import bindparam, select, text
from sqlalchemy.dialects.postgresql import insert

from saga_coordinator.saga.errors import AlreadyExists
from saga_coordinator.store.database import Database
from saga_coordinator.store.tables import events

KEPT_DAYS = 7
"""How long an event is kept: for a saga that waits only then, and for telling repetitions of its publication."""


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened. `correlation` says to what: an order number, a payment's identity. Never empty here."""

    event_id: str
    name: str
    correlation: str
    payload: Any = None


_KEEP = insert(events).on_conflict_do_nothing().returning(events.c.event_id)
_KEPT = select(
    events.c.name,
    events.c.correlation,
    events.c.payload,
    (events.c.taken_at.is_not(None) & events.c.taken_by.is_(None)).label("is_told"),
).where(events.c.event_id == bindparam("event_id"))
# Who began to wait later looks for the event itself, and it may have been given to another by then. Who has ended since it was
# published may have got it, and then it is nobody else's.
_WAITING = text("""
SELECT DISTINCT log.saga_id::text
FROM saga.events
    JOIN saga.log ON log.type = 'wait_started' AND (log.body ->> 'correlation') IS NOT NULL
        AND (log.body ->> 'event') = events.name AND (log.body ->> 'correlation') = events.correlation
        AND log.recorded_at <= events.published_at
    JOIN saga.sagas USING (saga_id)
WHERE events.event_id = :event_id AND coalesce(sagas.ended_at, 'infinity') >= events.published_at
""")
_MATCHED = text("UPDATE saga.events SET taken_at = now() WHERE event_id = :event_id AND taken_at IS NULL")
_TAKE = text("""
UPDATE saga.events SET taken_at = coalesce(taken_at, now()), taken_by = :saga_id
WHERE event_id = (
    SELECT event_id FROM saga.events
    WHERE name = :name AND correlation = :correlation
        AND (
            taken_at IS NULL OR taken_by = :saga_id OR EXISTS (
                SELECT FROM saga.sagas
                WHERE sagas.saga_id = CAST(taken_by AS uuid) AND status NOT IN ('RUNNING', 'COMPENSATING')
            ) AND NOT EXISTS (
                SELECT FROM saga.log AS wait
                    JOIN saga.log AS got ON got.saga_id = wait.saga_id AND got.type = 'event_received'
                        AND got.body ->> 'event_id' = events.event_id
                WHERE wait.type = 'wait_started' AND (wait.body ->> 'correlation') IS NOT NULL
                    AND (wait.body ->> 'event') = events.name AND (wait.body ->> 'correlation') = events.correlation
            )
        )
        AND NOT EXISTS (
            SELECT FROM saga.log WHERE log.saga_id = CAST(:saga_id AS uuid) AND log.type = 'event_received'
                AND log.body ->> 'event_id' = events.event_id
        )
    ORDER BY taken_at IS NOT NULL, published_at, event_id LIMIT 1 FOR UPDATE SKIP LOCKED
)
RETURNING event_id, payload
""")
_FORGET = text("DELETE FROM saga.events WHERE published_at < now() - make_interval(days => :days)")


class Events:
    """Every method raises Unavailable when the database is away."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def keep(self, event: Event) -> bool:
        """Makes a published event durable; a repetition changes nothing. False when all who waited for it have got it.

        Who published it may have gone before telling them, and another saga, which waited only then, may have taken it since.

        Raises:
            AlreadyExists: the identity belongs to a different event.
        """
        values = {
            "event_id": event.event_id,
            "name": event.name,
            "correlation": event.correlation,
            "payload": event.payload,
        }
        async with self._database.connection() as connection:
            if (await connection.execute(_KEEP, values)).scalar_one_or_none() is not None:
                return True
            kept = (await connection.execute(_KEPT, {"event_id": event.event_id})).one_or_none()
        if kept is None:  # forgotten just now
            return True
        if (kept.name, kept.correlation, kept.payload) != (event.name, event.correlation, event.payload):
            raise AlreadyExists(f"event {event.event_id!r} was published before, with other content")
        return not kept.is_told

    async def waiting(self, event_id: str) -> list[str]:
        """The sagas that waited, or had waited, for the event when it was published; each knows itself whether it still does."""
        async with self._database.connection() as connection:
            return list(await connection.scalars(_WAITING, {"event_id": event_id}))

    async def matched(self, event_id: str) -> None:
        """Sagas that waited have got the event, so none that waits later will."""
        async with self._database.connection() as connection:
            await connection.execute(_MATCHED, {"event_id": event_id})

    async def take(self, saga_id: str, name: str, correlation: str) -> Event | None:
        """The earliest such event that no saga has got, given to this one; again if it was, and has not counted there yet."""
        wanted = {"saga_id": saga_id, "name": name, "correlation": correlation}
        async with self._database.connection() as connection:
            row = (await connection.execute(_TAKE, wanted)).one_or_none()
        return None if row is None else Event(row.event_id, name, correlation, row.payload)

    async def tidy(self) -> None:
        """Forgets events of long ago."""
        async with self._database.connection() as connection:
            await connection.execute(_FORGET, {"days": KEPT_DAYS})
