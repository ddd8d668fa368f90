"""Leases and claims: which coordinator drives which saga.

A coordinator owns the sagas whose row names it for as long as its lease row has not run out. A saga comes into a
coordinator's hands in two ways only: it started it, or it claimed it. What may be claimed is unowned and due, or owned by a
coordinator whose lease has ended; rows that another claim is looking at are skipped. Claiming moves the row; what fences the
previous owner is the adoption's log entry (`saga_adopted`), whose primary key its next append would need (P8).

A coordinator claims only sagas of its own claim group: where their participants live is known to that group alone. It claims
those of all namespaces, and a claim says which namespace its saga is in.
"""

from __future__ import annotations

import copy
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from typing import Any

from sqlalchemy import CursorResult, text

from saga_coordinator.saga.machine.transitions import SETTLED
from saga_coordinator.saga.words.namespace import Namespace
from saga_coordinator.store.database import Database
from saga_coordinator.store.groups import GROUPS
from saga_coordinator.store.records import ENTRIES_AT_ONCE, Claim, ClaimGroup, Driver
from saga_coordinator.store.schema import REVISION
from saga_coordinator.store.tables import DEFAULT_GROUP

RENEWAL_CONNECTIONS_MAX = 4


_SETTLED = [status.value for status in SETTLED]
_RENEW = text("""
    INSERT INTO saga.coordinators (coordinator_id, lease_until, address, version, claim_group, schema_revision)
    VALUES (
        :coordinator_id, clock_timestamp() + :lease_seconds * interval '1 second', :address, :version, :claim_group,
        :schema_revision
    )
    ON CONFLICT (coordinator_id) DO UPDATE SET lease_until = excluded.lease_until
    RETURNING extract(epoch FROM clock_timestamp())::float8
""")
# Only a coordinator with a lease may claim: otherwise the claimed saga would be an orphan at once.
_HAS_LEASE = """
    EXISTS (SELECT FROM saga.coordinators WHERE coordinator_id = :coordinator_id AND lease_until >= clock_timestamp())
"""
_ORIGIN = "sagas.namespace, sagas.start_key, extract(epoch FROM sagas.started_at)::float8 AS started_at"
# Of those that were found, short logs first, as many as have `entries_max` entries together; and in any case the one that has
# waited longest, so that it is not passed over for ever because it is long. The other rows are let go with the transaction.
_TAKE = f"""
    sized AS (
        SELECT found.*, entries FROM found CROSS JOIN LATERAL (
            SELECT coalesce(max(sequence), 0) AS entries FROM saga.log WHERE log.saga_id = found.saga_id
        ) AS length
    ), taken AS (
        SELECT saga_id, owner, entries, place,
            sum(entries) OVER (ORDER BY entries, place ROWS UNBOUNDED PRECEDING) AS entries_so_far
        FROM sized
    )
    UPDATE saga.sagas SET owner = :coordinator_id, wake_at = NULL FROM taken
    WHERE sagas.saga_id = taken.saga_id AND (entries_so_far <= :entries_max OR place = 1)
    RETURNING sagas.saga_id, taken.owner AS previous_owner, entries, {_ORIGIN}
"""  # noqa: S608  # nothing in it comes from outside
_CLAIM_DUE = text(f"""
    WITH due AS (
        SELECT saga_id, NULL::uuid AS owner, wake_at FROM saga.sagas
        WHERE claim_group = :claim_group AND owner IS NULL AND wake_at <= now()
            AND definition <> ALL (CAST(:passed_over AS text[])) AND {_HAS_LEASE}
        ORDER BY wake_at LIMIT :limit FOR UPDATE SKIP LOCKED
    ), found AS (
        SELECT saga_id, owner, row_number() OVER (ORDER BY wake_at) AS place FROM due
    ), {_TAKE}
""")  # noqa: S608  # nothing in it comes from outside
_CLAIM_ORPHANED = text(f"""
    WITH orphaned AS (
        SELECT saga_id, owner FROM saga.sagas
        WHERE owner = ANY (ARRAY(
                SELECT coordinator_id FROM saga.coordinators
                WHERE lease_until < clock_timestamp() AND claim_group = :claim_group
            ))
            AND claim_group = :claim_group AND definition <> ALL (CAST(:passed_over AS text[])) AND {_HAS_LEASE}
        -- By saga_id alone Postgres would read the primary key, from the oldest saga there ever was.
        ORDER BY owner, saga_id LIMIT :limit FOR UPDATE SKIP LOCKED
    ), found AS (
        SELECT saga_id, owner, row_number() OVER (ORDER BY owner, saga_id) AS place FROM orphaned
    ), {_TAKE}
""")  # noqa: S608  # nor here
_CLAIM_ONE = text(f"""
    UPDATE saga.sagas SET owner = :coordinator_id, wake_at = NULL
    FROM (
        SELECT saga_id, owner FROM saga.sagas
        WHERE saga_id = :saga_id AND claim_group = :claim_group AND status <> ALL (CAST(:settled AS text[])) AND (
            owner IS NULL
            OR owner IN (SELECT coordinator_id FROM saga.coordinators WHERE lease_until < clock_timestamp())
        ) AND {_HAS_LEASE}
        FOR UPDATE
    ) AS free
    WHERE sagas.saga_id = free.saga_id
    RETURNING sagas.saga_id, free.owner AS previous_owner, 0 AS entries, {_ORIGIN}
""")  # noqa: S608  # nor here
_DRIVER = text("""
    SELECT sagas.owner, sagas.claim_group, coalesce(lease_until >= clock_timestamp(), false) AS is_owner_alive,
        EXISTS (
            SELECT FROM saga.coordinators AS others
            WHERE others.claim_group = sagas.claim_group AND others.lease_until >= clock_timestamp()
        ) AS is_group_alive
    FROM saga.sagas LEFT JOIN saga.coordinators ON coordinator_id = owner WHERE saga_id = :saga_id
""")
_OWNED = text("SELECT saga_id, namespace FROM saga.sagas WHERE owner = :coordinator_id")
_RELEASE = text("""
    UPDATE saga.sagas SET owner = NULL, wake_at = now() + :after_seconds * interval '1 second'
    WHERE saga_id = ANY (CAST(:saga_ids AS uuid[])) AND owner = :coordinator_id
""")
_WAKE = text("""
    UPDATE saga.sagas SET wake_at = now()
    WHERE saga_id = ANY (CAST(:saga_ids AS uuid[])) AND owner IS NULL AND wake_at > now()
""")
_WAKE_WITHIN = text("""
    UPDATE saga.sagas SET wake_at = now()
    WHERE saga_id = ANY (ARRAY(
        SELECT saga_id FROM saga.sagas
        WHERE claim_group = :claim_group AND owner IS NULL
            AND wake_at > now() AND wake_at <= now() + :seconds * interval '1 second'
        ORDER BY wake_at LIMIT :limit FOR UPDATE SKIP LOCKED
    ))
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
    SELECT count(*) FROM (
        SELECT FROM saga.sagas WHERE claim_group = :claim_group AND owner IS NULL AND wake_at <= now() LIMIT :limit
    ) AS due
""")
_BURY_UNKNOWN = text("""
    INSERT INTO saga.coordinators (coordinator_id, lease_until, address, version, claim_group, schema_revision)
    SELECT DISTINCT ON (owner) owner, clock_timestamp() - interval '1 second', '', '', claim_group, ''
    FROM saga.sagas WHERE owner IS NOT NULL
    ON CONFLICT DO NOTHING
""")
# A coordinator of 0.1.0 knows no groups and may have claimed another group's saga, which goes back when it has gone.
_GIVE_BACK = text("""
    UPDATE saga.sagas SET owner = NULL, wake_at = now() FROM saga.coordinators
    WHERE owner = coordinator_id AND lease_until < clock_timestamp() AND sagas.claim_group <> coordinators.claim_group
""")
_FORGET_DEAD = text("""
    DELETE FROM saga.coordinators
    WHERE lease_until < clock_timestamp() - interval '1 hour'
        AND NOT EXISTS (SELECT FROM saga.sagas WHERE owner = coordinator_id)
""")


class OwnershipRows:
    """The statements of one coordinator; each raises Unavailable when the database is away."""

    def __init__(
        self,
        database: Database,
        coordinator_id: str,
        *,
        address: str,
        version: str,
        claim_group: str = DEFAULT_GROUP,
    ) -> None:
        self._database = database
        self._coordinator_id = coordinator_id
        self._row = {"coordinator_id": coordinator_id, "address": address, "version": version}
        self._claim_group = claim_group

    async def renew(self, lease_seconds: float) -> float:
        """Extends the lease to `lease_seconds` from now; returns the database's time, in seconds since the epoch (P10)."""
        wanted = {
            **self._row,
            "claim_group": self._claim_group,
            "lease_seconds": lease_seconds,
            "schema_revision": REVISION,
        }
        return float((await self._execute(_RENEW, **wanted)).scalar_one())

    @asynccontextmanager
    async def renewing(self) -> AsyncIterator[OwnershipRows]:
        """A way to renew the lease over a connection of its own, for another event loop than the rest uses.

        It has one connection, and up to `RENEWAL_CONNECTIONS_MAX` while calls hang, so that the next call need not wait for them.
        """
        database = self._database.beside(pool_size=RENEWAL_CONNECTIONS_MAX)
        apart = copy.copy(self)
        apart._database = database  # noqa: SLF001  # it is one of ours
        try:
            yield apart
        finally:
            await database.stop()

    async def claim(
        self, limit: int, passed_over: Collection[str] = (), entries_max: int = ENTRIES_AT_ONCE
    ) -> list[Claim]:
        """Takes over up to `limit` sagas that nobody drives: those of dead coordinators first, then what is due.

        Their logs have at most `entries_max` entries together, unless one log alone has more. Sagas of the definitions
        `passed_over` are left for later. A coordinator without a lease of its own gets no saga.
        """
        wanted = {**self._claimant, "entries_max": entries_max, "passed_over": list(passed_over)}
        # On one connection: to take one from the pool costs a round trip of its own, and this is done twice a second.
        async with self._database.connection() as connection:
            claims = _claims(await connection.execute(_CLAIM_ORPHANED, {**wanted, "limit": limit}))
            wanted["entries_max"] = entries_max - sum(claim.entries for claim in claims)
            if len(claims) < limit and wanted["entries_max"] > 0:
                wanted["limit"] = limit - len(claims)
                claims += _claims(await connection.execute(_CLAIM_DUE, wanted))
        return claims

    async def claim_one(self, saga_id: str) -> Claim | None:
        """Takes over one saga that nobody drives, due or not; None if it has an owner, is settled or belongs to another group."""
        result = await self._execute(_CLAIM_ONE, **self._claimant, saga_id=saga_id, settled=_SETTLED)
        return next(iter(_claims(result)), None)

    @property
    def _claimant(self) -> dict[str, Any]:
        return {"coordinator_id": self._coordinator_id, "claim_group": self._claim_group}

    async def owned(self) -> dict[str, Namespace]:
        """All sagas whose row names this coordinator, each with its namespace."""
        result = await self._execute(_OWNED, coordinator_id=self._coordinator_id)
        return {str(row.saga_id): Namespace(row.namespace) for row in result}

    async def release(self, saga_ids: list[str], after_seconds: float) -> None:
        """Lets sagas go, to be claimed by anybody after a while."""
        await self._execute(
            _RELEASE, coordinator_id=self._coordinator_id, saga_ids=saga_ids, after_seconds=after_seconds
        )

    async def wake(self, saga_ids: list[str]) -> None:
        """Makes those of the sagas due that sleep, for any coordinator with room."""
        await self._execute(_WAKE, saga_ids=saga_ids)

    async def wake_within(self, seconds: float, limit: int) -> None:
        """Makes up to `limit` sagas of the claim group due now that would wake up within `seconds`, the earliest first."""
        wanted = {"claim_group": self._claim_group, "seconds": seconds, "limit": limit}
        await self._execute(_WAKE_WITHIN, **wanted)

    async def retire(self) -> int:
        """Lets every saga go at once and ends the lease; returns how many sagas these were."""
        result = await self._execute(_RETIRE, coordinator_id=self._coordinator_id)
        return int(result.scalar_one())

    async def backlog(self, limit: int) -> int:
        """How many sagas are due and wait for a coordinator with room, counted up to `limit`."""
        wanted = {"claim_group": self._claim_group, "limit": limit}
        return int((await self._execute(_BACKLOG, **wanted)).scalar_one())

    async def driver_of(self, saga_id: str) -> Driver | None:
        """The coordinator that drives a saga, or the claim group that will; None if there is no such saga."""
        row = (await self._execute(_DRIVER, saga_id=saga_id)).one_or_none()
        if row is None:
            return None
        owner = None if row.owner is None else str(row.owner)
        return Driver(owner, row.claim_group, row.is_owner_alive, row.is_group_alive)

    async def groups(self) -> list[ClaimGroup]:
        """All claim groups that have coordinators, had any within the hour, or have sagas that sleep."""
        rows = await self._execute(GROUPS, after="", limit=None)
        return [ClaimGroup(row.claim_group, row.coordinators, row.waiting) for row in rows]

    async def tidy(self) -> None:
        """Forgets coordinators that ended long ago and own no saga. If a forgotten coordinator still owns sagas, it gets a row
        again that says it is dead, so that its sagas can be claimed (P1)."""
        await self._execute(_BURY_UNKNOWN)
        await self._execute(_GIVE_BACK)
        await self._execute(_FORGET_DEAD)

    async def _execute(self, statement: Any, **parameters: Any) -> CursorResult[Any]:
        async with self._database.connection() as connection:
            result: CursorResult[Any] = await connection.execute(statement, parameters)
            return result


def _claims(result: CursorResult[Any]) -> list[Claim]:
    return [
        Claim(
            str(row.saga_id),
            Namespace(row.namespace),
            None if row.previous_owner is None else str(row.previous_owner),
            row.entries,
            row.start_key,
            row.started_at,
        )
        for row in result
    ]
