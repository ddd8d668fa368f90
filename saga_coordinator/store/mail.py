"""Requests about sagas that another coordinator drives: left here for their owner, who answers here.

A request is durable, so it also reaches the next owner when the present one dies. Doing one twice is harmless: the core
answers repetitions and moves nothing (P9).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from datetime import timedelta
from typing import Any

from sqlalchemy import ColumnElement, delete, func, insert, select, text, update

from saga_coordinator.store.database import Database, is_outage, unavailable
from saga_coordinator.store.records import Letter
from saga_coordinator.store.tables import DEFAULT_GROUP, sagas
from saga_coordinator.store.tables import requests as table

CHANNEL = "saga_requests"


_NOTIFY = text(
    "SELECT pg_notify(:channel, coalesce(owner::text, claim_group)) FROM saga.sagas WHERE saga_id = :saga_id"
)


class MailRows:
    """Every method raises Unavailable when the database is away. `claim_group` is that of who looks for them."""

    def __init__(self, database: Database, claim_group: str = DEFAULT_GROUP) -> None:
        self._database = database
        self._claim_group = claim_group

    async def put(self, request: Letter) -> None:
        """Leaves a request, and lets the saga's owner know, or its claim group where it has none now."""
        async with self._database.connection() as connection:
            await connection.execute(insert(table).values(asdict(request)))
            await connection.execute(_NOTIFY, {"channel": CHANNEL, "saga_id": request.saga_id})

    async def unanswered(self, owner: str, limit: int) -> list[Letter]:
        """The oldest open requests about sagas that `owner` drives, or that sleep and are its claim group's."""
        query = (
            select(table.c.saga_id, table.c.request_id, table.c.input)
            .join(sagas, sagas.c.saga_id == table.c.saga_id)
            .where(
                table.c.answer.is_(None),
                (sagas.c.owner == owner)
                | (
                    sagas.c.owner.is_(None)
                    & sagas.c.wake_at.is_not(None)
                    & (sagas.c.claim_group == self._claim_group)
                ),
            )
            .order_by(table.c.requested_at)
            .limit(limit)
        )
        async with self._database.connection() as connection:
            return [Letter(*row) for row in await connection.execute(query)]

    async def answer(self, request: Letter, answer: dict[str, Any]) -> None:
        """Answers a request, if it is still there."""
        async with self._database.connection() as connection:
            await connection.execute(update(table).where(_is(request)).values(answer=answer))

    async def answer_to(self, request: Letter) -> dict[str, Any] | None:
        """The answer, once there is one."""
        async with self._database.connection() as connection:
            answer: dict[str, Any] | None = await connection.scalar(
                select(table.c.answer).where(_is(request))
            )
            return answer

    async def delete(self, request: Letter) -> None:
        """Takes a request away, answered or not."""
        async with self._database.connection() as connection:
            await connection.execute(delete(table).where(_is(request)))

    async def delete_abandoned(self) -> None:
        """Takes away what was asked more than an hour ago by somebody who never came back."""
        async with self._database.connection() as connection:
            await connection.execute(
                delete(table).where(table.c.requested_at < func.now() - timedelta(hours=1))
            )


def _is(request: Letter) -> ColumnElement[bool]:
    return (table.c.saga_id == request.saga_id) & (table.c.request_id == request.request_id)


class Listener:
    """Hears that requests were left, so that they need not wait for the next look. Without it they only wait longer."""

    def __init__(self, database: Database, claim_group: str = DEFAULT_GROUP) -> None:
        self._database = database
        self._claim_group = claim_group

    async def listen(self, owner: str, on_request: Callable[[], None]) -> None:
        """Calls `on_request` whenever one was left for `owner` or its claim group, until the connection fails.

        Raises Unavailable.
        """
        try:
            async with self._database.driver_connection() as connection:
                await connection.execute(f"LISTEN {CHANNEL}")
                async for notification in connection.notifies():
                    if notification.payload in (owner, self._claim_group):
                        on_request()
        except Exception as error:
            if is_outage(error):
                raise unavailable(error) from error
            raise
