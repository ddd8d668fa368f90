"""Events that were published, kept until a saga waits for one, and who waits for which.

A publisher writes the event and then looks for waits; a saga writes its wait and then looks for events. Whichever of the two
comes second sees the other, so none is missed; a saga that is told of an event twice counts it once.

`taken_by` is the saga that looked for an event and got it; without it, `taken_at` is when all who waited had been told. A saga
that ended before it was told of what it had got leaves it to the next, unless others who waited have got it, too.
"""

from __future__ import annotations

from sqlalchemy import Float, bindparam, case, extract, func, select, text
from sqlalchemy.dialects.postgresql import insert

from saga_coordinator.saga.words.canonical import canonical_bytes
from saga_coordinator.saga.words.errors import AlreadyExists, Resource
from saga_coordinator.saga.words.limits import EVENT_KEPT_SECONDS
from saga_coordinator.saga.words.reasons import Reason
from saga_coordinator.store.database import Database
from saga_coordinator.store.records import Event, KeptEvent
from saga_coordinator.store.tables import events

_MOST = func.make_interval(0, 0, 0, 0, 0, 0, EVENT_KEPT_SECONDS)
_SECONDS = func.make_interval(0, 0, 0, 0, 0, 0, bindparam("keep_seconds", type_=Float))
_STATE = (
    (events.c.taken_at.is_not(None) & events.c.taken_by.is_(None)).label("is_told"),
    case(
        (
            events.c.taken_at.is_(None) & (events.c.expires_at > func.now()),
            extract("epoch", events.c.expires_at).cast(Float),
        )
    ).label("kept_until"),
    extract("epoch", events.c.published_at + _MOST).cast(Float).label("remembered_until"),
)
_KEEP = insert(events).values(expires_at=func.now() + _SECONDS).on_conflict_do_nothing().returning(*_STATE)
_KEPT = select(events.c.name, events.c.correlation, events.c.payload, *_STATE).where(
    events.c.event_id == bindparam("event_id")
)
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
        AND published_at >= (SELECT started_at FROM saga.sagas WHERE sagas.saga_id = CAST(:saga_id AS uuid))
            - make_interval(secs => :look_back_seconds)
        AND EXISTS (
            SELECT FROM saga.log WHERE log.saga_id = CAST(:saga_id AS uuid) AND log.type = 'wait_started'
                AND (log.body ->> 'correlation') IS NOT NULL AND (log.body ->> 'event') = events.name
                AND (log.body ->> 'correlation') = events.correlation
                AND log.recorded_at < events.expires_at
        )
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
_FORGET = text("DELETE FROM saga.events WHERE published_at < now() - make_interval(secs => :seconds)")


class EventRows:
    """Every method raises Unavailable when the database is away."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def keep(self, event: Event) -> KeptEvent:
        """Makes a published event durable; a repetition changes nothing.

        Who published it may have gone before telling them, and another saga, which waited only then, may have taken it since.

        Raises:
            AlreadyExists: the identity belongs to a different event.
        """
        values = {
            "event_id": event.event_id,
            "name": event.name,
            "correlation": event.correlation,
            "payload": event.payload,
            "keep_seconds": EVENT_KEPT_SECONDS if event.keep_seconds is None else event.keep_seconds,
        }
        async with self._database.connection() as connection:
            row = (await connection.execute(_KEEP, values)).one_or_none()
            if row is not None:
                return KeptEvent(True, row.is_told, row.kept_until, row.remembered_until)
            row = (await connection.execute(_KEPT, {"event_id": event.event_id})).one_or_none()
        if row is None:  # forgotten just now
            return await self.keep(event)
        is_same = canonical_bytes(row.payload) == canonical_bytes(event.payload)
        if not is_same or (row.name, row.correlation) != (event.name, event.correlation):
            raise AlreadyExists(
                Reason.EVENT_ID_TAKEN,
                f"event {event.event_id!r} was published before, with other content",
                Resource("saga.v1.Event", event.event_id),
                event_id=event.event_id,
            )
        return KeptEvent(False, row.is_told, row.kept_until, row.remembered_until)

    async def waiting(self, event_id: str) -> list[str]:
        """The sagas that waited, or had waited, for the event when it was published; each knows itself whether it still does."""
        async with self._database.connection() as connection:
            return list(await connection.scalars(_WAITING, {"event_id": event_id}))

    async def matched(self, event_id: str) -> None:
        """Sagas that waited have got the event, so none that waits later will."""
        async with self._database.connection() as connection:
            await connection.execute(_MATCHED, {"event_id": event_id})

    async def take(
        self, saga_id: str, name: str, correlation: str, look_back_seconds: float = 0.0
    ) -> Event | None:
        """The earliest such event that no saga has got, given to this one; again if it was, and has not counted there yet.

        One that came since the saga's start, or `look_back_seconds` before it, and was kept when the saga began to wait.
        """
        wanted = {
            "saga_id": saga_id,
            "name": name,
            "correlation": correlation,
            "look_back_seconds": look_back_seconds,
        }
        async with self._database.connection() as connection:
            row = (await connection.execute(_TAKE, wanted)).one_or_none()
        return None if row is None else Event(row.event_id, name, correlation, row.payload)

    async def tidy(self) -> None:
        """Forgets events of long ago."""
        async with self._database.connection() as connection:
            await connection.execute(_FORGET, {"seconds": EVENT_KEPT_SECONDS})
