"""Published events, kept until a saga waits for them, and the sagas that wait.

A publisher writes the event and then looks for waits; a saga writes its wait and then looks for events. Whichever of the two
comes second sees the other, so no event is missed; a saga that is told of an event twice counts it once.

`taken_by` is the saga that looked for an event and got it. If that is empty, `taken_at` is when all waiting sagas had been told.
A saga that ended before it was told of its event leaves the event to the next saga, unless other waiting sagas have got it, too.
"""

from __future__ import annotations

from typing import Any

import orjson
from sqlalchemy import Float, bindparam, case, extract, func, select, text
from sqlalchemy.dialects.postgresql import insert

from saga_coordinator.saga.machine.transitions import SETTLED
from saga_coordinator.saga.words.canonical import canonical_bytes
from saga_coordinator.saga.words.errors import AlreadyExists, Resource
from saga_coordinator.saga.words.limits import EVENT_KEPT_SECONDS
from saga_coordinator.saga.words.namespace import Namespace
from saga_coordinator.saga.words.reasons import Reason
from saga_coordinator.store.database import Database
from saga_coordinator.store.records import Event, KeptEvent
from saga_coordinator.store.stored_form import EVENT_CONTENT
from saga_coordinator.store.tables import events
from saga_coordinator.wire.conversion import convert, size_of

_SETTLED = [status.value for status in SETTLED]
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
_KEPT = select(events.c.name, events.c.correlation, EVENT_CONTENT.label("content"), *_STATE).where(
    events.c.namespace == bindparam("namespace"), events.c.event_id == bindparam("event_id")
)
# Waits of 0.1.0 are in the body of their entries, later ones in columns; each form has an index of its own.
_IS_WAIT = """
    {0}.type = 'wait_started' AND {0}.correlation IS NOT NULL AND {0}.namespace = events.namespace
    AND {0}.event = events.name AND {0}.correlation = events.correlation
"""
_IS_OLD_WAIT = """
    {0}.type = 'wait_started' AND ({0}.body ->> 'correlation') IS NOT NULL AND {0}.namespace = events.namespace
    AND ({0}.body ->> 'event') = events.name AND ({0}.body ->> 'correlation') = events.correlation
"""
_IS_RECEIPT = """
    {0}.type = 'event_received' AND coalesce({0}.event_id, {0}.body ->> 'event_id') = events.event_id
"""
# A saga that began to wait later looks for the event itself, and may find it given to another saga. A saga that has ended
# since the publication may have got the event, and then no other saga gets it.
_WAITING = text(f"""
WITH waits AS (
    SELECT log.saga_id, published_at FROM saga.events JOIN saga.log ON {_IS_WAIT.format("log")}
    WHERE events.namespace = :namespace AND events.event_id = :event_id AND log.recorded_at <= published_at
    UNION ALL
    SELECT log.saga_id, published_at FROM saga.events JOIN saga.log ON {_IS_OLD_WAIT.format("log")}
    WHERE events.namespace = :namespace AND events.event_id = :event_id AND log.recorded_at <= published_at
)
SELECT DISTINCT waits.saga_id::text FROM waits JOIN saga.sagas USING (saga_id)
WHERE coalesce(sagas.ended_at, 'infinity') >= published_at
""")  # noqa: S608  # nothing in it comes from outside
_MATCHED = text("""
UPDATE saga.events SET taken_at = now() WHERE namespace = :namespace AND event_id = :event_id AND taken_at IS NULL
""")
_GOT_BY_OTHERS = """
    SELECT FROM saga.log AS wait JOIN saga.log AS got ON got.saga_id = wait.saga_id AND {receipt} WHERE {wait}
"""
_TAKE = text(f"""
UPDATE saga.events SET taken_at = coalesce(taken_at, now()), taken_by = :saga_id
FROM (
    SELECT events.namespace, events.event_id FROM saga.sagas AS taker JOIN saga.events USING (namespace)
    WHERE taker.saga_id = CAST(:saga_id AS uuid) AND name = :name AND correlation = :correlation
        AND published_at >= taker.started_at - make_interval(secs => :look_back_seconds)
        AND EXISTS (
            SELECT FROM saga.log WHERE log.saga_id = CAST(:saga_id AS uuid) AND log.recorded_at < events.expires_at
                AND ({_IS_WAIT.format("log")} OR {_IS_OLD_WAIT.format("log")})
        )
        AND (
            taken_at IS NULL OR taken_by = :saga_id OR EXISTS (
                SELECT FROM saga.sagas WHERE sagas.saga_id = CAST(taken_by AS uuid) AND status = ANY(CAST(:settled AS text[]))
            )
            AND NOT EXISTS ({_GOT_BY_OTHERS.format(receipt=_IS_RECEIPT.format("got"), wait=_IS_WAIT.format("wait"))})
            AND NOT EXISTS ({_GOT_BY_OTHERS.format(receipt=_IS_RECEIPT.format("got"), wait=_IS_OLD_WAIT.format("wait"))})
        )
        AND NOT EXISTS (
            SELECT FROM saga.log WHERE log.saga_id = CAST(:saga_id AS uuid) AND {_IS_RECEIPT.format("log")}
        )
    ORDER BY taken_at IS NOT NULL, published_at, event_id LIMIT 1 FOR UPDATE OF events SKIP LOCKED
) AS found
WHERE events.namespace = found.namespace AND events.event_id = found.event_id
RETURNING events.event_id, coalesce(content, convert_to(payload::text, 'UTF8')) AS content
""")  # noqa: S608  # nor here
_FORGET = text("DELETE FROM saga.events WHERE published_at < now() - make_interval(secs => :seconds)")


class EventRows:
    """Reads and writes published events. Every method raises Unavailable when the database is away."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def keep(self, namespace: Namespace, event: Event) -> KeptEvent:
        """Makes a published event durable; a repetition changes nothing.

        The publisher may have gone before it told them, and a saga that began to wait later may have taken the event since.

        Raises:
            AlreadyExists: the identity belongs to a different event.
        """
        content = await convert(size_of(event.payload), _content_of, event.payload)
        values = {
            "namespace": namespace,
            "event_id": event.event_id,
            "name": event.name,
            "correlation": event.correlation,
            "content": content,
            "keep_seconds": EVENT_KEPT_SECONDS if event.keep_seconds is None else event.keep_seconds,
        }
        async with self._database.connection() as connection:
            row = (await connection.execute(_KEEP, values)).one_or_none()
            if row is not None:
                return KeptEvent(True, row.is_told, row.kept_until, row.remembered_until)
            asked = {"namespace": namespace, "event_id": event.event_id}
            row = (await connection.execute(_KEPT, asked)).one_or_none()
        if row is None:  # forgotten just now
            return await self.keep(namespace, event)
        is_same = row.content == content or await convert(
            len(content or b""), _say_the_same, row.content, content
        )
        if not is_same or (row.name, row.correlation) != (event.name, event.correlation):
            raise AlreadyExists(
                Reason.EVENT_ID_TAKEN,
                f"event {event.event_id!r} was published before, with other content",
                Resource("saga.v1.Event", event.event_id),
                event_id=event.event_id,
            )
        return KeptEvent(False, row.is_told, row.kept_until, row.remembered_until)

    async def waiting(self, namespace: Namespace, event_id: str) -> list[str]:
        """The sagas that waited, or had waited, for the event when it was published. Each saga knows whether it still waits."""
        async with self._database.connection() as connection:
            asked = {"namespace": namespace, "event_id": event_id}
            return list(await connection.scalars(_WAITING, asked))

    async def matched(self, namespace: Namespace, event_id: str) -> None:
        """Notes that the waiting sagas have got the event, so that no later saga gets it."""
        async with self._database.connection() as connection:
            await connection.execute(_MATCHED, {"namespace": namespace, "event_id": event_id})

    async def take(
        self,
        saga_id: str,
        name: str,
        correlation: str,
        look_back_seconds: float = 0.0,
    ) -> Event | None:
        """Gives the saga the earliest such event of its namespace that no other saga has got.

        An event that was given to this saga and has not counted there yet is given again. The event has to have come since the
        saga's start, or `look_back_seconds` before it, and to have been kept when the saga began to wait.
        """
        wanted = {
            "settled": _SETTLED,
            "saga_id": saga_id,
            "name": name,
            "correlation": correlation,
            "look_back_seconds": look_back_seconds,
        }
        async with self._database.connection() as connection:
            row = (await connection.execute(_TAKE, wanted)).one_or_none()
        if row is None:
            return None
        payload = await convert(len(row.content or b""), _payload_of, row.content)
        return Event(row.event_id, name, correlation, payload)

    async def tidy(self) -> None:
        """Forgets events of long ago."""
        async with self._database.connection() as connection:
            await connection.execute(_FORGET, {"seconds": EVENT_KEPT_SECONDS})


def _content_of(payload: Any) -> bytes | None:
    """The bytes that are kept of a payload: its canonical form; None if the event has no payload."""
    return None if payload is None else canonical_bytes(payload)


def _payload_of(content: bytes | None) -> Any:
    return None if content is None else orjson.loads(content)


def _say_the_same(one: bytes | None, other: bytes | None) -> bool:
    """Tells whether two contents are the same payload. Version 0.1.0 kept payloads as Postgres writes JSON."""
    return canonical_bytes(_payload_of(one)) == canonical_bytes(_payload_of(other))
