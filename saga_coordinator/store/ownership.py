"""Leases and claims: which coordinator drives which saga.

A coordinator owns the sagas whose row names it for as long as its lease row has not run out. A saga comes into a
coordinator's hands in two ways only: it started it, or it claimed it. What may be claimed is unowned and due, or owned by a
coordinator whose lease has ended; rows that another claim is looking at are skipped. Claiming moves the row; what fences the
previous owner is the adoption's log entry (`saga_adopted`), whose primary key its next append would need (P8).
"""

from __future__ import annotations

import copy
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from sqlalchemy import CursorResult, text

from saga_coordinator.store.database import Database

RENEWAL_CONNECTIONS_MAX = 4


@dataclass(frozen=True, slots=True)
class Claim:
    """A saga that is ours from now on. `previous_owner` is set when its coordinator's lease ended before it let go."""

    saga_id: str
    previous_owner: str | None


_RENEW = text("""
    INSERT INTO saga.coordinators (coordinator_id, lease_until, address, version)
    VALUES (:coordinator_id, clock_timestamp() + :lease_seconds * interval '1 second', :address, :version)
    ON CONFLICT (coordinator_id) DO UPDATE SET lease_until = excluded.lease_until
    RETURNING extract(epoch FROM clock_timestamp())::float8
""")
# A claim is only for those who have a lease: anything else would be an orphan at once.
_CLAIM_DUE = text("""
    UPDATE saga.sagas SET owner = :coordinator_id, wake_at = NULL
    FROM (
        SELECT saga_id FROM saga.sagas
        WHERE owner IS NULL AND wake_at <= now() AND definition <> ALL (CAST(:passed_over AS text[]))
            AND EXISTS (
                SELECT FROM saga.coordinators WHERE coordinator_id = :coordinator_id AND lease_until >= clock_timestamp()
            )
        ORDER BY wake_at LIMIT :limit FOR UPDATE SKIP LOCKED
    ) AS due
    WHERE sagas.saga_id = due.saga_id
    RETURNING sagas.saga_id, NULL::uuid AS previous_owner
""")
_CLAIM_ORPHANED = text("""
    UPDATE saga.sagas SET owner = :coordinator_id, wake_at = NULL
    FROM (
        SELECT saga_id, owner FROM saga.sagas
        WHERE owner = ANY (ARRAY(SELECT coordinator_id FROM saga.coordinators WHERE lease_until < clock_timestamp()))
            AND definition <> ALL (CAST(:passed_over AS text[]))
            AND EXISTS (
                SELECT FROM saga.coordinators WHERE coordinator_id = :coordinator_id AND lease_until >= clock_timestamp()
            )
        -- By saga_id alone Postgres would read the primary key, from the oldest saga there ever was.
        ORDER BY owner, saga_id LIMIT :limit FOR UPDATE SKIP LOCKED
    ) AS orphaned
    WHERE sagas.saga_id = orphaned.saga_id
    RETURNING sagas.saga_id, orphaned.owner AS previous_owner
""")
_CLAIM_ONE = text("""
    UPDATE saga.sagas SET owner = :coordinator_id, wake_at = NULL
    FROM (
        SELECT saga_id, owner FROM saga.sagas
        WHERE saga_id = :saga_id AND status IN ('RUNNING', 'COMPENSATING') AND (
            owner IS NULL
            OR owner IN (SELECT coordinator_id FROM saga.coordinators WHERE lease_until < clock_timestamp())
        ) AND EXISTS (
            SELECT FROM saga.coordinators WHERE coordinator_id = :coordinator_id AND lease_until >= clock_timestamp()
        )
        FOR UPDATE
    ) AS free
    WHERE sagas.saga_id = free.saga_id
    RETURNING sagas.saga_id, free.owner AS previous_owner
""")
_OWNED = text("SELECT saga_id FROM saga.sagas WHERE owner = :coordinator_id")
_RELEASE = text("""
    UPDATE saga.sagas SET owner = NULL, wake_at = now() + :after_seconds * interval '1 second'
    WHERE saga_id = ANY (CAST(:saga_ids AS uuid[])) AND owner = :coordinator_id
""")
_WAKE = text("""
    UPDATE saga.sagas SET wake_at = now()
    WHERE saga_id = ANY (CAST(:saga_ids AS uuid[])) AND owner IS NULL AND wake_at > now()
""")
_RETIRE = text("""
    WITH released AS (
        UPDATE saga.sagas SET owner = NULL, wake_at = now() WHERE owner = :coordinator_id RETURNING saga_id
    ), gone AS (
        UPDATE saga.coordinators SET lease_until = least(lease_until, clock_timestamp())
        WHERE coordinator_id = :coordinator_id
    )
    SELECT count(*) FROM released
""")
_BACKLOG = text("""
    SELECT count(*) FROM (SELECT FROM saga.sagas WHERE owner IS NULL AND wake_at <= now() LIMIT :limit) AS due
""")
_BURY_UNKNOWN = text("""
    INSERT INTO saga.coordinators (coordinator_id, lease_until, address, version)
    SELECT DISTINCT owner, clock_timestamp() - interval '1 second', '', '' FROM saga.sagas WHERE owner IS NOT NULL
    ON CONFLICT DO NOTHING
""")
_FORGET_DEAD = text("""
    DELETE FROM saga.coordinators
    WHERE lease_until < clock_timestamp() - interval '1 hour'
        AND NOT EXISTS (SELECT FROM saga.sagas WHERE owner = coordinator_id)
""")


class Ownership:
    """The statements of one coordinator; each raises Unavailable when the database is away."""

    def __init__(self, database: Database, coordinator_id: str, *, address: str, version: str) -> None:
        self._database = database
        self._coordinator_id = coordinator_id
        self._row = {"coordinator_id": coordinator_id, "address": address, "version": version}

    async def renew(self, lease_seconds: float) -> float:
        """Makes the lease last `lease_seconds` from now; returns the database's time, in seconds since the epoch (P10)."""
        result = await self._execute(_RENEW, **self._row, lease_seconds=lease_seconds)
        return float(result.scalar_one())

    @asynccontextmanager
    async def renewing(self) -> AsyncIterator[Ownership]:
        """The same over a connection of its own, for another event loop than that of the rest.

        It has one connection; while calls hang, up to `RENEWAL_CONNECTIONS_MAX`, so that the next one need not wait for them.
        """
        database = self._database.beside(pool_size=RENEWAL_CONNECTIONS_MAX)
        apart = copy.copy(self)
        apart._database = database  # noqa: SLF001  # it is one of ours
        try:
            yield apart
        finally:
            await database.close()

    async def claim(self, limit: int, passed_over: Collection[str] = ()) -> list[Claim]:
        """Takes over up to `limit` sagas that nobody drives: those of dead coordinators first, then what is due.

        Those of the definitions `passed_over` are left for later. Without a lease of its own a coordinator gets nothing.
        """
        wanted = {"coordinator_id": self._coordinator_id, "passed_over": list(passed_over)}
        claims = _claims(await self._execute(_CLAIM_ORPHANED, **wanted, limit=limit))
        if len(claims) < limit:
            claims += _claims(await self._execute(_CLAIM_DUE, **wanted, limit=limit - len(claims)))
        return claims

    async def claim_one(self, saga_id: str) -> Claim | None:
        """Takes over one saga that nobody drives, due or not; None when it has an owner or is settled."""
        result = await self._execute(_CLAIM_ONE, coordinator_id=self._coordinator_id, saga_id=saga_id)
        return next(iter(_claims(result)), None)

    async def owned(self) -> set[str]:
        """All sagas whose row names this coordinator."""
        result = await self._execute(_OWNED, coordinator_id=self._coordinator_id)
        return {str(row.saga_id) for row in result}

    async def release(self, saga_ids: list[str], after_seconds: float) -> None:
        """Lets sagas go, to be claimed by anybody after a while."""
        await self._execute(
            _RELEASE, coordinator_id=self._coordinator_id, saga_ids=saga_ids, after_seconds=after_seconds
        )

    async def wake(self, saga_ids: list[str]) -> None:
        """Has those that sleep looked at by whoever has room."""
        await self._execute(_WAKE, saga_ids=saga_ids)

    async def retire(self) -> int:
        """Lets every saga go at once and ends the lease; returns how many these were."""
        result = await self._execute(_RETIRE, coordinator_id=self._coordinator_id)
        return int(result.scalar_one())

    async def backlog(self, limit: int) -> int:
        """How many sagas are due and wait for a coordinator with room, counted up to `limit`."""
        return int((await self._execute(_BACKLOG, limit=limit)).scalar_one())

    async def tidy(self) -> None:
        """Forgets coordinators that ended long ago and own nothing; those that own something though they were forgotten are
        known to be dead from now on, so that it can be claimed (P1)."""
        await self._execute(_BURY_UNKNOWN)
        await self._execute(_FORGET_DEAD)

    async def _execute(self, statement: Any, **parameters: Any) -> CursorResult[Any]:
        async with self._database.connection() as connection:
            result: CursorResult[Any] = await connection.execute(statement, parameters)
            return result


def _claims(result: CursorResult[Any]) -> list[Claim]:
    return [
        Claim(str(row.saga_id), None if row.previous_owner is None else str(row.previous_owner))
        for row in result
    ]
