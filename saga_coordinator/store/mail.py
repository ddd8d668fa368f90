"""Letters about sagas that another coordinator drives. A letter is left here for the saga's owner, which answers here.

A letter is durable, so it also reaches the next owner when the present one dies. Doing what it asks twice is harmless: the core
answers repetitions and moves nothing (P9).
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import orjson
from sqlalchemy import ColumnElement, Select, bindparam, delete, func, select, text, update

from saga_coordinator.store.database import Database, is_outage, unavailable
from saga_coordinator.store.records import Letter
from saga_coordinator.store.tables import DEFAULT_GROUP, sagas
from saga_coordinator.store.tables import requests as table
from saga_coordinator.wire.conversion import convert, size_of

CHANNEL = "saga_requests"

LETTERS_BYTES_MAX = 4 * 1024 * 1024
"""Of the bodies of the letters that are read at once. The oldest letter is read whatever its size."""

# In the namespace of the saga that it is about.
_PUT = text("""
    INSERT INTO saga.requests (saga_id, request_id, input, namespace)
    SELECT CAST(:saga_id AS uuid), CAST(:letter_id AS uuid), :body,
        coalesce((SELECT namespace FROM saga.sagas WHERE sagas.saga_id = CAST(:saga_id AS uuid)), 'default')
""")
_NOTIFY = text(
    "SELECT pg_notify(:channel, coalesce(owner::text, claim_group)) FROM saga.sagas WHERE saga_id = :saga_id"
)


def _unanswered() -> Select[tuple[str, str, bytes]]:
    """The query of `MailRows.unanswered`."""
    oldest = (
        select(table.c.saga_id, table.c.request_id, table.c.input, table.c.requested_at)
        .join(sagas, sagas.c.saga_id == table.c.saga_id)
        .where(
            table.c.answer.is_(None),
            (sagas.c.owner == bindparam("owner"))
            | (
                sagas.c.owner.is_(None)
                & sagas.c.wake_at.is_not(None)
                & (sagas.c.claim_group == bindparam("claim_group"))
            ),
        )
        .order_by(table.c.requested_at)
        .limit(bindparam("limit"))
        .subquery("oldest")
    )
    # Postgres knows the size of a stored value without reading the value.
    order = (oldest.c.requested_at, oldest.c.saga_id, oldest.c.request_id)
    place = func.row_number().over(order_by=order).label("place")
    size = func.octet_length(oldest.c.input)
    up_to_it = func.sum(size).over(order_by=order).label("up_to_it")
    walk = select(oldest, place, up_to_it).subquery("walk")
    return (
        select(walk.c.saga_id, walk.c.request_id, walk.c.input)
        .where((walk.c.place == 1) | (walk.c.up_to_it <= LETTERS_BYTES_MAX))
        .order_by(walk.c.place)
    )


_UNANSWERED = _unanswered()
"""Made once: a coordinator asks twice a second, and to put the query together takes longer than to send it."""


class MailRows:
    """Reads and writes letters for a coordinator of `claim_group`. Every method raises Unavailable when the database is away."""

    def __init__(self, database: Database, claim_group: str = DEFAULT_GROUP) -> None:
        self._database = database
        self._claim_group = claim_group

    async def put(self, letter: Letter) -> None:
        """Leaves a letter and lets the saga's owner know, or the saga's claim group if it has no owner now."""
        async with self._database.connection() as connection:
            left = {
                "saga_id": letter.saga_id,
                "letter_id": letter.letter_id,
                "body": await convert(size_of(letter.body), orjson.dumps, letter.body),
            }
            await connection.execute(_PUT, left)
            await connection.execute(_NOTIFY, {"channel": CHANNEL, "saga_id": letter.saga_id})

    async def unanswered(self, owner: str, limit: int) -> list[Letter]:
        """The oldest open letters about sagas that `owner` drives, or that sleep and belong to its claim group.

        They are at most `limit` letters, and fewer where their bodies are more than `LETTERS_BYTES_MAX` together.
        """
        async with self._database.connection() as connection:
            wanted = {"owner": owner, "claim_group": self._claim_group, "limit": limit}
            rows = (await connection.execute(_UNANSWERED, wanted)).all()
        return [
            Letter(row.saga_id, row.request_id, await convert(len(row.input), orjson.loads, row.input))
            for row in rows
        ]

    async def answer(self, letter: Letter, answer: dict[str, Any]) -> None:
        """Answers a letter, if it is still there."""
        async with self._database.connection() as connection:
            await connection.execute(update(table).where(_is(letter)).values(answer=orjson.dumps(answer)))

    async def answer_to(self, letter: Letter) -> dict[str, Any] | None:
        """The answer, once there is one."""
        async with self._database.connection() as connection:
            written = await connection.scalar(select(table.c.answer).where(_is(letter)))
        return None if written is None else orjson.loads(written)

    async def delete(self, letter: Letter) -> None:
        """Takes a letter away, answered or not."""
        async with self._database.connection() as connection:
            await connection.execute(delete(table).where(_is(letter)))

    async def delete_abandoned(self) -> None:
        """Takes away letters of more than an hour ago, whose writers never came back."""
        async with self._database.connection() as connection:
            await connection.execute(
                delete(table).where(table.c.requested_at < func.now() - timedelta(hours=1))
            )


def _is(letter: Letter) -> ColumnElement[bool]:
    return (table.c.saga_id == letter.saga_id) & (table.c.request_id == letter.letter_id)


class Listener:
    """Hears when letters are left, so that they need not wait for the next look. Without the listener they only wait longer."""

    def __init__(self, database: Database, claim_group: str = DEFAULT_GROUP) -> None:
        self._database = database
        self._claim_group = claim_group

    async def listen(self, owner: str, on_letter: Callable[[], None]) -> None:
        """Calls `on_letter` whenever a letter was left for `owner` or its claim group, until the connection fails.

        Raises Unavailable.
        """
        try:
            async with self._database.driver_connection() as connection:
                await connection.execute(f"LISTEN {CHANNEL}")
                async for notification in connection.notifies():
                    if notification.payload in (owner, self._claim_group):
                        on_letter()
        except Exception as error:
            if is_outage(error):
                raise unavailable(error) from error
            raise
