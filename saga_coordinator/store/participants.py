"""The directory's rows: participants that were put by the API, and what operators decided about breakers.

Each coordinator reads them every half second: the revisions of all rows, and the content of those that it does not have yet. A
change touches one row, and no saga waits for these statements.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson
from sqlalchemy import text

from saga_coordinator.saga.words.act import Act, ActRecord, ActResult
from saga_coordinator.saga.words.errors import QuotaReached
from saga_coordinator.saga.words.namespace import Namespace
from saga_coordinator.store.acts import record_act
from saga_coordinator.store.database import Database

PARTICIPANTS_MAX = 5_000
DESCRIPTOR_SETS_BYTES_MAX = 64 * 1024 * 1024
"""Of all that were put: each coordinator keeps what they say in memory, and looks at their revisions all the time."""

_READ = text("""
SELECT name, put.revision::text AS revision, updated_at,
    CASE WHEN known.revision IS NULL THEN spec END AS spec,
    CASE WHEN known.revision IS NULL THEN descriptor_set END AS descriptor_set
FROM saga.participants AS put
    LEFT JOIN unnest(CAST(:known AS uuid[])) AS known (revision) ON known.revision = put.revision
WHERE put.namespace = :namespace
ORDER BY name
""")
# One statement. Callers that put at the same moment may exceed the limits by what they put. A replacement that is no larger is
# never refused.
_PUT = text("""
WITH others AS (
    SELECT count(*) AS count, coalesce(sum(octet_length(descriptor_set)), 0) AS bytes
    FROM saga.participants WHERE (namespace, name) <> (:namespace, :name)
), before AS (
    SELECT coalesce(octet_length(descriptor_set), 0) AS bytes FROM saga.participants WHERE namespace = :namespace AND name = :name
), given AS (
    SELECT coalesce(octet_length(CAST(:descriptor_set AS bytea)), 0) AS bytes
), put AS (
    INSERT INTO saga.participants (namespace, name, spec, descriptor_set)
    SELECT :namespace, :name, CAST(:spec AS jsonb), CAST(:descriptor_set AS bytea)
    FROM others CROSS JOIN given LEFT JOIN before ON true
    WHERE (before.bytes IS NOT NULL OR others.count < :count_max)
        AND (given.bytes <= coalesce(before.bytes, 0) OR others.bytes + given.bytes <= :bytes_max)
    ON CONFLICT (namespace, name) DO UPDATE SET spec = excluded.spec, descriptor_set = excluded.descriptor_set,
        revision = excluded.revision, updated_at = excluded.updated_at
    RETURNING revision, updated_at, xmax::text = '0' AS created
)
SELECT others.count, others.bytes, put.revision::text AS revision, put.updated_at, put.created
FROM others LEFT JOIN put ON true
""")
_DELETE = text("DELETE FROM saga.participants WHERE namespace = :namespace AND name = :name RETURNING name")
_READ_BREAKERS = text(
    "SELECT participant, control, requested_by, reason, set_at FROM saga.breakers WHERE namespace = :namespace"
)
_SET_BREAKER = text("""
WITH standing AS (
    SELECT control FROM saga.breakers WHERE namespace = :namespace AND participant = :participant
)
INSERT INTO saga.breakers (namespace, participant, control, requested_by, reason)
SELECT :namespace, :participant, :control, :requested_by, :reason
WHERE EXISTS (SELECT FROM saga.breakers WHERE namespace = :namespace AND participant = :participant)
    OR (SELECT count(*) FROM saga.breakers) < :count_max
ON CONFLICT (namespace, participant) DO UPDATE SET control = excluded.control, requested_by = excluded.requested_by,
    reason = excluded.reason, set_at = excluded.set_at
RETURNING set_at, (SELECT control FROM standing) AS before
""")

_UNTOUCHED = "AUTOMATIC"
"""The control of a breaker about which nobody has decided."""


@dataclass(frozen=True, slots=True)
class Put:
    """A participant as it was put; `created` tells whether there was none of its name before."""

    revision: str
    updated_at: datetime
    created: bool


@dataclass(frozen=True, slots=True)
class StoredParticipant:
    """A participant in the database. `spec` is what a directory file would say of it.

    If the reader knew the revision, `spec` and `descriptor_set` are None."""

    name: str
    revision: str
    updated_at: datetime
    spec: dict[str, Any] | None
    descriptor_set: bytes | None


@dataclass(frozen=True, slots=True)
class BreakerSetting:
    """An operator's decision about a breaker; `control` is AUTOMATIC, OPEN or CLOSED."""

    participant: str
    control: str
    requested_by: str
    reason: str
    set_at: datetime


class ParticipantRows:
    """Reads and writes the directory's rows. Every method raises Unavailable when the database is away."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def read(self, namespace: Namespace, known: Collection[str] = ()) -> list[StoredParticipant]:
        """All participants of a namespace, by name, without the content of those whose revision is `known`."""
        async with self._database.connection() as connection:
            rows = await connection.execute(_READ, {"namespace": namespace, "known": list(known)})
            return [
                StoredParticipant(row.name, row.revision, row.updated_at, row.spec, row.descriptor_set)
                for row in rows
            ]

    async def put(self, act: Act, name: str, spec: dict[str, Any], descriptor_set: bytes | None) -> Put:
        """Adds a participant or replaces it, and records the act. Raises QuotaReached."""
        given = {
            "namespace": act.namespace,
            "name": name,
            "spec": orjson.dumps(spec).decode(),
            "descriptor_set": descriptor_set,
            "count_max": PARTICIPANTS_MAX,
            "bytes_max": DESCRIPTOR_SETS_BYTES_MAX,
        }
        async with self._database.connection() as connection:
            row = (await connection.execute(_PUT, given)).one()
            if row.revision is not None:
                await record_act(
                    connection, ActRecord(act, ActResult.DONE, before="" if row.created else "put")
                )
        if row.revision is not None:
            return Put(row.revision, row.updated_at, row.created)
        others = int(row[0])
        if others >= PARTICIPANTS_MAX:
            raise QuotaReached(
                f"{others} participants were put into the directory, and {PARTICIPANTS_MAX} is the limit; delete those that "
                "nobody calls"
            )
        raise QuotaReached(
            f"the descriptor sets of other participants are {row.bytes} bytes, and {DESCRIPTOR_SETS_BYTES_MAX} is the limit for "
            "all; leave out what is not called, or have participants describe themselves by server reflection"
        )

    async def delete(self, act: Act, name: str) -> bool:
        """Deletes a participant, and records the act; returns whether there was one."""
        async with self._database.connection() as connection:
            deleted = await connection.execute(_DELETE, {"namespace": act.namespace, "name": name})
            is_gone = deleted.scalar_one_or_none() is not None
            if is_gone:
                await record_act(connection, ActRecord(act, ActResult.DONE, before="put"))
        return is_gone

    async def breakers(self, namespace: Namespace) -> list[BreakerSetting]:
        """The last decision about each participant's breaker."""
        async with self._database.connection() as connection:
            rows = await connection.execute(_READ_BREAKERS, {"namespace": namespace})
            return [
                BreakerSetting(row.participant, row.control, row.requested_by, row.reason, row.set_at)
                for row in rows
            ]

    async def set_breaker(self, act: Act, participant: str, control: str) -> BreakerSetting:
        """Keeps a decision instead of the one before, and records the act. Raises QuotaReached."""
        given = {
            "namespace": act.namespace,
            "participant": participant,
            "control": control,
            "requested_by": act.declared_by,
            "reason": act.reason,
            "count_max": PARTICIPANTS_MAX,
        }
        async with self._database.connection() as connection:
            row = (await connection.execute(_SET_BREAKER, given)).one_or_none()
            if row is not None:
                before = row.before or _UNTOUCHED
                result = ActResult.NOTHING if before == control else ActResult.DONE
                record = ActRecord(act, result, before=row.before or "", after=control)
                await record_act(connection, record)
        if row is None:
            raise QuotaReached(
                f"the breakers of {PARTICIPANTS_MAX} participants were set, which is the limit"
            )
        return BreakerSetting(participant, control, act.declared_by, act.reason, row.set_at)
